--
-- Parallel plans: every function that is allowed in one returns the same results in its leader.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
CREATE ROLE regress_ss_web;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO regress_ss_web;
GRANT SELECT ON conversation_sessions, conversation_messages, session_members, session_namespaces, session_events, session_stats, session_samples TO regress_ss_web;
INSERT INTO session_namespaces (name, cache, owner_isolation, audit) VALUES ('iso', 'off', true, true);
SELECT session_append('of alice', '[{"m": 1}, {"m": 2}]', namespace => 'iso') = 2 AND session_save('of alice', '{"n": 1}', owner => 'alice', namespace => 'iso') = 2 AND session_share('of alice', 'ed', 'editor', 'iso') AS saved,
	session_save('of bob', '{}', owner => 'bob', namespace => 'iso'), session_save('everybodys', '{"n": 2}'),
	session_turn_begin('of alice', '1 day', holder => 'agent', namespace => 'iso') > 0 AS begun;
CREATE TABLE regress_ss_many (n int);
INSERT INTO regress_ss_many SELECT generate_series(1, 20000);
GRANT SELECT ON regress_ss_many TO PUBLIC;
ANALYZE regress_ss_many, conversation_sessions;
SELECT set_config('regress.history', history_id::text, false) <> '' AS set FROM conversation_sessions WHERE session_id = 'of alice';

CREATE TEMP TABLE call (n int GENERATED ALWAYS AS IDENTITY, call text);
INSERT INTO call (call) VALUES ($$session_get('of alice', 'iso')$$), ($$session_get('everybodys')$$), ($$(SELECT f.session_data FROM session_fetch('of alice', 'iso') f)$$), ($$session_exists('of alice', 'iso')$$), ($$(SELECT t.holder FROM session_turn('of alice', 'iso') t)$$), ($$session_ttl('of alice', 'iso') > '1 minute'$$),
	($$(SELECT string_agg(h.message::text, ' ' ORDER BY h.seq) FROM session_history('of alice', namespace => 'iso') h)$$), ($$(SELECT string_agg(m.member, ' ') FROM session_members('of alice', 'iso') m)$$),
	($$session_count(namespace => 'iso')$$), ($$(SELECT string_agg(l.session_id, ' ' ORDER BY l.session_id) FROM session_list(namespace => 'iso') l)$$), ($$(SELECT string_agg(x.kind, ' ') FROM session_export(current_setting('request.jwt.claims')::jsonb ->> 'sub', namespace => 'iso') x)$$), ($$session_health() ? 'version'$$), ($$session_metrics() <> ''$$),
	($$session_may('iso', 'bob', current_setting('regress.history')::uuid, 'viewer')$$), ($$session_may('iso', 'bob', current_setting('regress.history')::uuid, 'editor')$$), ($$session_may('iso', 'bob', current_setting('regress.history')::uuid, 'owner')$$),
	($$session_effective_expiry('iso', 'of alice', '2100-01-01') > '2099-01-01'$$), ($$session_contains('{"a": 1}', '{}')$$), ($$session_alive('iso', 'of alice', clock_timestamp(), '2100-01-01', NULL)$$),
	($$(SELECT string_agg(g.session_data::text, ' ') FROM session_get_many('{of alice,of bob}', 'iso') g)$$), ($$session_json_encode('"\u0000"')$$), ($$session_json_decode('"\u00100000"')$$),
	($$(SELECT sum(w.seq) FROM session_window('of alice', max_messages => 2, namespace => 'iso') w)$$), ($$session_tail('of alice', 'iso')::text$$);
GRANT SELECT ON call TO PUBLIC;
-- No function is missing here that is not PARALLEL UNSAFE.
SELECT proname AS untried FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e' AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'session_store')
WHERE proparallel <> 'u' AND NOT EXISTS (SELECT FROM call WHERE call ~ ('\m' || proname || '\(')) ORDER BY 1;

-- The result for alice or for an editor, without parallel plans and with them.
CREATE FUNCTION pg_temp.answer(who text, forced boolean, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
	plan text := '';
	line text;
BEGIN
	IF forced THEN
		PERFORM set_config(name, value, true) FROM (VALUES ('parallel_setup_cost', '0'), ('parallel_tuple_cost', '0'), ('min_parallel_table_scan_size', '0'), ('max_parallel_workers_per_gather', '2')) s (name, value);
	ELSE
		PERFORM set_config('max_parallel_workers_per_gather', '0', true);
	END IF;
	PERFORM set_config('request.jwt.claims', jsonb_build_object('sub', who)::text, true), set_config('role', 'regress_ss_web', true);
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || statement LOOP
		plan := plan || line;
	END LOOP;
	IF (plan ~ 'Gather') <> forced THEN
		RETURN plan;
	END IF;
	EXECUTE statement INTO answer;
	RESET ROLE;
	RETURN coalesce(answer, '-');
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
CREATE TEMP VIEW answers AS
SELECT c.n, c.call, who, pg_temp.answer(who, false, s) AS alone, pg_temp.answer(who, true, s) AS parallel
FROM call c, unnest(ARRAY['alice', 'ed']) who, LATERAL (SELECT format('SELECT (%s)::text FROM regress_ss_many WHERE n = 7', c.call) AS s) s;
SELECT call, who, parallel, CASE WHEN parallel IS DISTINCT FROM alone THEN alone END AS differs FROM answers ORDER BY n, who;

-- Tables and views whose policies call such functions, in the condition of a parallel scan and outside of
-- one.
TRUNCATE call;
INSERT INTO call (call) VALUES ($$SELECT count(*) FROM regress_ss_many m, conversation_sessions s WHERE m.n = s.version$$), ($$SELECT count(*) FROM conversation_sessions s WHERE EXISTS (SELECT FROM regress_ss_many m WHERE m.n > s.version)$$),
	($$SELECT count(*) FROM regress_ss_many m, conversation_messages c WHERE m.n = c.seq$$), ($$SELECT count(*) FROM regress_ss_many m, session_members e WHERE m.n = length(e.member)$$), ($$SELECT count(*) FROM regress_ss_many m, session_events e WHERE m.n = length(e.session_id)$$),
	($$SELECT count(*) FROM regress_ss_many m, session_namespaces e WHERE m.n = e.hot_uses$$), ($$SELECT count(*) >= 0 FROM regress_ss_many m, session_stats e WHERE m.n = e.sessions$$),
	($$SELECT session_get('of alice', 'iso') || jsonb_build_object('count', count(*)) FROM regress_ss_many$$),
	($$SELECT count(*) FROM (SELECT n FROM regress_ss_many WHERE n < 10 OFFSET 0) m WHERE session_may('iso', 'bob', current_setting('regress.history')::uuid, CASE WHEN m.n = 1 THEN 'owner' ELSE 'editor' END)$$);
SELECT call, who, pg_temp.answer(who, true, call) AS parallel, nullif(pg_temp.answer(who, false, call), pg_temp.answer(who, true, call)) AS differs FROM call, unnest(ARRAY['alice', 'ed']) who ORDER BY n, who;

-- The same with the server's setting that runs everything possible in a worker.
SELECT CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'force_parallel_mode' ELSE 'debug_parallel_query' END AS switch \gset
SET :switch = on;
SELECT session_get('everybodys'), session_exists('everybodys'), session_may('iso', 'alice', current_setting('regress.history')::uuid, 'editor'), session_count(namespace => 'iso'), jsonb_typeof(session_health());
SELECT session_id FROM session_list(namespace => 'iso') ORDER BY 1;
SELECT min(session_json_decode(session_json_encode('"\u0000' || n || '"'))) FROM regress_ss_many WHERE n < 100;
SELECT session_id, seq, message FROM conversation_messages ORDER BY 1, 2;
SELECT session_save('everybodys', '{"n": 3}'), session_append('everybodys', '{"m": 1}'), session_delete('everybodys');
-- A call that locks a row raises an error in a function that is wrongly marked parallel safe.
CREATE FUNCTION regress_ss_run(call text) RETURNS text LANGUAGE plpgsql PARALLEL SAFE AS $$
DECLARE result text;
BEGIN
	EXECUTE call INTO result;
	RETURN result;
END $$;
\set VERBOSITY terse
SELECT regress_ss_run($$SELECT session_take('of alice', 'iso')$$);
SELECT regress_ss_run($$SELECT session_hit('of nobody', '1 hour', namespace => 'default')$$);
\set VERBOSITY default
RESET :switch;
DROP FUNCTION regress_ss_run(text);

DROP TABLE regress_ss_many;
DELETE FROM conversation_sessions;
DELETE FROM session_events;
DELETE FROM session_namespaces;
DROP OWNED BY regress_ss_web;
DROP ROLE regress_ss_web;
