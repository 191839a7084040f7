--
-- Flow orchestrator: sessions of a day or a week under agentic_flywheel:session:<id>, results
-- of executions for an hour under agentic_flywheel:execution:<id>, and what a flow has
-- executed in a session under agentic_flywheel:history:<session>:<flow>.
--
-- For psql, in a database that has the extension; once more begins anew.
--
\set ON_ERROR_STOP on

SELECT 'CREATE ROLE flow_orchestrator LOGIN'
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'flow_orchestrator') \gexec
GRANT EXECUTE ON FUNCTION session_save, session_get, session_delete, session_exists, session_ttl, session_list,
	session_append, session_history, session_trim, session_cache_sync
TO flow_orchestrator;

DELETE FROM conversation_sessions WHERE namespace IN ('flows', 'flow_executions', 'flow_history');
DELETE FROM session_namespaces WHERE name IN ('flows', 'flow_executions', 'flow_history');

-- Results are not prolonged by being read. Of a history Redis holds the last 20 messages.
INSERT INTO session_namespaces (name, key_prefix, ttl, sliding, tombstone, tail_prefix, allowed_roles) VALUES
	('flows', 'agentic_flywheel:session:', '1 day', true, '5 minutes', NULL, '{flow_orchestrator}'),
	('flow_executions', 'agentic_flywheel:execution:', '1 hour', false, '0', NULL, '{flow_orchestrator}'),
	('flow_history', 'agentic_flywheel:flow:', '7 days', true, '0', 'agentic_flywheel:history:', '{flow_orchestrator}');
ALTER ROLE flow_orchestrator IN DATABASE :"DBNAME" SET session_store.namespace = 'flows';
-- Who saves and then loads, in Redis, finds what was saved: a change is committed when no copy of
-- the old value is left.
ALTER ROLE flow_orchestrator IN DATABASE :"DBNAME" SET session_store.fence = 'all';

SET session_store.namespace = 'flows';
SET ROLE flow_orchestrator;
SELECT session_save('demo-1', '{"flow": "summary"}') AS for_a_day,
	session_save('demo-2', '{"flow": "summary"}', ttl => '7 days') AS for_a_week;
SELECT session_id, expires_at > clock_timestamp() + interval '2 days' AS long FROM session_list(id_like => 'demo-%');

-- A result is kept, and what was executed written down, in one transaction.
BEGIN;
SELECT session_save('run-1', '{"tokens": 42}', namespace => 'flow_executions') AS result;
SELECT session_append('demo-1:summary', '{"execution": "run-1"}', operation_id => 'run-1', namespace => 'flow_history') AS seq;
COMMIT;
-- Said twice, it is written down once.
SELECT session_append('demo-1:summary', '{"execution": "run-1"}', operation_id => 'run-1', namespace => 'flow_history') AS seq;
SELECT seq, message FROM session_history('demo-1:summary', last => 10, namespace => 'flow_history');
SELECT session_trim('demo-1:summary', keep => 100, namespace => 'flow_history') AS removed;
