-- Counters at their maximum, set by plain SQL, never make the end of a session fail.
\set VERBOSITY terse
INSERT INTO session_namespaces (name, max_sessions_per_owner) VALUES ('one', 1);
CREATE FUNCTION wear_out() RETURNS void LANGUAGE sql AS $$
  UPDATE conversation_sessions SET version = 9223372036854775807, last_seq = 9223372036854775807,
    message_count = 9223372036854775807, check_at = '294276-12-31 23:59:59+00'
  WHERE dead_until IS NULL
$$;
CREATE FUNCTION make(VARIADIC ids text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM conversation_sessions;
  PERFORM session_append(i, '{"m": 1}'), session_save(i, '{"n": 1}', owner => 'u') FROM unnest(ids) i;
  PERFORM wear_out();
END $$;
CREATE VIEW left_over AS SELECT session_id, session_data, version, owner_id, message_count, dead_until > clock_timestamp() AS dead
  FROM conversation_sessions WHERE session_id IN ('a', 'b', 'old') ORDER BY session_id COLLATE "C";

-- with and without direct access
SET session_store.direct_rows = off;
SELECT make('a', 'b'), session_delete('a');
SET session_store.direct_rows = on;
SELECT session_delete('b');
SELECT * FROM left_over;
SELECT make('a', 'b'), session_delete_all('u');
SELECT * FROM left_over;
SELECT make('a', 'b'), session_clear('default');
SELECT * FROM left_over;
SELECT make('a', 'b'), session_regenerate('a') <> 'a' AS renamed;
SELECT * FROM left_over;
-- the source of an absorb can end; for the target, the counters would have to increase
SELECT make('a', 'b');
SELECT session_absorb('a', 'b');
DELETE FROM conversation_sessions WHERE session_id = 'a';
SELECT session_save('a', '{}');
SELECT session_append('a', '{"m": 0}');
UPDATE conversation_sessions SET message_count = 9223372036854775807 WHERE session_id = 'a';
SELECT session_append('a', '{"m": 0}');
SELECT session_absorb('a', 'b');
SELECT * FROM left_over;
-- an eviction
SELECT session_save('old', '{}', owner => 'u', namespace => 'one');
SELECT wear_out();
SELECT session_save('new', '{}', owner => 'u', namespace => 'one');
SELECT * FROM left_over WHERE session_id = 'old';
-- other calls cannot increase the counters and fail
SELECT make('a');
SELECT session_save('a', '{}');
SELECT session_append('a', '{"m": 2}');
-- an id that is reused continues the counters, and so fails as well
SELECT session_delete('a');
SELECT session_save('a', '{}', if_version => 0);
-- times near the end of the range of timestamps
DELETE FROM conversation_sessions;
INSERT INTO conversation_sessions (session_id, session_data, owner_id, created_at, expires_at, check_at)
  SELECT i, '{}', 'u', '294276-12-31 23:59:59+00', '294276-12-31 23:59:59+00', '294276-12-31 23:59:59+00'
  FROM unnest(ARRAY['a', 'b', 'c']) i;
SELECT session_regenerate('c') <> 'c' AS renamed, session_delete('a'), session_delete_all('u');
SELECT count(*) FROM session_list();

DROP VIEW left_over;
DROP FUNCTION wear_out(), make(text[]);
DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
