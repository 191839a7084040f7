--
-- Launcher and keeper: start, purge, samples, and end with the extension. Needs
-- shared_preload_libraries.
--
DELETE FROM conversation_sessions;
VACUUM conversation_sessions;
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, audit) VALUES ('work', true);

-- The keeper of this database runs, and session_health() says so.
SELECT pg_temp.wait_until($$(session_health() #>> '{keeper,running}')::boolean$$) AS keeper, (session_health() #>> '{launcher,running}')::boolean AS launcher;
SELECT count(*) AS keepers FROM pg_stat_activity WHERE datname = current_database() AND backend_type LIKE '%session_store keeper%';
SELECT key, jsonb_typeof(value) AS type FROM jsonb_each(session_health()) WHERE key IN ('keeper', 'launcher', 'touches') ORDER BY key COLLATE "C";
SELECT session_health() ->> 'warnings' AS warnings, (session_health() #>> '{purge,automatic}')::boolean AS automatic;

-- It purges expired sessions without being asked, and leaves living ones and tombstones.
SELECT count(session_save('gone' || n, '{}', ttl => '1 ms', namespace => 'work')) FROM generate_series(1, 100) n;
SELECT session_save('lives', '{}', namespace => 'work'), session_save('dead', '{}', namespace => 'work');
SELECT session_delete('dead', 'work');
SELECT pg_temp.wait_until($$NOT EXISTS (SELECT FROM conversation_sessions WHERE namespace = 'work' AND session_id LIKE 'gone%')$$) AS purged;
SELECT session_id, dead_until IS NOT NULL AS dead FROM conversation_sessions WHERE namespace = 'work' ORDER BY session_id;
-- It records an event for each expired session.
SELECT event, count(*), count(DISTINCT session_id) FROM session_events WHERE namespace = 'work' AND session_id LIKE 'gone%' GROUP BY event ORDER BY event;
-- A row whose expiry was raised is visited and kept.
SELECT session_save('raised', '{}', ttl => '300 ms', namespace => 'work');
SELECT session_touch('raised', '1 hour', 'work') IS NOT NULL AS touched;
SELECT pg_temp.wait_until($$(SELECT check_at > clock_timestamp() + interval '1 minute' FROM conversation_sessions WHERE namespace = 'work' AND session_id = 'raised')$$) AS check_at_raised;
SELECT session_get('raised', 'work'), check_at <= expires_at AS not_later FROM conversation_sessions WHERE session_id = 'raised' AND namespace = 'work';

-- It takes the samples that session_stats shows.
SELECT pg_temp.wait_until($$EXISTS (SELECT FROM session_stats WHERE namespace = 'work' AND sessions = 2 AND tombstones >= 1)$$, '120 seconds') AS sampled;
SELECT age < interval '2 minutes' AS recent, avg_bytes > 0 AS average, over_1mb FROM session_stats WHERE namespace = 'work';

-- The metrics count what the calls do, over the whole server.
CREATE FUNCTION pg_temp.metric(name text) RETURNS numeric LANGUAGE sql AS
	$$SELECT sum((regexp_match(l, ' ([^ ]+)$'))[1]::numeric) FROM regexp_split_to_table(session_metrics(), E'\n') l WHERE l ~ ('^session_store_' || name || '(\{|\s)')$$;
CREATE TEMP TABLE before AS SELECT m, pg_temp.metric(m) AS v
FROM unnest(ARRAY['saves_total', 'creations_total', 'reads_total', 'misses_total', 'touches_total', 'deletions_total', 'regenerations_total',
	'evictions_total', 'errors_conflict_total', 'errors_dead_total', 'errors_quota_total', 'errors_denied_total', 'errors_too_large_total', 'purged_total']) m;
UPDATE session_namespaces SET max_sessions_per_owner = 1, max_bytes = 100 WHERE name = 'work';
SELECT session_save('c', '{}', owner => 'alice', namespace => 'work'), session_save('d', '{}', owner => 'alice', namespace => 'work');
SELECT session_get('d', 'work'), session_get('nothing', 'work'), session_touch('d', namespace => 'work') IS NOT NULL AS touched;
SELECT pg_temp.err($$SELECT session_save('d', '{}', if_version => 9, namespace => 'work')$$), pg_temp.err($$SELECT session_save('dead', '{}', namespace => 'work')$$),
	pg_temp.err($$SELECT session_save('e', to_jsonb(repeat('x', 200)), namespace => 'work')$$);
UPDATE session_namespaces SET on_quota = 'refuse' WHERE name = 'work';
SELECT pg_temp.err($$SELECT session_save('e', '{}', owner => 'alice', namespace => 'work')$$);
SELECT session_regenerate('d', 'work') IS NOT NULL AS regenerated;
SELECT session_delete_all('alice', namespace => 'work');
CREATE ROLE regress_ss_denied;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO regress_ss_denied;
UPDATE session_namespaces SET allowed_roles = '{}' WHERE name = 'work';
SET ROLE regress_ss_denied;
SELECT pg_temp.err($$SELECT session_get('d', 'work')$$);
RESET ROLE;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM regress_ss_denied;
DROP ROLE regress_ss_denied;
SELECT count(session_save('p' || n, '{}', ttl => '1 ms', namespace => 'work')) FROM generate_series(1, 5) n;
SELECT pg_temp.wait_until($$pg_temp.metric('purged_total') >= (SELECT v + 5 FROM before WHERE m = 'purged_total')$$) AS purged;
SELECT m AS metric, pg_temp.metric(m) > v AS counts FROM before ORDER BY m;

-- A database gets a keeper with CREATE EXTENSION; the keeper ends with the extension, and does not prevent
-- DROP, RENAME or TEMPLATE.
SELECT current_database() AS home \gset
DROP DATABASE IF EXISTS regress_ss_work;
DROP DATABASE IF EXISTS regress_ss_copy;
DROP DATABASE IF EXISTS regress_ss_renamed;
CREATE DATABASE regress_ss_work TEMPLATE template0;
\c regress_ss_work
\i :helpers
CREATE EXTENSION session_store;
SELECT pg_temp.wait_until($$EXISTS (SELECT FROM pg_stat_activity WHERE datname = 'regress_ss_work' AND backend_type LIKE '%session_store keeper%')$$) AS keeper;
SELECT session_save('gone', '{}', ttl => '1 ms'), session_save('stays', '{}');
SELECT pg_temp.wait_until($$NOT EXISTS (SELECT FROM conversation_sessions WHERE session_id = 'gone')$$) AS purged;
DROP EXTENSION session_store;
SELECT pg_temp.wait_until($$NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = 'regress_ss_work' AND backend_type LIKE '%session_store keeper%')$$) AS left_us;
CREATE EXTENSION session_store;
SELECT pg_temp.wait_until($$EXISTS (SELECT FROM pg_stat_activity WHERE datname = 'regress_ss_work' AND backend_type LIKE '%session_store keeper%')$$) AS keeper_again;
\c :home
\i :helpers
CREATE DATABASE regress_ss_copy TEMPLATE regress_ss_work;
ALTER DATABASE regress_ss_work RENAME TO regress_ss_renamed;
SELECT pg_temp.wait_until($$EXISTS (SELECT FROM pg_stat_activity WHERE datname = 'regress_ss_copy' AND backend_type LIKE '%session_store keeper%')$$) AS keeper_of_the_copy,
	pg_temp.wait_until($$EXISTS (SELECT FROM pg_stat_activity WHERE datname = 'regress_ss_renamed' AND backend_type LIKE '%session_store keeper%')$$) AS keeper_of_the_renamed;
DROP DATABASE regress_ss_copy;
DROP DATABASE regress_ss_renamed;
SELECT count(*) AS left_over FROM pg_stat_activity WHERE datname LIKE 'regress\_ss\_%';
-- A keeper that was killed is started again.
SELECT count(pg_terminate_backend(pid)) AS killed FROM pg_stat_activity WHERE datname = current_database() AND backend_type LIKE '%session_store keeper%';
SELECT session_save('again', '{}', ttl => '1 ms') > 0 AS saved;
SELECT pg_temp.wait_until($$NOT EXISTS (SELECT FROM conversation_sessions WHERE session_id = 'again')$$) AS back;

DELETE FROM conversation_sessions;
DELETE FROM session_events;
DELETE FROM session_namespaces;
