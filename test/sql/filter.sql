--
-- The filter of session_list(): same results as @>, in bounded time, interruptible.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name) VALUES ('filter');
SET session_store.namespace = 'filter';

-- Documents of few values, so that one often contains another.
CREATE FUNCTION pg_temp.document(depth int) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	kind int = floor(random() * CASE WHEN depth = 0 THEN 7 ELSE 11 END);
BEGIN
	RETURN CASE kind
		WHEN 0 THEN 'null' WHEN 1 THEN 'true' WHEN 2 THEN 'false' WHEN 3 THEN '1' WHEN 4 THEN '1.0' WHEN 5 THEN '"a"' WHEN 6 THEN '""'
		WHEN 7 THEN coalesce((SELECT jsonb_object_agg(chr(97 + floor(random() * 3)::int), pg_temp.document(depth - 1)) FROM generate_series(1, (random() * 3)::int)), '{}')
		WHEN 8 THEN coalesce((SELECT jsonb_object_agg(chr(97 + floor(random() * 3)::int), pg_temp.document(depth - 1)) FROM generate_series(1, (random() * 2)::int)), '{}')
		ELSE coalesce((SELECT jsonb_agg(pg_temp.document(depth - 1)) FROM generate_series(1, (random() * 4)::int)), '[]')
	END;
END
$$;
SELECT setseed(0.42);
CREATE TEMP TABLE document AS SELECT n, pg_temp.document(3) AS d FROM generate_series(1, 600) n;
SELECT count(*) AS pairs, count(*) FILTER (WHERE a.d @> b.d) > 5000 AS many_contain, count(*) FILTER (WHERE session_contains(a.d, b.d) IS DISTINCT FROM (a.d @> b.d)) AS differ
FROM document a, document b;
-- Documents that the generator rarely makes.
SELECT count(*) AS pairs, count(*) FILTER (WHERE session_contains(a, b) IS DISTINCT FROM (a @> b)) AS differ
FROM unnest(ARRAY['{}', '[]', '[[]]', '[{}]', '[[], {}]', 'null', '[null]', '1', '[1]', '[[1]]', '[1, 1.00, 1e0]', '[1e400, -0]', '[0]', '["1"]', '"1"', '[true, "true"]',
		'{"a": []}', '{"a": {}}', '{"": null}', '[1, 2, [3, [4]]]', '[[[4], 3]]', '[{"a": 1, "b": 2}]', '[{"a": 1}, {"b": 2}]', '["é", "è", "a", "ab", "b"]']::jsonb[]) a,
	unnest(ARRAY['{}', '[]', '[[]]', '[{}]', '[[], {}]', 'null', '[null]', '1', '[1]', '[[1]]', '[1, 1.00, 1e0]', '[1e400, -0]', '[0]', '["1"]', '"1"', '[true, "true"]',
		'{"a": []}', '{"a": {}}', '{"": null}', '[1, 2, [3, [4]]]', '[[[4], 3]]', '[{"a": 1, "b": 2}]', '[{"a": 1}, {"b": 2}]', '["é", "è", "a", "ab", "b"]']::jsonb[]) b;
SELECT session_contains(NULL, '{}') IS NULL AND session_contains('{}', NULL) IS NULL AS nulls;

-- The size of a filter is limited.
SELECT pg_temp.err(format('SELECT session_list(filter => %L)', jsonb_build_array(repeat('x', 8160)))) AS long, pg_temp.says(format('SELECT session_list(filter => %L)', jsonb_build_array(repeat('x', 8200)))) AS too_long;

-- The scalars of an array are looked up, not compared pair by pair, which would take minutes.
SET statement_timeout = '2min';
SELECT session_contains(u, d) AS looked_up
FROM (SELECT jsonb_agg(i) FROM generate_series(1, 300000) i) a(u), (SELECT jsonb_agg(i ORDER BY i DESC) FROM generate_series(1, 300000) i) b(d);
RESET statement_timeout;

-- The comparison of one row can be canceled.  The large document takes twenty times as long as the small
-- one.
CREATE FUNCTION pg_temp.objects(n int, m int) RETURNS jsonb LANGUAGE sql AS 'SELECT jsonb_agg(jsonb_build_object(''a'', i)) FROM generate_series(n, m) i';
CREATE FUNCTION pg_temp.took(statement text, OUT state text, OUT seconds float8) LANGUAGE plpgsql AS $$
DECLARE
	started timestamptz = clock_timestamp();
BEGIN
	state = 'done';
	BEGIN
		EXECUTE statement;
	EXCEPTION WHEN query_canceled THEN
		state = SQLSTATE;
	END;
	seconds = extract(epoch FROM clock_timestamp() - started);
END
$$;
SELECT session_save('small', pg_temp.objects(1, 8000)), session_save('large', pg_temp.objects(1, 160000));
SELECT format('SELECT session_list(id_like => %L, filter => %L)', 'small', pg_temp.objects(7751, 8000)) AS small_list,
	format('SELECT session_list(id_like => %L, filter => %L)', 'large', pg_temp.objects(159751, 160000)) AS large_list \gset
SELECT state AS small_state, seconds AS small FROM pg_temp.took(:'small_list') \gset
SET statement_timeout = '100ms';
SELECT :'small_state' AS small, state AS large, seconds < 8 * :small + 0.5 AS was_interrupted FROM pg_temp.took(:'large_list');
RESET statement_timeout;
DELETE FROM conversation_sessions;

-- A listing with a filter.
SELECT count(session_save('s' || n, (SELECT d FROM document WHERE document.n = s.n))) FROM generate_series(1, 600) s(n);
SELECT count(*) AS filters, count(*) FILTER (WHERE list IS DISTINCT FROM own) AS differ
FROM (SELECT b.n, (SELECT array_agg(l.session_id ORDER BY l.session_id) FROM session_list(filter => b.d, page_size => 1000) l) AS list,
		(SELECT array_agg('s' || a.n ORDER BY ('s' || a.n) COLLATE "C") FROM document a WHERE a.d @> b.d) AS own
	FROM document b WHERE b.n <= 100) f;
DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
