--
-- The owner argument of session_merge() and session_incr(): it is that of a session which the call
-- creates; a living session keeps its owner.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, sliding, audit, max_sessions_per_owner, on_quota) VALUES ('own', false, true, 3, 'refuse');
SET session_store.namespace = 'own';
-- The result of a call about an id in a given state, and the session's owner after it; rolled back.
CREATE FUNCTION pg_temp.in_state(state text, call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	BEGIN
		IF state <> 'absent' THEN
			PERFORM session_save('x', '{"n": 1}', ttl => CASE WHEN state = 'expired' THEN interval '1 ms' ELSE '1 hour' END, owner => CASE WHEN state <> 'without' THEN 'ann' END);
		END IF;
		IF state = 'dead' THEN
			PERFORM session_delete('x');
		ELSIF state = 'expired' THEN
			WHILE session_exists('x') LOOP
				PERFORM pg_sleep(0.001);
			END LOOP;
		END IF;
		answer = pg_temp.answer('SELECT ' || call);
		answer = answer || ' ' || coalesce((SELECT coalesce(owner_id, 'nobody') FROM session_fetch('x')), '-');
		RAISE EXCEPTION USING ERRCODE = 'UNDO1';
	EXCEPTION WHEN SQLSTATE 'UNDO1' THEN
		RETURN answer;
	END;
END
$$;
CREATE TEMP TABLE call (n int GENERATED ALWAYS AS IDENTITY, call text);
INSERT INTO call (call) VALUES ($$session_merge('x', '{"a": 1}', owner => 'bob')$$), ($$session_merge('x', '{"a": 1}', shallow => true, owner => 'bob')$$), ($$session_merge('x', '{"a": 1}', 0, owner => 'bob')$$),
	($$session_merge('x', '{"a": 1}', -1, owner => 'bob')$$), ($$session_merge('x', '{"a": 1}', owner => NULL)$$), ($$session_incr('x', '{n}', owner => 'bob')$$), ($$session_incr('x', '{n}', max => 5, owner => 'bob')$$),
	($$session_incr('x', '{n}', max => 0, owner => 'bob')$$), ($$session_incr('x', '{n}', 1, 5, 'own', 'bob')$$), ($$session_incr('x', '{n}')$$);
CREATE TEMP VIEW answers AS SELECT n, call, pg_temp.in_state('absent', call) AS absent, pg_temp.in_state('alive', call) AS of_ann, pg_temp.in_state('without', call) AS of_nobody, pg_temp.in_state('expired', call) AS expired, pg_temp.in_state('dead', call) AS dead FROM call;
CREATE TEMP TABLE direct AS SELECT * FROM answers;
SELECT call, absent, of_ann, of_nobody, expired, dead FROM direct ORDER BY n;
SET session_store.direct_rows = off;
SELECT * FROM answers EXCEPT SELECT * FROM direct;
RESET session_store.direct_rows;

-- The rules for an owner are those for any name.
SELECT call, string_agg(DISTINCT pg_temp.err('SELECT ' || replace(call, '$', quote_literal(owner))), ' ') AS errors
FROM (VALUES (1, $$session_merge('x', '{}', owner => $)$$), (2, $$session_incr('x', '{n}', owner => $)$$)) c(n, call), (VALUES (''), (repeat('a', 201)), (E'a\tb'), (chr(127))) o(owner) GROUP BY n, call ORDER BY n;
-- A new session counts towards the owner's quota; a living one does not count again.
SELECT session_merge('q1', '{}', owner => 'quo'), session_incr('q2', '{n}', owner => 'quo'), session_merge('q3', '{}', owner => 'quo');
SELECT pg_temp.err($$SELECT session_merge('q4', '{}', owner => 'quo')$$) AS merge, pg_temp.err($$SELECT session_incr('q4', '{n}', owner => 'quo')$$) AS incr, session_incr('q2', '{n}', owner => 'quo') AS living;
SELECT session_id, owner_id, version FROM session_list(owner => 'quo') ORDER BY 1;
SELECT event, session_id, owner_id FROM session_events WHERE session_id LIKE 'q_' ORDER BY session_id;

-- Owner isolation: a caller cannot create a session for another owner; for living sessions the argument
-- has no effect.
INSERT INTO session_namespaces (name, owner_isolation, cache) VALUES ('iso', true, 'off');
CREATE ROLE regress_ss_web;
GRANT EXECUTE ON FUNCTION session_merge(text, jsonb, bigint, text, text, boolean, bigint), session_incr(text, text[], numeric, numeric, text, text, bigint) TO regress_ss_web;
SELECT session_save('of ann', '{"n": 1}', owner => 'ann', namespace => 'iso'), session_save('of bob', '{"n": 1}', owner => 'bob', namespace => 'iso'), session_share('of bob', 'ann', 'editor', 'iso');
CREATE FUNCTION pg_temp.by(who text, call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	PERFORM set_config('request.jwt.claims', CASE WHEN who <> '' THEN jsonb_build_object('sub', who)::text ELSE '' END, true), set_config('session_store.namespace', 'iso', true), set_config('role', 'regress_ss_web', true);
	answer = pg_temp.answer('SELECT ' || call);
	RESET ROLE;
	RETURN answer || ' ' || (SELECT string_agg(format('%s:%s', session_id, owner_id), ', ' ORDER BY session_id) FROM conversation_sessions WHERE namespace = 'iso');
END
$$;
SELECT call, who, pg_temp.by(who, call)
FROM (VALUES (1, 'ann', $$session_merge('m', '{"a": 1}', owner => 'bob')$$), (2, 'ann', $$session_incr('i', '{n}', owner => 'bob')$$), (3, '', $$session_merge('m', '{"a": 1}', owner => 'ann')$$),
	(4, 'ann', $$session_merge('m', '{"a": 1}', owner => 'ann')$$), (5, 'ann', $$session_incr('i', '{n}')$$), (6, 'ann', $$session_merge('of bob', '{"a": 1}', owner => 'ann')$$),
	(7, 'ann', $$session_incr('of bob', '{n}', owner => 'bob')$$), (8, 'sam', $$session_incr('of bob', '{n}', owner => 'sam')$$), (9, 'ann', $$session_merge('of ann', '{"a": 1}', owner => 'bob')$$)) c(n, who, call) ORDER BY n;
-- A role that is exempt from owner isolation can create sessions for any owner.
SELECT session_merge('for cat', '{}', namespace => 'iso', owner => 'cat');
SELECT owner_id FROM session_fetch('for cat', 'iso');

DROP OWNED BY regress_ss_web;
DROP ROLE regress_ss_web;
DELETE FROM conversation_sessions;
DELETE FROM session_events;
DELETE FROM session_namespaces;
