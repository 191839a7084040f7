--
-- Direct access: reads use the table access method while the table has its original definition,
-- and SPI otherwise, with the same results.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
CREATE FUNCTION pg_temp.look() RETURNS text LANGUAGE sql AS
	$$SELECT concat_ws(' ', session_get('a', 'direct'), session_exists('a', 'direct'), session_ttl('a', 'direct') > interval '59 minutes',
		(SELECT version FROM session_fetch('a', 'direct')), session_get('none', 'direct'))$$;
INSERT INTO session_namespaces (name, cache) VALUES ('direct', 'off');
SELECT session_save('a', '{"n": 1}', namespace => 'direct');
SELECT pg_temp.look();
SET session_store.direct_rows = off;
SELECT pg_temp.look() AS by_statement;
RESET session_store.direct_rows;

-- Without the primary key, with another one, and with the original again; in a transaction that is rolled
-- back; and after a rebuild.
ALTER TABLE conversation_sessions DROP CONSTRAINT conversation_sessions_pkey;
SELECT pg_temp.look() AS without_key;
ALTER TABLE conversation_sessions ADD CONSTRAINT conversation_sessions_pkey PRIMARY KEY (session_id, namespace);
SELECT pg_temp.look() AS another_key;
ALTER TABLE conversation_sessions DROP CONSTRAINT conversation_sessions_pkey;
ALTER TABLE conversation_sessions ADD CONSTRAINT conversation_sessions_pkey PRIMARY KEY (namespace, session_id);
SELECT pg_temp.look() AS the_key_again;
BEGIN;
ALTER TABLE conversation_sessions DROP CONSTRAINT conversation_sessions_pkey;
SELECT pg_temp.look() AS dropped_here;
ROLLBACK;
SELECT pg_temp.look() AS rolled_back;
REINDEX INDEX CONCURRENTLY conversation_sessions_pkey;
SELECT pg_temp.look() AS rebuilt;

-- An additional column at the end; and a row of a child table is a session like any other.
ALTER TABLE conversation_sessions ADD COLUMN mine text DEFAULT 'x';
SELECT pg_temp.look() AS with_a_column;
ALTER TABLE conversation_sessions DROP COLUMN mine;
SELECT pg_temp.look() AS without_it;
CREATE TABLE child () INHERITS (conversation_sessions);
INSERT INTO child (namespace, session_id, session_data, expires_at, check_at, ttl, updated_at)
	VALUES ('direct', 'c', '"child"', clock_timestamp() + interval '1 hour', clock_timestamp(), '1 hour', clock_timestamp());
SELECT pg_temp.look() AS with_a_child, session_get('c', 'direct') AS its_row;
DROP TABLE child;
SELECT pg_temp.look() AS without_it;

-- A read sees the state at the beginning of its statement.
WITH w AS (SELECT session_save('a', '{"n": 3}', namespace => 'direct') AS version) SELECT version, session_get('a', 'direct') AS as_the_statement_began FROM w;
-- A change of the same transaction is seen by the next statement; one that was rolled back is not.
BEGIN;
SELECT session_merge('a', '{"own": true}', namespace => 'direct');
SELECT pg_temp.look() AS own;
ROLLBACK;
SELECT pg_temp.look() AS gone;
-- A document that is stored out of line.
SELECT session_save('a', jsonb_build_object('long', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 3000) i)), namespace => 'direct') >= 3 AS long;
SELECT length(session_get('a', 'direct') ->> 'long') AS length, length((SELECT session_data FROM session_fetch('a', 'direct')) ->> 'long') AS fetched;

DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
ANALYZE conversation_sessions;
