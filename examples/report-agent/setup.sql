--
-- Report dialogue agent: dialogues of 24 hours under session-{uuid}, and the retry
-- contexts of a second service, 1 hour under retry-{session}-{capsule type}.
--
-- For psql, in a database that has the extension; once more begins anew.
--
\set ON_ERROR_STOP on

-- A role for each service. Neither has a right on any table.
SELECT format('CREATE ROLE %I LOGIN', name) FROM (VALUES ('report_agent'), ('report_retries')) r (name)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
GRANT EXECUTE ON FUNCTION session_create, session_save, session_get, session_merge, session_incr,
	session_delete, session_exists, session_ttl, session_cache_sync
TO report_agent, report_retries;

DELETE FROM conversation_sessions WHERE namespace IN ('reports', 'retries');
DELETE FROM session_namespaces WHERE name IN ('reports', 'retries');

-- The prefixes stay those that readers of Redis know. A retry context is used again by its
-- name after it was deleted, so it leaves no tombstone.
INSERT INTO session_namespaces (name, key_prefix, ttl, sliding, cache, tombstone, allowed_roles) VALUES
	('reports', 'session-', '24 hours', false, 'all', '5 minutes', '{report_agent}'),
	('retries', 'retry-', '1 hour', false, 'all', '0', '{report_retries}');

-- Neither service needs to name its namespace.
ALTER ROLE report_agent IN DATABASE :"DBNAME" SET session_store.namespace = 'reports';
ALTER ROLE report_retries IN DATABASE :"DBNAME" SET session_store.namespace = 'retries';

-- A dialogue: saved whole, then changed in part, whoever else changes another part.
SET session_store.namespace = 'reports';
SET ROLE report_agent;
SELECT session_save('demo', '{"topic": "energy", "step": 1}') AS version;
SELECT session_merge('demo', '{"step": 2, "draft": "..."}') AS dialogue;
SELECT session_ttl('demo') AS left_of_24_hours;

-- A retry context: the first call makes it; NULL is the answer when there is no attempt left.
RESET ROLE;
SET session_store.namespace = 'retries';
SET ROLE report_retries;
SELECT session_incr('demo-pdf', '{attempts}', max => 3) AS first,
	session_incr('demo-pdf', '{attempts}', max => 3) AS second,
	session_incr('demo-pdf', '{attempts}', max => 3) AS third,
	session_incr('demo-pdf', '{attempts}', max => 3) AS none_left;
SELECT session_merge('demo-pdf', '{"last_error": "timeout"}') AS context;
SELECT session_delete('demo-pdf') AS success;
SELECT session_incr('demo-pdf', '{attempts}', max => 3) AS first_again;
