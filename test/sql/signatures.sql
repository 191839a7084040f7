--
-- Signatures of the functions: names, arguments, defaults, volatility, rows, parallel safety,
-- comments.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
CREATE TEMP VIEW member AS
SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON d.refobjid = e.oid
WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'session_store';
CREATE TEMP VIEW call AS
SELECT p.* FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid;

-- Each function has one signature.
SELECT proname AS overloaded FROM call GROUP BY proname HAVING count(*) > 1;
\x on
SELECT proname AS name, pg_get_function_arguments(oid) AS arguments, pg_get_function_result(oid) AS result
FROM call WHERE proname IN ('session_create', 'session_save', 'session_get', 'session_fetch', 'session_touch', 'session_merge',
	'session_incr', 'session_delete', 'session_delete_all', 'session_clear', 'session_regenerate', 'session_exists', 'session_ttl',
	'session_count', 'session_list', 'session_purge', 'session_health', 'session_metrics', 'session_get_many', 'session_take', 'session_json_encode', 'session_json_decode',
	'session_turn_begin', 'session_turn_renew', 'session_turn_end', 'session_turn') ORDER BY proname COLLATE "C";
\x off

-- Reads are STABLE (a read that slides records a pending touch in memory, and writes nothing), the others
-- VOLATILE. Set-returning functions state their number of rows. No function that reads sessions runs in a
-- parallel worker, because the state of the caller's transaction is needed.
SELECT proname, provolatile, proretset, CASE WHEN proretset THEN prorows END AS rows
FROM call WHERE proname IN ('session_create', 'session_save', 'session_get', 'session_fetch', 'session_touch', 'session_merge',
	'session_incr', 'session_delete', 'session_delete_all', 'session_clear', 'session_regenerate', 'session_exists', 'session_ttl',
	'session_count', 'session_list', 'session_purge', 'session_health', 'session_metrics', 'session_get_many', 'session_take', 'session_json_encode', 'session_json_decode',
	'session_turn_begin', 'session_turn_renew', 'session_turn_end', 'session_turn') ORDER BY proname COLLATE "C";
SELECT proname AS parallel_safe FROM call WHERE proparallel = 's' ORDER BY 1;
SELECT proname AS volatile_but_not_unsafe FROM call WHERE provolatile = 'v' AND proparallel <> 'u' AND proname <> 'session_effective_expiry';
-- NULL has a meaning in most arguments: no call about sessions is STRICT, because a NULL document would
-- then be ignored silently.
SELECT proname AS strict FROM call WHERE proisstrict AND proname <> 'session_effective_expiry' ORDER BY 1;
-- None is LEAKPROOF or has settings of its own.
SELECT proname AS leakproof FROM call WHERE proleakproof;

-- The row types that reads return.
SELECT t.typname, string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum) AS columns
FROM pg_type t JOIN pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0
WHERE t.oid IN ('session_record'::regtype, 'session_summary'::regtype) GROUP BY t.typname ORDER BY 1;

-- The table of sessions has the columns of that row type, and more; its key is namespace and session_id.
SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' not null' ELSE '' END, ', ' ORDER BY attname COLLATE "C") AS columns
FROM pg_attribute WHERE attrelid = 'conversation_sessions'::regclass AND attnum > 0 AND NOT attisdropped;
SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'conversation_sessions'::regclass AND contype = 'p';
-- No index contains a column that a save changes, because saves would not be HOT.
SELECT count(*) AS costly FROM pg_index i, unnest(i.indkey::int2[]) k JOIN pg_attribute a ON a.attnum = k
WHERE i.indrelid = 'conversation_sessions'::regclass AND a.attrelid = i.indrelid
	AND a.attname IN ('session_data', 'version', 'updated_at', 'expires_at', 'message_count', 'last_seq', 'ttl', 'turn', 'turn_until', 'turn_holder');
-- Ids are compared bytewise, so that an upgrade of a collation changes nothing.
SELECT count(*) AS collated FROM pg_index i, unnest(i.indcollation::oid[]) c
WHERE i.indrelid IN (SELECT objid FROM member WHERE classid = 'pg_class'::regclass) AND c NOT IN (0, 'pg_catalog."C"'::regcollation, 'pg_catalog."POSIX"'::regcollation);
-- The triggers are ENABLE ALWAYS, for replication and restore.
SELECT count(*) > 0 AS triggers, bool_and(tgenabled = 'A') AS always FROM pg_trigger
WHERE NOT tgisinternal AND tgrelid IN (SELECT objid FROM member WHERE classid = 'pg_class'::regclass);

-- Every object has a comment.
SELECT pg_describe_object(classid, objid, 0) AS without_comment
FROM member WHERE obj_description(objid, classid::regclass::text) IS NULL
	-- since version 17 the row and array types of a table are members as well
	AND NOT (classid = 'pg_type'::regclass AND EXISTS (SELECT FROM pg_type t LEFT JOIN pg_class r ON r.oid = t.typrelid
		WHERE t.oid = objid AND (t.typcategory = 'A' OR r.relkind <> 'c')))
ORDER BY 1;

-- The tables whose contents pg_dump dumps.
SELECT array_agg(c::regclass::text ORDER BY c::regclass::text COLLATE "C") AS dumped
FROM pg_extension, unnest(extconfig) c WHERE extname = 'session_store';

-- The extension has one schema and cannot be moved to another.
SELECT extrelocatable FROM pg_extension WHERE extname = 'session_store';
SELECT pg_temp.err('CREATE EXTENSION session_store') AS twice;
