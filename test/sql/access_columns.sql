--
-- Access to columns: what a role that was granted the table may write in a row. session_data,
-- ttl, expires_at within the limits of the policy, and owner_id without owner isolation; nothing
-- that the functions would not allow.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
CREATE ROLE regress_ss_web;
CREATE ROLE regress_ss_batch BYPASSRLS;
CREATE ROLE regress_ss_owners;
INSERT INTO session_namespaces (name, owner_isolation, cache, max_sessions_per_owner, max_lifetime) VALUES
	('iso', true, 'off', 2, '10 days'), ('free', false, 'off', NULL, NULL);
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO regress_ss_web;
GRANT SELECT, INSERT, UPDATE, DELETE ON conversation_sessions TO regress_ss_web, regress_ss_batch;
SELECT session_save('bob 1', '1', owner => 'bob', namespace => 'iso'), session_save('bob 2', '2', owner => 'bob', namespace => 'iso'),
	session_save('alice', '1', owner => 'alice', namespace => 'iso'), session_share('alice', 'ed', 'editor', 'iso'), session_share('alice', 'olga', 'owner', 'iso'),
	session_append('alice', '{"m": 1}', namespace => 'iso'), session_save('f', '1', owner => 'alice', namespace => 'free');

-- A session cannot be given to another owner, whose own sessions a quota would then evict.
SET ROLE regress_ss_web;
SET request.jwt.claims = '{"sub": "alice"}';
SELECT session_share('alice', 'bob', 'owner', 'iso');
SELECT pg_temp.err($$UPDATE conversation_sessions SET owner_id = 'bob', created_at = now() + interval '1 day' WHERE session_id = 'alice'$$) AS with_time,
	pg_temp.err($$UPDATE conversation_sessions SET owner_id = 'bob' WHERE session_id = 'alice'$$) AS owner,
	pg_temp.err($$UPDATE conversation_sessions SET owner_id = NULL WHERE session_id = 'alice'$$) AS nobodys;
SET request.jwt.claims = '{"sub": "olga"}';
SELECT pg_temp.err($$UPDATE conversation_sessions SET owner_id = 'olga' WHERE session_id = 'alice'$$) AS taken;
RESET ROLE;
SELECT session_id, owner_id FROM conversation_sessions WHERE namespace = 'iso' ORDER BY 1;

-- An UPDATE, column by column: by an editor, by the session's owner, in a namespace without isolation, by
-- a role that no policy binds, by a member of the tables' owner, and by the tables' owner.
CREATE TEMP TABLE change (n int GENERATED ALWAYS AS IDENTITY, change text);
INSERT INTO change (change) VALUES ($$session_data = '{"changed": true}'$$), ($$ttl = '2 hours'$$), ($$ttl = '100 years 1 day'$$), ($$ttl = '1 month'$$), ($$expires_at = clock_timestamp() + interval '59 minutes'$$),
	($$expires_at = clock_timestamp() + interval '61 minutes'$$), ($$expires_at = clock_timestamp() + interval '61 minutes', ttl = '2 hours'$$), ($$expires_at = clock_timestamp() + interval '20 days', ttl = '30 days'$$),
	($$expires_at = '294000-01-01'$$), ($$expires_at = 'infinity'$$), ($$expires_at = clock_timestamp() - interval '1 hour'$$), ($$updated_at = now() - interval '1 year'$$), ($$created_at = created_at + interval '1 second'$$),
	($$created_at = created_at$$), ($$version = 9223372036854775807$$), ($$version = version + 1$$), ($$version = version - 1$$), ($$last_seq = 9223372036854775807$$), ($$message_count = 0, last_seq = 0$$), ($$message_count = 1000$$),
	($$check_at = check_at + interval '1 year'$$), ($$check_at = check_at - interval '1 hour'$$), ($$dead_until = now() + interval '1 hour'$$), ($$dead_until = '294000-01-01'$$), ($$history_id = NULL$$),
	($$history_id = gen_random_uuid()$$), ($$owner_id = 'bob'$$), ($$owner_id = owner_id$$), ($$session_id = 'moved'$$), ($$namespace = 'default'$$);
GRANT SELECT ON change TO PUBLIC;
-- The result of the statement, which is then rolled back.
CREATE FUNCTION pg_temp.try(who name, subject text, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	PERFORM set_config('request.jwt.claims', jsonb_build_object('sub', subject)::text, true), set_config('role', who, true);
	EXECUTE statement;
	GET DIAGNOSTICS n = ROW_COUNT;
	RAISE EXCEPTION USING ERRCODE = 'UNDO1', MESSAGE = n::text;
EXCEPTION
	WHEN SQLSTATE 'UNDO1' THEN
		RETURN SQLERRM;
	WHEN OTHERS THEN
		RETURN SQLSTATE;
END
$$;
SELECT current_user AS me \gset
SELECT format('GRANT %I TO regress_ss_owners', tableowner) AS lend FROM pg_tables WHERE tablename = 'conversation_sessions' \gset
:lend;
SELECT change, pg_temp.try('regress_ss_web', 'ed', u || $$'alice'$$) AS editor, pg_temp.try('regress_ss_web', 'alice', u || $$'alice'$$) AS owner, pg_temp.try('regress_ss_web', 'alice', u || $$'f'$$) AS free,
	pg_temp.try('regress_ss_batch', 'x', u || $$'alice'$$) AS bypassrls, pg_temp.try('regress_ss_owners', 'x', u || $$'alice'$$) AS member, pg_temp.try(:'me', 'x', u || $$'alice'$$) AS tables_owner
FROM change, LATERAL (SELECT format('UPDATE conversation_sessions SET %s WHERE session_id = ', change) AS u) u ORDER BY n;

-- An expired session of any owner cannot be revived: a role that may write its row begins a new
-- session in it. (in one transaction, or the keeper might purge the rows meanwhile)
BEGIN;
UPDATE conversation_sessions SET expires_at = clock_timestamp() - interval '1 second' WHERE session_id IN ('alice', 'f');
TRUNCATE change;
INSERT INTO change (change) VALUES ($$expires_at = clock_timestamp() + interval '30 minutes'$$), ($$expires_at = clock_timestamp() + interval '90 minutes', ttl = '2 hours'$$),
	($$session_data = '{"new": true}', expires_at = clock_timestamp() + interval '30 minutes'$$), ($$session_data = session_data, expires_at = clock_timestamp() + interval '30 minutes'$$), ($$session_data = '{"late": true}'$$), ($$ttl = '2 hours'$$),
	($$expires_at = clock_timestamp()$$);
SELECT change, pg_temp.try('regress_ss_web', 'ed', u || $$'alice'$$) AS editor, pg_temp.try('regress_ss_web', 'alice', u || $$'alice'$$) AS owner, pg_temp.try('regress_ss_web', 'alice', u || $$'f'$$) AS free,
	pg_temp.try('regress_ss_batch', 'x', u || $$'alice'$$) AS bypassrls, pg_temp.try('regress_ss_owners', 'x', u || $$'alice'$$) AS member, pg_temp.try(:'me', 'x', u || $$'alice'$$) AS tables_owner
FROM change, LATERAL (SELECT format('UPDATE conversation_sessions SET %s WHERE session_id = ', change) AS u) u ORDER BY n;
\set VERBOSITY default
SAVEPOINT r;
SET LOCAL ROLE regress_ss_web;
SAVEPOINT s;
UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '30 minutes' WHERE session_id = 'f';
ROLLBACK TO s;
UPDATE conversation_sessions SET session_data = '{"new": true}', expires_at = clock_timestamp() + interval '30 minutes' WHERE session_id = 'f' RETURNING session_data, owner_id, clock_timestamp() - created_at < interval '1 minute' AS created_now;
ROLLBACK TO r;
\set VERBOSITY terse
UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '30 minutes' WHERE session_id IN ('alice', 'f');
COMMIT;

-- An INSERT: the new session is like one that a function creates.
TRUNCATE change;
INSERT INTO change (change) VALUES (''), ($$, ttl = '2 hours'$$), ($$, expires_at = clock_timestamp() + interval '59 minutes'$$), ($$, expires_at = clock_timestamp() + interval '61 minutes'$$), ($$, expires_at = '294000-01-01'$$),
	($$, ttl = '30 days', expires_at = clock_timestamp() + interval '20 days'$$), ($$, created_at = now() - interval '1 year'$$), ($$, created_at = '294000-01-01'$$), ($$, updated_at = '2000-01-01'$$), ($$, version = 1$$), ($$, version = 2$$),
	($$, version = 9223372036854775807$$), ($$, last_seq = 1$$), ($$, message_count = -1$$), ($$, check_at = '2000-01-01'$$), ($$, dead_until = now() + interval '1 hour'$$), ($$, dead_until = '294000-01-01'$$),
	($$, dead_until = '2000-01-01'$$), ($$, history_id = gen_random_uuid()$$), ($$, owner_id = 'bob'$$), ($$, owner_id = NULL$$);
CREATE FUNCTION pg_temp.insert(ns text, settings text) RETURNS text LANGUAGE sql AS $$
	SELECT format('INSERT INTO conversation_sessions (namespace, session_id, session_data%s) VALUES (%L, ''new'', ''{}''%s)', columns, ns, "values")
	FROM (SELECT coalesce(string_agg(', ' || split_part(s, ' = ', 1), '' ORDER BY n), '') AS columns, coalesce(string_agg(', ' || split_part(s, ' = ', 2), '' ORDER BY n), '') AS "values"
		FROM unnest(string_to_array(substr(CASE WHEN ns = 'iso' AND settings !~ 'owner_id' THEN settings || ', owner_id = ''alice''' ELSE settings END, 3), ', ')) WITH ORDINALITY t(s, n)) s
$$;
SELECT change, pg_temp.try('regress_ss_web', 'alice', pg_temp.insert('iso', change)) AS isolated, pg_temp.try('regress_ss_web', 'alice', pg_temp.insert('free', change)) AS free,
	pg_temp.try('regress_ss_batch', 'x', pg_temp.insert('iso', change)) AS bypassrls, pg_temp.try(:'me', 'x', pg_temp.insert('iso', change)) AS tables_owner
FROM change ORDER BY n;
-- created_at and updated_at are the time of the statement.
BEGIN;
SET LOCAL ROLE regress_ss_web;
INSERT INTO conversation_sessions (namespace, session_id, session_data, created_at, updated_at) VALUES ('free', 'new', '{}', '2000-01-01', '2000-01-01');
SELECT clock_timestamp() - created_at < interval '1 minute' AS created, updated_at = created_at AS updated, version, last_seq, message_count, check_at = expires_at AS checked FROM conversation_sessions WHERE session_id = 'new';
UPDATE conversation_sessions SET session_data = '1', updated_at = '2000-01-01' WHERE session_id = 'new';
SELECT clock_timestamp() - updated_at < interval '1 minute' AS updated, version FROM conversation_sessions WHERE session_id = 'new';
ROLLBACK;

-- A trigger of the owner of the tables may set updated_at.
CREATE FUNCTION regress_ss_moddate() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$BEGIN NEW.updated_at := now(); RETURN NEW; END$$;
CREATE TRIGGER a_moddate BEFORE UPDATE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION regress_ss_moddate();
SELECT pg_temp.try('regress_ss_web', 'ed', $$UPDATE conversation_sessions SET session_data = '2' WHERE session_id = 'alice'$$) AS with_a_trigger;
DROP TRIGGER a_moddate ON conversation_sessions;
DROP FUNCTION regress_ss_moddate();

-- Grants on columns are checked by PostgreSQL, and restrict further.
REVOKE UPDATE ON conversation_sessions FROM regress_ss_web;
GRANT UPDATE (session_data) ON conversation_sessions TO regress_ss_web;
SELECT pg_temp.try('regress_ss_web', 'ed', $$UPDATE conversation_sessions SET session_data = '2' WHERE session_id = 'alice'$$) AS granted,
	pg_temp.try('regress_ss_web', 'ed', $$UPDATE conversation_sessions SET ttl = '2 hours' WHERE session_id = 'alice'$$) AS other;

DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
DROP OWNED BY regress_ss_web, regress_ss_batch;
DROP ROLE regress_ss_web, regress_ss_batch, regress_ss_owners;
