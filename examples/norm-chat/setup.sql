--
-- Norm-matching chat: conversations under chat:session:{uuid}, for 1 hour while they are
-- active and 24 hours once complete; and what its dashboard shows.
--
-- For psql, in a database that has the extension; once more begins anew.
--
\set ON_ERROR_STOP on

SELECT 'CREATE ROLE norm_chat LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'norm_chat') \gexec
GRANT EXECUTE ON FUNCTION session_create, session_save, session_get, session_merge, session_delete, session_ttl,
	session_touch, session_count, session_append, session_history, session_purge, session_cache_sync
TO norm_chat;
-- session_health(), session_metrics() and session_stats: numbers, never a session
GRANT pg_monitor TO norm_chat;

DELETE FROM conversation_sessions WHERE namespace = 'norm_chat';
DELETE FROM session_namespaces WHERE name = 'norm_chat';
INSERT INTO session_namespaces (name, key_prefix, ttl, max_bytes, allowed_roles)
	VALUES ('norm_chat', 'chat:session:', '1 hour', 2000000, '{norm_chat}');
ALTER ROLE norm_chat IN DATABASE :"DBNAME" SET session_store.namespace = 'norm_chat';

SET session_store.namespace = 'norm_chat';
SET ROLE norm_chat;
-- An hour from the last request, as long as it is active ..
SELECT session_save('demo', '{"query": "fire doors", "state": "active"}') AS version;
SELECT session_append('demo', '{"norm": "EN 1634-1", "score": 0.91}') AS last_seq;
-- .. and a day once it is complete: the session remembers its own ttl.
SELECT session_save('demo', session_get('demo') || '{"state": "complete"}', ttl => '24 hours') AS version;
SELECT session_ttl('demo') AS left;
SELECT seq, message FROM session_history('demo');

-- What has expired is removed by itself; a cron job may do it as well.
SELECT session_purge() >= 0 AS purged;
SELECT session_count() AS active;
SELECT sessions, avg_bytes, over_1mb, age FROM session_stats WHERE namespace = 'norm_chat';
SELECT session_health() #> '{cache,redis_memory_bytes}' AS redis_memory, session_health() -> 'warnings' AS warnings;
SELECT line FROM regexp_split_to_table(session_metrics(), '\n') line WHERE line ~ '^session_store_(creations|errors)';
