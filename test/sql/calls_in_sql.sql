--
-- Functions inside of other SQL: statements, transactions, functions, cursors.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, max_sessions_per_owner, on_quota) VALUES ('compose', NULL, 'evict'), ('quota', 1, 'refuse');
SET session_store.namespace = 'compose';

-- Several calls in one statement: writes see each other, reads see the state at its beginning.
SELECT session_save('a', '1'), session_save('a', '2'), session_save('b', '1'), session_get('a') AS before;
SELECT session_get('a') AS after, session_merge('b', '{"x": 1}'), session_incr('b', '{n}'), session_incr('b', '{n}'), session_get('b') AS before;
SELECT session_get('b');
SELECT session_delete('a'), session_delete('a'), session_exists('a') AS before;
-- In sets, joins, subqueries, CTEs, RETURNING, LATERAL.
SELECT sum(session_save('set ' || n, to_jsonb(n))) FROM generate_series(1, 100) n;
SELECT sum((session_get('set ' || n))::int) AS sum, count(*) FILTER (WHERE session_get('set ' || n) IS NULL) AS missing FROM generate_series(1, 101) n;
SELECT n, f.version, f.session_data FROM generate_series(99, 102) n LEFT JOIN LATERAL session_fetch('set ' || n) f ON true ORDER BY n;
WITH saved AS (SELECT session_save('cte ' || n, '{}', owner => 'cte') AS v FROM generate_series(1, 3) n) SELECT sum(v) FROM saved;
WITH unused AS MATERIALIZED (SELECT session_save('not called', '{}')) SELECT 1 AS one;
SELECT session_exists('not called') AS not_called, session_count(owner => 'cte') AS cte;
SELECT count(*) FROM session_list(page_size => 1000) l JOIN conversation_sessions c USING (namespace, session_id) WHERE c.version = l.version;
SELECT session_id FROM conversation_sessions WHERE namespace = 'compose' AND session_exists(session_id) AND session_id LIKE 'cte%' ORDER BY 1;
CREATE TEMP TABLE login (who text, sid text DEFAULT session_create('{"from": "default"}', owner => 'login'));
INSERT INTO login (who) VALUES ('x'), ('y') RETURNING session_get(sid) IS NULL AS before;
SELECT count(DISTINCT sid), bool_and(session_get(sid) = '{"from": "default"}') FROM login;
UPDATE login SET sid = session_regenerate(sid) RETURNING length(sid);
SELECT bool_and(session_exists(sid)) FROM login;
CREATE TEMP TABLE made AS SELECT session_create(to_jsonb(n)) AS sid FROM generate_series(1, 3) n;
SELECT sum(session_get(sid)::int) FROM made;

-- After any error the transaction can continue from its savepoint, in PL/pgSQL and outside.
CREATE TEMP TABLE error (n int GENERATED ALWAYS AS IDENTITY, call text);
INSERT INTO error (call) VALUES ($$session_save('', '{}')$$), ($$session_save('e', NULL)$$), ($$session_get('e', 'nowhere')$$), ($$session_save('e', '{}', if_version => 9)$$),
	($$session_save('dead', '{}')$$), ($$session_save('q2', '{}', owner => 'q', namespace => 'quota')$$), ($$session_incr('text', '{t}')$$),
	($$session_save('e', to_jsonb(repeat('x', 9000000)))$$), ($$session_list(after => 'nonsense')$$), ($$session_touch('text', '-1 s')$$);
SELECT session_save('dead', '{}'), session_save('text', '{"t": "t"}'), session_save('q1', '{}', owner => 'q', namespace => 'quota');
SELECT session_delete('dead');
BEGIN;
SELECT call, pg_temp.err('SELECT ' || call) AS error, session_incr('progress', '{n}') AS goes_on, session_get('text') AS reads FROM error ORDER BY n;
COMMIT;
SELECT session_get('progress'), session_exists('e');
\set VERBOSITY sqlstate
BEGIN;
SELECT session_save('sp', '1');
SAVEPOINT one;
SELECT session_save('dead', '{}');
SELECT session_get('sp');
ROLLBACK TO one;
SELECT session_save('sp', '2');
SAVEPOINT two;
SELECT session_save('sp', '3', if_version => 1);
ROLLBACK TO two;
SELECT session_get('sp');
COMMIT;
\set VERBOSITY default
SELECT session_get('sp');

-- A rollback to a savepoint undoes saves, deletes, touches, new ids and policies.
BEGIN;
SELECT session_save('rb', '1', ttl => '1 hour');
SAVEPOINT s;
SELECT session_save('rb', '2'), session_touch('rb', '1 day') IS NOT NULL AS touched, session_save('rb new', '1');
ROLLBACK TO s;
SELECT session_get('rb'), session_ttl('rb') <= '1 hour' AS ttl, session_exists('rb new') AS new;
SELECT session_delete('rb');
SELECT session_exists('rb');
ROLLBACK TO s;
SELECT session_exists('rb'), session_save('rb', '3');
SELECT session_regenerate('rb') IS NOT NULL AS regenerated;
SELECT session_exists('rb');
ROLLBACK TO s;
SELECT session_exists('rb'), session_delete_all('cte');
ROLLBACK TO s;
SELECT session_count(owner => 'cte');
ROLLBACK;
SELECT session_exists('rb');
DO $$
BEGIN
	PERFORM session_save('do', '1');
	BEGIN
		PERFORM session_save('do', '2');
		PERFORM session_delete('do');
		RAISE EXCEPTION 'undo';
	EXCEPTION WHEN raise_exception THEN
		PERFORM session_incr('undone', '{n}');
	END;
	FOR i IN 1..200 LOOP
		BEGIN
			PERFORM session_incr('loop', '{n}');
			IF i % 2 = 0 THEN
				PERFORM session_save('dead', '{}');
			END IF;
		EXCEPTION WHEN SQLSTATE 'SST10' THEN
			NULL;
		END;
	END LOOP;
END
$$;
SELECT session_get('do'), session_get('undone'), session_get('loop');
-- Procedures that commit.
CREATE PROCEDURE pg_temp.steps() LANGUAGE plpgsql AS
	$$BEGIN FOR i IN 1..3 LOOP PERFORM session_incr('steps', '{n}'); COMMIT; PERFORM session_incr('steps', '{n}'); ROLLBACK; END LOOP; END$$;
CALL pg_temp.steps();
SELECT session_get('steps');

-- A cursor shows the state at the time it was opened.
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT session_id FROM session_list(id_like => 'cte%');
FETCH 1 FROM c;
SELECT session_clear('compose', 'cte%'), session_save('cte new', '{}');
FETCH ALL FROM c;
FETCH FIRST FROM c;
COMMIT;
BEGIN;
DECLARE g CURSOR FOR SELECT n, session_get('sp') FROM generate_series(1, 2) n;
FETCH 1 FROM g;
SELECT session_save('sp', '"changed"');
FETCH 1 FROM g;
COMMIT;
-- Cursors over calls that write, and LIMIT: as many calls are made as rows are fetched.
BEGIN;
DECLARE w CURSOR FOR SELECT session_incr('fetched', '{n}') FROM generate_series(1, 10);
FETCH 3 FROM w;
CLOSE w;
COMMIT;
SELECT session_get('fetched');

-- Prepared statements, with generic and custom plans.
PREPARE s(text, jsonb) AS SELECT session_save($1, $2), session_exists($1);
EXECUTE s('prep', '1');
SET plan_cache_mode = force_generic_plan;
EXECUTE s('prep', '2');
RESET plan_cache_mode;
DISCARD PLANS;
EXECUTE s('prep', '3');
SELECT session_get('prep');

-- REPEATABLE READ and SERIALIZABLE: a transaction sees its own changes, and can write.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT session_save('rr', '1'), session_get('sp');
SELECT session_get('rr'), session_save('rr', '2'), session_merge('sp', '{"rr": 1}'), session_incr('rr2', '{n}');
SELECT session_get('rr'), session_get('sp'), session_delete('rr'), session_count(id_like => 'rr%');
SELECT session_exists('rr'), pg_temp.err($$SELECT session_save('rr', '3')$$), session_regenerate('rr2') IS NOT NULL AS regenerated;
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT session_save('ser', '1', owner => 'ser'), session_save('ser', '2', if_version => 1), session_touch('ser') IS NOT NULL AS touched;
SELECT session_get('ser'), session_delete_all('ser'), session_purge() >= 0 AS purged;
COMMIT;
SELECT session_exists('ser');
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE;
SELECT session_get('sp'), session_count(id_like => 'sp');
COMMIT;
-- Expiry follows the clock, also within a snapshot.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT session_save('brief', '1', ttl => '30 ms');
SELECT pg_temp.wait_until($$NOT session_exists('brief')$$) AS gone;
SELECT session_save('brief', '2') AS version;
COMMIT;

-- A canceled transaction ends like any other.
BEGIN;
SELECT session_save('cancelled', '1');
SET LOCAL statement_timeout = '100 ms';
\set VERBOSITY sqlstate
SELECT count(session_incr('cancelled', '{n}', by => n)) FROM generate_series(1, 1000000000) n WHERE session_get('sp') IS NOT NULL;
\set VERBOSITY default
ROLLBACK;
SELECT session_exists('cancelled'), session_get('sp');

DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
