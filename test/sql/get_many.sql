--
-- session_get_many(): as session_get(), for each id of an array.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, sliding) VALUES ('slides', true), ('stays', false);
INSERT INTO session_namespaces (name, owner_isolation, allowed_roles) VALUES ('iso', true, '{regress_ss_many}');
SET session_store.namespace = 'stays';

-- One row for each element, in the order of the array; data is NULL where there is no session, and for the id NULL.
SELECT session_save('a', '{"n": 1}'), session_save('b', 'null'), session_save('c', '[]'), session_save('dead', '1'), session_delete('dead');
INSERT INTO conversation_sessions (namespace, session_id, session_data, expires_at) VALUES ('stays', 'expired', '1', clock_timestamp() - interval '1 second');
SELECT * FROM session_get_many('{c,absent,a,a,dead,expired,NULL,b}');
SELECT session_get_many(ARRAY['b', 'x']);
SELECT count(*) AS rows, count(session_data) AS found FROM session_get_many('{}');
SELECT count(*) AS rows FROM session_get_many(NULL);
SELECT * FROM session_get_many('[5:6]={a,b}');
-- The results are those of session_get().
SELECT count(*) AS ids, count(*) FILTER (WHERE m.session_data IS DISTINCT FROM session_get(m.session_id)) AS differ, bool_and(id IS NOT DISTINCT FROM session_id) AS in_order
FROM (SELECT array_agg(CASE WHEN n % 7 = 0 THEN NULL ELSE (ARRAY['a', 'b', 'c', 'dead', 'expired', 'absent'])[n % 6 + 1] END ORDER BY n) AS ids FROM generate_series(1, 1000) n) i,
	session_get_many(ids) WITH ORDINALITY m JOIN LATERAL unnest(ids) WITH ORDINALITY u (id, place) ON place = m.ordinality;
-- The same by statements.
SET session_store.direct_rows = off;
SELECT * FROM session_get_many('{c,absent,a,a,dead,expired,NULL,b}');
RESET session_store.direct_rows;

-- Each id costs the pages of the key and of the row, by either way, whatever else is in the array.
SELECT count(session_save('cost' || n, '{}')) AS saved FROM generate_series(1, 100) n;
SELECT count(*) AS warm FROM session_get_many('{cost1}');
SELECT rows, pages <= 350 AS few_pages, CASE WHEN pages > 350 THEN pages END AS pages FROM pg_temp.pages($$SELECT * FROM session_get_many(ARRAY(SELECT 'cost' || n FROM generate_series(1, 100) n))$$);
SET session_store.direct_rows = off;
SELECT count(*) AS warm FROM session_get_many('{cost1}');
SELECT rows, pages <= 350 AS few_pages, CASE WHEN pages > 350 THEN pages END AS pages FROM pg_temp.pages($$SELECT * FROM session_get_many(ARRAY(SELECT 'cost' || n FROM generate_series(1, 100) n))$$);
RESET session_store.direct_rows;

-- Bad arguments. The namespace and the right of the caller are checked even if there is nothing to read.
SELECT call, pg_temp.says('SELECT ' || call)
FROM (VALUES
	(1, $$session_get_many('{a,""}')$$), (2, $$session_get_many(ARRAY['a', repeat('x', 201)])$$), (3, $$session_get_many(ARRAY[E'a\n'])$$), (4, $$session_get_many('{{a,b},{c,d}}')$$),
	(5, $$session_get_many(array_fill('a'::text, ARRAY[10001]))$$), (6, $$session_get_many('{a}', 'no such')$$), (7, $$session_get_many(NULL, 'no such')$$), (8, $$session_get_many('{}', '')$$)) c(n, call) ORDER BY n;
SELECT count(*) AS rows, count(session_data) AS found FROM session_get_many(array_fill('a'::text, ARRAY[10000]));

-- Each read slides where reads do.
SELECT session_save('s' || n, '{}', ttl => '1 hour', namespace => 'slides') FROM generate_series(1, 3) n;
UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '10 minutes' WHERE namespace = 'slides';
SELECT count(session_data) AS found FROM session_get_many('{s1,s3}', 'slides');
SELECT session_id, session_ttl(session_id, 'slides') > '59 minutes' AS slid FROM conversation_sessions WHERE namespace = 'slides' ORDER BY 1;

-- With owner isolation callers get their own sessions and those shared with them.
CREATE ROLE regress_ss_many;
GRANT EXECUTE ON FUNCTION session_get_many, session_get TO regress_ss_many;
SELECT session_save('of ann', '1', owner => 'ann', namespace => 'iso'), session_save('of bob', '2', owner => 'bob', namespace => 'iso'), session_save('shared', '3', owner => 'bob', namespace => 'iso'), session_share('shared', 'ann', namespace => 'iso');
SET ROLE regress_ss_many;
SET request.jwt.claims = '{"sub": "ann"}';
SELECT * FROM session_get_many('{of ann,of bob,shared,absent}', 'iso');
RESET request.jwt.claims;
SELECT count(session_data) AS without_claims FROM session_get_many('{of ann,of bob,shared}', 'iso');
SELECT pg_temp.err($$SELECT session_get_many('{a}', 'slides')$$) AS open;
RESET ROLE;
UPDATE session_namespaces SET allowed_roles = '{}' WHERE name = 'iso';
SET ROLE regress_ss_many;
SELECT pg_temp.err($$SELECT session_get_many('{a}', 'iso')$$) AS closed, pg_temp.err($$SELECT session_get_many(NULL, 'iso')$$) AS closed;
RESET ROLE;

-- Documents that are stored out of line; a READ ONLY transaction; the snapshot of the statement.
SELECT session_save('large', (SELECT jsonb_agg(md5(n::text)) FROM generate_series(1, 5000) n));
BEGIN READ ONLY;
SELECT session_id, md5(m.session_data::text) = md5(session_get(session_id)::text) AS same, jsonb_array_length(session_data) AS elements FROM session_get_many('{large,large}') m;
COMMIT;
BEGIN;
DECLARE large CURSOR WITH HOLD FOR SELECT * FROM session_get_many('{large,a}');
SELECT session_delete('large');
COMMIT;
FETCH 1 FROM large \gset
SELECT jsonb_array_length(:'session_data'::jsonb) AS elements;
CLOSE large;
SELECT session_save('a', '{"n": 2}') AS version, (SELECT session_data FROM session_get_many('{a}')) AS of_this_statement;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SAVEPOINT s;
SELECT session_save('a', '{"n": 3}'), session_delete('b');
SELECT * FROM session_get_many('{a,b}');
ROLLBACK TO s;
SELECT * FROM session_get_many('{a,b}');
COMMIT;

DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
SELECT session_purge() >= 0 AS purged;
DROP OWNED BY regress_ss_many;
DROP ROLE regress_ss_many;
