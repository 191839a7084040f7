--
-- Counters: session_hit() counts over a fixed period that begins with the first hit and is never
-- extended; session_hit_reset() removes a counter.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, cache) VALUES ('rate', 'off'), ('other', 'off');
SET session_store.namespace = 'rate';

-- The period ends one period after the first hit, whatever period later hits give.
SELECT hits, remaining, resets_at BETWEEN statement_timestamp() + interval '1 hour' AND clock_timestamp() + interval '1 hour' AS an_hour_from_now
FROM session_hit('a', '1 hour', max => 3);
CREATE TEMP TABLE first_end AS SELECT resets_at FROM session_counters;
SELECT (session_hit('a', '1 ms')).hits, (session_hit('a', '30 days')).hits;
SELECT hits, remaining, resets_at = (SELECT resets_at FROM first_end) AS same_end FROM session_hit('a', '1 hour', max => 3);
-- Hits above max are counted as well: a caller permits what has hits <= max.
SELECT (h).hits, (h).remaining FROM (SELECT session_hit('a', '1 hour', max => 3) AS h FROM generate_series(1, 3)) s;
SELECT hits, remaining FROM session_hit('a', '1 hour', by => 10, max => 100);
SELECT hits, remaining FROM session_hit('a', '1 hour', max => 0);
SELECT hits, remaining, resets_at = (SELECT resets_at FROM first_end) AS same_end FROM session_hit('a', '1 hour');
-- Each namespace and each id has counters of its own.
SELECT hits FROM session_hit('a', '1 hour', namespace => 'other');
SELECT hits FROM session_hit('A', '1 hour');

-- by => 0 reads: nothing is created, no period is needed, and hits of the same statement are seen.
SELECT * FROM session_hit('absent', NULL, by => 0);
SELECT * FROM session_hit('absent', NULL, by => 0, max => 5);
SELECT hits, remaining, resets_at = (SELECT resets_at FROM first_end) AS same_end FROM session_hit('a', NULL, by => 0, max => 20);
SELECT (session_hit('twice', '1 hour')).hits, (session_hit('twice', NULL, by => 0)).hits, (session_hit('twice', '1 hour')).hits, (session_hit('twice', NULL, by => 0)).hits;
-- A negative number takes hits back, but not below 0, and neither creates nor ends a period.
SELECT hits, remaining, resets_at = (SELECT resets_at FROM first_end) AS same_end FROM session_hit('a', NULL, by => -2, max => 20);
SELECT hits, remaining, resets_at = (SELECT resets_at FROM first_end) AS same_end FROM session_hit('a', '1 hour', by => -1000, max => 20);
SELECT * FROM session_hit('absent', '1 hour', by => -1, max => 5);
SELECT count(*) AS absent FROM session_counters WHERE counter_id = 'absent';
-- The number saturates, and no hit is lost to an error.
SELECT hits, remaining FROM session_hit('a', '1 hour', by => 9223372036854775807, max => 9223372036854775807);
SELECT hits, remaining FROM session_hit('a', '1 hour', by => 9223372036854775807, max => 9223372036854775806);
SELECT hits, remaining FROM session_hit('a', '1 hour', by => -1, max => 9223372036854775807);
SELECT hits, remaining FROM session_hit('a', '1 hour', by => -9223372036854775808, max => 9223372036854775807);
SELECT hits, remaining FROM session_hit('full', '1 hour', by => 9223372036854775807);

-- After its period a counter counts as absent, whether its row is there or not; the next hit begins a
-- period in the same row. (In a transaction, so that the keeper does not purge the row before.)
CREATE FUNCTION pg_temp.end_periods() RETURNS void LANGUAGE sql AS $$ UPDATE session_counters SET resets_at = clock_timestamp() - interval '1 ms' $$;
BEGIN;
SELECT pg_temp.end_periods();
SELECT * FROM session_hit('full', NULL, by => 0, max => 5);
SELECT * FROM session_hit('full', NULL, by => -1, max => 5);
SELECT hits FROM session_counters WHERE counter_id = 'full';
SELECT session_hit_reset('A') AS was_running;
SELECT hits, remaining, resets_at > clock_timestamp() + interval '59 minutes' AS running FROM session_hit('full', '1 hour', by => 2, max => 5);
SELECT count(*) AS rows FROM session_counters WHERE counter_id = 'full';
COMMIT;
-- The clock ends a period, not the time of the transaction.
BEGIN;
SELECT hits FROM session_hit('brief', '20 ms');
SELECT pg_temp.wait_until($$(SELECT resets_at < clock_timestamp() FROM session_counters WHERE counter_id = 'brief')$$);
SELECT * FROM session_hit('brief', NULL, by => 0);
SELECT hits FROM session_hit('brief', '1 hour');
SELECT hits, resets_at > now() + interval '1 hour' AS after_the_transaction_began FROM session_hit('brief', '1 hour');
COMMIT;

-- session_hit_reset() removes the counter.
SELECT session_hit_reset('brief') AS was_running, session_hit_reset('brief') AS again, session_hit_reset('absent') AS absent;
SELECT hits FROM session_hit('brief', '1 hour');
SELECT hits FROM session_hit('a', NULL, by => 0, namespace => 'other');

-- A rollback to a savepoint or of the transaction undoes hits; within a period updates are HOT.
BEGIN;
SELECT hits FROM session_hit('undone', '1 hour');
SAVEPOINT a;
SELECT hits FROM session_hit('undone', '1 hour', by => 5);
ROLLBACK TO a;
SELECT hits FROM session_hit('undone', '1 hour');
ROLLBACK;
SELECT hits FROM session_hit('undone', NULL, by => 0);
TRUNCATE session_counters;
SELECT count(session_hit('hot' || i, '1 hour')) FROM generate_series(1, 20) i;
BEGIN;
SELECT pg_stat_get_xact_tuples_hot_updated('session_counters'::regclass) AS hot, pg_stat_get_xact_tuples_updated('session_counters'::regclass) AS updated \gset
SELECT count(session_hit('hot' || i, '1 hour')) FROM generate_series(1, 20) i;
SELECT pg_stat_get_xact_tuples_hot_updated('session_counters'::regclass) - :hot AS hot, pg_stat_get_xact_tuples_updated('session_counters'::regclass) - :updated AS updated;
COMMIT;

-- Bad arguments.
SELECT call, pg_temp.says('SELECT ' || call) FROM unnest(ARRAY[$$session_hit(NULL, '1 hour')$$, $$session_hit(NULL, '1 hour', by => 0)$$, $$session_hit('a', NULL)$$, $$session_hit('a', '1 hour', by => NULL)$$,
	$$session_hit_reset(NULL)$$, $$session_hit('', '1 hour')$$, $$session_hit(repeat('a', 201), '1 hour')$$, $$session_hit(E'a\tb', '1 hour', by => 0)$$, $$session_hit_reset('')$$,
	$$session_hit('a', '0')$$, $$session_hit('a', '-1 second')$$, $$session_hit('a', '999 us')$$, $$session_hit('a', '1 month')$$, $$session_hit('a', '36526 days')$$, $$session_hit('a', '1 year', by => 0)$$,
	$$session_hit('a', '1 hour', max => -1)$$, $$session_hit('a', '1 hour', namespace => 'nowhere')$$, $$session_hit_reset('a', 'nowhere')$$, $$session_hit('a', '1 hour', namespace => '')$$]) call;
SELECT count(*) AS none FROM session_counters WHERE counter_id = 'a' AND namespace = 'rate';
-- Extreme values, and ids with special characters.
SELECT hits, resets_at > clock_timestamp() + interval '36524 days' AS far FROM session_hit(repeat('a', 200), '36525 days');
SELECT (session_hit(id, '1 hour', by => 7)).hits, session_hit_reset(id) FROM unnest(ARRAY['%_\', $$'"$$, '{a:b}[c]*?', '  a  ', 'ü', '::1', repeat('ü', 100)]) id;
SELECT (session_hit('brief', '1 ms')).hits > 0 AS shortest;

-- READ ONLY transactions: hits are refused, reading works.
BEGIN READ ONLY;
SELECT hits FROM session_hit(repeat('a', 200), NULL, by => 0);
SAVEPOINT a;
SELECT pg_temp.err($$SELECT session_hit('a', '1 hour')$$) AS hit, pg_temp.err($$SELECT session_hit('a', '1 hour', by => -1)$$) AS back, pg_temp.err($$SELECT session_hit_reset('a')$$) AS reset;
ROLLBACK;

-- The purge removes counters whose period has ended, those of one namespace or all, and counts them as rows.
BEGIN;
DELETE FROM session_counters;
SELECT session_purge() IS NOT NULL AS others_gone;
SELECT count(session_hit('p' || i, '1 hour', namespace => n)) FROM generate_series(1, 5) i, unnest(ARRAY['rate', 'other']) n;
SELECT session_purge() AS none;
SELECT pg_temp.end_periods();
SELECT count(session_hit('kept' || i, '1 hour')) FROM generate_series(1, 3) i;
SELECT session_purge(2, 'rate') AS two, session_purge(NULL, 'rate') AS others, session_purge(NULL, 'rate') AS none;
SELECT namespace, count(*) FROM session_counters GROUP BY 1 ORDER BY 1;
-- It goes by the row alone: the namespace may be gone.
DELETE FROM session_namespaces WHERE name = 'other';
SELECT pg_temp.err($$SELECT session_hit('p1', '1 hour', namespace => 'other')$$) AS hit, session_purge() AS removed;
-- Rows that a trigger refuses to remove stay, and the others are removed.
CREATE FUNCTION regress_ss_refuse() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF OLD.counter_id = 'kept2' THEN
		IF TG_ARGV[0] = 'error' THEN
			RAISE EXCEPTION 'refused' USING ERRCODE = '23001';
		END IF;
		RETURN NULL;
	END IF;
	RETURN OLD;
END $$;
CREATE TRIGGER refuse BEFORE DELETE ON session_counters FOR EACH ROW EXECUTE FUNCTION regress_ss_refuse('error');
SELECT pg_temp.end_periods();
\set VERBOSITY terse
SELECT session_purge() AS removed;
SELECT counter_id FROM session_counters;
SELECT session_clear('rate') AS ended;
DROP TRIGGER refuse ON session_counters;
CREATE TRIGGER refuse BEFORE DELETE ON session_counters FOR EACH ROW EXECUTE FUNCTION regress_ss_refuse('skip');
SELECT session_purge() AS removed;
\set VERBOSITY default
DROP TRIGGER refuse ON session_counters;
-- If a trigger skips a hit, the call fails, because the hit would not be counted.
CREATE FUNCTION regress_ss_skip() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER skip BEFORE INSERT ON session_counters FOR EACH ROW EXECUTE FUNCTION regress_ss_skip();
SELECT pg_temp.err($$SELECT session_hit('a', '1 hour')$$) AS hit;
DROP TRIGGER skip ON session_counters;
SELECT hits FROM session_hit('a', '1 hour');
CREATE TRIGGER skip BEFORE UPDATE ON session_counters FOR EACH ROW EXECUTE FUNCTION regress_ss_skip();
SELECT pg_temp.err($$SELECT session_hit('a', '1 hour')$$) AS hit, (session_hit('a', NULL, by => -1)).hits AS not_taken_back;
DROP TRIGGER skip ON session_counters;
DROP FUNCTION regress_ss_refuse(), regress_ss_skip();
ROLLBACK;

-- session_clear() of a whole namespace removes its counters as well.
DELETE FROM session_counters;
SELECT count(session_hit('c' || i, '1 hour', namespace => n)) FROM generate_series(1, 3) i, unnest(ARRAY['rate', 'other']) n;
SELECT session_save('s', '{}');
SELECT session_clear('rate', '%', id_prefix => 's') AS ended, session_clear('rate', id_prefix => '') AS others;
SELECT count(*) AS all_left FROM session_counters;
SELECT session_save('t', '{}');
SELECT session_clear('rate') AS ended;
SELECT namespace, count(*) FROM session_counters GROUP BY 1 ORDER BY 1;

-- By direct access and by statements, also with objects that the owner has added to the table.
CREATE FUNCTION pg_temp.counts(direct text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text := '';
	step int8;
BEGIN
	PERFORM set_config('session_store.direct_rows', direct, true), session_hit_reset('w');
	FOREACH step IN ARRAY '{1,1,5,-2,0,9223372036854775807,1,-9223372036854775808,-1,3}'::int8[] LOOP
		answer := answer || (session_hit('w', '1 hour', by => step, max => 10))::text || ' ';
	END LOOP;
	PERFORM set_config('enable_seqscan', 'off', true);
	RETURN regexp_replace(answer, ',"[^"]*"', '', 'g') || coalesce((SELECT to_jsonb(c) - '{resets_at,namespace,counter_id}'::text[] FROM session_counters c WHERE hits = 3), 'null');
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
CREATE FUNCTION pg_temp.counts_with(addition text, OUT direct text, OUT statements text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE addition;
	direct := pg_temp.counts('on');
	statements := pg_temp.counts('off');
	RAISE SQLSTATE 'UNDO1';
EXCEPTION WHEN SQLSTATE 'UNDO1' THEN
	NULL;
END $$;
SELECT pg_temp.counts('on');
SELECT addition, CASE WHEN direct <> statements THEN direct END AS differs, right(statements, 60) AS ends
FROM unnest(ARRAY['SELECT 1', 'CREATE INDEX ON session_counters (hits)', 'CREATE INDEX ON session_counters ((hits / 2))', 'ALTER TABLE session_counters ADD note text DEFAULT $$x$$',
	'ALTER TABLE session_counters ADD gone int DEFAULT 1, ADD kept int DEFAULT 2; ALTER TABLE session_counters DROP gone', 'ALTER TABLE session_counters ADD half int8 GENERATED ALWAYS AS (hits / 2) STORED',
	'ALTER TABLE session_counters ADD CHECK (hits < 6)', 'ALTER TABLE session_counters DROP CONSTRAINT session_counters_hits_check, ADD CONSTRAINT mine CHECK (hits < 9)',
	'CREATE TABLE regress_ss_child () INHERITS (session_counters)', 'ALTER TABLE session_counters REPLICA IDENTITY NOTHING', 'ALTER TABLE session_counters SET UNLOGGED']) addition,
	LATERAL pg_temp.counts_with(addition);

-- An error of a trigger of the owner says that it is about a counter, and shows nothing of it.
CREATE FUNCTION pg_temp.refuse() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$ BEGIN RAISE 'no % today', OLD.counter_id; END $$;
BEGIN;
SELECT hits FROM session_hit('mine', '1 hour');
CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON session_counters FOR EACH ROW EXECUTE FUNCTION pg_temp.refuse();
SELECT pg_temp.says(call) FROM unnest(ARRAY[$$SELECT session_hit('mine', '1 hour')$$, $$SELECT session_hit('mine', NULL, by => -1)$$, $$SELECT session_hit_reset('mine')$$]) call;
ROLLBACK;

-- Access: allowed_roles; and with owner isolation only roles that are exempt from it, because counters
-- have no owner.
CREATE ROLE regress_ss_limiter;
CREATE ROLE regress_ss_service BYPASSRLS;
GRANT EXECUTE ON FUNCTION session_hit, session_hit_reset, session_clear TO regress_ss_limiter, regress_ss_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON session_counters TO regress_ss_limiter;
INSERT INTO session_namespaces (name, cache, allowed_roles) VALUES ('closed', 'off', '{}');
INSERT INTO session_namespaces (name, cache, owner_isolation) VALUES ('isolated', 'off', true);
SET request.jwt.claims = '{"sub": "ann"}';
SET ROLE regress_ss_limiter;
SELECT ns, pg_temp.err(format($$SELECT session_hit('x', '1 hour', namespace => %L)$$, ns)) AS hit, pg_temp.err(format($$SELECT session_hit('x', NULL, by => 0, namespace => %L)$$, ns)) AS read,
	pg_temp.err(format($$SELECT session_hit_reset('x', %L)$$, ns)) AS reset FROM unnest(ARRAY['rate', 'closed', 'isolated']) ns;
SELECT pg_temp.says($$SELECT session_hit('x', '1 hour', namespace => 'isolated')$$);
SELECT count(*) AS visible FROM session_counters;
SELECT pg_temp.err($$INSERT INTO session_counters VALUES (now(), 1, 'rate', 'x')$$) AS inserted;
RESET ROLE;
SET ROLE regress_ss_service;
SELECT hits FROM session_hit('x', '1 hour', namespace => 'isolated');
-- a role that is subject to it ends its own sessions by session_clear(), and removes no counters
SET ROLE regress_ss_limiter;
SELECT session_clear('isolated') AS ended;
RESET ROLE;
RESET request.jwt.claims;
SELECT hits FROM session_hit('x', NULL, by => 0, namespace => 'isolated');
DROP OWNED BY regress_ss_limiter, regress_ss_service;
DROP ROLE regress_ss_limiter, regress_ss_service;

-- The declarations.
SELECT pg_get_function_arguments(p) AS arguments, pg_get_function_result(p) AS result, provolatile, proparallel, proisstrict
FROM pg_proc, LATERAL (SELECT oid) o(p) WHERE proname IN ('session_hit', 'session_hit_reset') ORDER BY proname;

-- Plain SQL: values that are refused.
SELECT pg_temp.refused(format('INSERT INTO session_counters (resets_at, hits, namespace, counter_id) VALUES (%s)', v)) FROM unnest(ARRAY[$$'infinity', 1, 'rate', 'i'$$, $$'-infinity', 1, 'rate', 'i'$$,
	$$now(), -1, 'rate', 'i'$$, $$now(), 1, 'rate', ''$$, $$now(), 1, 'rate', repeat('a', 201)$$, $$NULL, 1, 'rate', 'i'$$, $$now(), NULL, 'rate', 'i'$$, $$now(), 1, NULL, 'i'$$, $$now(), 1, 'rate', NULL$$]) v;

DELETE FROM session_counters;
DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
