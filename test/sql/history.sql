--
-- Histories: session_append(), session_history(), session_pop() and session_trim().
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, sliding, ttl, tombstone, max_bytes) VALUES
	('hist', false, '2 hours', '5 minutes', 8388608), ('small', false, '1 hour', '5 minutes', 1000), ('reuse', false, '1 hour', '0', 1000);
SET session_store.namespace = 'hist';

-- An append to an absent id begins a session with an empty document, the policy's ttl and no owner.
SELECT session_append('h', '{"m": "a"}');
SELECT session_data, owner_id, version, message_count, expires_at - created_at BETWEEN interval '2 hours' AND interval '2 hours 1 minute' AS two_hours,
	session_ttl('h') > interval '1 hour 59 minutes' AS of_the_policy FROM session_fetch('h');
-- An object is one message, an array several; the result is the last seq. Any object is allowed.
SELECT session_append('h', '[{"m": "b"}, {"m": "c"}]'), session_append('h', '{}') AS empty_object, session_append('h', '[{"m": "e", "deep": [{"x": [1, 2.50, null]}]}]') AS array_of_one;
SELECT seq, message, created_at BETWEEN clock_timestamp() - interval '1 minute' AND clock_timestamp() AS by_the_clock FROM session_history('h');
-- A session that was saved before keeps its document.
SELECT session_save('s', '{"step": 1}', owner => 'alice', ttl => '3 hours');
SELECT updated_at AS saved_at FROM session_fetch('s') \gset
SELECT session_append('s', '{"m": "a"}'), session_append('s', '{"m": "b"}');
-- An append does not count a version; updated_at and message_count change.
SELECT session_data, owner_id, version, message_count, updated_at > :'saved_at' AS updated, session_ttl('s') > interval '2 hours 59 minutes' AS own_ttl FROM session_fetch('s');
SELECT session_save('s', '{"step": 2}', if_version => 1) AS append_is_in_nobodys_way;
SELECT message_count, pg_temp.line('s') FROM session_list(id_like => 's');
-- Several appends in one statement have consecutive seqs, in their order.
SELECT array_agg(session_append('many', jsonb_build_object('m', n)) ORDER BY n) FROM generate_series(1, 10) n;
SELECT pg_temp.line('many');
-- The same id in two namespaces is two histories.
SELECT session_append('h', '{"m": "there"}', namespace => 'small');
SELECT pg_temp.line('h', 1) AS here, pg_temp.line('h', namespace => 'small') AS there;
-- Messages are returned as they were appended, whatever their size.
SELECT session_append('large', jsonb_build_object('x', repeat(md5('x'), 100000), 'n', 1e300, 'p', 0.10, 'u', U&'\00e4\+01f600'));
SELECT message = jsonb_build_object('x', repeat(md5('x'), 100000), 'n', 1e300, 'p', 0.10, 'u', U&'\00e4\+01f600') AS same, message ->> 'p' AS scale FROM session_history('large');

-- Windows: the last n messages, those before a seq (exclusive), and both; always oldest first.
SELECT last, before, pg_temp.line('many', last, before)
FROM (VALUES (NULL::int, NULL::bigint), (3, NULL), (10, NULL), (11, NULL), (2147483647, NULL), (0, NULL), (1, NULL),
	(NULL, 4), (NULL, 1), (NULL, 2), (NULL, 10), (NULL, 11), (NULL, 12), (NULL, 9223372036854775807),
	(3, 4), (3, 3), (3, 1), (0, 5), (2, 11), (2, 1000), (2147483647, 9223372036854775807)) w(last, before);
-- Page by page, back to the first message.
SELECT pg_temp.line('many', 4) AS page, pg_temp.line('many', 4, 7) AS before_it, pg_temp.line('many', 4, 3) AS first_page, pg_temp.line('many', 4, 1) AS nothing_left;
-- If there is nothing, no row is returned and no error raised.
SELECT (SELECT count(*) FROM session_history('absent')) AS absent, (SELECT count(*) FROM session_history(session_create())) AS without_messages;

-- Pop removes the last n messages and returns them as an array, oldest first.
SELECT session_pop('many');
SELECT session_pop('many', 3);
SELECT session_pop('many', 0) AS none;
SELECT pg_temp.line('many'), message_count FROM session_fetch('many');
-- No seq is reused.
SELECT session_append('many', '{"m": "k"}');
SELECT session_pop('many', 2) AS over_the_gap;
SELECT session_append('many', '[{"m": "l"}, {"m": "m"}]');
SELECT pg_temp.line('many'), pg_temp.line('many', 3) AS last_three, pg_temp.line('many', 2, 12) AS before_the_gap, message_count FROM session_fetch('many');
SELECT session_pop('many', 2147483647) AS all_of_them;
SELECT session_pop('many') AS nothing_left, session_exists('many') AS lives_on, message_count, version FROM session_fetch('many');
SELECT session_append('many', '{"m": "n"}');
SELECT session_pop('absent') AS absent, session_pop(session_create()) AS without_messages;

-- Trim keeps the last n messages, and returns how many it removed.
SELECT session_append('t', '[{"m": 1}, {"m": 2}, {"m": 3}, {"m": 4}, {"m": 5}]');
SELECT session_trim('t', 5) AS five, session_trim('t', 100) AS hundred, session_trim('t', 2147483647) AS any;
SELECT session_trim('t', 2);
SELECT pg_temp.line('t'), message_count, version FROM session_fetch('t');
SELECT session_append('t', '{"m": 6}'), session_pop('t'), session_append('t', '{"m": 7}');
SELECT session_trim('t', 2) AS counts_messages_not_seqs;
SELECT pg_temp.line('t');
SELECT session_trim('t', 0) AS to_nothing, session_trim('t', 0) AS again;
SELECT pg_temp.line('t'), session_append('t', '{"m": 8}'), message_count FROM session_fetch('t');
SELECT pg_temp.line('t'), message_count FROM session_fetch('t');
SELECT session_trim('absent', 1) AS absent, session_trim(session_create(), 1) AS without_messages;

-- The ttl restarts with an append, and with a pop or a trim that removes something; only then.
CREATE FUNCTION pg_temp.minutes_after(call text) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '30 minutes' WHERE namespace = 'hist' AND session_id = 'ttl';
	EXECUTE 'SELECT ' || call;
	RETURN round(extract(epoch FROM session_ttl('ttl')) / 60);
END
$$;
SELECT session_append('ttl', '[{"m": 1}, {"m": 2}, {"m": 3}, {"m": 4}]');
SELECT call, pg_temp.minutes_after(call)
FROM (VALUES (1, $$session_append('ttl', '{"m": 5}')$$), (2, $$session_pop('ttl')$$), (3, $$session_pop('ttl', 0)$$), (4, $$session_trim('ttl', 4)$$),
	(5, $$session_trim('ttl', 0)$$), (6, $$session_pop('ttl')$$), (7, $$session_trim('ttl', 0)$$)) c(n, call) ORDER BY n;
-- Reads do not slide in this namespace.
SELECT pg_temp.minutes_after($$(SELECT count(*) FROM session_history('ttl'))$$);

-- A dead id: an append is an error, never a silent loss; other calls find no session.
SELECT session_append('d', '[{"m": 1}, {"m": 2}]', operation_id => 'op');
SELECT session_delete('d');
SELECT pg_temp.err($$SELECT session_append('d', '{"m": 3}')$$) AS append, pg_temp.err($$SELECT session_append('d', '[{"m": 1}, {"m": 2}]', operation_id => 'op')$$) AS same_operation;
SELECT pg_temp.line('d') AS history, session_pop('d') AS pop, session_trim('d', 0) AS trim;
-- After an explicit new start the session has none of the old messages, and reuses none of their seqs.
SELECT session_save('d', '{"new": 1}', if_version => 0) > 1 AS version_goes_on;
SELECT pg_temp.line('d') AS history, message_count, session_pop('d') AS pop, session_trim('d', 0) AS trim FROM session_fetch('d');
SELECT session_append('d', '{"m": 3}');
SELECT pg_temp.line('d'), message_count FROM session_fetch('d');
-- Merge begins a new session in the same way.
SELECT session_delete('d');
SELECT session_merge('d', '{"newer": 1}', if_version => 0), session_append('d', '{"m": 4}');
SELECT pg_temp.line('d'), message_count FROM session_fetch('d');
-- The old id of a regenerated session is dead, too.
SELECT session_append('old', '{"m": 1}');
SELECT session_regenerate('old') AS new \gset
SELECT pg_temp.err($$SELECT session_append('old', '{"m": 2}')$$) AS append, pg_temp.line('old') AS history, session_append(:'new', '{"m": 2}');
SELECT pg_temp.line(:'new');

-- An expired session is gone; an append begins a new one, whose versions and seqs continue (in one
-- transaction, so that the row is not purged meanwhile).
BEGIN;
SELECT session_save('e', '{"old": 1}', ttl => '30 ms', owner => 'alice'), session_append('e', '[{"m": 1}, {"m": 2}]');
SELECT pg_temp.wait_until($$NOT session_exists('e')$$);
SELECT pg_temp.line('e') AS history, session_pop('e') AS pop, session_trim('e', 0) AS trim;
SELECT session_append('e', '{"m": 3}');
SELECT pg_temp.line('e'), session_data, owner_id, version > 1 AS version_goes_on, message_count, session_ttl('e') > interval '1 hour 59 minutes' AS ttl_of_the_policy FROM session_fetch('e');
COMMIT;
-- So does a save over an expired one.
BEGIN;
SELECT session_save('e2', '{"old": 1}', ttl => '30 ms'), session_append('e2', '[{"m": 1}, {"m": 2}]');
SELECT pg_temp.wait_until($$NOT session_exists('e2')$$);
SELECT session_save('e2', '{"new": 1}') > 1 AS version_goes_on, pg_temp.line('e2') AS history;
SELECT message_count, session_append('e2', '{"m": 3}') FROM session_fetch('e2');
SELECT pg_temp.line('e2');
COMMIT;
-- A namespace without tombstones: the id can be reused at once, for another conversation.
BEGIN;
SELECT session_append('r', '{"m": 1}', namespace => 'reuse');
SELECT session_delete('r', 'reuse');
SELECT session_append('r', '{"m": 2}', namespace => 'reuse');
SELECT pg_temp.line('r', namespace => 'reuse'), message_count FROM session_fetch('r', 'reuse');
COMMIT;

-- Either all messages of an array are appended or none; a message has max_bytes at most, before
-- compression; the number of messages is not limited.
SELECT pg_temp.err($$SELECT session_append('m', jsonb_build_object('x', repeat('x', 1000)), namespace => 'small')$$) AS one,
	pg_temp.err($$SELECT session_append('m', jsonb_build_array('{}'::jsonb, jsonb_build_object('x', repeat('x', 1000))), namespace => 'small')$$) AS among_others;
SELECT session_exists('m', 'small') AS began;
SELECT session_append('m', '{"m": 1}', namespace => 'small');
SELECT pg_temp.err($$SELECT session_append('m', jsonb_build_array('{}'::jsonb, '{}'::jsonb, jsonb_build_object('x', repeat('x', 1000))), namespace => 'small')$$) AS last_of_three;
SELECT session_append('m', jsonb_agg(jsonb_build_object('m', repeat('x', 900))), namespace => 'small') AS sum_of_many_is_no_matter FROM generate_series(1, 10);
SELECT message_count FROM session_fetch('m', 'small');
SELECT session_save('m', '{"document": "has its own"}', namespace => 'small');

-- Bad input: each kind has its own error, and nothing changes.
SELECT call, pg_temp.says('SELECT ' || call)
FROM (VALUES
	(1, $$session_append('s', '1')$$), (2, $$session_append('s', '"text"')$$), (3, $$session_append('s', 'null')$$), (4, $$session_append('s', 'true')$$),
	(5, $$session_append('s', '[]')$$), (6, $$session_append('s', '[1]')$$), (7, $$session_append('s', '[{"m": 1}, "x"]')$$), (8, $$session_append('s', '[[{"m": 1}]]')$$), (9, $$session_append('s', '[{}, null]')$$),
	(10, $$session_append('s', NULL)$$), (11, $$session_append(NULL, '{}')$$), (12, $$session_append('', '{}')$$), (13, $$session_append(repeat('x', 201), '{}')$$), (14, $$session_append(E'a\n', '{}')$$),
	(15, $$session_append('s', '{}', namespace => 'no such')$$),
	(20, $$session_history('s', last => -1)$$), (21, $$session_history('s', last => -2147483648)$$), (22, $$session_history('s', before => 0)$$), (23, $$session_history('s', before => -1)$$),
	(24, $$session_history('s', last => 0, before => 0)$$), (25, $$session_history('absent', last => -1)$$), (26, $$session_history(NULL)$$), (27, $$session_history('')$$), (28, $$session_history('s', namespace => 'no such')$$),
	(30, $$session_pop('s', -1)$$), (31, $$session_pop('s', NULL)$$), (32, $$session_pop('absent', -1)$$), (33, $$session_pop(NULL)$$), (34, $$session_pop('')$$), (35, $$session_pop('s', namespace => 'no such')$$),
	(40, $$session_trim('s', -1)$$), (41, $$session_trim('s', NULL)$$), (42, $$session_trim('absent', -1)$$), (43, $$session_trim(NULL, 1)$$), (44, $$session_trim('', 1)$$), (45, $$session_trim('s', 1, 'no such')$$)) c(n, call)
ORDER BY n;
SELECT pg_temp.line('s'), message_count, version FROM session_fetch('s');

-- When no seq is left, an append is an error, and nothing is lost.
SELECT session_append('last', '{"m": 1}');
UPDATE conversation_sessions SET last_seq = 9223372036854775806 WHERE session_id = 'last';
SELECT pg_temp.err($$SELECT session_append('last', '[{"m": 2}, {"m": 3}]')$$) AS two_more;
UPDATE conversation_sessions SET last_seq = 9223372036854775807 WHERE session_id = 'last';
SELECT pg_temp.says($$SELECT session_append('last', '{"m": 2}')$$) AS one_more;
SELECT pg_temp.line('last'), message_count FROM session_fetch('last');

-- A rollback, a rollback to a savepoint and an error undo all changes.
SELECT session_append('rb', '[{"m": 1}, {"m": 2}, {"m": 3}]');
BEGIN;
SELECT session_append('rb', '{"m": "x"}'), session_pop('rb', 2), session_trim('rb', 0), session_append('rb new', '{"m": "x"}');
SELECT pg_temp.line('rb') AS within, message_count FROM session_fetch('rb');
ROLLBACK;
SELECT pg_temp.line('rb'), message_count, session_exists('rb new') AS new FROM session_fetch('rb');
BEGIN;
SELECT session_append('rb', '{"m": 4}');
SAVEPOINT a;
SELECT session_append('rb', '{"m": "x"}'), session_pop('rb', 3);
ROLLBACK TO a;
SELECT session_append('rb', '{"m": 5}');
SAVEPOINT b;
SELECT session_trim('rb', 4);
RELEASE b;
SELECT pg_temp.err($$SELECT session_append('rb', '[{"m": "x"}, 1]')$$) AS error;
SELECT session_append('rb', '{"m": 6}');
COMMIT;
SELECT pg_temp.line('rb'), message_count FROM session_fetch('rb');

-- Within a statement the reads, which are STABLE, see the state before it; the next statement sees all.
SELECT session_append('stable', '{"m": 1}') AS appended, (SELECT count(*) FROM session_history('stable')) AS seen, session_pop('stable', 0) AS pop;
SELECT pg_temp.line('stable') AS seen;
-- Appends work at every isolation level.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT session_append('stable', '{"m": 2}'), session_append('stable', '{"m": 3}');
SELECT pg_temp.line('stable');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT session_append('stable', '{"m": 4}'), session_pop('stable', 2), session_append('stable', '{"m": 5}');
COMMIT;
SELECT pg_temp.line('stable');

-- In a READ ONLY transaction changes are refused, and reads work.
BEGIN READ ONLY;
SELECT pg_temp.line('stable');
SELECT pg_temp.err($$SELECT session_append('stable', '{"m": 6}')$$) AS append, pg_temp.err($$SELECT session_pop('stable')$$) AS pop, pg_temp.err($$SELECT session_trim('stable', 0)$$) AS trim;
COMMIT;
SELECT pg_temp.line('stable');

-- Named and positional arguments; calls can be combined in one statement.
SELECT session_append(session_id => 'named', messages => '{"m": 1}', operation_id => NULL, namespace => 'hist'), session_append('named', '{"m": 2}', NULL, 'hist');
SELECT seq, message FROM session_history(session_id => 'named', last => 1, before => 3, namespace => 'hist');
SELECT session_pop(session_id => 'named', n => 1, namespace => 'hist'), session_trim(session_id => 'named', keep => 0, namespace => 'hist');
SELECT s.session_id, h.seq, h.message ->> 'm' AS m FROM session_list(id_like => '_') s, session_history(s.session_id, last => 1) h ORDER BY s.session_id COLLATE "C";

DELETE FROM conversation_sessions;
SELECT pg_temp.wait_until($$session_purge() >= 0 AND NOT EXISTS (SELECT FROM conversation_history_ended)$$) AS nothing_left;
DELETE FROM session_namespaces;
