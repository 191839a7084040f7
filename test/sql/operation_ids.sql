--
-- operation_id: an append that is repeated because its answer was lost is carried out once.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, sliding, ttl, tombstone) VALUES ('ops', false, '2 hours', '5 minutes'), ('reuse', false, '1 hour', '0');
SET session_store.namespace = 'ops';

-- A repeated call has no effect and returns the result of the first, also if there were other calls
-- between them.
SELECT session_append('s', '{"m": "a"}', 'op 1') AS first, session_append('s', '{"m": "a"}', 'op 1') AS again;
SELECT session_append('s', '[{"m": "b"}, {"m": "c"}]', 'op 2'), session_append('s', '{"m": "d"}');
SELECT session_append('s', '{"m": "a"}', 'op 1') AS first, session_append('s', '[{"m": "b"}, {"m": "c"}]', operation_id => 'op 2') AS second;
SELECT pg_temp.line('s'), message_count, version FROM session_fetch('s');
-- Without an operation_id the same messages are appended again.
SELECT session_append('s', '{"m": "d"}'), pg_temp.line('s', 2);
-- The first call may create the session.
SELECT session_append('new', '{"m": "a"}', 'op') AS first, session_append('new', '{"m": "a"}', 'op') AS again, session_append('new', '{"m": "a"}', 'op') AS and_again;
SELECT pg_temp.line('new');

-- An object and an array of that one object are the same operation; contents are compared as jsonb.
SELECT session_append('eq', '{"a": 1, "b": [1, {"c": null}]}', 'op') AS first, session_append('eq', '[{"b": [1, {"c": null}], "a": 1}]', 'op') AS array_of_it, session_append('eq', '{"b":[1,{"c":null}],   "a":2, "a":1}', 'op') AS other_spelling;
SELECT session_append('eq', '[{"m": 1}]', 'op 2') AS first, session_append('eq', '{"m": 1}', 'op 2') AS object_of_it;
SELECT pg_temp.line('eq', 1), message_count FROM session_fetch('eq');
-- Another content under the same operation_id is an error, and nothing changes.
SELECT messages, pg_temp.err(format('SELECT session_append(''eq'', %L, ''op 2'')', messages))
FROM unnest(ARRAY['{"m": 2}', '{"m": "1"}', '{"m": 1, "n": 1}', '{}', '[{"m": 1}, {"m": 1}]', '[{"m": 1}, {}]', '{"m": [1]}', '{"m": true}', '{"M": 1}']) messages;
SELECT session_append('eq', '[{"x": 1}, {"y": 2}]', 'op 3'), pg_temp.err($$SELECT session_append('eq', '[{"y": 2}, {"x": 1}]', 'op 3')$$) AS other_order, pg_temp.err($$SELECT session_append('eq', '{"x": 1}', 'op 3')$$) AS part_of_it, pg_temp.err($$SELECT session_append('eq', '{"x": 1, "y": 2}', 'op 3')$$) AS merged;
SELECT message_count FROM session_fetch('eq');
SELECT pg_temp.says($$SELECT session_append('eq', '{"m": 2}', 'op 2')$$);
-- Invalid messages are an error, and an error uses up no operation_id.
SELECT pg_temp.err($$SELECT session_append('eq', '1', 'op 2')$$) AS scalar, pg_temp.err($$SELECT session_append('eq', '[]')$$) AS empty, pg_temp.err($$SELECT session_append('eq', '[1]', 'op 4')$$) AS bad_element, session_append('eq', '{"m": 4}', 'op 4');

-- A repeated call changes nothing: no time, no count, no version.
SELECT updated_at AS updated, message_count AS count, version FROM session_fetch('eq') \gset
SELECT session_append('eq', '{"m": 4}', 'op 4') AS again;
SELECT updated_at = :'updated' AS updated_at, message_count = :count AS message_count, version = :version AS version FROM session_fetch('eq');

-- An operation_id belongs to one session.
SELECT session_append('s', '{"m": "e"}', 'op 4') AS other_session, session_append('eq', '{"m": "e"}', 'op 4', 'reuse') AS other_namespace, session_append('eq', '{"m": "e"}', 'OP 4') AS case_counts;
SELECT pg_temp.line('eq', namespace => 'reuse'), session_append('eq', '{"m": "e"}', 'op 4', 'reuse') AS again;

-- An append without messages is an operation like any other; it may create the session.
SELECT session_append('none', '[]', 'op') AS first, session_append('none', '{"m": 1}'), session_append('none', '[]', 'op') AS again, session_append('none', '[]', 'op 2') AS another;
SELECT pg_temp.err($$SELECT session_append('none', '{}', 'op')$$) AS one, pg_temp.err($$SELECT session_append('none', '[]')$$) AS without, pg_temp.line('none'), version, message_count FROM session_fetch('none');

-- An operation is kept whatever happens to its messages: neither a pop ..
SELECT session_append('p', '[{"m": 1}, {"m": 2}]', 'a'), session_append('p', '[{"m": 3}, {"m": 4}]', 'b');
SELECT session_pop('p', 3), session_append('p', '[{"m": 3}, {"m": 4}]', 'b') AS remembered, pg_temp.err($$SELECT session_append('p', '{"m": 5}', 'b')$$) AS other_content;
-- .. nor a trim changes that.
SELECT session_trim('p', 0), session_append('p', '[{"m": 1}, {"m": 2}]', 'a') AS remembered, pg_temp.line('p') AS nothing;
-- It is kept for operation_keep, 1 day unless the namespace says otherwise, from the call that carried it out.
UPDATE session_namespaces SET operation_keep = '1 hour' WHERE name = 'ops';
SELECT session_append('p', '{"m": 5}', 'c'), session_append('p', '[{"m": 1}, {"m": 2}]', 'a') AS again;
SELECT operation_id, o.namespace, result, octet_length(operation_hash), extract(epoch FROM keep_until - clock_timestamp()) BETWEEN hours * 3600 - 600 AND hours * 3600 AS hours
FROM conversation_sessions s JOIN session_operations o USING (history_id), LATERAL (SELECT CASE operation_id WHEN 'c' THEN 1 ELSE 24 END AS hours) h WHERE session_id = 'p' ORDER BY operation_id;
-- Afterwards the operation_id is unused, whether its row was removed or not.  (In one transaction, so that
-- the keeper does not come first.)
BEGIN;
UPDATE session_operations SET keep_until = clock_timestamp() WHERE operation_id IN ('a', 'b');
SELECT session_append('p', '{"m": "other"}', 'a') AS carried_out, session_append('p', '{"m": "other"}', 'a') AS again, session_append('p', '{"m": 5}', 'c') AS kept;
SELECT operation_id, result FROM conversation_sessions s JOIN session_operations o USING (history_id) WHERE session_id = 'p' ORDER BY operation_id;
-- session_purge removes operations that are no longer kept, of the given namespace, and counts them.
INSERT INTO session_operations SELECT clock_timestamp() - interval '1 s', gen_random_uuid(), 1, n, 'old', 'x' FROM unnest(ARRAY['ops', 'reuse']) n;
SELECT session_purge(namespace => 'reuse') >= 1 AS purged;
SELECT namespace, operation_id FROM session_operations WHERE operation_id IN ('b', 'old') ORDER BY 1, 2;
COMMIT;
SELECT session_purge(max_rows => 0), pg_temp.wait_until($$session_purge() >= 0 AND NOT EXISTS (SELECT FROM session_operations WHERE operation_id IN ('b', 'old'))$$) AS purged;
SELECT pg_temp.refused($$UPDATE session_namespaces SET operation_keep = '0'$$) AS none, pg_temp.refused($$UPDATE session_namespaces SET operation_keep = '1 month'$$) AS month, pg_temp.refused($$UPDATE session_namespaces SET operation_keep = NULL$$) AS missing, pg_temp.refused($$UPDATE session_namespaces SET operation_keep = '-1 s'$$) AS negative;
-- An operation ends with its session: a new session under the id has no operations.
SELECT session_append('d', '{"m": 1}', 'op'), session_delete('d');
SELECT session_save('d', '{}', if_version => 0) > 1 AS new_session, session_append('d', '{"m": "other"}', 'op');
SELECT session_append('r', '{"m": 1}', 'op', 'reuse'), session_delete('r', 'reuse'), session_append('r', '{"m": "other"}', 'op', 'reuse');
SELECT pg_temp.line('d') AS d, pg_temp.line('r', namespace => 'reuse') AS r;
BEGIN;
SELECT session_save('e', '{}', ttl => '30 ms'), session_append('e', '{"m": 1}', 'op');
SELECT pg_temp.wait_until($$NOT session_exists('e')$$), session_append('e', '{"m": "other"}', 'op');
SELECT pg_temp.line('e');
COMMIT;
-- A regenerated session keeps its operations.
SELECT session_append('g', '{"m": 1}', 'op'), session_regenerate('g') AS new \gset
SELECT session_append(:'new', '{"m": 1}', 'op') AS again, pg_temp.err(format('SELECT session_append(%L, ''{"m": 2}'', ''op'')', :'new')) AS other;
-- Any number of operations is kept.
SELECT count(session_append('many', jsonb_build_object('m', n), 'op ' || n)) FROM generate_series(1, 1000) n;
SELECT bool_and(session_append('many', jsonb_build_object('m', n), 'op ' || n) = n) AS each_its_own_answer FROM generate_series(1000, 1, -1) n;
SELECT message_count FROM session_fetch('many');

-- After a rollback the operation_id is unused.
BEGIN;
SELECT session_append('rb', '{"m": 1}', 'op');
ROLLBACK;
SELECT session_append('rb', '{"m": "other"}', 'op');
BEGIN;
SAVEPOINT a;
SELECT session_append('rb', '{"m": 2}', 'op 2'), session_append('rb', '{"m": 2}', 'op 2') AS again_within;
ROLLBACK TO a;
SELECT session_append('rb', '{"m": "other"}', 'op 2');
COMMIT;
SELECT pg_temp.line('rb');

-- 1 to 200 bytes without control characters; NULL is none.
SELECT session_append('len', '{"m": 1}', repeat('x', 200)) AS first, session_append('len', '{"m": 1}', repeat('x', 200)) AS again, session_append('len', '{"m": 1}', repeat('x', 199) || 'y') AS another, session_append('len', '{"m": 1}', NULL) AS without, session_append('len', '{"m": 1}', ' ') AS space;
SELECT what, pg_temp.says(format('SELECT session_append(''len'', ''{"m": 1}'', %s)', what))
FROM unnest(ARRAY[$$''$$, $$repeat('x', 201)$$, $$E'a\n'$$, $$E'\t'$$, $$E'\x7f'$$, $$repeat(U&'\00e4', 101)$$]) what;
SELECT pg_temp.err($$SELECT session_append('absent', '{"m": 1}', '')$$) AS absent, session_exists('absent') AS began, message_count FROM session_fetch('len');

DELETE FROM conversation_sessions;
SELECT pg_temp.wait_until($$session_purge() >= 0 AND NOT EXISTS (SELECT FROM conversation_history_ended)$$) AS nothing_left;
SELECT count(*) AS operations FROM session_operations;
DELETE FROM session_namespaces;
