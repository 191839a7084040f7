--
-- session_fork(): copies a session, with its history up to a message.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, sliding, ttl, max_sessions_per_owner, on_quota) VALUES
	('fork', false, '2 hours', NULL, 'evict'), ('other', false, '1 hour', NULL, 'evict'), ('full', false, '1 hour', 2, 'refuse');
SET session_store.namespace = 'fork';

-- The copy has the data, the owner, the ttl and the messages under the same seqs, and a version of its own.
SELECT session_save('s', '{"step": 1}', owner => 'alice', ttl => '3 hours'), session_save('s', '{"step": 2}');
SELECT session_append('s', '[{"m": "a"}, {"m": "b"}, {"m": "c"}, {"m": "d"}, {"m": "e"}]', operation_id => 'op');
SELECT session_share('s', 'bob', 'editor');
SELECT pg_temp.wait_until($$clock_timestamp() > (SELECT created_at FROM session_fetch('s')) + interval '2 ms'$$);
SELECT session_fork('s', 'copy');
SELECT c.session_data, c.owner_id, c.version, c.message_count, c.created_at > s.created_at AS created_later,
	session_ttl('copy') > interval '2 hours 59 minutes' AS same_ttl FROM session_fetch('copy') c, session_fetch('s') s;
SELECT pg_temp.line('copy');
-- The created_at of messages is copied.
SELECT bool_and(c = s) AS same_rows FROM session_history('copy') c FULL JOIN session_history('s') s USING (seq);
-- The source is unchanged.
SELECT session_data, owner_id, version, message_count, pg_temp.line('s') FROM session_fetch('s');
-- The copy has no members and no operations.
SELECT count(*) AS members FROM session_members('copy');
SELECT session_append('copy', '{"m": "same operation_id"}', operation_id => 'op');

-- Afterwards the two sessions are independent.
SELECT session_append('s', '{"m": "f"}'), session_append('copy', '{"m": "g"}'), session_save('copy', '{"step": "other"}'), session_pop('s', 2);
SELECT pg_temp.line('s') AS source, pg_temp.line('copy') AS copy;
SELECT session_get('s') AS source, session_get('copy') AS copy, (SELECT message_count FROM session_fetch('s')) AS of_source, (SELECT message_count FROM session_fetch('copy')) AS of_copy;
SELECT session_delete('s');
SELECT pg_temp.line('copy'), session_get('copy');
SELECT count(DISTINCT history_id) = count(*) AS a_history_each FROM conversation_sessions WHERE namespace = 'fork' AND history_id IS NOT NULL;

-- Up to a seq: later messages are left out, and the copy continues from that seq.
SELECT session_append('u', '[{"m": "a"}, {"m": "b"}, {"m": "c"}, {"m": "d"}]'), session_pop('u'), session_append('u', '[{"m": "e"}, {"m": "f"}]');
SELECT up_to, session_fork('u', 'u' || up_to, up_to) FROM unnest(ARRAY[1, 3, 4, 5, 6, 7, 9223372036854775807]) up_to;
SELECT up_to, pg_temp.line('u' || up_to), message_count, session_append('u' || up_to, '{"m": "x"}') AS next
FROM unnest(ARRAY[1, 3, 4, 5, 6, 7, 9223372036854775807]) up_to, session_fetch('u' || up_to);
-- NULL copies all. The seqs of messages that were popped or trimmed are not reused in a complete copy
-- either.
SELECT session_pop('u', 2);
SELECT session_fork('u', 'all', NULL), session_trim('u', 1);
SELECT session_fork('u', 'trimmed'), session_fork('u', 'before the first', 2);
SELECT id, pg_temp.line(id), message_count, session_append(id, '{"m": "x"}') AS next
FROM unnest(ARRAY['all', 'trimmed', 'before the first']) WITH ORDINALITY f(id, n), session_fetch(id) ORDER BY n;

-- A session without messages, without an owner, or with any document can be forked, and so can a copy.
SELECT doc, session_save('v ' || doc, doc::jsonb), session_fork('v ' || doc, 'copy of ' || doc) FROM unnest(ARRAY['{}', 'null', '[]', '0', '""']) doc;
SELECT doc, session_get('copy of ' || doc), pg_temp.line('copy of ' || doc) FROM unnest(ARRAY['{}', 'null', '[]', '0', '""']) doc;
SELECT owner_id, version, message_count, session_ttl('copy of {}') BETWEEN interval '1 hour 59 minutes' AND interval '2 hours' AS ttl FROM session_fetch('copy of {}');
SELECT session_fork('u3', 'second');
SELECT session_fork('second', 'third', 1);
SELECT pg_temp.line('third');

-- Without a new id the id is random, as that of session_create, and different each time.
SELECT count(DISTINCT id) AS different, min(length(id)) >= 43 AS long_enough, bool_and(id ~ '^[A-Za-z0-9_-]+$') AS plain, count(pg_temp.line(id)) AS with_messages
FROM (SELECT session_fork('u') AS id FROM generate_series(1, 100)) forked;

-- Without a source there is no copy: absent, expired, dead, or in another namespace.
BEGIN;
SELECT session_save('e', '1', ttl => '30 ms'), session_append('e', '{"m": 1}'), session_save('dead', '1');
SELECT pg_temp.wait_until($$NOT session_exists('e')$$), session_delete('dead');
SELECT session_fork('e', 'x1') AS expired, session_fork('dead', 'x2') AS dead, session_fork('absent', 'x3') AS absent, session_fork('u', 'x4', namespace => 'other') AS elsewhere;
-- The id of an expired session can be used; its versions continue, but it has none of the old messages.
SELECT session_fork('u', 'e');
SELECT session_data, version > 1 AS version_goes_on, message_count, pg_temp.line('e') FROM session_fetch('e');
COMMIT;
SELECT count(*) AS made FROM session_list(id_like => 'x_');

-- An id in use is refused, a dead one stays dead, and a session cannot be forked to its own id.
SELECT session_append('lives', '{"m": 1}');
SELECT call, pg_temp.says('SELECT ' || call)
FROM (VALUES
	(1, $$session_fork('u', 'lives')$$), (2, $$session_fork('u', 'lives', 1)$$), (3, $$session_fork('u', 'dead')$$), (4, $$session_fork('u', 'u')$$),
	(5, $$session_fork('u', 'new', 0)$$), (6, $$session_fork('u', 'new', -1)$$), (7, $$session_fork('absent', 'new', 0)$$), (8, $$session_fork('absent', 'absent')$$),
	(9, $$session_fork(NULL)$$), (10, $$session_fork('')$$), (11, $$session_fork('u', '')$$), (12, $$session_fork('u', repeat('x', 201))$$), (13, $$session_fork('u', E'a\n')$$),
	(14, $$session_fork('u', 'new', namespace => 'no such')$$)) c(n, call)
ORDER BY n;
SELECT pg_temp.line('lives'), version, session_exists('new') AS made FROM session_fetch('lives');
SELECT session_fork('absent', 'lives') AS no_source_no_error;

-- It counts as a new session for the owner's quota.
SELECT session_save('q', '1', owner => 'carol', namespace => 'full'), session_fork('q', 'q2', namespace => 'full');
SELECT pg_temp.err($$SELECT session_fork('q', 'q3', namespace => 'full')$$) AS third, session_count(namespace => 'full');

-- The expiry of the source does not change.
UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '10 minutes' WHERE namespace = 'fork' AND session_id = 'u';
SELECT session_fork('u', 'lives long');
SELECT session_ttl('u') < interval '11 minutes' AS source_as_before, session_ttl('lives long') > interval '1 hour 59 minutes' AS copy_lives_its_ttl;

-- After a rollback there is no copy.
BEGIN;
SELECT session_fork('u', 'rolled back');
SELECT pg_temp.line('rolled back');
SAVEPOINT a;
SELECT session_fork('rolled back', 'twice'), session_delete('rolled back');
ROLLBACK TO a;
SELECT session_exists('rolled back') AS first, session_exists('twice') AS second;
ROLLBACK;
SELECT session_exists('rolled back') AS first, session_exists('twice') AS second;
SELECT pg_temp.err($$SELECT session_fork('u', 'rolled back')$$) AS can_be_taken;
BEGIN READ ONLY;
SELECT pg_temp.err($$SELECT session_fork('u', 'read only')$$) AS read_only;
COMMIT;

DELETE FROM conversation_sessions;
SELECT pg_temp.wait_until($$session_purge() >= 0 AND NOT EXISTS (SELECT FROM conversation_history_ended)$$) AS nothing_left;
DELETE FROM session_namespaces;
