--
-- Tables of histories: regenerate moves no messages, the end of a session hides all of them at
-- once, the purge removes only those, in batches, and the owner may use plain SQL.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, sliding, ttl, tombstone) VALUES ('tables', false, '2 hours', '5 minutes'), ('other', false, '1 hour', '5 minutes');
SET session_store.namespace = 'tables';
-- Messages of ended sessions, which are hidden and not purged yet.
CREATE TEMP VIEW hidden AS
SELECT h.* FROM conversation_history h WHERE NOT EXISTS (SELECT FROM conversation_sessions s WHERE s.history_id = h.history_id);
-- What earlier tests have left is purged first.
SELECT pg_temp.wait_until($$session_purge() >= 0 AND NOT EXISTS (SELECT FROM conversation_history)$$) AS clean;

-- The view: the messages of living sessions, under the present session id.
SELECT session_append('a', '[{"m": 1}, {"m": 2}]'), session_append('b', '{"m": 1}', namespace => 'other'), session_save('without', '{}');
SELECT * FROM (SELECT namespace, session_id, seq, message, created_at BETWEEN clock_timestamp() - interval '1 minute' AND clock_timestamp() AS created FROM conversation_messages) v ORDER BY namespace, session_id, seq;
SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'conversation_messages' ORDER BY ordinal_position;
SELECT bool_and(v.message = h.message AND v.created_at = h.created_at) AS same, count(*) FROM conversation_messages v JOIN session_history('a') h USING (seq) WHERE namespace = 'tables' AND session_id = 'a';
-- A session gets its history_id with its first message, and keeps it.
SELECT session_id, history_id IS NOT NULL AS has_history FROM conversation_sessions ORDER BY session_id;
SELECT history_id AS history FROM conversation_sessions WHERE session_id = 'a' \gset
SELECT session_pop('a', 2), session_append('a', '[{"m": 3}, {"m": 4}]'), session_trim('a', 1);
SELECT history_id = :'history' AS kept FROM conversation_sessions WHERE session_id = 'a';

-- Regenerate moves no message: the same history, and the same rows at the same ctid.
SELECT session_append('reg', '[{"m": 1}, {"m": 2}, {"m": 3}]', 'op'), session_share('reg', 'bob');
CREATE TEMP TABLE before AS SELECT h.ctid AS place, h.xmin AS writer, h.* FROM conversation_history h JOIN conversation_sessions s USING (history_id) WHERE session_id = 'reg';
SELECT session_regenerate('reg') AS new \gset
SELECT count(*), bool_and(h.ctid = b.place AND h.xmin = b.writer) AS untouched FROM conversation_history h JOIN before b USING (history_id, seq) JOIN conversation_sessions s USING (history_id) WHERE s.session_id = :'new';
SELECT history_id IS NULL AS old_id_has_none FROM conversation_sessions WHERE session_id = 'reg';
SELECT count(*) AS by_the_new_id, count(*) FILTER (WHERE session_id = 'reg') AS by_the_old FROM conversation_messages WHERE session_id IN ('reg', :'new');
SELECT message_count, pg_temp.line(:'new'), (SELECT count(*) FROM session_members(:'new')) AS members FROM session_fetch(:'new');
-- None of it is to be purged.
BEGIN;
SELECT session_purge() >= 0 AS purged, pg_temp.line(:'new');
COMMIT;

-- Delete hides all messages at once, in functions and in the view; the purge removes the rows (in one
-- transaction, so that the keeper does not purge first).
BEGIN;
SELECT session_append('del', '[{"m": 1}, {"m": 2}, {"m": 3}]');
SELECT session_delete('del');
SELECT pg_temp.line('del') AS history, (SELECT count(*) FROM conversation_messages WHERE session_id = 'del') AS in_the_view, count(*) AS hidden FROM hidden;
SELECT count(*) AS queued FROM conversation_history_ended e WHERE EXISTS (SELECT FROM hidden h WHERE h.history_id = e.history_id);
SELECT session_purge() AS purged, session_exists('a') AS others_live;
SELECT count(*) AS hidden FROM hidden;
-- The tombstone stays.
SELECT pg_temp.err($$SELECT session_append('del', '{}')$$);
COMMIT;
-- So does an end by delete_all, clear, absorb (of the source), eviction or expiry, and a save over the
-- expired session.
BEGIN;
SELECT session_save(id, '{}', owner => 'u'), session_append(id, '[{"m": 1}, {"m": 2}]') FROM unnest(ARRAY['d1', 'd2', 'c1', 'x1', 'e1', 'n1']) id;
SELECT session_delete_all('u', except_session_id => 'c1') AS deleted;
SELECT count(*) AS hidden FROM hidden;
SELECT session_clear('tables', 'c_') AS cleared;
SELECT count(*) AS hidden FROM hidden;
SELECT session_save('x1', '{}', if_version => 0) IS NOT NULL AS new_session, session_append('x1', '{"m": 3}'), session_append('x2', '{"m": 4}');
SELECT session_absorb('x2', 'x1');
SELECT session_save('e1', '{}', ttl => '30 ms', if_version => 0) IS NOT NULL AS new_session, session_append('e1', '{"m": 5}');
SELECT pg_temp.wait_until($$NOT session_exists('e1')$$);
SELECT count(*) AS seen FROM conversation_messages WHERE session_id IN ('e1', 'x1');
SELECT session_append('e1', '{"m": 6}');
SELECT count(*) AS hidden FROM hidden;
SELECT pg_temp.line('e1'), (SELECT count(*) FROM conversation_messages WHERE session_id = 'e1') AS in_the_view;
-- All are purged, in batches of any size; messages of living sessions stay.
SELECT bool_and(session_purge(4) <= 4) AS at_most_four FROM generate_series(1, 12);
SELECT count(*) AS hidden FROM hidden;
SELECT pg_temp.line('e1') AS e1, pg_temp.line('x2') AS x2, pg_temp.line('a') AS a;
COMMIT;

-- max_rows counts messages: a long history is removed in several calls, until nothing is left.
BEGIN;
SELECT session_append('batch', jsonb_agg(jsonb_build_object('m', n))), session_append('small', '[{"m": 1}, {"m": 2}]') FROM generate_series(1, 25) n;
SELECT session_delete('batch'), session_delete('small');
SELECT session_purge(10) AS purged, (SELECT count(*) FROM hidden) AS before;
SELECT count(*) AS left FROM hidden;
SELECT session_purge(10) AS purged, count(*) AS left FROM hidden;
SELECT session_purge(10) < 10 AS last_batch;
SELECT count(*) AS left FROM hidden;
SELECT session_purge(10) AS nothing_left;
ROLLBACK;
-- The purge of another namespace does not remove them.
BEGIN;
SELECT session_append('mine', '[{"m": 1}, {"m": 2}]'), session_delete('mine');
SELECT session_purge(namespace => 'other') AS purged, (SELECT count(*) FROM hidden) AS hidden;
SELECT session_purge(namespace => 'tables') > 0 AS purged;
SELECT count(*) AS hidden FROM hidden;
ROLLBACK;
-- An expired session and its messages are removed by the same call, or by the next.
BEGIN;
SELECT session_save('exp', '{}', ttl => '30 ms'), session_append('exp', '[{"m": 1}, {"m": 2}]');
SELECT pg_temp.wait_until($$NOT session_exists('exp')$$);
SELECT sum(session_purge()) >= 3 AS row_and_messages FROM generate_series(1, 3);
SELECT count(*) AS hidden, (SELECT count(*) FROM conversation_sessions WHERE session_id = 'exp') AS rows FROM hidden;
COMMIT;

-- Plain SQL: a DELETE ends sessions with their histories; only their messages are purged.
BEGIN;
SELECT session_append('p1', '[{"m": 1}, {"m": 2}]'), session_append('p2', '{"m": 1}');
DELETE FROM conversation_sessions WHERE session_id = 'p1';
SELECT pg_temp.line('p1') AS history, (SELECT count(*) FROM conversation_messages WHERE session_id = 'p1') AS in_the_view, (SELECT count(*) FROM hidden) AS hidden;
SELECT count(*) AS queued FROM conversation_history_ended e WHERE EXISTS (SELECT FROM hidden h WHERE h.history_id = e.history_id);
SELECT session_append('p1', '{"m": "new"}') AS new_session;
SELECT session_purge() >= 2 AS purged, pg_temp.line('p1') AS p1, pg_temp.line('p2') AS p2, (SELECT count(*) FROM hidden) AS hidden_before;
SELECT count(*) AS hidden FROM hidden;
-- An UPDATE of the session id keeps the history with the session; an UPDATE that ends the session hides
-- it.
UPDATE conversation_sessions SET session_id = 'renamed' WHERE session_id = 'p2';
SELECT pg_temp.line('renamed'), pg_temp.line('p2') AS by_the_old_name;
UPDATE conversation_sessions SET namespace = 'other' WHERE session_id = 'renamed';
SELECT pg_temp.line('renamed', namespace => 'other'), session_append('renamed', '{"m": 2}', namespace => 'other');
UPDATE conversation_sessions SET expires_at = clock_timestamp() - interval '1 second' WHERE session_id = 'renamed';
SELECT pg_temp.line('renamed', namespace => 'other'), (SELECT count(*) FROM conversation_messages WHERE session_id = 'renamed') AS in_the_view;
UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '1 hour' WHERE session_id = 'renamed';
SELECT pg_temp.line('renamed', namespace => 'other') AS back;
UPDATE conversation_sessions SET dead_until = clock_timestamp() + interval '1 hour' WHERE session_id = 'renamed';
SELECT pg_temp.line('renamed', namespace => 'other'), (SELECT count(*) FROM conversation_messages WHERE session_id = 'renamed') AS in_the_view, pg_temp.err($$SELECT session_append('renamed', '{}', namespace => 'other')$$) AS append;
ROLLBACK;
-- The same with session_replication_role = replica.
BEGIN;
SELECT session_append('rep', '[{"m": 1}, {"m": 2}]');
SET LOCAL session_replication_role = replica;
DELETE FROM conversation_sessions WHERE session_id = 'rep';
SET LOCAL session_replication_role = origin;
SELECT session_purge() >= 2 AS purged;
SELECT count(*) AS hidden FROM hidden;
ROLLBACK;

-- Rows that are deleted and inserted again unchanged, as by a restore, are the same sessions with the same
-- history.
BEGIN;
SELECT session_append('copy', '[{"m": 1}, {"m": 2}]'), session_share('copy', 'bob');
CREATE TEMP TABLE copied ON COMMIT DROP AS SELECT * FROM conversation_sessions WHERE session_id = 'copy';
DELETE FROM conversation_sessions WHERE session_id = 'copy';
INSERT INTO conversation_sessions SELECT * FROM copied;
SELECT pg_temp.line('copy'), message_count FROM session_fetch('copy');
SELECT session_purge() >= 0 AS purged;
SELECT pg_temp.line('copy') AS after_a_purge, session_append('copy', '{"m": 3}'), (SELECT string_agg(member, ' ') FROM session_members('copy')) AS members;
ROLLBACK;

-- Changes of the owner by hand in conversation_history are what later calls return.
SELECT session_append('hand', '[{"m": 1}, {"m": 2}, {"m": 3}]', 'op');
UPDATE conversation_history SET message = '{"m": "redacted"}' WHERE seq = 2 AND history_id = (SELECT history_id FROM conversation_sessions WHERE session_id = 'hand');
SELECT pg_temp.line('hand'), session_append('hand', '[{"m": 1}, {"m": 2}, {"m": 3}]', 'op') AS same_operation;
DELETE FROM conversation_history WHERE seq = 1 AND history_id = (SELECT history_id FROM conversation_sessions WHERE session_id = 'hand');
SELECT pg_temp.line('hand'), pg_temp.err($$SELECT session_append('hand', '{"m": 4}', 'op')$$) AS still_known, session_append('hand', '{"m": 4}'), session_pop('hand', 5);
-- There, too, a message is not null and seqs are unique.
SELECT history_id AS history FROM conversation_sessions WHERE session_id = 'a' \gset
SELECT pg_temp.refused(format('UPDATE conversation_history SET message = NULL WHERE history_id = %L', :'history')) AS no_message,
	pg_temp.refused(format('INSERT INTO conversation_history (history_id, seq, created_at, message) SELECT %L, max(seq), clock_timestamp(), ''{}'' FROM conversation_history WHERE history_id = %L', :'history', :'history')) AS seq_twice;

-- Tables that are emptied and filled again have the same contents, even if a purge comes between the two
-- tables.
BEGIN;
CREATE TEMP TABLE all_sessions ON COMMIT DROP AS SELECT * FROM conversation_sessions;
CREATE TEMP TABLE all_messages ON COMMIT DROP AS SELECT * FROM conversation_history;
TRUNCATE conversation_sessions, conversation_history;
SELECT count(*) AS messages FROM conversation_messages;
INSERT INTO conversation_history SELECT * FROM all_messages;
INSERT INTO conversation_sessions SELECT * FROM all_sessions;
SELECT count(*) > 3 AS several, count(*) = (SELECT count(*) FROM all_messages m JOIN conversation_sessions s USING (history_id)) AS all_of_them FROM conversation_messages;
SELECT session_purge() >= 0 AS purged, pg_temp.line('a'), session_append('a', '{"m": 5}');
TRUNCATE conversation_sessions, conversation_history, conversation_history_ended;
INSERT INTO conversation_history SELECT * FROM all_messages;
SELECT session_purge() >= 0 AS purged;
INSERT INTO conversation_sessions SELECT * FROM all_sessions;
SELECT pg_temp.line('a') AS after_a_purge_between;
ROLLBACK;

-- TRUNCATE of the sessions ends all of them, and nothing of them is left.
SELECT count(*) > 3 AS several FROM conversation_messages;
TRUNCATE conversation_sessions;
SELECT count(*) AS messages, session_count() AS sessions, pg_temp.line('a') AS a FROM conversation_messages;
SELECT session_append('a', '{"m": "new"}') AS new_session;
SELECT pg_temp.wait_until($$session_purge() >= 0 AND NOT EXISTS (SELECT FROM hidden)$$) AS purged;
SELECT pg_temp.line('a');
SELECT pg_temp.wait_until($$session_purge() >= 0 AND NOT EXISTS (SELECT FROM conversation_history_ended)$$) AS queue_is_empty;
-- TRUNCATE of the messages empties the histories, whose seqs continue.
TRUNCATE conversation_history;
SELECT pg_temp.line('a'), session_append('a', '{"m": 2}');
SELECT pg_temp.line('a');

-- The keeper purges by itself.
DELETE FROM conversation_sessions;
SELECT pg_temp.wait_until($$NOT EXISTS (SELECT FROM conversation_history)$$) AS purged_by_the_keeper;

SELECT pg_temp.wait_until($$session_purge() >= 0 AND NOT EXISTS (SELECT FROM conversation_history_ended)$$) AS nothing_left;
DELETE FROM session_namespaces;
