-- Columns of conversation_sessions that each call writes.  A trigger UPDATE OF a column fires for the
-- calls that may change this column, and for no others.
\set VERBOSITY terse
CREATE TABLE written (name text);
CREATE FUNCTION note_column() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
  INSERT INTO written VALUES (TG_ARGV[0]);
  RETURN NEW;
END $$;
DO $$
DECLARE
  name text;
BEGIN
  FOR name IN SELECT attname FROM pg_attribute WHERE attrelid = 'conversation_sessions'::regclass AND attnum > 0
    AND NOT attisdropped LOOP
    EXECUTE format('CREATE TRIGGER a_%s BEFORE UPDATE OF %1$I ON conversation_sessions FOR EACH ROW'
      ' EXECUTE FUNCTION note_column(%1$L)', name);
  END LOOP;
END $$;
CREATE FUNCTION writes(call text) RETURNS text LANGUAGE plpgsql SET search_path = public AS $$
DECLARE
  names text;
BEGIN
  DELETE FROM written;
  EXECUTE 'SELECT ' || call;
  SELECT string_agg(name, ' ' ORDER BY name COLLATE "C") INTO names FROM written;
  RETURN names;
END $$;

SELECT session_save(id, '{"n": 1}', owner => 'ada') FROM unnest(ARRAY['a', 'b', 'c']) id;
SELECT writes($$session_save('a', '{"n": 2}')$$);
SELECT writes($$session_save('a', '{"n": 2}', ttl => '1 hour', owner => 'bob', if_version => 2)$$);
SELECT writes($$session_merge('a', '{"m": 2}')$$);
SELECT writes($$session_incr('a', '{n}')$$);
SELECT writes($$session_append('a', '[{"m": 1}, {"m": 2}]')$$);
SELECT writes($$session_append('a', '{"m": 3}', patch => '{"m": 3}')$$);
SELECT writes($$session_pop('a')$$);
SELECT writes($$session_compact('a', 1, '1')$$);
SELECT writes($$session_amend('a', 2, '{"m": 2}')$$);
-- with the summary, which it removes
SELECT writes($$session_amend('a', 1, '{"m": 1}')$$);
SELECT writes($$session_touch('a', '3 hours')$$);
SELECT writes($$session_turn_begin('a', holder => 'me')$$);
SELECT writes($$session_delete('b')$$);
-- a new session in the row of one that has ended
SELECT writes($$session_save('b', '{"n": 3}', if_version => 0)$$);
SELECT writes($$session_absorb('a', 'c')$$);
SELECT session_id, session_data, owner_id, version, ttl, last_seq, message_count, dead_until IS NULL AS alive,
  check_at >= created_at AS due, turn IS NOT NULL AS turn, turn_holder
FROM conversation_sessions ORDER BY session_id COLLATE "C";

-- a new session over one that had a turn, messages and an owner keeps only the counters and the token
UPDATE conversation_sessions SET expires_at = clock_timestamp() - interval '1 hour' WHERE session_id = 'a';
SELECT writes($$session_append('a', '{"m": 4}')$$);
SELECT session_id, session_data, owner_id, version, last_seq, message_count, created_at = updated_at AS new,
  turn IS NOT NULL AS turn, turn_until, turn_holder, check_at = expires_at AS due
FROM conversation_sessions WHERE session_id = 'a';

SET client_min_messages = warning;
DROP TABLE written;
DROP FUNCTION note_column() CASCADE;
DROP FUNCTION writes(text);
DELETE FROM conversation_sessions;
