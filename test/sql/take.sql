--
-- session_take(): returns the document and ends the session, for tokens that are used once.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, tombstone, audit, durability) VALUES ('take', '5 minutes', true, 'relaxed');
INSERT INTO session_namespaces (name, owner_isolation, allowed_roles) VALUES ('iso', true, '{regress_ss_take}');
SET session_store.namespace = 'take';

-- The first call gets the document, later ones get nothing: the id is dead as after session_delete().
SELECT session_save('t', '{"n": 1}', owner => 'ann'), session_append('t', '{"m": 1}'), session_save('t', '{"n": 2}');
SELECT session_take('t') AS first, session_take('t') AS second;
SELECT session_get('t') AS get, session_exists('t') AS "exists";
SELECT pg_temp.err($$SELECT session_save('t', '1')$$) AS save, pg_temp.err($$SELECT session_save('t', '1', if_version => -1)$$) AS must_exist, pg_temp.err($$SELECT session_append('t', '{}')$$) AS append;
SELECT session_data, owner_id, message_count, history_id, dead_until > clock_timestamp() + interval '4 minutes' AS dead, version FROM conversation_sessions WHERE session_id = 't';
SELECT event, session_id, owner_id, detail FROM session_events WHERE namespace = 'take' AND session_id = 't' ORDER BY created_at, event;
SELECT session_save('t', '{"n": 3}', if_version => 0) AS version, session_take('t') AS reused_on_purpose;
-- Any JSON value is a document.
SELECT doc, session_save('v', doc::jsonb, if_version => 0) > 0 AS saved, session_take('v') AS taken, session_take('v') IS NULL AS gone FROM unnest(ARRAY['{}', 'null', '[]', '0', '""']) doc;
-- The same by statements, and with a document that is stored out of line.
SELECT session_save('large', (SELECT jsonb_agg(md5(n::text)) FROM generate_series(1, 5000) n)), session_save('large2', (SELECT jsonb_agg(md5(n::text)) FROM generate_series(1, 5000) n));
SELECT jsonb_array_length(session_take('large')) AS direct;
SET session_store.direct_rows = off;
SELECT jsonb_array_length(session_take('large2')) AS by_statement;
SELECT session_save('t', '{"n": 4}', if_version => 0) > 0 AS saved, session_take('t') AS first, session_take('t') AS second;
RESET session_store.direct_rows;

-- Absent and expired sessions, and invalid arguments.
INSERT INTO conversation_sessions (namespace, session_id, session_data, expires_at) VALUES ('take', 'expired', '1', clock_timestamp() - interval '1 second');
SELECT session_take('absent') AS absent, session_take('expired') AS expired;
SELECT call, pg_temp.says('SELECT ' || call)
FROM (VALUES (1, $$session_take(NULL)$$), (2, $$session_take('')$$), (3, $$session_take(repeat('x', 201))$$), (4, $$session_take(E'a\n')$$), (5, $$session_take('t', 'no such')$$)) c(n, call) ORDER BY n;
BEGIN READ ONLY;
SELECT pg_temp.err($$SELECT session_take('t')$$) AS read_only;
COMMIT;

-- A rollback undoes it.
SELECT session_save('kept', '{"n": 1}');
BEGIN;
SAVEPOINT s;
SELECT session_take('kept') AS taken;
SELECT session_take('kept') AS again;
ROLLBACK TO s;
SELECT session_get('kept') AS kept, session_take('kept') AS taken;
ROLLBACK;
SELECT session_get('kept') AS kept, (SELECT count(*) FROM session_events WHERE session_id = 'kept' AND event = 'deleted') AS events;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT session_take('kept') AS serializable;
COMMIT;

-- With owner isolation the owner may take it, and a member in the role of owner.
CREATE ROLE regress_ss_take;
GRANT EXECUTE ON FUNCTION session_take TO regress_ss_take;
SELECT session_save('of ' || who, to_jsonb(who), owner => 'ann', namespace => 'iso'), session_share('of ' || who, who, role, 'iso') FROM (VALUES ('ed', 'editor'), ('vic', 'viewer'), ('own', 'owner'), ('ann', 'owner')) w (who, role);
SET ROLE regress_ss_take;
CREATE FUNCTION pg_temp.take_as(subject text, id text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('request.jwt.claims', jsonb_build_object('sub', subject)::text, true);
	RETURN coalesce(session_take(id, 'iso')::text, 'nothing');
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END
$$;
SELECT who, pg_temp.take_as(who, 'of ' || who) AS its_own, pg_temp.take_as('sam', 'of ' || who) AS stranger FROM unnest(ARRAY['ed', 'vic', 'own', 'ann']) WITH ORDINALITY w (who, n) ORDER BY n;
RESET ROLE;
SELECT session_id, session_get(session_id, 'iso') AS left FROM conversation_sessions WHERE namespace = 'iso' ORDER BY 1;

-- If a trigger of the owner of the tables skips the update, the call is an error and the session stays.
SELECT session_save('guarded', '{"n": 1}');
CREATE FUNCTION public.regress_ss_keep() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$BEGIN RETURN NULL; END$$;
CREATE TRIGGER regress_ss_keep BEFORE UPDATE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION public.regress_ss_keep();
SELECT pg_temp.err($$SELECT session_take('guarded')$$) AS skipped;
DROP TRIGGER regress_ss_keep ON conversation_sessions;
DROP FUNCTION public.regress_ss_keep();
SELECT session_take('guarded');

DELETE FROM conversation_sessions;
DELETE FROM session_events;
DELETE FROM session_namespaces;
SELECT session_purge() >= 0 AS purged;
DROP OWNED BY regress_ss_take;
DROP ROLE regress_ss_take;
