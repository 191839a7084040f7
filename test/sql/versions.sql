--
-- Versions: which changes count, and what if_version guarantees.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers

-- Reads do not slide here, so only changes move an expiry.
INSERT INTO session_namespaces (name, sliding) VALUES ('versions', false);
SET session_store.namespace = 'versions';

-- The error that a conflict raises.
CREATE FUNCTION pg_temp.conflict(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN SQLSTATE || CASE WHEN hint ~* 'read' THEN ', hint: read again' ELSE '' END;
END
$$;

-- Changes of document and owner count by one each; a save of the same document counts, too.
SELECT session_save('v', '{"a": 1}') AS created;
SELECT session_save('v', '{"a": 1}') AS identical;
SELECT session_save('v', '{"a": 2}', owner => 'alice') AS data_and_owner;
SELECT session_save('v', '{"a": 2}', owner => 'bob') AS owner_only;
SELECT session_merge('v', '{"b": 1}') AS merged;
SELECT version FROM session_fetch('v');
SELECT session_merge('v', '{}') AS merged_nothing;
SELECT version FROM session_fetch('v');
SELECT session_incr('v', '{n}') AS incremented;
SELECT session_incr('v', '{n}', by => 0) AS by_nothing;
SELECT version FROM session_fetch('v');

-- Touches and reads do not count.
SELECT session_touch('v') IS NOT NULL AS touched, session_touch('v', ttl => '2 hours') IS NOT NULL AS touched_again,
	session_get('v') IS NOT NULL AS got;
SELECT version FROM session_fetch('v');

-- if_version: NULL is any, n is exactly n, -1 is any session that exists.
SELECT session_save('v', '1', if_version => NULL) AS whatever;
SELECT session_save('v', '2', if_version => 9) AS exactly;
SELECT session_save('v', '3', if_version => -1) AS existing;

-- A conflict is 40001 with the hint to read again, and changes nothing.
CREATE TEMP TABLE before AS SELECT * FROM session_fetch('v');
SELECT pg_temp.conflict($$SELECT session_save('v', '4', if_version => 10)$$) AS older,
	pg_temp.conflict($$SELECT session_save('v', '4', if_version => 12)$$) AS newer,
	pg_temp.conflict($$SELECT session_save('v', '4', if_version => 9223372036854775807)$$) AS largest,
	pg_temp.conflict($$SELECT session_save('v', '4', if_version => 0)$$) AS must_not_exist;
SELECT pg_temp.conflict($$SELECT session_merge('v', '{"x": 1}', if_version => 10)$$) AS older,
	pg_temp.conflict($$SELECT session_merge('v', '{"x": 1}', if_version => 0)$$) AS must_not_exist;
SELECT pg_temp.conflict($$SELECT session_save('absent', '4', if_version => 1)$$) AS exactly,
	pg_temp.conflict($$SELECT session_save('absent', '4', if_version => -1)$$) AS existing,
	pg_temp.conflict($$SELECT session_merge('absent', '{}', if_version => -1)$$) AS merge_existing;
SELECT count(*) AS unchanged FROM before b JOIN session_fetch('v') f ON b = f;
SELECT session_exists('absent');

-- 0 creates. Other negative numbers are an error.
SELECT session_save('new', '1', if_version => 0) AS save;
SELECT session_merge('newer', '{"a": 1}', if_version => 0) AS merge;
SELECT n, pg_temp.err(format('SELECT session_save(''new'', ''2'', if_version => %s)', n)) AS save,
	pg_temp.err(format('SELECT session_merge(''new'', ''{}'', if_version => %s)', n)) AS merge
FROM unnest(ARRAY[-2, -100, -9223372036854775808]) n;

-- Merge has the same conditions.
SELECT session_merge('newer', '{"b": 2}', if_version => 1) AS exactly;
SELECT session_merge('newer', '{"c": 3}', if_version => -1) AS existing;
SELECT version FROM session_fetch('newer');

-- Over an expired row the version continues, though the session is a new one; then 0 matches, and n and -1
-- do not. One transaction, so that the row cannot be purged meanwhile.
BEGIN;
SELECT session_save('short', '1', ttl => '30 ms');
SELECT session_save('short', '2', ttl => '30 ms');
SELECT pg_temp.wait_until($$NOT session_exists('short')$$);
SELECT pg_temp.conflict($$SELECT session_save('short', '3', if_version => 2)$$) AS exactly,
	pg_temp.conflict($$SELECT session_save('short', '3', if_version => -1)$$) AS existing;
SELECT session_save('short', '3', ttl => '30 ms', if_version => 0) AS must_not_exist;
SELECT pg_temp.wait_until($$NOT session_exists('short')$$);
SELECT session_merge('short', '{"a": 1}');
SELECT version FROM session_fetch('short');
COMMIT;

-- The same over a dead row.
SELECT session_delete('new');
SELECT session_save('new', '2', if_version => 0) > 1 AS goes_on;

-- Fifty saves count fifty versions.
SELECT count(DISTINCT v), max(v) FROM (SELECT session_save('many', to_jsonb(n)) AS v FROM generate_series(1, 50) n) saved;

DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
