--
-- C functions that are declared differently from what the library expects, as by another version
-- of the extension: an error with a hint, not a crash.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
CREATE TEMP VIEW call AS
SELECT p.oid, p.proname, p.prosrc, p.proretset, p.prorettype, p.proallargtypes, p.proargmodes, p.probin,
	ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY AS a(t, n) ORDER BY n) AS args,
	CASE WHEN p.proretset THEN 'SETOF ' ELSE '' END || CASE WHEN p.prorettype = 'record'::regtype
		THEN 'record' ELSE format_type(p.prorettype, NULL) END AS result
FROM pg_depend d JOIN pg_extension e ON d.refobjid = e.oid JOIN pg_proc p ON p.oid = d.objid JOIN pg_language l ON l.oid = p.prolang
WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
	AND e.extname = 'session_store' AND l.lanname = 'c';

-- Each symbol carries a version.
SELECT count(*) > 30 AS all_of_them, bool_and(prosrc ~ ('^' || proname || '_[0-9]+_[0-9]+$')) AS versioned FROM call;

-- A value that is not NULL, for each type.
CREATE FUNCTION pg_temp.some(type text) RETURNS text LANGUAGE sql AS $$
SELECT CASE type WHEN 'text' THEN '''a''::text' WHEN 'jsonb' THEN '''{"a": 1}''::jsonb' WHEN 'interval' THEN '''1 hour''::interval'
	WHEN 'bigint' THEN '5::bigint' WHEN 'integer' THEN '5::integer' WHEN 'numeric' THEN '5::numeric' WHEN 'text[]' THEN '''{a}''::text[]'
	WHEN 'uuid' THEN 'gen_random_uuid()' WHEN 'timestamp with time zone' THEN 'clock_timestamp()' WHEN 'boolean' THEN 'true' END
$$;

-- Declares a symbol in some form, calls it, and returns the SQLSTATE and the hint.
CREATE FUNCTION pg_temp.call_as(symbol text, args text[], result text, columns text DEFAULT '') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	code text;
	hint text;
BEGIN
	EXECUTE format('CREATE FUNCTION pg_temp.declared(%s) RETURNS %s LANGUAGE c AS ''$libdir/session_store'', %L',
		array_to_string(args, ', '), result, symbol);
	EXECUTE format('SELECT * FROM pg_temp.declared(%s)%s', (SELECT string_agg(pg_temp.some(a), ', ' ORDER BY n)
		FROM unnest(args) WITH ORDINALITY AS u(a, n)), columns);
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, hint = PG_EXCEPTION_HINT;
	RETURN code || ' ' || hint;
END
$$;

-- One argument less, one more, and each with another type in turn; all of them invalid pointers.
CREATE TEMP VIEW form AS
SELECT prosrc, result, columns, form, changed AS args FROM call
	CROSS JOIN LATERAL (SELECT CASE WHEN call.result ~ '\mrecord$' THEN
		' AS (a bigint, b bigint, c bigint, d bigint)' ELSE '' END) c(columns)
	CROSS JOIN LATERAL (
		SELECT 'one less', args[:cardinality(args) - 1] WHERE cardinality(args) > 0
		UNION ALL SELECT 'none', '{}' WHERE cardinality(args) > 0
		UNION ALL SELECT 'one more', args || 'text'::text
		UNION ALL SELECT 'twenty', ARRAY(SELECT 'text' FROM generate_series(1, 20))
		UNION ALL SELECT 'numbers', ARRAY(SELECT 'bigint' FROM unnest(args)) WHERE cardinality(args) > 0 AND prosrc !~ 'trigger'
		UNION ALL SELECT 'argument ' || i || ' is a boolean', args[:i - 1] || 'boolean'::text || args[i + 1:] FROM generate_series(1, cardinality(args)) i WHERE args[i] <> 'boolean'
	) f(form, changed)
WHERE result <> 'trigger';
SELECT form, pg_temp.call_as(prosrc, args, result, columns) AS answer, count(*) > 0 AS symbols
FROM form GROUP BY 1, 2 ORDER BY form COLLATE "C", 2;
-- The right arguments with another result type.
SELECT pg_temp.call_as(prosrc, args, other.result, other.columns) AS answer, count(*) > 30 AS symbols
FROM call, (VALUES ('bigint', ''), ('text', ''), ('SETOF text', ''), ('record', ' AS (a text)'), ('SETOF record', ' AS (a text, b text)'), ('void', ''), ('boolean', ''), ('jsonb', '')) other(result, columns)
WHERE call.result <> other.result AND call.result <> 'trigger' GROUP BY 1;
-- Triggers, called as functions and as event triggers.
SELECT pg_temp.call_as(prosrc, '{}', 'integer') AS answer, count(*) FROM call WHERE result = 'trigger' GROUP BY 1;
SELECT pg_temp.call_as(prosrc, '{text,text}', 'jsonb') AS answer, count(*) FROM call WHERE result = 'trigger' GROUP BY 1;

-- A function with the expected declaration works under any name; a call after it was altered is an error.
CREATE FUNCTION regress_ss_get(text, text) RETURNS jsonb LANGUAGE c AS '$libdir/session_store', 'session_get_1_0';
SELECT session_save('s', '{"a": 1}');
SELECT regress_ss_get('s', 'default'), regress_ss_get('s', NULL);
DROP FUNCTION regress_ss_get;
CREATE FUNCTION regress_ss_get(text) RETURNS jsonb LANGUAGE c AS '$libdir/session_store', 'session_get_1_0';
SELECT regress_ss_get('s');
DROP FUNCTION regress_ss_get;
CREATE FUNCTION regress_ss_end(text, text, timestamptz) RETURNS timestamptz LANGUAGE c AS '$libdir/session_store', 'session_effective_expiry_1_0';
SELECT regress_ss_end(NULL, NULL, NULL);
DROP FUNCTION regress_ss_end;
CREATE PROCEDURE regress_ss_delete(text, text) LANGUAGE c AS '$libdir/session_store', 'session_delete_1_0';
CALL regress_ss_delete('s', NULL);
DROP PROCEDURE regress_ss_delete;
-- The row type can change without a change of the function.
BEGIN;
ALTER TYPE session_record DROP ATTRIBUTE message_count;
SELECT pg_temp.err($$SELECT * FROM session_fetch('s')$$) AS too_few_columns;
ROLLBACK;
BEGIN;
ALTER TYPE session_record ALTER ATTRIBUTE version TYPE text;
SELECT pg_temp.err($$SELECT * FROM session_fetch('s')$$) AS other_columns;
ROLLBACK;
SELECT session_data FROM session_fetch('s');

-- Our trigger functions in triggers of others.
CREATE TABLE regress_ss_other (a int, b int);
INSERT INTO regress_ss_other VALUES (1, 1);
CREATE FUNCTION pg_temp.fire(definition text, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	code text;
BEGIN
	EXECUTE 'CREATE TRIGGER regress_ss_strange ' || definition;
	EXECUTE statement;
	RAISE SQLSTATE 'P0099';
EXCEPTION WHEN OTHERS THEN
	RETURN CASE SQLSTATE WHEN 'P0099' THEN 'no error' ELSE SQLSTATE END;
END
$$;
SELECT function, at, pg_temp.fire(at || ' ON ' || tab || ' FOR EACH ' || level || ' EXECUTE FUNCTION ' || function || '()', statement)
FROM unnest(ARRAY['session_row_guard', 'session_change_note', 'session_history_note', 'session_namespaces_guard']) function,
	(VALUES ('BEFORE INSERT', 'ROW', 'regress_ss_other', 'INSERT INTO regress_ss_other VALUES (1, 2)'),
		('AFTER UPDATE', 'ROW', 'regress_ss_other', 'UPDATE regress_ss_other SET b = 2'),
		('BEFORE DELETE', 'STATEMENT', 'regress_ss_other', 'DELETE FROM regress_ss_other')) t(at, level, tab, statement)
ORDER BY function COLLATE "C", at COLLATE "C";
DROP TABLE regress_ss_other;
INSERT INTO session_namespaces (name) VALUES ('strange');
SELECT session_append('s', '{"m": 1}');
SELECT function, tab, level, at, pg_temp.fire(at || ' ON ' || tab || ' FOR EACH ' || level || ' EXECUTE FUNCTION ' || function || '()', statement)
FROM (VALUES ('session_row_guard', 'conversation_sessions', 'session_data = session_data'), ('session_change_note', 'conversation_sessions', 'session_data = session_data'),
		('session_history_note', 'conversation_history', 'message = message'), ('session_namespaces_guard', 'session_namespaces', 'cache = cache')) f(function, tab, change)
	CROSS JOIN unnest(ARRAY['BEFORE', 'AFTER']) moment
	CROSS JOIN LATERAL (VALUES (moment || ' UPDATE', 'UPDATE ' || tab || ' SET ' || change),
		(moment || ' DELETE', 'DELETE FROM ' || tab), (moment || ' TRUNCATE', 'TRUNCATE ' || tab || ' CASCADE')) t(at, statement)
	CROSS JOIN unnest(ARRAY['STATEMENT', 'ROW']) level
WHERE level = 'STATEMENT' OR at NOT LIKE '%TRUNCATE'
ORDER BY function COLLATE "C", level COLLATE "C", at COLLATE "C";

-- Tables that are not as the library expects them: damaged, or of another version.
BEGIN;
ALTER TABLE session_orphans RENAME COLUMN seen_at TO seen;
ALTER TABLE session_cache_claims ALTER COLUMN moved DROP NOT NULL;
ALTER TABLE session_samples RENAME TO regress_ss_samples;
ALTER TABLE session_events ALTER COLUMN detail TYPE text;
ALTER TABLE session_counters ALTER COLUMN hits TYPE numeric;
SELECT pg_temp.err($$SELECT session_get('s')$$) AS works;
SELECT w AS lesser_damage FROM jsonb_array_elements_text(session_health() -> 'warnings') w WHERE w ~ '^[^:]*: (table|column) ' AND w !~ 'is locked by process';
ROLLBACK;
BEGIN;
ALTER TABLE conversation_sessions RENAME COLUMN version TO versions;
SELECT pg_temp.err($$SELECT session_get('s')$$) AS damaged;
SELECT count(*) AS damaged FROM jsonb_array_elements_text(session_health() -> 'warnings') w WHERE w ~ 'column version of conversation_sessions is not as it was made';
UPDATE pg_extension SET extversion = '0.9.0' WHERE extname = 'session_store';
SELECT pg_temp.err($$SELECT session_get('s')$$) AS old_version;
SAVEPOINT a;
SELECT session_get('s');
ROLLBACK TO a;
SELECT w AS old_version FROM jsonb_array_elements_text(session_health() -> 'warnings') w WHERE w ~ 'ALTER EXTENSION';
ROLLBACK;
BEGIN;
UPDATE pg_extension SET extversion = '0.9.0' WHERE extname = 'session_store';
SELECT session_get('s') IS NOT NULL AS works, w AS old_version FROM jsonb_array_elements_text(session_health() -> 'warnings') w WHERE w ~ 'ALTER EXTENSION';
ROLLBACK;
DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
