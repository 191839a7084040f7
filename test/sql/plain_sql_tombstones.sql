-- Plain SQL cannot undo a logout: writing over tombstones, and ending a session by setting
-- dead_until.
\set VERBOSITY terse
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, sliding, ttl, tombstone) VALUES ('hand', false, '1 hour', '1 hour'), ('slides', true, '1 hour', '0');
SET session_store.namespace = 'hand';
CREATE VIEW rows AS SELECT session_id AS id, session_data AS data, owner_id AS owner, version, message_count AS count, last_seq, history_id IS NOT NULL AS history,
  created_at > clock_timestamp() - interval '1 minute' AS created_now, expires_at > clock_timestamp() AS lives, dead_until > clock_timestamp() AS dead
  FROM conversation_sessions WHERE session_id NOT LIKE 'other%' ORDER BY session_id COLLATE "C";
-- a session with everything, created long ago
CREATE FUNCTION make(id text, namespace text = NULL) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM session_append(id, '[{"m": 1}, {"m": 2}]', namespace => make.namespace), session_save(id, '{"secret": 1}', owner => 'u', namespace => make.namespace);
  UPDATE conversation_sessions SET created_at = created_at - interval '10 minutes' WHERE session_id = id;
END $$;
-- after the tombstone has run out
CREATE FUNCTION let_it_pass(id text) RETURNS void LANGUAGE sql AS $$
  UPDATE conversation_sessions SET dead_until = clock_timestamp() - interval '1 second' WHERE session_id = id $$;

-- Writes over a tombstone.
SELECT make('t'), session_delete('t');
SELECT statement, pg_temp.err(statement) FROM unnest(ARRAY[
  $$INSERT INTO conversation_sessions (namespace, session_id, session_data) VALUES ('hand', 't', '{"n": 1}') ON CONFLICT (namespace, session_id) DO UPDATE SET session_data = EXCLUDED.session_data, expires_at = EXCLUDED.expires_at$$,
  $$INSERT INTO conversation_sessions (namespace, session_id, session_data) VALUES ('hand', 't', '{}') ON CONFLICT (namespace, session_id) DO UPDATE SET session_data = EXCLUDED.session_data, expires_at = EXCLUDED.expires_at, owner_id = 'u'$$,
  $$UPDATE conversation_sessions SET session_data = '{"n": 1}' WHERE session_id = 't'$$,
  $$UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '1 day' WHERE session_id = 't'$$,
  $$UPDATE conversation_sessions SET owner_id = 'u' WHERE session_id = 't'$$,
  $$UPDATE conversation_sessions SET history_id = gen_random_uuid() WHERE session_id = 't'$$,
  $$UPDATE conversation_sessions SET session_data = '{"n": 1}', dead_until = clock_timestamp() + interval '1 minute' WHERE session_id = 't'$$,
  $$UPDATE conversation_sessions SET session_data = '{"n": 1}', dead_until = clock_timestamp() - interval '1 minute' WHERE session_id = 't'$$,
  $$MERGE INTO conversation_sessions s USING (VALUES ('t')) v (id) ON s.session_id = v.id WHEN MATCHED THEN UPDATE SET session_data = '{"n": 1}', expires_at = clock_timestamp() + interval '1 day'$$
  ]) statement;
SELECT * FROM rows;
\set VERBOSITY default
UPDATE conversation_sessions SET session_data = '{"n": 1}' WHERE session_id = 't';
\set VERBOSITY terse
-- Changes that give it no content are allowed, because statements about many rows meet tombstones, too.
UPDATE conversation_sessions SET ttl = '2 hours', check_at = check_at - interval '1 second', updated_at = clock_timestamp(), namespace = 'hand', dead_until = dead_until + interval '1 minute';
UPDATE conversation_sessions SET session_data = session_data, expires_at = expires_at - interval '1 second';
SELECT * FROM rows;
-- A statement that sets dead_until to NULL begins a session.
UPDATE conversation_sessions SET dead_until = NULL, session_data = '{"n": 1}', expires_at = clock_timestamp() + interval '1 hour' WHERE session_id = 't';
SELECT * FROM rows;
SELECT session_get('t'), session_save('t', '{"n": 2}') AS version;

-- After dead_until calls return nothing, and a statement that writes content begins a session.  (In a
-- transaction, because the keeper purges such rows.)
DELETE FROM conversation_sessions;
BEGIN;
SELECT make('t'), session_delete('t'), let_it_pass('t'), session_get('t');
SELECT * FROM rows;
UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '1 hour' WHERE session_id = 't';
SELECT * FROM rows;
SELECT session_delete('t'), let_it_pass('t');
INSERT INTO conversation_sessions (namespace, session_id, session_data, owner_id) VALUES ('hand', 't', '{"n": 3}', 'v')
  ON CONFLICT (namespace, session_id) DO UPDATE SET session_data = EXCLUDED.session_data, owner_id = EXCLUDED.owner_id, expires_at = EXCLUDED.expires_at;
SELECT * FROM rows;
SELECT session_get('t'), session_append('t', '{"m": 3}');

COMMIT;

-- An UPDATE that sets dead_until is a logout.
DELETE FROM conversation_sessions;
BEGIN;
SELECT make('u');
UPDATE conversation_sessions SET dead_until = clock_timestamp() + interval '1 hour' WHERE session_id = 'u';
SELECT * FROM rows;
SELECT session_get('u'), pg_temp.err($$SELECT session_save('u', '{}')$$) AS save, (SELECT count(*) FROM conversation_messages WHERE session_id = 'u') AS messages;
SELECT let_it_pass('u');
SELECT * FROM rows;
SELECT session_get('u'), session_save('u', '{"n": 1}') AS new_session;
SELECT * FROM rows;
-- .. also one whose time is in the past, one that sets a document as well, and one at the highest version
SELECT make('w');
UPDATE conversation_sessions SET version = 9223372036854775807 WHERE session_id = 'w';
UPDATE conversation_sessions SET dead_until = clock_timestamp() - interval '1 hour', session_data = '{"kept": 1}', owner_id = 'v', expires_at = clock_timestamp() + interval '1 day' WHERE session_id IN ('u', 'w');
SELECT * FROM rows;
SELECT session_get('u'), session_get('w');

COMMIT;

-- With owner isolation the tombstone keeps its owner, as that of a call does.
INSERT INTO session_namespaces (name, owner_isolation, cache) VALUES ('apart', true, 'off');
SELECT session_save('by call', '{}', owner => 'u', namespace => 'apart'), session_save('by hand', '{}', owner => 'u', namespace => 'apart'), session_delete('by call', 'apart');
UPDATE conversation_sessions SET dead_until = clock_timestamp() + interval '1 hour', owner_id = 'v' WHERE session_id = 'by hand';
SELECT * FROM rows WHERE id LIKE 'by%';

-- An expired row: a statement that sets the document begins a session without the old owner and history.
DELETE FROM conversation_sessions;
BEGIN;
SELECT make('x'), make('y'), make('z');
UPDATE conversation_sessions SET expires_at = clock_timestamp() - interval '1 second';
UPDATE conversation_sessions SET session_data = '{"n": 1}' WHERE session_id = 'x';
INSERT INTO conversation_sessions (namespace, session_id, session_data) VALUES ('hand', 'y', '{"n": 1}')
  ON CONFLICT (namespace, session_id) DO UPDATE SET session_data = EXCLUDED.session_data, expires_at = EXCLUDED.expires_at;
INSERT INTO conversation_sessions (namespace, session_id, session_data, owner_id) VALUES ('hand', 'z', '{"secret": 1}', 'u')
  ON CONFLICT (namespace, session_id) DO UPDATE SET session_data = EXCLUDED.session_data, owner_id = EXCLUDED.owner_id, expires_at = EXCLUDED.expires_at;
SELECT * FROM rows;
SELECT session_get('x') AS x, session_get('y') AS y, session_get('z') AS z, (SELECT count(*) FROM conversation_messages) AS messages;
-- Only its expiry can be changed to revive it.
DELETE FROM conversation_sessions;
SELECT make('x');
UPDATE conversation_sessions SET expires_at = clock_timestamp() - interval '1 second';
UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '1 hour';
SELECT * FROM rows;
COMMIT;
-- A session with a later pending touch has not expired, whatever its row says.
DELETE FROM conversation_sessions;
SELECT make('s', 'slides');
UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '3 seconds' WHERE session_id = 's';
SELECT session_get('s', 'slides');
DO $$
DECLARE
  was timestamptz := clock_timestamp() + interval '3 seconds';
BEGIN
  WHILE clock_timestamp() < was LOOP
    PERFORM pg_sleep(0.05);
  END LOOP;
END $$;
UPDATE conversation_sessions SET session_data = '{"n": 2}', expires_at = clock_timestamp() + interval '1 hour' WHERE session_id = 's';
SELECT * FROM rows;

-- Rows that are replicated or restored are stored as they are.
DELETE FROM conversation_sessions;
SELECT make('r'), session_delete('r');
BEGIN;
SET session_replication_role = replica;
UPDATE conversation_sessions SET session_data = '{"n": 1}', owner_id = 'v', expires_at = clock_timestamp() + interval '1 hour' WHERE session_id = 'r';
SELECT * FROM rows;
UPDATE conversation_sessions SET dead_until = clock_timestamp() + interval '1 hour' WHERE session_id = 'r';
SELECT * FROM rows;
RESET session_replication_role;
COMMIT;
INSERT INTO conversation_sessions (namespace, session_id, session_data, expires_at, dead_until) VALUES ('hand', 'i', '{}', clock_timestamp() - interval '1 hour', clock_timestamp() + interval '1 hour'),
  ('hand', 'j', '{"n": 1}', clock_timestamp() + interval '2 hours', clock_timestamp() + interval '1 hour');
SELECT *, (SELECT expires_at <= dead_until FROM conversation_sessions WHERE session_id = id) AS no_return FROM rows WHERE id IN ('i', 'j');

-- Nor does a trigger that a call fires revive a session, though its statements run with the owner's
-- rights.
DELETE FROM conversation_sessions;
CREATE FUNCTION regress_ss_renew() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.session_id = 'by a call' THEN
    UPDATE public.conversation_sessions SET session_data = '{"note": 1}', expires_at = clock_timestamp() + interval '10 minutes' WHERE session_id = 'gone';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER regress_ss_renew AFTER INSERT ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION regress_ss_renew();
SELECT make('gone'), session_delete('gone');
SELECT pg_temp.err($$SELECT session_save('by a call', '{}')$$);
BEGIN;
SELECT let_it_pass('gone');
SELECT session_save('by a call', '{}');
SELECT * FROM rows;
COMMIT;
DROP TRIGGER regress_ss_renew ON conversation_sessions;
DROP FUNCTION regress_ss_renew();

DROP VIEW rows;
DROP FUNCTION make(text, text), let_it_pass(text);
DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
