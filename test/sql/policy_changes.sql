--
-- Changed policies hold from the next statement on; and session_store.namespace selects the
-- namespace of a call.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
CREATE FUNCTION pg_temp.minutes(id text, ns text = NULL) RETURNS int LANGUAGE sql AS
	$$SELECT round(extract(epoch FROM session_ttl(id, ns)) / 60)::int$$;

-- A change applies within its transaction, and no longer after a ROLLBACK.
INSERT INTO session_namespaces (name, ttl) VALUES ('change', '10 minutes');
SELECT session_save('a', '{}', namespace => 'change');
BEGIN;
UPDATE session_namespaces SET ttl = '20 minutes', max_bytes = 40 WHERE name = 'change';
SELECT session_save('b', '{}', namespace => 'change');
SELECT pg_temp.minutes('a', 'change') AS a, pg_temp.minutes('b', 'change') AS b,
	pg_temp.err($$SELECT session_save('c', '{"a": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}', namespace => 'change')$$) AS large;
SAVEPOINT s;
UPDATE session_namespaces SET ttl = '30 minutes', max_bytes = 4000 WHERE name = 'change';
SELECT session_save('c', '{"a": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}', namespace => 'change');
SELECT pg_temp.minutes('c', 'change') AS c;
ROLLBACK TO s;
SELECT session_save('d', '{}', namespace => 'change');
SELECT pg_temp.minutes('d', 'change') AS d,
	pg_temp.err($$SELECT session_save('e', '{"a": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}', namespace => 'change')$$) AS large;
ROLLBACK;
SELECT session_save('b', '{"a": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}', namespace => 'change');
SELECT pg_temp.minutes('b', 'change') AS b;

-- A namespace that is created and deleted.
BEGIN;
INSERT INTO session_namespaces (name) VALUES ('new');
SELECT session_save('a', '{}', namespace => 'new');
SAVEPOINT s;
DELETE FROM session_namespaces WHERE name = 'new';
SELECT pg_temp.err($$SELECT session_get('a', 'new')$$) AS deleted;
ROLLBACK TO s;
SELECT session_get('a', 'new');
ROLLBACK;
SELECT pg_temp.err($$SELECT session_get('a', 'new')$$) AS never_was;
-- Without the namespace its sessions cannot be reached; when it is created again, they can.
INSERT INTO session_namespaces (name) VALUES ('new');
SELECT session_save('a', '{}', namespace => 'new');
DELETE FROM session_namespaces WHERE name = 'new';
SELECT pg_temp.err($$SELECT session_get('a', 'new')$$) AS get, pg_temp.err($$SELECT session_save('a', '{}', namespace => 'new')$$) AS save;
INSERT INTO session_namespaces (name) VALUES ('new');
SELECT session_get('a', 'new');
TRUNCATE session_namespaces;
SELECT pg_temp.err($$SELECT session_get('a', 'new')$$) AS truncated;

-- Prepared statements use the new policy.
INSERT INTO session_namespaces (name, ttl) VALUES ('change', '10 minutes');
PREPARE save(text) AS SELECT session_save($1, '{}', namespace => 'change');
PREPARE ttl(text) AS SELECT pg_temp.minutes($1, 'change') AS minutes;
EXECUTE save('p1');
EXECUTE ttl('p1');
UPDATE session_namespaces SET ttl = '40 minutes' WHERE name = 'change';
EXECUTE save('p2');
EXECUTE ttl('p2');
DELETE FROM session_namespaces;
\set VERBOSITY sqlstate
EXECUTE save('p3');
\set VERBOSITY default
INSERT INTO session_namespaces (name, ttl) VALUES ('change', '50 minutes'), ('mine', '5 minutes'), ('n8n', '6 minutes');
EXECUTE save('p3');
EXECUTE ttl('p3');

-- The setting applies where the argument namespace is NULL or left out.
SET session_store.namespace = 'mine';
SELECT session_save('a', '"mine"'), session_save('a', '"change"', namespace => 'change');
SELECT session_get('a'), session_get('a', 'change'), session_get('a', 'mine'), session_get('a', 'default');
SELECT namespace FROM session_fetch('a');
SELECT session_count() AS count, (SELECT count(*) FROM session_list()) AS list, pg_temp.minutes('a');
SELECT session_delete_all('nobody'), session_regenerate('nothing'), session_incr('n', '{x}'), session_merge('n', '{}'),
	session_delete('n'), length(session_create()) > 0;
SELECT DISTINCT namespace, session_id ~ '.{43}' AS created FROM conversation_sessions WHERE namespace = 'mine' ORDER BY 2;
BEGIN;
SET LOCAL session_store.namespace = 'change';
SELECT session_get('a');
ROLLBACK;
SELECT session_get('a');
CREATE FUNCTION pg_temp.in_change() RETURNS jsonb LANGUAGE sql SET session_store.namespace = 'change' AS $$SELECT session_get('a')$$;
SELECT pg_temp.in_change() AS inside, session_get('a') AS outside;
SELECT set_config('session_store.namespace', 'change', false) AS setting;
SELECT session_get('a');
RESET session_store.namespace;
SELECT session_get('a') IS NULL AS default_again;
-- A namespace that does not exist is an error when it is used, not when it is set.
SET session_store.namespace = 'nowhere';
SELECT pg_temp.err($$SELECT session_get('a')$$) AS nowhere, session_get('a', 'mine') AS named;
RESET session_store.namespace;

-- A role can have its own setting, which applies when it connects.
SELECT current_database() AS db, current_user AS me \gset
CREATE ROLE regress_ss_n8n LOGIN;
ALTER ROLE regress_ss_n8n SET session_store.namespace = 'n8n';
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO regress_ss_n8n;
SELECT session_save('whose', '"default"'), session_save('whose', '"n8n"', namespace => 'n8n');
\c - regress_ss_n8n
SHOW session_store.namespace;
SELECT session_get('whose'), session_get('whose', 'default') AS named;
SELECT session_save('by role', '{}');
SHOW session_store.namespace;
SELECT namespace FROM session_fetch('by role');
SET session_store.namespace = 'default';
SELECT session_get('whose');
RESET session_store.namespace;
SELECT session_get('whose');
\c - :me
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM regress_ss_n8n;
DROP ROLE regress_ss_n8n;

-- Unknown settings with our prefix are refused once the library is loaded.
\set VERBOSITY sqlstate
SELECT session_exists('a');
SET session_store.nonsense = 1;
\set VERBOSITY default

DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
