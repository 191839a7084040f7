--
-- Owner isolation: a caller sees and changes only sessions that it owns.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
CREATE ROLE regress_ss_web;
CREATE ROLE regress_ss_batch BYPASSRLS;
INSERT INTO session_namespaces (name, owner_isolation, cache) VALUES ('iso', true, 'off'), ('free', false, 'off');
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO regress_ss_web, regress_ss_batch;
GRANT SELECT, INSERT, UPDATE, DELETE ON conversation_sessions TO regress_ss_web;
SELECT session_save('a1', '"a1"', owner => 'alice', namespace => 'iso'), session_save('a2', '"a2"', owner => 'alice', namespace => 'iso'),
	session_save('b1', '"b1"', owner => 'bob', namespace => 'iso'), session_save('n1', '"n1"', namespace => 'iso'),
	session_save('f1', '"f1"', owner => 'bob', namespace => 'free');

-- Alice can read her own sessions and learns nothing about others.
SET session_store.namespace = 'iso';
SET ROLE regress_ss_web;
SET request.jwt.claims = '{"sub": "alice", "role": "web"}';
SELECT session_get('a1') AS own, session_get('b1') AS of_bob, session_get('n1') AS of_nobody, session_get('absent') AS absent;
SELECT session_exists('a1') AS own, session_exists('b1') AS of_bob, session_ttl('b1') AS ttl_of_bob, session_exists('n1') AS of_nobody;
SELECT session_id FROM session_fetch('a1') UNION ALL SELECT session_id FROM session_fetch('b1');
SELECT session_id FROM session_list() ORDER BY session_id;
SELECT count(*) AS of_bob FROM session_list(owner => 'bob');
SELECT session_count() AS all_that_she_sees, session_count(owner => 'bob') AS of_bob;

-- She can change her own sessions.
SELECT session_save('a1', '"saved"'), session_merge('a2', '{"x": 1}'), session_touch('a1') IS NOT NULL AS touched;
SELECT session_save('a3', '{}', owner => 'alice') AS new, session_incr('a3', '{n}');
SELECT session_get(session_create('"created"', owner => 'alice')) IS NULL AS snapshot;
SELECT session_count() AS now_hers;
-- She cannot change, take, give away or end sessions of others, nor create any for others.
CREATE TEMP TABLE attempt (n int GENERATED ALWAYS AS IDENTITY, call text);
INSERT INTO attempt (call) VALUES
	($$session_save('b1', '"taken"')$$), ($$session_save('b1', '"taken"', owner => 'alice')$$), ($$session_merge('b1', '{"taken": 1}')$$),
	($$session_incr('b1', '{taken}')$$), ($$session_save('n1', '"taken"', owner => 'alice')$$),
	($$session_save('a1', '"given"', owner => 'bob')$$), ($$session_save('for bob', '{}', owner => 'bob')$$), ($$session_create(owner => 'bob')$$);
SELECT call, pg_temp.err('SELECT ' || call) FROM attempt ORDER BY n;
-- Calls that only look for a session do not find it; logging another owner out ends no session.
SELECT pg_temp.err($$SELECT session_touch('b1', '1 ms')$$) IN ('ok', '42501') AS touch,
	pg_temp.err($$SELECT session_delete('b1')$$) IN ('ok', '42501') AS delete,
	pg_temp.err($$SELECT session_regenerate('b1')$$) IN ('ok', '42501') AS regenerate,
	pg_temp.err($$SELECT session_delete_all('bob')$$) IN ('ok', '42501') AS delete_all;
RESET ROLE;
SELECT session_id, owner_id, session_data, version FROM conversation_sessions
WHERE namespace = 'iso' AND (session_id IN ('b1', 'n1') OR owner_id = 'bob') ORDER BY session_id;
SELECT session_exists('b1') AS lives, session_ttl('b1') > interval '59 minutes' AS undisturbed;

-- A role with privileges on the table sees the same rows.
SET ROLE regress_ss_web;
SELECT DISTINCT owner_id FROM conversation_sessions WHERE namespace = 'iso';
WITH d AS (DELETE FROM conversation_sessions WHERE namespace = 'iso' AND session_id IN ('b1', 'n1') RETURNING 1) SELECT count(*) AS deleted FROM d;
SELECT pg_temp.err($$UPDATE conversation_sessions SET owner_id = 'bob' WHERE namespace = 'iso' AND session_id = 'a1'$$) AS give,
	pg_temp.err($$INSERT INTO conversation_sessions (namespace, session_id, session_data, owner_id) VALUES ('iso', 'x', '1', 'bob')$$) AS insert;

-- Clear, count, regenerate and delete apply to her own sessions.
SELECT session_delete('a2') AS delete, session_regenerate('a3') IS NOT NULL AS regenerate;
SELECT session_delete_all('alice', except_session_id => 'a1') AS logged_out;
SELECT pg_temp.err($$SELECT session_clear('iso')$$) IN ('ok', '42501') AS clear;
RESET ROLE;
SELECT session_exists('b1') AS of_bob, session_exists('n1') AS of_nobody;

-- No call locks a session that the caller may not change, because its owner would have to wait.
CREATE FUNCTION regress_ss_locks(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	found text;
	before jsonb := (SELECT jsonb_object_agg(session_id, xmax::text) FROM conversation_sessions WHERE namespace = 'iso');
	held text;
BEGIN
	SET LOCAL ROLE regress_ss_web;
	EXECUTE 'SELECT ' || call INTO found;
	SET LOCAL ROLE NONE;
	SELECT string_agg(session_id, ', ' ORDER BY session_id) INTO held FROM conversation_sessions WHERE session_id IN ('locks', 'b1', 'n1') AND xmax::text <> before ->> session_id;
	RAISE EXCEPTION USING ERRCODE = 'UNDO1', MESSAGE = format('%s, locked: %s', coalesce(found, 'nothing'), coalesce(held, 'none'));
EXCEPTION
	WHEN SQLSTATE 'UNDO1' THEN
		RETURN SQLERRM;
	WHEN OTHERS THEN
		RETURN SQLSTATE;
END $$;
SELECT session_save('locks', '{}', owner => 'alice'), session_append('locks', '{"m": 1}'), session_save('b1', '"b1"'), session_save('n1', '"n1"');
SELECT call, regress_ss_locks(call) FROM unnest(ARRAY[$$session_delete('b1')$$, $$session_delete('n1')$$, $$session_regenerate('b1')$$, $$session_touch('b1', '1 hour')$$, $$session_share('b1', 'alice')$$, $$session_unshare('b1', 'bob')$$,
	$$session_unshare('b1', 'alice')$$, $$session_pop('b1')$$, $$session_trim('b1', 1)$$, $$session_amend('b1', 1, '{}')$$, $$session_compact('b1', 1, '{}')$$, $$session_fork('b1')$$, $$session_fork('b1', 'n1')$$, $$session_fork('absent', 'b1')$$, $$session_fork('locks', 'b1')$$, $$session_absorb('locks', 'b1')$$,
	$$session_absorb('b1', 'locks')$$, $$session_absorb('absent', 'b1')$$, $$session_delete_all('bob')$$, $$session_clear('iso')$$, $$session_fork('locks') <> ''$$, $$session_trim('locks', 5)$$]) call;
DROP FUNCTION regress_ss_locks(text);
SELECT session_delete('locks');

-- In a namespace without owner isolation the claims have no effect.
SET ROLE regress_ss_web;
SELECT session_get('f1', 'free');

-- Without claims, or without a subject in them, no session is visible and none can be saved.
CREATE TEMP TABLE claims (n int GENERATED ALWAYS AS IDENTITY, claims text);
INSERT INTO claims (claims) VALUES (''), ('{}'), ('null'), ('[]'), ('"bob"'), ('not json'), ('{"sub": null}'), ('{"sub": ""}'),
	('{"role": "bob"}'), ('{"sub": {"x": "bob"}}'), ('[{"sub": "bob"}]');
SELECT claims, set_config('request.jwt.claims', claims, false) = claims AS set,
	pg_temp.err($$DO 'BEGIN IF session_get(''b1'') IS NOT NULL OR session_get(''n1'') IS NOT NULL OR session_count() > 0
		OR EXISTS (SELECT FROM conversation_sessions WHERE namespace = ''iso'') THEN RAISE EXCEPTION ''leaked''; END IF; END'$$) <> 'P0001' AS sees_nothing,
	pg_temp.err($$SELECT session_save('b1', '1')$$) <> 'ok' AS save_refused, pg_temp.err($$SELECT session_save('new', '1', owner => 'bob')$$) <> 'ok' AS new_refused
FROM claims ORDER BY n;
RESET request.jwt.claims;
SELECT session_count() AS without_claims;

-- Now Bob, in the same connection.
BEGIN;
SET LOCAL request.jwt.claims = '{"sub": "bob"}';
SELECT session_get('b1') AS own, session_get('a1') AS of_alice;
SELECT session_id FROM session_list();
COMMIT;
SELECT session_get('b1') IS NULL AS gone_with_the_transaction;

-- Roles with BYPASSRLS are exempt, superusers too.
SET ROLE regress_ss_batch;
SELECT session_get('b1'), session_get('n1'), session_count() >= 2 AS all_of_them;
SELECT session_delete_all('bob');
RESET ROLE;
SELECT session_get('n1');

DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
DROP TABLE attempt, claims;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM regress_ss_web, regress_ss_batch;
REVOKE ALL ON conversation_sessions FROM regress_ss_web;
DROP ROLE regress_ss_web, regress_ss_batch;
