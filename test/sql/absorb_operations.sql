-- session_absorb(): operation ids of the source stay effective, so that a repeated append is not
-- carried out twice; and the target's document is kept where the source's has no such member or
-- is not an object.
\set VERBOSITY terse
CREATE VIEW operations AS SELECT s.session_id, o.operation_id, o.result, o.keep_until > clock_timestamp() AS kept
  FROM conversation_sessions s JOIN session_operations o USING (history_id) ORDER BY s.session_id COLLATE "C", o.result, o.operation_id;
CREATE VIEW messages AS SELECT s.session_id, h.seq, h.message
  FROM conversation_sessions s JOIN conversation_history h USING (history_id) ORDER BY s.session_id COLLATE "C", h.seq;

SELECT session_append('target', '{"t": 1}', 'first'), session_append('target', '[{"t": 2}, {"t": 3}]', 'both'), session_append('target', '{"t": 4}');
SELECT session_append('source', '[{"s": 1}, {"s": 2}, {"s": 3}]', 'one'), session_append('source', '{"s": 4}'), session_append('source', '{"s": 5}', 'both'),
  session_append('source', '[{"s": 6}, {"s": 7}]', 'two');
-- the last message of one operation and all messages of another were removed, and others were added
SELECT session_pop('source'), session_append('source', '{"s": 0}', 'gone'), session_pop('source'), session_append('source', '[{"s": 8}, {"s": 9}]', 'three');
-- an operation that is no longer kept
SELECT session_append('source', '[]', 'old');
UPDATE session_operations SET keep_until = clock_timestamp() WHERE operation_id = 'old';
SELECT session_absorb('target', 'source');
SELECT * FROM operations;
SELECT * FROM messages;
-- repeated appends have no effect and return the seq that their messages have now
SELECT session_append('target', '[{"s": 1}, {"s": 2}, {"s": 3}]', 'one') AS one, session_append('target', '[{"s": 6}, {"s": 7}]', 'two') AS two,
  session_append('target', '[{"s": 8}, {"s": 9}]', 'three') AS three, session_append('target', '[{"t": 2}, {"t": 3}]', 'both') AS both, session_append('target', '{"t": 1}', 'first') AS first, session_append('target', '{"s": 0}', 'gone') AS gone;
SELECT count(*) FROM operations;
-- under this id the source had another append
SELECT session_append('target', '{"s": 5}', 'both');
-- the result is absorbed again, by a session without a history
SELECT session_save('empty', '{}'), session_absorb('empty', 'target');
SELECT * FROM operations;
SELECT session_append('empty', '[{"s": 8}, {"s": 9}]', 'three') AS three, session_append('empty', '{"t": 1}', 'first') AS first;
SELECT message_count, last_seq, (SELECT count(*) FROM messages) FROM conversation_sessions WHERE session_id = 'empty';

-- a source without messages still has its operations
SELECT session_append('all gone', '{"m": 1}', 'op'), session_trim('all gone', 0), session_save('bare', '{}'), session_absorb('bare', 'all gone');
SELECT session_append('bare', '{"m": 1}', 'op') AS again, message_count FROM session_fetch('bare');

-- documents
CREATE FUNCTION absorbed(target jsonb, source jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM conversation_sessions;
  PERFORM session_save('t', target), session_save('s', source), session_absorb('t', 's');
  RETURN session_get('t');
END $$;
SELECT t AS target, s AS source, absorbed(t, s) FROM unnest(ARRAY['{}', '{"a": 1, "b": {"c": 1}}', '[]', '[1]', 'null', '0', '""', 'false']::jsonb[]) t,
  unnest(ARRAY['{}', '{"b": {"d": 2}, "a": null}', '[]', '[2]', 'null', '7', '"text"', 'true']::jsonb[]) s;

DROP FUNCTION absorbed(jsonb, jsonb);
DROP VIEW operations, messages;
DELETE FROM conversation_sessions;
