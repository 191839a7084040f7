--
-- Objects that users add to the tables (columns, indexes, triggers, foreign keys, views), and
-- joins with them, keep working.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name) VALUES ('extras');
SET session_store.namespace = 'extras';
SELECT session_save('before', '{"tags": ["a"]}', owner => 'alice');

-- Columns, one of them dropped again, an index on the document, a trigger that records changes, and a
-- view.
ALTER TABLE conversation_sessions ADD COLUMN dropped int DEFAULT 1, ADD COLUMN note text DEFAULT 'new', ADD COLUMN size int GENERATED ALWAYS AS (octet_length(session_data::text)) STORED;
ALTER TABLE conversation_sessions DROP COLUMN dropped;
CREATE INDEX regress_ss_gin ON conversation_sessions USING gin (session_data jsonb_path_ops);
CREATE TABLE regress_ss_log (n int GENERATED ALWAYS AS IDENTITY, op text, session_id text, version bigint);
CREATE FUNCTION regress_ss_log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.regress_ss_log (op, session_id, version)
	VALUES (TG_OP, coalesce(NEW.session_id, OLD.session_id), coalesce(NEW.version, OLD.version));
	RETURN NULL;
END
$$;
CREATE TRIGGER regress_ss_log AFTER INSERT OR UPDATE OR DELETE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION regress_ss_log();
CREATE VIEW regress_ss_living AS SELECT * FROM conversation_sessions WHERE expires_at > clock_timestamp();
CREATE STATISTICS regress_ss_stat ON namespace, owner_id FROM conversation_sessions;

-- Every call works, also if it was prepared before.
SELECT session_get('before'), session_save('before', '{"tags": ["a", "b"]}');
SELECT session_save('s', '{"tags": ["c"]}', owner => 'alice'), session_merge('s', '{"x": 1}'), session_incr('s', '{n}'), session_touch('s', '1 day') IS NOT NULL AS touched;
SELECT session_data, owner_id, version FROM session_fetch('s');
SELECT session_id FROM session_list(filter => '{"tags": ["a"]}');
SELECT session_count(owner => 'alice'), session_exists('s');
-- Values of the users' columns survive saves, and stay with the session when it gets a new id.
UPDATE conversation_sessions SET note = 'kept' WHERE session_id = 's';
SELECT session_save('s', '{"tags": ["d"]}');
SELECT note, size = octet_length(session_data::text) AS size FROM conversation_sessions WHERE session_id = 's';
SELECT session_regenerate('s') AS new \gset
SELECT note FROM conversation_sessions WHERE session_id = :'new';
SELECT session_delete(:'new'), session_delete_all('alice'), session_clear('extras');
SELECT session_create('{"tags": ["e"]}') IS NOT NULL AS created;
SELECT count(*) AS living FROM regress_ss_living WHERE namespace = 'extras';
INSERT INTO conversation_sessions (namespace, session_id, session_data, note) VALUES ('extras', 'direct', '1', 'mine');
SELECT note, session_get('direct') FROM conversation_sessions WHERE session_id = 'direct';
-- The trigger has seen all changes.
SELECT op, count(*) > 0 AS seen FROM regress_ss_log GROUP BY op ORDER BY op;
SELECT op, version FROM regress_ss_log WHERE session_id = 's' AND version <= 3 ORDER BY n LIMIT 3;

-- An error from a trigger is raised to the caller, and the transaction can continue from its savepoint.
CREATE FUNCTION regress_ss_veto() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF NEW.session_data = '"forbidden"' THEN RAISE EXCEPTION 'vetoed' USING ERRCODE = 'P0077'; END IF; RETURN NULL; END$$;
CREATE TRIGGER regress_ss_veto AFTER INSERT OR UPDATE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION regress_ss_veto();
BEGIN;
SELECT pg_temp.err($$SELECT session_save('v', '"forbidden"')$$) AS vetoed, session_save('v', '"fine"'), pg_temp.err($$SELECT session_merge('v', '"forbidden"')$$) AS vetoed_merge;
COMMIT;
SELECT session_get('v');

-- A trigger may call session_store itself.
CREATE FUNCTION regress_ss_mirror() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.session_id NOT LIKE 'mirror %' AND NEW.dead_until IS NULL AND length('mirror ' || NEW.session_id) <= 200 THEN
		PERFORM public.session_save('mirror ' || NEW.session_id, NEW.session_data, namespace => NEW.namespace);
	END IF;
	RETURN NULL;
END
$$;
CREATE TRIGGER regress_ss_mirror AFTER INSERT OR UPDATE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION regress_ss_mirror();
SELECT session_save('m', '"twice"'), session_incr('counter', '{n}');
SELECT session_get('m') AS original, session_get('mirror m') AS mirror, session_get('mirror counter') AS counter;
DROP TRIGGER regress_ss_mirror ON conversation_sessions;

-- Foreign keys from the user's tables.
CREATE TABLE regress_ss_profile (namespace text COLLATE "C", session_id text COLLATE "C", x int,
	FOREIGN KEY (namespace, session_id) REFERENCES conversation_sessions ON DELETE CASCADE);
INSERT INTO regress_ss_profile VALUES ('extras', 'm', 1);
SELECT session_save('m', '"again"'), session_delete('m');
DELETE FROM conversation_sessions WHERE session_id = 'm';
SELECT count(*) FROM regress_ss_profile;
DROP TABLE regress_ss_profile;

-- All these objects can be dropped again.
DROP VIEW regress_ss_living;
DROP TRIGGER regress_ss_log ON conversation_sessions;
DROP TRIGGER regress_ss_veto ON conversation_sessions;
DROP FUNCTION regress_ss_log(), regress_ss_veto(), regress_ss_mirror();
DROP INDEX regress_ss_gin;
DROP STATISTICS regress_ss_stat;
ALTER TABLE conversation_sessions DROP COLUMN note, DROP COLUMN size;
DROP TABLE regress_ss_log;
SELECT session_save('after', '{}'), session_merge('after', '{"a": 1}'), session_regenerate('after') IS NOT NULL AS regenerated;

-- A trigger that takes long before it refuses a row: the purge removes the others.  The lock keeps the
-- keeper away.
CREATE FUNCTION regress_ss_slow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_catalog.pg_sleep(0.4);
	RAISE EXCEPTION 'kept';
END
$$;
CREATE TRIGGER regress_ss_slow BEFORE DELETE ON conversation_sessions FOR EACH ROW WHEN (OLD.session_id = 'slow') EXECUTE FUNCTION regress_ss_slow();
BEGIN;
LOCK TABLE conversation_sessions IN SHARE ROW EXCLUSIVE MODE;
INSERT INTO conversation_sessions (namespace, session_id, session_data, created_at, expires_at)
SELECT 'extras', i, '{}', now() - interval '1 hour', now() - interval '1 minute' FROM unnest('{slow,other1,other2}'::text[]) i;
SELECT session_purge(namespace => 'extras');
SELECT session_id FROM conversation_sessions WHERE session_id IN ('slow', 'other1', 'other2');
COMMIT;
DROP TRIGGER regress_ss_slow ON conversation_sessions;

-- The same for messages of ended sessions.
DELETE FROM conversation_sessions;
CREATE TRIGGER regress_ss_slow BEFORE DELETE ON conversation_history FOR EACH ROW WHEN (OLD.message = '"slow"') EXECUTE FUNCTION regress_ss_slow();
BEGIN;
INSERT INTO conversation_history_ended (namespace, history_id) SELECT 'extras', ('00000000-0000-4000-8000-00000000000' || i)::uuid FROM generate_series(1, 3) i;
INSERT INTO conversation_history (history_id, seq, message) SELECT history_id, 1, CASE WHEN history_id::text LIKE '%1' THEN '"slow"' ELSE '"other"' END::jsonb FROM conversation_history_ended WHERE namespace = 'extras';
SELECT session_purge(namespace => 'extras');
SELECT history_id FROM conversation_history_ended WHERE namespace = 'extras';
ROLLBACK;
DROP TRIGGER regress_ss_slow ON conversation_history;
DROP FUNCTION regress_ss_slow();

DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
