--
-- id_prefix of session_list(), session_count() and session_clear(): exactly the ids that begin
-- with these bytes, in the order of the ids; and the documents in a listing.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name) VALUES ('prefix'), ('other');
INSERT INTO session_namespaces (name, owner_isolation) VALUES ('iso', true);
SET session_store.namespace = 'prefix';
CREATE ROLE regress_ss_prefix;
GRANT EXECUTE ON FUNCTION session_list, session_count, session_clear, session_get, session_accept TO regress_ss_prefix;

-- Visits all pages and returns the ids in their order. A page that is shorter than page_size must be the
-- last one.
CREATE FUNCTION pg_temp.walk(prefix text, page_size int, owner text = NULL, id_like text = NULL, filter jsonb = NULL, ns text = NULL)
RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
	ids text[] = '{}';
	page text[];
	cursor text;
BEGIN
	LOOP
		SELECT array_agg(l.session_id ORDER BY l.ordinality), (array_agg(l.page_cursor ORDER BY l.ordinality DESC))[1] INTO page, cursor
		FROM session_list(owner, id_like, filter, cursor, page_size, ns, prefix) WITH ORDINALITY l;
		EXIT WHEN page IS NULL;
		ids = ids || page;
		IF cardinality(page) <> page_size THEN
			IF EXISTS (SELECT FROM session_list(owner, id_like, filter, cursor, page_size, ns, prefix)) THEN
				RAISE EXCEPTION 'something follows a page of % rows', cardinality(page);
			END IF;
			EXIT;
		END IF;
	END LOOP;
	RETURN ids;
END
$$;
-- The expected result.
CREATE FUNCTION pg_temp.expected(prefix text, of_owner text = NULL, of_like text = NULL, of_filter jsonb = NULL, ns text = 'prefix') RETURNS text[] LANGUAGE sql AS $$
	SELECT coalesce(array_agg(session_id ORDER BY session_id COLLATE "C"), '{}') FROM conversation_sessions
	WHERE namespace = ns AND left(session_id, length(prefix)) = prefix AND (of_owner IS NULL OR owner_id = of_owner)
		AND (of_like IS NULL OR session_id LIKE of_like) AND (of_filter IS NULL OR session_data @> of_filter) AND dead_until IS NULL
$$;

-- Ids that are prefixes of each other, that LIKE would take for patterns, and that have the maximum
-- length.
CREATE TEMP TABLE id (id text);
INSERT INTO id VALUES ('a'), ('A'), ('ab'), ('aB'), ('a%'), ('a%b'), ('a_'), ('axb'), ('a\'), ('a\b'), ('a b'), ('a:'), ('a:1'), ('a:10'), ('a:2'), ('a;'), ('b'), ('~'), ('~~'), (' '), ('  '),
	('%'), ('_'), (repeat('a', 199)), (repeat('a', 200)), (repeat('a', 199) || '~'), (repeat('~', 200)), ('session:1'), ('session:2'), ('sessions'), ('session');
SELECT session_save(id, jsonb_build_object('n', length(id)), owner => CASE WHEN length(id) > 1 THEN 'ann' END) IS NOT NULL AS saved, count(*) FROM id GROUP BY 1;
SELECT session_save(id, '{}', namespace => 'other') IS NOT NULL AS saved, count(*) FROM id GROUP BY 1;
CREATE TEMP TABLE prefix AS SELECT DISTINCT left(id, n) AS prefix FROM id, generate_series(0, 200) n WHERE n < 12 OR n > 197;
SELECT count(*) > 60 AS prefixes, count(*) FILTER (WHERE pg_temp.walk(prefix, 3) IS DISTINCT FROM pg_temp.expected(prefix)) AS wrong_pages,
	count(*) FILTER (WHERE pg_temp.walk(prefix, 2, 'ann', '%a%', '{"n": 3}') IS DISTINCT FROM pg_temp.expected(prefix, 'ann', '%a%', '{"n": 3}')) AS wrong_pages_of_ann,
	count(*) FILTER (WHERE session_count(id_prefix => prefix) <> cardinality(pg_temp.expected(prefix))) AS wrong_counts,
	count(*) FILTER (WHERE session_count('ann', '%b%', id_prefix => prefix) <> cardinality(pg_temp.expected(prefix, 'ann', '%b%'))) AS wrong_counts_of_ann
FROM prefix;
SELECT pg_temp.walk('a%', 1) AS percent, pg_temp.walk('a_', 1) AS underscore, pg_temp.walk('a\', 1) AS backslash, pg_temp.walk('nothing', 1) AS nothing,
	pg_temp.walk('', 1) = pg_temp.expected('') AS all, pg_temp.walk(repeat('a', 200), 1) = ARRAY[repeat('a', 200)] AS longest;
-- NULL is no prefix: the newest first.
SELECT array_agg(session_id ORDER BY ordinality) = (SELECT array_agg(session_id ORDER BY created_at DESC, session_id COLLATE "C" DESC) FROM conversation_sessions WHERE namespace = 'prefix') AS newest_first
FROM session_list(id_prefix => NULL, page_size => 1000) WITH ORDINALITY;

-- Where the encoding is UTF8: the last characters of each length in bytes, and prefixes before them.
SELECT getdatabaseencoding() = 'UTF8' AS utf8 \gset
\if :utf8
INSERT INTO id SELECT 'u' || c || s FROM unnest(ARRAY[U&'\00a0', U&'\07ff', U&'\0800', U&'\D7FF', U&'\E000', U&'\FFFD', U&'\FFFF', U&'\+010000', U&'\+10FFFF']) c, unnest(ARRAY['', 'x', U&'\+10FFFF']) s
	UNION ALL SELECT repeat(U&'\+10FFFF', n) FROM unnest(ARRAY[1, 49, 50]) n UNION ALL SELECT 'v';
SELECT session_save(id, '{}') FROM id WHERE id ~ '^[uv]' OR octet_length(id) <> length(id) \g /dev/null
INSERT INTO prefix SELECT DISTINCT left(id, n) FROM id, generate_series(1, 50) n WHERE id ~ '^[uv]' OR octet_length(id) <> length(id);
\endif
SELECT count(*) FILTER (WHERE pg_temp.walk(prefix, 2) IS DISTINCT FROM pg_temp.expected(prefix)) AS wrong_pages, count(*) FILTER (WHERE session_count(id_prefix => prefix) <> cardinality(pg_temp.expected(prefix))) AS wrong_counts
FROM prefix;

-- Valid and invalid prefixes.
SELECT label, pg_temp.err(format('SELECT session_list(id_prefix => %L)', p)) AS list, pg_temp.err(format('SELECT session_count(id_prefix => %L)', p)) AS count, pg_temp.err(format('SELECT session_clear(''prefix'', id_prefix => %L)', p)) AS clear
FROM (VALUES ('201 bytes', repeat('a', 201)), ('tab', E'a\tb'), ('delete', 'a' || chr(127)), ('megabytes', repeat('a', 3000000))) p(label, p);
SELECT pg_temp.says('SELECT session_count(id_prefix => repeat($$a$$, 201))');
SELECT pg_temp.err('SELECT session_list(with_data => NULL)') AS with_data, pg_temp.err('SELECT session_list(page_size => 10001)') AS too_large, pg_temp.err('SELECT session_list(page_size => 10000, id_prefix => $$a$$)') AS largest;

-- A cursor names its order and its prefix; a cursor of another listing, or of an earlier format, is
-- refused.
SELECT (SELECT page_cursor FROM session_list(page_size => 1)) AS newest, (SELECT page_cursor FROM session_list(id_prefix => 'a:', page_size => 1)) AS by_prefix, (SELECT page_cursor FROM session_list(id_prefix => '', page_size => 1)) AS by_id \gset
SELECT label, pg_temp.says(format('SELECT session_list(after => %L, id_prefix => %L)', after, p)) AS answer
FROM (VALUES (1, 'right order', :'newest', NULL), (2, 'right prefix', :'by_prefix', 'a:'), (3, 'no prefix', :'by_id', ''), (4, 'of the other order', :'newest', 'a:'), (5, 'of the other order', :'newest', ''), (6, 'of the other order', :'by_id', NULL),
	(7, 'of the other order', :'by_prefix', NULL), (8, 'of a shorter prefix', :'by_id', 'a:'), (9, 'of a longer prefix', :'by_prefix', 'a'), (10, 'of another prefix', :'by_prefix', 'b:'), (11, 'without its version', substr(:'newest', 4), NULL),
	(12, 'of another version', overlay(:'newest' PLACING '2' FROM 2), NULL), (13, 'without a length', replace(:'by_prefix', '02', ''), 'a:'), (14, 'with a wrong length', replace(:'by_prefix', '02', 'ff'), 'a:'), (15, 'without an id', left(:'by_prefix', 6), 'a:'),
	(16, 'cut', left(:'by_prefix', 4), 'a:'), (17, 'too long', :'by_prefix' || repeat('x', 200), 'a:'), (18, 'control', :'by_prefix' || E'\n', 'a:')) c(n, label, after, p) ORDER BY n;
-- The filter may change between pages, and the row of the cursor may be gone.
BEGIN;
SELECT session_delete('a:1');
DELETE FROM conversation_sessions WHERE session_id = 'a:10' AND namespace = 'prefix';
SELECT session_id FROM session_list(id_prefix => 'a:', after => (SELECT replace(:'by_prefix', 'a:', 'a:1')));
SELECT session_id FROM session_list(id_prefix => 'a:', after => :'by_prefix', id_like => '%2');
ROLLBACK;

-- Expired and dead rows are neither listed nor counted, and do not make a page shorter.
BEGIN;
SELECT session_save('z' || n, '{}', ttl => CASE WHEN n % 3 = 0 THEN interval '20 ms' END) FROM generate_series(1, 30) n \g /dev/null
SELECT session_delete('z' || n) FROM generate_series(1, 30) n WHERE n % 3 = 1 \g /dev/null
SELECT pg_temp.wait_until($$session_count(id_prefix => 'z') = 10$$) AS alive, pg_temp.walk('z', 4) AS pages;
ROLLBACK;

-- with_data: the document as session_get returns it, also if it is stored out of line; otherwise NULL.
SELECT session_save('d1', '{"a": [1, "x", null]}'), session_save('d2', jsonb_build_object('long', (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 2000) n))), session_save('d3', 'null'), session_save('d4', '{}');
SELECT session_id, pg_column_size(session_data) > 8000 AS out_of_line, session_data = session_get(session_id) AS same, jsonb_typeof(session_data) FROM session_list(id_prefix => 'd', with_data => true);
SELECT array_agg(session_id ORDER BY session_id) FROM session_list(with_data => true, page_size => 1000) WHERE session_id LIKE 'd_' AND session_data = session_get(session_id);
SELECT count(session_data) AS with_data, count(*) FROM session_list(id_prefix => 'd');
SELECT length((l).session_data::text) > 60000 AS in_a_row FROM (SELECT session_list(id_prefix => 'd2', with_data => true) AS l OFFSET 0) s;
-- .. as of the snapshot, whatever happens to the session afterwards.
BEGIN;
DECLARE c CURSOR FOR SELECT session_id, length(session_data::text) FROM session_list(id_prefix => 'd', with_data => true);
FETCH 1 FROM c;
SELECT session_save('d2', '{}'), session_delete('d4');
FETCH ALL FROM c;
ROLLBACK;
BEGIN READ ONLY;
SELECT session_id, session_data FROM session_list(id_prefix => 'd1', with_data => true);
SELECT session_count(id_prefix => 'd');
SELECT pg_temp.err($$SELECT session_clear('prefix', id_prefix => 'd')$$) AS clear;
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT session_count(id_prefix => 'd'), session_clear('prefix', id_prefix => 'd'), (SELECT count(*) FROM session_list(id_prefix => 'd')) AS statement;
SELECT session_count(id_prefix => 'd'), (SELECT count(*) FROM session_list(id_prefix => 'd')) AS list;
ROLLBACK;

-- Clear: the sessions that begin with the prefix and no others, each with a tombstone; id_like applies as
-- well.
UPDATE session_namespaces SET audit = true WHERE name = 'prefix';
SELECT session_clear('prefix', id_prefix => 'session:') AS two, session_clear('prefix', id_prefix => 'session:') AS again, session_clear('prefix', '%1%', 'a:') AS both, session_clear('prefix', '1', 'a:') AS neither;
SELECT pg_temp.err($$SELECT session_save('session:1', '{}')$$) AS dead, pg_temp.walk('session', 10) AS left_over, pg_temp.walk('a:', 10) AS left_of_a, session_count(id_prefix => 'session:', namespace => 'other') AS elsewhere;
SELECT session_id, event FROM session_events ORDER BY session_id COLLATE "C";
BEGIN;
SAVEPOINT s;
SELECT session_clear('prefix', id_prefix => 'a') > 10 AS cleared;
SELECT session_count(id_prefix => 'a') AS none;
ROLLBACK TO s;
SELECT session_count(id_prefix => 'a') > 10 AS all_back;
COMMIT;
SELECT session_clear('prefix', id_prefix => '') = (SELECT count(*) FROM conversation_sessions WHERE namespace = 'prefix' AND dead_until IS NULL) AS all;
SELECT session_count() AS none;

-- With owner isolation: the caller's own sessions and accepted shares, in one order; only the own ones are
-- cleared.
SELECT session_save('p' || n, to_jsonb(n), owner => CASE n % 3 WHEN 0 THEN 'ann' WHEN 1 THEN 'bob' ELSE 'cyd' END, namespace => 'iso') IS NOT NULL AS saved,
	bool_and(CASE WHEN n % 3 = 1 THEN session_share('p' || n, 'ann', namespace => 'iso') ELSE true END) AS shared
FROM generate_series(10, 30) n GROUP BY n % 30 = 31, saved;
SELECT session_save('q1', '1', owner => 'ann', namespace => 'iso'), session_save('o1', '1', owner => 'ann', namespace => 'iso');
SET session_store.namespace = 'iso';
SET ROLE regress_ss_prefix;
SET request.jwt.claims = '{"sub": "ann"}';
SELECT pg_temp.walk('p', n) AS ids, count(*) AS page_sizes FROM generate_series(1, 15) n GROUP BY 1;
SELECT pg_temp.walk('p1', 2) AS p1, pg_temp.walk('p', 2, 'ann') AS own, pg_temp.walk('p', 2, 'bob') AS of_bob, pg_temp.walk('p', 2, 'cyd') AS of_cyd;
SELECT session_count(id_prefix => 'p'), session_count('bob', id_prefix => 'p1') AS of_bob, session_count('cyd', id_prefix => 'p') AS of_cyd;
SELECT count(*) FILTER (WHERE session_data = session_get(session_id)) AS same, count(*) FROM session_list(id_prefix => '', with_data => true);
SET request.jwt.claims = '{"sub": "dan"}';
SELECT count(*) AS strangers FROM session_list(id_prefix => '', with_data => true);
RESET request.jwt.claims;
SELECT count(*) AS without_claims, session_count(id_prefix => '') AS counted, session_clear('iso', id_prefix => '') AS cleared FROM session_list(id_prefix => '', with_data => true);
SET request.jwt.claims = '{"sub": "ann"}';
SELECT session_clear('iso', id_prefix => 'p1') AS own_only, session_count(id_prefix => 'p1') AS shared_left;
RESET ROLE;
SELECT session_count(id_prefix => 'p1') AS left_over, session_count(id_prefix => 'p') AS of_p, session_count(id_prefix => '') AS all;
UPDATE session_namespaces SET allowed_roles = '{}' WHERE name = 'iso';
SET ROLE regress_ss_prefix;
SELECT pg_temp.err('SELECT session_list(id_prefix => $$p$$, with_data => true)') AS list, pg_temp.err('SELECT session_count(id_prefix => $$p$$)') AS count, pg_temp.err('SELECT session_clear($$iso$$, id_prefix => $$p$$)') AS clear;
RESET ROLE;

DELETE FROM conversation_sessions;
DELETE FROM session_events;
DELETE FROM session_namespaces;
DROP OWNED BY regress_ss_prefix;
DROP ROLE regress_ss_prefix;
