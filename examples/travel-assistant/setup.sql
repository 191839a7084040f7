--
-- Travel assistant: conversations of 3600 seconds under travel:{id}, which only a set or
-- refreshTTL prolongs.
--
-- For psql, in a database that has the extension; once more begins anew.
--
\set ON_ERROR_STOP on

SELECT 'CREATE ROLE travel_assistant LOGIN'
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'travel_assistant') \gexec
GRANT EXECUTE ON FUNCTION session_save, session_get, session_touch, session_delete, session_exists,
	session_ttl, session_cache_sync
TO travel_assistant;

DELETE FROM conversation_sessions WHERE namespace = 'travel';
DELETE FROM session_namespaces WHERE name = 'travel';

-- A conversation that was deleted may be set again at once: the old store allowed it.
INSERT INTO session_namespaces (name, key_prefix, ttl, sliding, cache, tombstone, allowed_roles)
	VALUES ('travel', 'travel:', '3600 seconds', false, 'all', '0', '{travel_assistant}');
ALTER ROLE travel_assistant IN DATABASE :"DBNAME" SET session_store.namespace = 'travel';

-- A get after a set finds what was set, in Redis too: every change is committed when no copy of
-- the old value counts any more.
ALTER ROLE travel_assistant IN DATABASE :"DBNAME" SET session_store.fence = 'all';

SET session_store.namespace = 'travel';
SET ROLE travel_assistant;
SELECT session_save('demo', '{"city": "Lyon"}') AS set;
SELECT session_get('demo') AS get, session_get('nothing') AS miss;
SELECT session_touch('demo') > clock_timestamp() + interval '59 minutes' AS refresh_ttl;
SELECT session_save('short', '{"city": "Nice"}', ttl => '600 seconds') AS with_a_ttl_of_its_own;
SELECT session_ttl('short') AS left;
SELECT session_delete('demo') AS delete, session_delete('demo') AS delete_again;
