--
-- Positional calls of the functions as they were first declared: each form keeps its meaning. New
-- arguments come after those, and have defaults.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
-- The names and types of the arguments, how many of them have no default, and the result.
CREATE TEMP TABLE declared (name text, args text[], required int, result text);
INSERT INTO declared VALUES
	('session_create', '{data jsonb,ttl interval,owner text,namespace text}', 0, 'text'),
	('session_save', '{session_id text,data jsonb,ttl interval,owner text,if_version bigint,namespace text}', 2, 'bigint'),
	('session_get', '{session_id text,namespace text}', 1, 'jsonb'),
	('session_fetch', '{session_id text,namespace text}', 1, 'SETOF session_record'),
	('session_touch', '{session_id text,ttl interval,namespace text}', 1, 'timestamp with time zone'),
	('session_merge', '{session_id text,patch jsonb,if_version bigint,namespace text}', 2, 'jsonb'),
	('session_incr', '{session_id text,"path text[]",by numeric,max numeric,namespace text}', 2, 'numeric'),
	('session_delete', '{session_id text,namespace text}', 1, 'boolean'),
	('session_regenerate', '{session_id text,namespace text}', 1, 'text'),
	('session_exists', '{session_id text,namespace text}', 1, 'boolean'),
	('session_ttl', '{session_id text,namespace text}', 1, 'interval'),
	('session_append', '{session_id text,messages jsonb,operation_id text,namespace text}', 2, 'bigint'),
	('session_history', '{session_id text,last integer,before bigint,namespace text}', 1, 'TABLE(seq bigint, message jsonb, created_at timestamp with time zone)'),
	('session_pop', '{session_id text,n integer,namespace text}', 1, 'jsonb'),
	('session_trim', '{session_id text,keep integer,namespace text}', 2, 'bigint'),
	('session_fork', '{session_id text,new_session_id text,up_to bigint,namespace text}', 1, 'text'),
	('session_absorb', '{target text,source text,namespace text}', 2, 'bigint'),
	('session_share', '{session_id text,member text,role text,namespace text}', 2, 'boolean'),
	('session_unshare', '{session_id text,member text,namespace text}', 2, 'boolean'),
	('session_members', '{session_id text,namespace text}', 1, 'TABLE(member text, role text, created_at timestamp with time zone)'),
	('session_delete_all', '{owner text,except_session_id text,namespace text}', 1, 'bigint'),
	('session_clear', '{namespace text,id_like text}', 1, 'bigint'),
	('session_count', '{owner text,id_like text,namespace text}', 0, 'bigint'),
	('session_list', '{owner text,id_like text,filter jsonb,after text,page_size integer,namespace text}', 0, 'SETOF session_summary'),
	('session_purge', '{max_rows bigint,namespace text}', 0, 'bigint'),
	('session_health', '{}', 0, 'jsonb'),
	('session_metrics', '{}', 0, 'text'),
	('session_cache_sync', '{timeout interval}', 0, 'boolean'),
	('session_cache_verify', '{sample integer}', 0, 'record'),
	('session_cache_flush', '{namespace text}', 0, 'bigint'),
	('session_cache_takeover', '{}', 0, 'boolean'),
	('session_may', '{namespace text,owner text,history_id uuid,role text}', 1, 'boolean'),
	('session_effective_expiry', '{namespace text,session_id text,expires_at timestamp with time zone}', 3, 'timestamp with time zone'),
	('session_alive', '{namespace text,session_id text,created_at timestamp with time zone,expires_at timestamp with time zone,dead_until timestamp with time zone}', 5, 'boolean'),
	('session_store_wake', '{}', 0, 'void');
CREATE TEMP VIEW present AS
SELECT p.proname AS name, p.pronargs - p.pronargdefaults AS required,
	CASE WHEN p.proretset AND p.prorettype = 'record'::regtype THEN
		'TABLE(' || (SELECT string_agg(p.proargnames[n] || ' ' || format_type(t, NULL), ', ' ORDER BY n) FROM unnest(p.proallargtypes) WITH ORDINALITY a(t, n) WHERE p.proargmodes[n] = 'o') || ')'
	ELSE pg_get_function_result(p.oid) END AS result,
	ARRAY(SELECT p.proargnames[n] || ' ' || format_type(t, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY a(t, n) ORDER BY n) AS args
FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e' JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'session_store';
SELECT d.name, d.args, p.args AS present, d.required, p.required AS present, d.result, p.result AS present
FROM declared d LEFT JOIN present p USING (name)
WHERE (d.args, d.required, d.result) IS DISTINCT FROM (p.args[:cardinality(d.args)], p.required, p.result);

-- Two namespaces whose sessions differ; the first is that of calls that name none. x, y and xx belong to
-- ann, w to bob.
INSERT INTO session_namespaces (name, sliding) VALUES ('pf', false), ('p2', false);
SET session_store.namespace = 'pf';
CREATE FUNCTION pg_temp.begin_sessions() RETURNS void LANGUAGE sql AS $$
	SELECT session_save('x', '{"k": 1, "n": 1}', owner => 'ann'), session_append('x', '[{"m": 1}, {"m": 2}, {"m": 3}, {"m": 4}]'), session_append('x', '{"m": 5}', operation_id => 'op'), session_share('x', 'mia');
	SELECT session_save('y', '{"k": 1, "y": 1}', owner => 'ann'), session_append('y', '{"m": "y"}');
	SELECT session_save('xx', '{}', owner => 'ann');
	SELECT session_save('w', '{"k": 1}', owner => 'bob');
	SELECT session_save('x', '{}', namespace => 'p2');
	SELECT session_save('x', '{"k": 1, "n": 0}', owner => 'ann', namespace => 'p2'), session_append('x', '[{"m": "a"}, {"m": "b"}, {"m": "c"}]', namespace => 'p2'), session_share('x', 'mia', namespace => 'p2');
	SELECT session_save('y', '{"k": 1, "z": 1}', owner => 'ann', namespace => 'p2');
$$;
CREATE FUNCTION pg_temp.shown(id text, ns text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN coalesce((SELECT concat_ws(', ', session_data, 'of ' || owner_id, round(extract(epoch FROM session_ttl(id, ns)) / 60) || ' min', 'v' || version,
		(SELECT 'says ' || string_agg(h.message ->> 'm', ' ' ORDER BY h.seq) FROM session_history(id, namespace => ns) h),
		(SELECT 'with ' || string_agg(m.member || ' ' || m.role, ' ' ORDER BY m.member) FROM session_members(id, ns) m)) FROM session_fetch(id, ns)), 'no session');
END
$$;
-- The result of a call, and a session after it ('@': the session that the result names); rolled back.
CREATE FUNCTION pg_temp.answer(call text, id text, ns text, OUT answer text, OUT after text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_temp.begin_sessions();
	BEGIN
		EXECUTE 'SELECT ' || call INTO answer;
	EXCEPTION WHEN OTHERS THEN
		answer = SQLSTATE;
	END;
	IF id <> '' THEN
		after = pg_temp.shown(CASE id WHEN '@' THEN answer ELSE id END, ns);
	END IF;
	IF length(answer) = 43 THEN
		answer = 'random id';
	END IF;
	RAISE EXCEPTION USING ERRCODE = 'UNDO1';
EXCEPTION WHEN SQLSTATE 'UNDO1' THEN
	NULL;
END
$$;
-- A value for each argument; the expression that shows the result, where %s is the call; the session to
-- show; which argument is the namespace.
CREATE TEMP TABLE sample (n int GENERATED ALWAYS AS IDENTITY, name text, args text[], id text, ns_arg int, shown text);
INSERT INTO sample (name, args, id, ns_arg, shown) VALUES
	('session_create', ARRAY[$$'{"c": 1}'$$, $$'10 minutes'$$, $$'bob'$$, $$'p2'$$], '@', 4, '%s'),
	('session_save', ARRAY[$$'x'$$, $$'{"s": 1}'$$, $$'10 minutes'$$, $$'bob'$$, '2', $$'p2'$$], 'x', 6, '%s'),
	('session_get', ARRAY[$$'x'$$, $$'p2'$$], '', 2, '%s'),
	('session_fetch', ARRAY[$$'x'$$, $$'p2'$$], '', 2, '(SELECT f.session_data FROM %s f)'),
	('session_touch', ARRAY[$$'x'$$, $$'10 minutes'$$, $$'p2'$$], 'x', 3, '(%s > clock_timestamp())'),
	('session_merge', ARRAY[$$'x'$$, $$'{"k": null, "m": 1}'$$, '2', $$'p2'$$], 'x', 4, '%s'),
	('session_incr', ARRAY[$$'x'$$, $$'{n}'$$, '5', '5.5', $$'p2'$$], 'x', 5, '%s'),
	('session_delete', ARRAY[$$'x'$$, $$'p2'$$], 'x', 2, '%s'),
	('session_regenerate', ARRAY[$$'x'$$, $$'p2'$$], '@', 2, '%s'),
	('session_exists', ARRAY[$$'xx'$$, $$'p2'$$], '', 2, '%s'),
	('session_ttl', ARRAY[$$'xx'$$, $$'p2'$$], '', 2, $$(%s > '59 minutes')$$),
	('session_append', ARRAY[$$'x'$$, $$'{"m": 5}'$$, $$'op'$$, $$'p2'$$], 'x', 4, '%s'),
	('session_history', ARRAY[$$'x'$$, '2', '5', $$'p2'$$], '', 4, $$(SELECT string_agg(h.message ->> 'm', ' ' ORDER BY h.seq) FROM %s h)$$),
	('session_pop', ARRAY[$$'x'$$, '2', $$'p2'$$], 'x', 3, '%s'),
	('session_trim', ARRAY[$$'x'$$, '2', $$'p2'$$], 'x', 3, '%s'),
	('session_fork', ARRAY[$$'x'$$, $$'copy'$$, '2', $$'p2'$$], '@', 4, '%s'),
	('session_absorb', ARRAY[$$'x'$$, $$'y'$$, $$'p2'$$], 'x', 3, '%s'),
	('session_share', ARRAY[$$'x'$$, $$'ed'$$, $$'editor'$$, $$'p2'$$], 'x', 4, '%s'),
	('session_unshare', ARRAY[$$'x'$$, $$'mia'$$, $$'p2'$$], 'x', 3, '%s'),
	('session_members', ARRAY[$$'x'$$, $$'p2'$$], '', 2, $$(SELECT string_agg(m.member || ' ' || m.role, ', ') FROM %s m)$$),
	('session_delete_all', ARRAY[$$'ann'$$, $$'x'$$, $$'p2'$$], 'x', 3, '%s'),
	('session_clear', ARRAY[$$'pf'$$, $$'x_'$$], 'x', 99, '%s'),
	('session_count', ARRAY[$$'ann'$$, $$'x%'$$, $$'p2'$$], '', 3, '%s'),
	('session_list', ARRAY[$$'ann'$$, $$'x%'$$, $$'{"k": 1}'$$, $$(SELECT l.page_cursor FROM session_list('ann', 'x') l)$$, '1', $$'p2'$$], '', 6, $$(SELECT string_agg(l.session_id, ' ' ORDER BY l.ordinality) FROM %s WITH ORDINALITY l)$$),
	('session_list', ARRAY[$$'ann'$$, 'NULL', 'NULL', 'NULL', '1', $$'p2'$$], '', 6, $$(SELECT string_agg(l.session_id, ' ' ORDER BY l.ordinality) FROM %s WITH ORDINALITY l)$$),
	('session_purge', ARRAY['0', $$'no such'$$], '', 99, '(%s >= 0)'),
	('session_health', '{}', '', 99, $$%s ? 'version'$$),
	('session_metrics', '{}', '', 99, $$%s LIKE '%%session_store_%%'$$),
	('session_cache_sync', ARRAY[$$'1 ms'$$], '', 99, '%s'),
	('session_cache_verify', ARRAY['10'], '', 99, '%s'),
	('session_cache_flush', ARRAY[$$'pf'$$], '', 99, '%s'),
	('session_cache_takeover', '{}', '', 99, '%s'),
	('session_may', ARRAY[$$'pf'$$, $$'ann'$$, 'NULL', $$'no role'$$], '', 99, '%s'),
	('session_effective_expiry', ARRAY[$$'pf'$$, $$'x'$$, $$'2100-01-01'$$], '', 99, $$(%s >= '2100-01-01')$$),
	('session_alive', ARRAY[$$'pf'$$, $$'x'$$, 'clock_timestamp()', $$'2100-01-01'$$, $$'2100-01-01'$$], '', 99, '%s'),
	('session_store_wake', '{}', '', 99, '%s');
SELECT name AS untried FROM declared d WHERE NOT EXISTS (SELECT FROM sample s WHERE s.name = d.name AND cardinality(s.args) = cardinality(d.args));
SELECT f.form, a.answer, a.after
FROM sample s JOIN declared d USING (name), generate_series(d.required, cardinality(d.args)) k,
	LATERAL (SELECT format('%s(%s)', s.name, array_to_string(s.args[:k], ', ')) AS form) f,
	pg_temp.answer(format(s.shown, f.form), s.id, CASE WHEN k >= s.ns_arg THEN 'p2' ELSE 'pf' END) a ORDER BY s.n, k;

DELETE FROM session_namespaces;
