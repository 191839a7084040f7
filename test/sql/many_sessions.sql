--
-- Functions about many sessions: session_delete_all(), session_clear(), session_count(),
-- session_purge().
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name) VALUES ('bulk'), ('elsewhere');

-- Log out everywhere: the owner's sessions of this namespace, and no others.
SELECT session_save('a' || n, '{}', owner => 'alice', namespace => 'bulk') AS version FROM generate_series(1, 5) n;
SELECT session_save('b1', '{}', owner => 'bob', namespace => 'bulk'), session_save('free', '{}', namespace => 'bulk'),
	session_save('e1', '{}', owner => 'alice', namespace => 'elsewhere');
SELECT session_count(owner => 'alice', namespace => 'bulk') AS alice, session_count(owner => 'bob', namespace => 'bulk') AS bob,
	session_count(owner => 'nobody', namespace => 'bulk') AS nobody, session_count(namespace => 'bulk') AS everybody,
	session_count(namespace => 'elsewhere') AS elsewhere, session_count() AS here;
-- .. except, if given, one of them.
SELECT session_delete_all('alice', except_session_id => 'a3', namespace => 'bulk');
SELECT session_id FROM session_list(namespace => 'bulk') ORDER BY session_id;
SELECT pg_temp.err($$SELECT session_save('a1', '{}', namespace => 'bulk')$$) AS dead,
	pg_temp.err($$SELECT session_save('a3', '{}', namespace => 'bulk')$$) AS alive;
-- An except_session_id of another owner, or of no session, has no effect.
SELECT session_delete_all('bob', except_session_id => 'a3', namespace => 'bulk') AS bob,
	session_delete_all('nobody', except_session_id => 'x', namespace => 'bulk') AS nobody;
SELECT session_delete_all('alice', namespace => 'bulk') AS first, session_delete_all('alice', namespace => 'bulk') AS second;
SELECT session_count(namespace => 'bulk') AS bulk, session_count(namespace => 'elsewhere') AS elsewhere;
-- Owners are compared bytewise.
SELECT session_save('c', '{}', owner => 'Alice', namespace => 'bulk'), session_save('d', '{}', owner => 'alice ', namespace => 'bulk');
SELECT session_delete_all('alice', namespace => 'bulk');

-- Count by a pattern of ids, as for LIKE.
SELECT session_clear('bulk');
SELECT count(session_save(id, '{}', namespace => 'bulk', owner => CASE WHEN id ~ 'x' THEN 'x' END))
FROM unnest(ARRAY['ax_1', 'ax12', 'bx_1', 'c%', 'cc', 'A', '\']) id;
SELECT p, session_count(id_like => p, namespace => 'bulk') AS counted
FROM unnest(ARRAY['%', 'ax%', 'ax\_%', 'ax__', '_', 'a%', 'A%', 'c\%', '\\', '%1%', 'ax12', '', 'nothing%']) p;
SELECT session_count(owner => 'x', id_like => 'a%', namespace => 'bulk') AS both;

-- Clear by a pattern, then all; the ids are dead, and other namespaces unchanged.
SELECT session_clear('bulk', 'ax%') AS some;
SELECT session_clear('bulk', 'nothing%') AS none;
SELECT pg_temp.err($$SELECT session_save('ax12', '{}', namespace => 'bulk')$$) AS dead;
SELECT session_count(namespace => 'bulk') AS left_over;
SELECT session_clear('bulk') AS all, session_clear('bulk') AS again;
SELECT session_count(namespace => 'bulk') AS bulk, session_count(namespace => 'elsewhere') AS elsewhere;

-- Expired and dead sessions are not counted and not deleted.
BEGIN;
SELECT session_save('gone', '{}', owner => 'carol', ttl => '30 ms', namespace => 'bulk'),
	session_save('alive', '{}', owner => 'carol', namespace => 'bulk'),
	session_save('dead', '{}', owner => 'carol', namespace => 'bulk');
SELECT session_delete('dead', 'bulk');
SELECT pg_temp.wait_until($$NOT session_exists('gone', 'bulk')$$);
SELECT session_count(owner => 'carol', namespace => 'bulk') AS count, session_count(namespace => 'bulk') AS count_all,
	session_delete_all('carol', namespace => 'bulk') AS delete_all;
COMMIT;

-- Thousands in one call.
SELECT count(session_save('m' || n, '{}', owner => 'many', namespace => 'bulk')) FROM generate_series(1, 3000) n;
SELECT session_delete_all('many', except_session_id => 'm17', namespace => 'bulk') AS delete_all, session_count(owner => 'many', namespace => 'bulk') AS snapshot;
SELECT session_count(owner => 'many', namespace => 'bulk') AS left_over;

-- A purge removes at most max_rows rows and returns their number (in one transaction, so that nothing else
-- purges the rows).
DELETE FROM conversation_sessions;
BEGIN;
SELECT count(session_save('p' || n, '{}', ttl => '30 ms', namespace => 'bulk')) FROM generate_series(1, 50) n;
SELECT session_save('stays', '{}', namespace => 'bulk');
SELECT pg_temp.wait_until($$session_count(id_like => 'p%', namespace => 'bulk') = 0$$);
SELECT session_purge(0, 'bulk') AS none, session_purge(namespace => 'elsewhere') AS elsewhere;
SELECT session_purge(20, 'bulk') AS twenty, session_purge(20, 'bulk') AS twenty_more;
SELECT session_purge(namespace => 'bulk') AS rest, session_purge(namespace => 'bulk') AS nothing;
SELECT count(*) AS rows, session_exists('stays', 'bulk') FROM conversation_sessions WHERE session_id LIKE 'p%' AND namespace = 'bulk';
COMMIT;

DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
