-- Triggers or rules that skip rows: every call that needs such a row raises an error with a hint,
-- and has no effect.
\set VERBOSITY terse
CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RETURN NULL;
END $$;
-- without the line number of the source
CREATE FUNCTION says(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  result text;
  hint text;
BEGIN
  EXECUTE 'SELECT (' || call || ')::text' INTO result;
  RETURN 'ok: ' || result;
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
  RETURN SQLSTATE || ': ' || SQLERRM || coalesce(': ' || hint, '');
END $$;
CREATE VIEW all_calls AS SELECT call, says(call) FROM unnest(ARRAY[
  $$session_save('a', '{"n": 2}')$$, $$session_merge('a', '{"n": 2}')$$, $$session_incr('a', '{n}')$$,
  $$session_touch('a', '2 hours')$$, $$session_append('a', '{"m": 2}')$$, $$session_pop('a')$$,
  $$session_trim('a', 0)$$, $$session_share('a', 'v')$$, $$session_regenerate('a')$$,
  $$session_absorb('a', 'b')$$, $$session_delete('a')$$,
  $$session_delete_all('u', namespace => 'one')$$, $$session_clear('one')$$,
  $$session_save('c', '{}', owner => 'u', namespace => 'one')$$]) call;
CREATE VIEW as_before AS SELECT session_id, session_data, version, message_count, dead_until FROM conversation_sessions ORDER BY session_id COLLATE "C";

INSERT INTO session_namespaces (name, max_sessions_per_owner) VALUES ('one', 1);
SELECT session_append(i, '{"m": 1}'), session_save(i, '{"n": 1}') FROM unnest(ARRAY['a', 'b']) i;
SELECT session_save('victim', '{}', owner => 'u', namespace => 'one');

CREATE TRIGGER a_skip BEFORE UPDATE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION skip();
SELECT * FROM all_calls;
SELECT * FROM as_before;
DROP TRIGGER a_skip ON conversation_sessions;

CREATE RULE skip_updates AS ON UPDATE TO conversation_sessions DO INSTEAD NOTHING;
SELECT * FROM all_calls;
SELECT * FROM as_before;
DROP RULE skip_updates ON conversation_sessions;

-- the old id of a regenerated session gets a tombstone
CREATE TRIGGER a_skip BEFORE INSERT ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION skip();
SELECT says($$session_regenerate('a')$$);
SELECT * FROM as_before;
DROP TRIGGER a_skip ON conversation_sessions;

-- rows that the purge cannot remove
UPDATE conversation_sessions SET expires_at = clock_timestamp() WHERE session_id = 'b';
CREATE TRIGGER a_skip BEFORE DELETE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION skip();
SELECT says($$session_purge()$$);
DROP TRIGGER a_skip ON conversation_sessions;

DROP VIEW all_calls, as_before;
DROP FUNCTION skip(), says(text);
DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
