--
-- Reading histories: a window reads a few pages at any length, and reading extends the expiry of
-- sliding sessions, also in READ ONLY transactions. Needs shared_preload_libraries.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, sliding, ttl) VALUES ('slide', true, '1 hour'), ('still', false, '1 hour'), ('long', false, '1 hour');

-- 20,000 messages of varied text, and other conversations of the same length.
SELECT session_append(id, jsonb_agg(jsonb_build_object('m', n, 'text', md5(n::text) || md5(id || n)))) FROM unnest(ARRAY['long', 'other', 'third']) id, generate_series(1, 20000) n GROUP BY id;
SELECT count(*) AS warm FROM unnest(ARRAY['long', 'other']) id, session_history(id, last => 1);
-- The first time without statistics, then with them.
SELECT what, rows, pages <= 60 AS few_pages, CASE WHEN pages > 60 THEN pages END AS pages
FROM unnest(ARRAY['long'', last => 20', 'long'', last => 20, before => 10001', 'long'', last => 20, before => 21', 'long'', last => 0', 'long'', last => 1', 'long'', before => 21', 'long'', after => 10000, first => 20', 'long'', first => 20', 'long'', after => 19990', 'long'', last => 20, after => 100', 'long'', after => 100, before => 121', 'absent'', last => 20']) WITH ORDINALITY w(what, n),
	pg_temp.pages('SELECT * FROM session_history(''' || what || ')') ORDER BY n;
ANALYZE conversation_sessions, conversation_history;
SELECT count(*) AS warm FROM unnest(ARRAY['long', 'other']) id, session_history(id, last => 1);
SELECT what, rows, pages <= 60 AS few_pages, CASE WHEN pages > 60 THEN pages END AS pages
FROM unnest(ARRAY['long'', last => 20', 'long'', last => 20, before => 10001', 'long'', last => 20, before => 21', 'long'', last => 0', 'long'', last => 1', 'long'', before => 21', 'long'', after => 10000, first => 20', 'long'', first => 20', 'long'', after => 19990', 'long'', last => 20, after => 100', 'long'', after => 100, before => 121', 'absent'', last => 20']) WITH ORDINALITY w(what, n),
	pg_temp.pages('SELECT * FROM session_history(''' || what || ')') ORDER BY n;
-- Also with a generic plan, many times.
SELECT max(pages) <= 60 AS few_pages, min(rows) AS rows FROM generate_series(1, 20) n, pg_temp.pages(format('SELECT * FROM session_history(''long'', 20, %s)', n * 1000));
SELECT max(pages) <= 60 AS few_pages, min(rows) AS rows FROM generate_series(0, 19) n, pg_temp.pages(format('SELECT * FROM session_history(''long'', after => %s, first => 20)', n * 1000));
-- An append and a pop at message 20,000 visit as few pages.
SELECT what, pages <= 100 AS few_pages, CASE WHEN pages > 100 THEN pages END AS pages
FROM unnest(ARRAY[$$session_append('long', '{"m": 20001}')$$, $$session_append('long', '{"m": 20002}', 'op')$$, $$session_append('long', '{"m": 20002}', 'op')$$, $$session_pop('long', 2)$$, $$session_pop('other', 2, from_start => true)$$, $$session_amend('other', 10000, '{"m": 0}')$$, $$session_delete('third')$$]) WITH ORDINALITY w(what, n),
	pg_temp.pages('SELECT ' || what) ORDER BY n;
-- In the view, a range of seqs is found by the same index.
SELECT rows, pages <= 60 AS few_pages, CASE WHEN pages > 60 THEN pages END AS pages
FROM pg_temp.pages($$SELECT * FROM conversation_messages WHERE namespace = 'default' AND session_id = 'long' AND seq BETWEEN 10001 AND 10020 ORDER BY seq$$);
-- The whole history.
SELECT count(*), min(seq), max(seq), count(DISTINCT message ->> 'm') FROM session_history('long');

-- session_history() is a read like session_get(): it slides where reads slide, and later calls see that at
-- once.
CREATE FUNCTION pg_temp.minutes(id text, ns text) RETURNS int LANGUAGE sql AS
	$$SELECT round(extract(epoch FROM session_ttl(id, ns)) / 60)::int$$;
SELECT count(session_append(id, '[{"m": 1}, {"m": 2}]', namespace => ns)) FROM unnest(ARRAY['h', 'w', 'none', 'ro', 'look']) id, unnest(ARRAY['slide', 'still']) ns;
UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '30 minutes' WHERE namespace IN ('slide', 'still');
SELECT pg_temp.line('h', namespace => 'slide') AS slide, pg_temp.line('h', namespace => 'still') AS still, pg_temp.line('w', 1, 2, 'slide') AS window, pg_temp.line('none', 0, namespace => 'slide') AS none;
SELECT pg_temp.minutes('h', 'slide') AS slid, pg_temp.minutes('h', 'still') AS still, pg_temp.minutes('w', 'slide') AS by_a_window, pg_temp.minutes('look', 'slide') AS not_read;
-- In READ ONLY transactions too; a read in a transaction that is rolled back counts all the same.
BEGIN READ ONLY;
SELECT pg_temp.line('ro', namespace => 'slide');
SELECT pg_temp.minutes('ro', 'slide') AS slid;
ROLLBACK;
SELECT pg_temp.minutes('ro', 'slide') AS slid;
-- Reading members or the view is no read of the session: it does not slide.
SELECT count(*) FROM session_members('look', 'slide');
SELECT count(*) FROM conversation_messages WHERE session_id = 'look';
SELECT pg_temp.minutes('look', 'slide') AS not_read;
-- The reads wrote no row: versions, times and messages are unchanged.
SELECT session_id, version, message_count, updated_at - created_at < interval '1 second' AS not_updated FROM conversation_sessions WHERE namespace = 'slide' ORDER BY session_id;
-- The keeper writes expiries that moved by more than the slack.
SELECT pg_temp.wait_until($$(SELECT bool_and(expires_at > clock_timestamp() + interval '50 minutes') FROM conversation_sessions
	WHERE namespace = 'slide' AND session_id IN ('h', 'w', 'ro'))$$) AS written;

DELETE FROM conversation_sessions;
SELECT pg_temp.wait_until($$session_purge() >= 0 AND NOT EXISTS (SELECT FROM conversation_history_ended)$$) AS nothing_left;
DELETE FROM session_namespaces;
