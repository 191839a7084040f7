--
-- Windows of histories: session_history() with after and first, alone and with before and last, and
-- session_pop() from the start.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, sliding, ttl) VALUES ('win', false, '2 hours');
SET session_store.namespace = 'win';
CREATE FUNCTION pg_temp.seqs(id text, last int = NULL, before bigint = NULL, after bigint = NULL, first int = NULL)
RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN (SELECT string_agg(h.seq::text, ' ' ORDER BY h.ordinality) FROM session_history(id, last, before, after => after, first => first) WITH ORDINALITY h);
END
$$;
-- The expected result, from the table.
CREATE FUNCTION pg_temp.model(id text, last int, before bigint, after bigint, first int)
RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN (SELECT string_agg(m.seq::text, ' ' ORDER BY m.seq) FROM
		(SELECT seq, row_number() OVER (ORDER BY seq) AS oldest, row_number() OVER (ORDER BY seq DESC) AS newest
		 FROM conversation_history JOIN conversation_sessions s USING (history_id)
		 WHERE s.session_id = id AND (before IS NULL OR seq < before) AND (after IS NULL OR seq > after)) m
		WHERE (last IS NULL OR newest <= last) AND (first IS NULL OR oldest <= first));
END
$$;

-- 10 messages, of which the tenth was removed: 1 to 9 and 11.
SELECT session_append('w', (SELECT jsonb_agg(jsonb_build_object('m', n)) FROM generate_series(1, 10) n)), session_pop('w'), session_append('w', '{"m": 11}');
SELECT after, first, pg_temp.seqs('w', after => after, first => first)
FROM (VALUES (0::bigint, NULL::int), (4, NULL), (9, NULL), (10, NULL), (11, NULL), (9223372036854775807, NULL),
	(NULL, 3), (NULL, 0), (NULL, 1), (NULL, 2147483647), (0, 3), (4, 3), (8, 3), (9, 1), (4, 0), (11, 3), (1000, 3)) w(after, first);
-- With before: the messages between two seqs, or the oldest or newest of these.
SELECT after, before, first, last, pg_temp.seqs('w', last, before, after, first)
FROM (VALUES (2::bigint, 6::bigint, NULL::int, NULL::int), (2, 6, 2, NULL), (2, 6, NULL, 2), (2, 3, NULL, NULL), (6, 2, NULL, NULL), (2, 2, NULL, NULL),
	(2, NULL, NULL, 2), (NULL, 6, 2, NULL), (9, 11, NULL, NULL), (8, 1000, 5, NULL), (9223372036854775807, 9223372036854775807, 5, NULL), (0, 1, NULL, 5)) w(after, before, first, last);
-- Each combination has the expected result.
SELECT count(*) AS windows, count(*) FILTER (WHERE pg_temp.seqs('w', last, before, after, first) IS DISTINCT FROM pg_temp.model('w', last, before, after, first)) AS wrong
FROM unnest(ARRAY[NULL, 0, 1, 5, 9, 10, 11, 9223372036854775807]) after, unnest(ARRAY[NULL, 1, 2, 6, 11, 12, 9223372036854775807]) before,
	(VALUES (NULL::int, NULL::int), (0, NULL), (3, NULL), (10, NULL), (2147483647, NULL), (NULL, 0), (NULL, 3), (NULL, 10), (NULL, 2147483647)) n(last, first);
-- Also with messages whose seqs, set by plain SQL, are the lowest and the highest that there are.
BEGIN;
INSERT INTO conversation_history (history_id, seq, message)
SELECT history_id, seq, jsonb_build_object('role', 'user', 'content', seq::text) FROM conversation_sessions, unnest(ARRAY[-9223372036854775808, 9223372036854775806, 9223372036854775807]) seq WHERE session_id = 'w';
UPDATE conversation_sessions SET message_count = message_count + 3, last_seq = 9223372036854775807 WHERE session_id = 'w';
SELECT pg_temp.seqs('w'), pg_temp.seqs('w', last => 2) AS last, pg_temp.seqs('w', after => 9223372036854775806) AS after, pg_temp.seqs('w', first => 1) AS first;
SELECT count(*) AS windows, count(*) FILTER (WHERE pg_temp.seqs('w', last, before, after, first) IS DISTINCT FROM pg_temp.model('w', last, before, after, first)) AS wrong
FROM unnest(ARRAY[NULL, 0, 1, 5, 9, 10, 11, 9223372036854775807]) after, unnest(ARRAY[NULL, 1, 2, 6, 11, 12, 9223372036854775807]) before,
	(VALUES (NULL::int, NULL::int), (0, NULL), (3, NULL), (10, NULL), (2147483647, NULL), (NULL, 0), (NULL, 3), (NULL, 10), (NULL, 2147483647)) n(last, first);
SELECT string_agg(seq::text, ' ') AS window FROM session_window('w', max_messages => 1);
SELECT session_pop('w') AS newest, session_pop('w', from_start => true) AS oldest;
ROLLBACK;
-- New messages page by page: each page begins after the last seq of the one before.
WITH RECURSIVE page AS (
	SELECT pg_temp.seqs('w', after => 0, first => 4) AS seqs
	UNION ALL
	SELECT pg_temp.seqs('w', after => substring(seqs FROM '\d+$')::bigint, first => 4) FROM page WHERE seqs IS NOT NULL)
SELECT seqs FROM page;

-- More messages than a read holds in memory: in order, each once.
SELECT session_append('long', (SELECT jsonb_agg(jsonb_build_object('m', n)) FROM generate_series(1, 2500) n));
SELECT what, pg_temp.seqs('long', last, before, after, first) = pg_temp.model('long', last, before, after, first) AS right
FROM (VALUES (1, 'first 999', NULL::int, NULL::bigint, NULL::bigint, 999), (2, 'first 1000', NULL, NULL, NULL, 1000), (3, 'first 1001', NULL, NULL, NULL, 1001), (4, 'first 2000', NULL, NULL, NULL, 2000),
	(5, 'first 2001 of what is after', NULL, NULL, 400, 2001), (6, 'more than there are', NULL, NULL, 400, 3000), (7, 'after', NULL, NULL, 700, NULL), (8, 'a range', NULL, 2400, 100, NULL),
	(9, 'first 1500 of a range', NULL, 2400, 100, 1500), (10, 'last 1500 of a range', 1500, 2400, 100, NULL), (11, 'last 1500 of a shorter range', 1500, 2400, 1000, NULL), (12, 'last 1001', 1001, NULL, NULL, NULL)) w(n, what, last, before, after, first) ORDER BY n;

-- Without messages there is no row; an invalid value is an error, whatever the state of the session.
SELECT pg_temp.seqs('absent', after => 0) AS absent, pg_temp.seqs('absent', first => 5) AS first, pg_temp.seqs(session_create(), after => 0, first => 5) AS without_messages;
SELECT call, pg_temp.says('SELECT ' || call)
FROM (VALUES (1, $$session_history('w', after => -1)$$), (2, $$session_history('w', first => -1)$$), (3, $$session_history('w', 1, first => 1)$$), (4, $$session_history('w', last => 0, first => 0)$$),
	(5, $$session_history('absent', last => 1, after => 1, first => 1)$$), (6, $$session_history('w', NULL, NULL, NULL, -9223372036854775808)$$), (7, $$session_history(NULL, after => 1)$$),
	(8, $$session_history('w', first => 1, namespace => 'no such')$$), (9, $$session_history('w', NULL, NULL, NULL, NULL, NULL)$$)) c(n, call) ORDER BY n;
BEGIN READ ONLY;
SELECT pg_temp.seqs('w', after => 4, first => 3);
COMMIT;

-- Pop from the start removes the oldest messages and returns them as an array, oldest first.
SELECT session_pop('w', from_start => true);
SELECT session_pop('w', 3, from_start => true) AS three, session_pop('w', 0, NULL, true) AS none, session_pop('w', 1, 'win', false) AS from_the_end;
SELECT pg_temp.line('w'), message_count, version FROM session_fetch('w');
SELECT session_append('w', '{"m": 12}') AS no_seq_is_used_again;
SELECT session_pop('w', 6, from_start => true) AS over_the_gap;
SELECT session_pop('w', 2147483647, from_start => true) AS nothing_left, session_exists('w') AS lives_on, message_count FROM session_fetch('w');
SELECT session_append('w', '{"m": 13}'), session_pop('w', 5, from_start => true) AS all_of_them;
SELECT session_pop('absent', from_start => true) AS absent, session_pop(session_create(), 2, from_start => true) AS without_messages;
SELECT pg_temp.says($$SELECT session_pop('w', from_start => NULL)$$) AS null, pg_temp.says($$SELECT session_pop('w', -1, from_start => true)$$) AS negative, pg_temp.says($$SELECT session_pop(NULL, from_start => true)$$) AS no_id;
SELECT session_delete('w'), session_pop('w', from_start => true) AS dead;
-- From a long history, and alternately from both ends.
SELECT jsonb_array_length(session_pop('long', 1200, from_start => true)) AS first_part, pg_temp.seqs('long', first => 2) AS left;
SELECT session_pop('long', 2, from_start => true) AS from_start, session_pop('long', 2) AS from_end, pg_temp.seqs('long', first => 1) AS seen_before;
SELECT count(*), min(seq), max(seq) FROM session_history('long');
SELECT message_count FROM session_fetch('long');

-- The ttl restarts only if something was removed.
CREATE FUNCTION pg_temp.minutes_after(call text) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '30 minutes' WHERE namespace = 'win' AND session_id = 'ttl';
	EXECUTE 'SELECT ' || call;
	RETURN round(extract(epoch FROM session_ttl('ttl')) / 60);
END
$$;
SELECT session_append('ttl', '[{"m": 1}, {"m": 2}]');
SELECT pg_temp.minutes_after($$session_pop('ttl', from_start => true)$$) AS one, pg_temp.minutes_after($$session_pop('ttl', 0, from_start => true)$$) AS none,
	pg_temp.minutes_after($$session_pop('ttl', 3, from_start => true)$$) AS rest, pg_temp.minutes_after($$session_pop('ttl', from_start => true)$$) AS nothing_left;

-- A rollback undoes it; at every isolation level, by direct access and by statements.
SELECT session_append('rb', '[{"m": 1}, {"m": 2}, {"m": 3}, {"m": 4}, {"m": 5}]');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT session_pop('rb', from_start => true);
SAVEPOINT a;
SELECT session_pop('rb', from_start => true), session_append('rb', '{"m": "x"}');
ROLLBACK TO a;
SELECT session_pop('rb', 2, from_start => true);
COMMIT;
SELECT pg_temp.line('rb'), message_count FROM session_fetch('rb');
SET session_store.direct_rows = off;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT session_append('rb', '{"m": 6}'), session_pop('rb', from_start => true);
COMMIT;
SELECT pg_temp.seqs('rb', after => 4), pg_temp.line('rb'), message_count FROM session_fetch('rb');
RESET session_store.direct_rows;
BEGIN READ ONLY;
SELECT pg_temp.err($$SELECT session_pop('rb', from_start => true)$$) AS read_only;
COMMIT;

DELETE FROM conversation_sessions;
SELECT pg_temp.wait_until($$session_purge() >= 0 AND NOT EXISTS (SELECT FROM conversation_history_ended)$$) AS nothing_left;
DELETE FROM session_namespaces;
