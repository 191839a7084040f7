--
-- Chat application: sessions of 30 minutes without a request under session:{id}, their
-- history and audit log; and conversations that are shared, under another policy.
--
-- For psql, in a database that has the extension; once more begins anew.
--
\set ON_ERROR_STOP on

SELECT 'CREATE ROLE chat_app LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'chat_app') \gexec
GRANT EXECUTE ON FUNCTION session_create, session_save, session_get, session_merge, session_delete,
	session_delete_all, session_regenerate, session_ttl, session_list, session_append, session_history,
	session_absorb, session_share, session_unshare, session_members, session_cache_sync
TO chat_app;
GRANT SELECT ON session_events TO chat_app;

-- The application owns the default namespace, whose prefix is session: already. What another
-- application might have in it is left alone.
DELETE FROM conversation_sessions WHERE namespace = 'shared' OR (namespace = 'default' AND owner_id IN ('ada', 'grace'));
DELETE FROM session_events WHERE namespace IN ('default', 'shared');
DELETE FROM session_namespaces WHERE name IN ('default', 'shared');

INSERT INTO session_namespaces (name, key_prefix, ttl, audit, events_keep) VALUES
	('default', 'session:', '30 minutes', true, '90 days');

-- With owner isolation a caller sees its own sessions and those that were shared with it. In
-- Redis there is no such border, so ids are hashed there.
INSERT INTO session_namespaces (name, key_prefix, ttl, owner_isolation, hash_keys, allowed_roles) VALUES
	('shared', 'shared:', '30 days', true, true, '{chat_app}');

-- A session, its messages, and what is known of it.
SET ROLE chat_app;
SELECT session_create('{"user": "ada"}', owner => 'ada') AS session \gset
SELECT session_append(:'session', '[{"role": "user", "text": "Hello"}, {"role": "assistant", "text": "Hello Ada"}]') AS last_seq;
SELECT seq, message ->> 'text' AS text FROM session_history(:'session', last => 20);
SELECT message_count, updated_at >= created_at AS in_order FROM session_list(owner => 'ada');

-- What a guest did before the login becomes Ada's; the guest's session ends.
SELECT session_create('{"cart": ["tea"]}') AS guest \gset
SELECT session_absorb(:'session', :'guest') AS messages_moved;
SELECT session_get(:'session') AS session, session_get(:'guest') AS guest;

-- Who is signed in comes with each request.
SET session_store.namespace = 'shared';
SET request.jwt.claims = '{"sub": "ada"}';
SELECT session_create('{"topic": "tea"}', owner => 'ada') AS shared \gset
SELECT session_share(:'shared', 'grace', 'viewer') AS shared;
SELECT member, role FROM session_members(:'shared');
SET request.jwt.claims = '{"sub": "grace"}';
SELECT session_get(:'shared') AS what_grace_sees;
RESET request.jwt.claims;
RESET session_store.namespace;

-- Log out everywhere else, then here.
SELECT session_delete_all('ada', except_session_id => :'session') AS elsewhere;
SELECT session_delete(:'session') AS here;
SELECT event, count(*) FROM session_events GROUP BY event ORDER BY event;
