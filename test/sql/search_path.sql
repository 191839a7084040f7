--
-- Hostile search_path: operators, functions, tables and types of the caller that hide those of
-- session_store and of the server are never used.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
CREATE SCHEMA regress_ss_evil;

-- A sequence counts the calls, because it is not rolled back.
CREATE SEQUENCE regress_ss_evil.called;
CREATE FUNCTION regress_ss_evil.note() RETURNS void LANGUAGE sql AS $$SELECT pg_catalog.nextval('regress_ss_evil.called'::pg_catalog.regclass)$$;

-- Operators on the types that session_store uses, all of which return true.
SET client_min_messages = error;
SELECT count(op) AS operators
FROM (VALUES ('='), ('<>'), ('<'), ('>'), ('<='), ('>='), ('||'), ('+'), ('-'), ('*'), ('/'), ('@>'), ('->'), ('->>'), ('~~'), ('~'), ('^@')) o(op),
	(VALUES ('text', 'text'), ('text', 'name'), ('timestamptz', 'timestamptz'), ('timestamptz', 'interval'), ('jsonb', 'jsonb'), ('jsonb', 'text'),
		('int8', 'int8'), ('int8', 'int4'), ('int4', 'int4'), ('interval', 'interval'), ('numeric', 'numeric'), ('uuid', 'uuid'),
		('name', 'name'), ('oid', 'oid'), ('bool', 'bool'), ('text[]', 'text[]'), ('anyelement', 'anyelement')) t(l, r),
	LATERAL (SELECT pg_temp.err(format('CREATE FUNCTION regress_ss_evil.op_%s(pg_catalog.%s, pg_catalog.%s) RETURNS pg_catalog.bool LANGUAGE plpgsql AS
		$f$BEGIN PERFORM regress_ss_evil.note(); RETURN true; END$f$', md5(op || l || r), l, r)) AS f) f,
	LATERAL (SELECT pg_temp.err(format('CREATE OPERATOR regress_ss_evil.%s (LEFTARG = pg_catalog.%s, RIGHTARG = pg_catalog.%s, PROCEDURE = regress_ss_evil.op_%s)',
		op, l, r, md5(op || l || r))) AS o WHERE f = 'ok') d WHERE d.o = 'ok';

-- Functions with names that our statements use.
CREATE FUNCTION regress_ss_evil.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$BEGIN PERFORM regress_ss_evil.note(); RETURN 'epoch'; END$$;
CREATE FUNCTION regress_ss_evil.now() RETURNS timestamptz LANGUAGE plpgsql AS $$BEGIN PERFORM regress_ss_evil.note(); RETURN 'epoch'; END$$;
CREATE FUNCTION regress_ss_evil.gen_random_uuid() RETURNS uuid LANGUAGE plpgsql AS $$BEGIN PERFORM regress_ss_evil.note(); RETURN NULL; END$$;
SELECT count(*) AS functions
FROM (VALUES ('count', 'anyelement'), ('unnest', 'text[]'), ('unnest', 'anyarray'), ('coalesce_', 'text'), ('octet_length', 'text'), ('length', 'text'),
		('md5', 'text'), ('to_jsonb', 'anyelement'), ('pg_column_size', 'anyelement'), ('pg_advisory_xact_lock', 'bigint'),
		('pg_advisory_xact_lock', 'integer, integer'), ('hashtext', 'text'), ('hashtextextended', 'text, bigint'), ('jsonb_set', 'jsonb, text[], jsonb'),
		('jsonb_strip_nulls', 'jsonb'), ('jsonb_each', 'jsonb'), ('starts_with', 'text, text'), ('texteq', 'text, text'), ('jsonb_contains', 'jsonb, jsonb'),
		('min', 'timestamptz'), ('max', 'timestamptz'), ('sum', 'bigint'), ('greatest_', 'bigint'), ('pg_has_role', 'name, text'),
		('current_setting', 'text, boolean'), ('current_setting', 'text'), ('like_escape', 'text, text'), ('extract', 'text, timestamptz'),
		('date_part', 'text, interval'), ('session_may', 'text, text'), ('session_get', 'text, text'), ('session_row_guard', ''),
		('session_effective_expiry', 'text, text, timestamptz')) f(name, args)
WHERE pg_temp.err(format('CREATE FUNCTION regress_ss_evil.%I(%s) RETURNS pg_catalog.int8 LANGUAGE plpgsql AS
	$f$BEGIN PERFORM regress_ss_evil.note(); RETURN 1; END$f$', name, args)) = 'ok';

-- Tables and types with our names and those of the server.
SELECT pg_temp.err(format('CREATE TABLE regress_ss_evil.%I (LIKE public.%I INCLUDING ALL)', t, t)),
	pg_temp.err(format('CREATE TEMP TABLE %I (LIKE public.%I INCLUDING ALL)', t, t))
FROM unnest(ARRAY['conversation_sessions', 'session_namespaces', 'session_events', 'session_samples']) t;
INSERT INTO regress_ss_evil.session_namespaces (name, key_prefix, ttl) VALUES ('default', 'evil:', '1 ms'), ('hijack', 'evil2:', '1 ms');
CREATE DOMAIN regress_ss_evil.text AS pg_catalog.int4;
CREATE DOMAIN regress_ss_evil.jsonb AS pg_catalog.text;
CREATE DOMAIN regress_ss_evil.timestamptz AS pg_catalog.text;
CREATE TYPE regress_ss_evil.session_record AS (a pg_catalog.int4);
CREATE DOMAIN regress_ss_evil.regclass AS pg_catalog.text;
RESET client_min_messages;

-- Statements of the test with this search_path. They name the schemas of the operators that they use.
INSERT INTO public.session_namespaces (name, audit, max_sessions_per_owner, tombstone) VALUES ('hijack', true, 2, '1 minute');
SET search_path = regress_ss_evil, public, pg_catalog, pg_temp;
SET session_store.namespace = 'hijack';
SELECT public.session_save('a', '{"a": 1, "n": {"x": 1}}', owner => 'alice');
SELECT public.session_save('a', '{"a": 1, "n": {"x": 1}}', ttl => '1 hour', owner => 'alice', if_version => 1);
SELECT public.session_save('b', '{}', owner => 'alice'), public.session_save('c', '{}', owner => 'alice'), public.session_save('d', '{}', owner => 'bob');
SELECT public.session_get('b');
SELECT session_id, owner_id, version FROM public.session_fetch('b');
SELECT public.session_merge('b', '{"x": {"y": 1, "z": null}}');
SELECT public.session_incr('b', '{x,y}', 2, 10);
SELECT public.session_exists('b'), public.session_exists('a');
SELECT session_id FROM public.session_list(owner => 'alice', id_like => 'b%', filter => '{"x": {"y": 3}}', page_size => 10);
SELECT session_id FROM public.session_list(page_size => 10);
SELECT public.session_count(), public.session_count(owner => 'alice', id_like => '_');
CREATE TABLE public.regress_ss_result AS SELECT public.session_touch('b', '2 hours') AS touched, public.session_ttl('b') AS ttl,
	public.session_regenerate('c') AS regenerated, public.session_create('{}', owner => 'carol') AS created,
	public.session_health() AS health, public.session_metrics() AS metrics;
SELECT public.session_delete('b');
SELECT public.session_delete_all('bob');
SELECT public.session_clear('hijack');
SELECT public.session_purge(10) OPERATOR(pg_catalog.>=) 0 AS purges, public.session_purge(namespace => 'hijack');
SELECT public.session_may('hijack'), public.session_may('hijack', 'alice');
SELECT namespace FROM public.session_stats LIMIT 0;
-- Plain SQL with its triggers and policies.
INSERT INTO public.session_namespaces (name, key_prefix) VALUES ('hijack2', 'hijack2:');
UPDATE public.session_namespaces SET ttl = '2 hours', tail_prefix = 'hijack tail:' WHERE name OPERATOR(pg_catalog.=) 'hijack'::pg_catalog.text;
INSERT INTO public.conversation_sessions (namespace, session_id, session_data) VALUES ('hijack', 'plain', '{}');
UPDATE public.conversation_sessions SET session_data = '{"x": 1}' WHERE dead_until IS NULL;
CREATE ROLE regress_ss_hijacked;
GRANT ALL ON SCHEMA regress_ss_evil TO regress_ss_hijacked;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.conversation_sessions, public.session_events TO regress_ss_hijacked;
SET ROLE regress_ss_hijacked;
UPDATE public.conversation_sessions SET session_data = '{"x": 2}' WHERE dead_until IS NULL;
SELECT DISTINCT session_data FROM public.conversation_sessions ORDER BY 1;
RESET ROLE;
DELETE FROM public.session_namespaces;
RESET search_path;

-- No function was called, and the tables with our names have no rows.
SELECT is_called AS called FROM regress_ss_evil.called;
SELECT (SELECT count(*) FROM regress_ss_evil.conversation_sessions) + (SELECT count(*) FROM pg_temp.conversation_sessions)
	+ (SELECT count(*) FROM regress_ss_evil.session_events) + (SELECT count(*) FROM pg_temp.session_events) AS rows_gone_astray;
SELECT touched > clock_timestamp() AS touched, ttl > '0' AS ttl, length(regenerated) AS regenerated, length(created) AS created FROM public.regress_ss_result;
-- The attacker's operators would have been used otherwise.
SET search_path = regress_ss_evil, public, pg_catalog;
SELECT 1::pg_catalog.int8 = 2::pg_catalog.int8 AS trapped;
RESET search_path;
SELECT is_called AS called FROM regress_ss_evil.called;

-- Everything works with an empty search_path, too.
TRUNCATE public.conversation_sessions;
DROP TABLE pg_temp.conversation_sessions, pg_temp.session_namespaces, pg_temp.session_events, pg_temp.session_samples;
INSERT INTO session_namespaces (name) VALUES ('hijack');
SET search_path = '';
SELECT public.session_save('a', '{}', owner => 'alice'), public.session_merge('a', '{"x": 1}'), public.session_incr('a', '{n}');
SELECT public.session_get('a'), public.session_count(), public.session_regenerate('a') IS NOT NULL AS regenerated;
SELECT public.session_clear('hijack'), public.session_purge();
RESET search_path;

-- Unusual settings change no result.
SET DateStyle = 'SQL, DMY'; SET IntervalStyle = 'iso_8601'; SET TimeZone = 'Pacific/Chatham'; SET standard_conforming_strings = off;
SET escape_string_warning = off; SET transform_null_equals = on; SET array_nulls = off; SET extra_float_digits = -15; SET row_security = off;
SET bytea_output = 'escape'; SET quote_all_identifiers = on; SET default_transaction_isolation = 'serializable'; SET check_function_bodies = off;
SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_seqscan = off; SET plan_cache_mode = 'force_generic_plan';
SET default_toast_compression = 'pglz'; SET xmloption = 'document'; SET client_min_messages = 'error'; SET lc_numeric = 'C'; SET jit = off;
SELECT session_save('set', '{"a": "it''s", "n": 1.5}', ttl => 'PT90M', owner => 'alice');
SELECT session_save('set', '{"a": "it''s", "n": 1.5}', if_version => 1), session_merge('set', '{"b": null, "c": 0.1}'), session_incr('set', '{n}', 0.25);
SELECT session_get('set');
SELECT extract(epoch FROM session_ttl('set')) BETWEEN 5340 AND 5400 AS ninety_minutes, session_count(owner => 'alice');
SELECT session_delete('set'), session_purge(namespace => 'hijack') >= 0;
RESET ALL;

DELETE FROM conversation_sessions;
DELETE FROM session_events;
DELETE FROM session_namespaces;
DROP TABLE public.regress_ss_result;
REVOKE ALL ON public.conversation_sessions, public.session_events FROM regress_ss_hijacked;
SET client_min_messages = error;
DROP SCHEMA regress_ss_evil CASCADE;
DROP ROLE regress_ss_hijacked;
