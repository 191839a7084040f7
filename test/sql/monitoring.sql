--
-- session_health(), session_metrics() and session_stats: structure, with and without
-- shared_preload_libraries.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name) VALUES ('mon');

-- session_health() returns one object: facts, and in `warnings` what to do.
SELECT key, jsonb_typeof(value) AS type FROM jsonb_each(session_health())
WHERE key IN ('version', 'preloaded', 'in_recovery', 'purge', 'warnings') ORDER BY key COLLATE "C";
SELECT session_health() ->> 'version' = (SELECT extversion FROM pg_extension WHERE extname = 'session_store') AS version,
	session_health() ->> 'in_recovery' AS in_recovery, jsonb_typeof(session_health() #> '{purge,behind_seconds}') AS behind;
-- It says whether the library was preloaded and, if not, shows the missing line.
SELECT (session_health() ->> 'preloaded')::boolean = ('session_store' = ANY (string_to_array(replace(current_setting('shared_preload_libraries'), ' ', ''), ','))) AS preloaded,
	(session_health() ->> 'preloaded')::boolean OR session_health() ->> 'warnings' LIKE '%shared_preload_libraries%' AS names_the_line;
-- It answers in a READ ONLY transaction.
BEGIN READ ONLY;
SELECT jsonb_typeof(session_health()) AS health, session_metrics() IS NOT NULL AS metrics, (SELECT count(*) FROM session_stats) >= 0 AS stats;
COMMIT;

-- session_metrics() returns the Prometheus text format: each line is a HELP, a TYPE or a sample, and ends
-- with a newline.
CREATE TEMP VIEW line AS
SELECT n, l FROM regexp_split_to_table(session_metrics(), E'\n') WITH ORDINALITY AS t(l, n);
SELECT right(session_metrics(), 1) = E'\n' AS ends_in_newline, session_metrics() ~ E'\n\n' AS empty_lines, session_metrics() ~ E'\r' AS carriage_returns;
SELECT l AS no_metric FROM line WHERE l <> ''
	AND l !~ '^# HELP [a-zA-Z_:][a-zA-Z0-9_:]* .+$'
	AND l !~ '^# TYPE [a-zA-Z_:][a-zA-Z0-9_:]* (counter|gauge|histogram|summary|untyped)$'
	AND l !~ '^[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_][a-zA-Z0-9_]*="([^"\\]|\\["\\n])*",?)*\})? ([-+]?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?|NaN|[-+]?Inf)( [0-9]+)?$';
-- Each family has one TYPE, before its samples; all names have our prefix; counters end in _total.
CREATE TEMP VIEW family AS SELECT n, split_part(l, ' ', 3) AS name, split_part(l, ' ', 4) AS type FROM line WHERE l LIKE '# TYPE %';
SELECT name AS stated_twice FROM family GROUP BY name HAVING count(*) > 1;
SELECT name AS not_ours FROM family WHERE name NOT LIKE 'session\_store\_%';
SELECT name AS misnamed FROM family WHERE (type = 'counter') <> (name LIKE '%\_total');
SELECT l AS without_family FROM line WHERE l NOT LIKE '#%' AND l <> ''
	AND NOT EXISTS (SELECT FROM family f WHERE f.name = regexp_replace(line.l, '[ {].*', '') AND f.n < line.n);
SELECT count(*) > 10 AS several FROM family;
-- No sample occurs twice.
SELECT regexp_replace(l, ' [^ ]*$', '') AS twice FROM line WHERE l NOT LIKE '#%' AND l <> '' GROUP BY 1 HAVING count(*) > 1;

-- A namespace of any name is escaped in a label.
INSERT INTO session_namespaces (name, key_prefix) VALUES ('quote " back \ brace }', 'odd:');
INSERT INTO session_samples (namespace, sampled_at, estimated, sessions, expired, tombstones, owned, messages, total_bytes, max_bytes, over_1mb)
SELECT name, clock_timestamp(), false, 3, 0, 0, 2, 0, 3000, 2000, 0 FROM session_namespaces WHERE key_prefix = 'odd:'
ON CONFLICT (namespace) DO NOTHING;
SELECT count(*) > 0 AS labelled FROM line WHERE l LIKE '%quote \\" back \\\\ brace }"%';
SELECT l AS no_metric FROM line WHERE l <> '' AND l NOT LIKE '#%'
	AND l !~ '^[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_][a-zA-Z0-9_]*="([^"\\]|\\["\\n])*",?)*\})? ([-+]?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?|NaN|[-+]?Inf)( [0-9]+)?$';

-- session_stats: a row for each namespace, with the age of the sample.
SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) AS columns
FROM pg_attribute WHERE attrelid = 'session_stats'::regclass AND attnum > 0;
SELECT age >= '0' AS age, avg_bytes IS NOT NULL OR sessions = 0 AS average, sessions >= owned AS owned
FROM session_stats WHERE namespace LIKE 'quote%';
-- It is a read-only view.
SELECT pg_temp.err($$INSERT INTO session_stats (namespace) VALUES ('x')$$) <> 'ok' AS insert;

DELETE FROM conversation_sessions;
DELETE FROM session_samples;
DELETE FROM session_namespaces;
