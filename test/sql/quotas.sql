--
-- Quotas: max_sessions_per_owner with evict and refuse.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, max_sessions_per_owner, on_quota) VALUES
	('evict', 3, 'evict'), ('refuse', 2, 'refuse'), ('other', 3, 'evict');
CREATE FUNCTION pg_temp.ids(ns text, owner text = NULL) RETURNS text LANGUAGE sql AS
	$$SELECT string_agg(session_id, ' ' ORDER BY created_at, session_id) FROM session_list(owner => owner, namespace => ns)$$;

-- Evict: the oldest session ends, the new one stays; evicted ids are dead.
SELECT session_save('a' || n, '{}', owner => 'alice', namespace => 'evict') FROM generate_series(1, 5) n;
SELECT pg_temp.ids('evict');
SELECT id, pg_temp.err(format('SELECT session_save(%L, ''{}'', namespace => ''evict'')', id)), session_get(id, 'evict')
FROM unnest(ARRAY['a1', 'a2']) id;
-- The oldest is the one that was created first, whenever it was last saved.
SELECT session_save('a3', '{"busy": true}', namespace => 'evict');
SELECT session_save('a6', '{}', owner => 'alice', namespace => 'evict');
SELECT pg_temp.ids('evict');
-- Saving an existing session evicts none.
SELECT session_save('a4', '{}', owner => 'alice', namespace => 'evict'), session_save('a5', '{}', namespace => 'evict');
SELECT session_touch('a6', namespace => 'evict') IS NOT NULL AS touched, session_merge('a6', '{}', namespace => 'evict'),
	session_incr('a6', '{n}', namespace => 'evict');
SELECT pg_temp.ids('evict');
-- Create is a save.
SELECT length(session_create(owner => 'alice', namespace => 'evict')) > 0 AS created;
SELECT session_count(owner => 'alice', namespace => 'evict');

-- Sessions are counted for each owner and namespace; sessions without an owner have no limit.
SELECT session_save('b' || n, '{}', owner => 'bob', namespace => 'evict') FROM generate_series(1, 3) n;
SELECT session_save('a' || n, '{}', owner => 'alice', namespace => 'other') FROM generate_series(1, 3) n;
SELECT count(session_save('free ' || n, '{}', namespace => 'evict')) FROM generate_series(1, 10) n;
SELECT session_count(owner => 'alice', namespace => 'evict') AS alice, session_count(owner => 'bob', namespace => 'evict') AS bob,
	session_count(id_like => 'free %', namespace => 'evict') AS free, session_count(owner => 'alice', namespace => 'other') AS elsewhere;

-- A session that is given to an owner counts as the newest.
SELECT session_save('free 1', '{}', owner => 'bob', namespace => 'evict');
SELECT pg_temp.ids('evict', 'bob');
SELECT session_save('b3', '{}', owner => 'carol', namespace => 'evict');
SELECT pg_temp.ids('evict', 'bob') AS bob, pg_temp.ids('evict', 'carol') AS carol;

-- A lowered limit applies from the next new session on.
SELECT session_clear('other');
SELECT session_save('c' || n, '{}', owner => 'alice', namespace => 'other') FROM generate_series(1, 3) n;
UPDATE session_namespaces SET max_sessions_per_owner = 1 WHERE name = 'other';
SELECT session_save('c9', '{}', owner => 'alice', namespace => 'other');
SELECT pg_temp.ids('other');

-- Refuse: 53400, and nothing changes.
SELECT session_save('r1', '{}', owner => 'alice', namespace => 'refuse'), session_save('r2', '{}', owner => 'alice', namespace => 'refuse');
SELECT pg_temp.err($$SELECT session_save('r3', '{}', owner => 'alice', namespace => 'refuse')$$) AS save,
	pg_temp.err($$SELECT session_create(owner => 'alice', namespace => 'refuse')$$) AS "create";
SELECT session_save('r3', '{}', owner => 'bob', namespace => 'refuse'), session_save('r4', '{}', namespace => 'refuse');
SELECT pg_temp.err($$SELECT session_save('r3', '{"x": 1}', owner => 'alice', namespace => 'refuse')$$) AS change_of_owner,
	pg_temp.err($$SELECT session_save('r4', '{"x": 1}', owner => 'alice', namespace => 'refuse')$$) AS found_an_owner;
SELECT session_id, owner_id, version FROM session_list(namespace => 'refuse') ORDER BY session_id;
-- Existing sessions can be saved at the limit.
SELECT session_save('r1', '{}', owner => 'alice', namespace => 'refuse'), session_save('r2', '{}', namespace => 'refuse');
-- A deleted session makes room, and so does one that was given to another owner.
SELECT session_delete('r1', 'refuse');
SELECT session_save('r5', '{}', owner => 'alice', namespace => 'refuse');
SELECT session_save('r5', '{}', owner => 'dave', namespace => 'refuse');
SELECT session_save('r6', '{}', owner => 'alice', namespace => 'refuse');
SELECT pg_temp.err($$SELECT session_save('r7', '{}', owner => 'alice', namespace => 'refuse')$$) AS full;
-- Reusing a dead id counts as a new session.
SELECT pg_temp.err($$SELECT session_save('r1', '{}', owner => 'alice', if_version => 0, namespace => 'refuse')$$) AS full;

-- Expired sessions make room, purged or not.
BEGIN;
SELECT session_save('x1', '{}', owner => 'eve', ttl => '30 ms', namespace => 'refuse'),
	session_save('x2', '{}', owner => 'eve', namespace => 'refuse');
SELECT pg_temp.wait_until($$NOT session_exists('x1', 'refuse')$$);
SELECT session_save('x3', '{}', owner => 'eve', namespace => 'refuse');
SELECT pg_temp.err($$SELECT session_save('x1', '{}', owner => 'eve', namespace => 'refuse')$$) AS full;
SELECT pg_temp.ids('refuse', 'eve');
COMMIT;

-- What is rolled back evicts no session and makes no room.
BEGIN;
SELECT session_save('b9', '{}', owner => 'bob', namespace => 'evict'), session_save('b10', '{}', owner => 'bob', namespace => 'evict');
ROLLBACK;
SELECT pg_temp.ids('evict', 'bob');

-- Many sessions in one statement, and at every isolation level.
SELECT count(session_create(owner => 'mass', namespace => 'evict')) FROM generate_series(1, 100);
SELECT session_count(owner => 'mass', namespace => 'evict');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(session_create(owner => 'mass', namespace => 'evict')) FROM generate_series(1, 10);
SELECT session_count(owner => 'mass', namespace => 'evict');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(session_create(owner => 'mass', namespace => 'evict')) FROM generate_series(1, 10);
SELECT session_count(owner => 'mass', namespace => 'evict');
COMMIT;
-- NULL means no limit.
UPDATE session_namespaces SET max_sessions_per_owner = NULL WHERE name = 'evict';
SELECT count(session_create(owner => 'mass', namespace => 'evict')) FROM generate_series(1, 10);
SELECT session_count(owner => 'mass', namespace => 'evict');

-- A limit of 1: the session that is saved stays; a fork, which needs two, is refused, because the source
-- is not evicted for its copy.
INSERT INTO session_namespaces (name, max_sessions_per_owner, on_quota) VALUES ('one', 1, 'evict');
SELECT session_save('first', '{}', owner => 'alice', namespace => 'one'), session_save('second', '{}', owner => 'alice', namespace => 'one');
SELECT pg_temp.ids('one'), pg_temp.says($$SELECT session_save('first', '{}', namespace => 'one')$$) AS evicted;
SELECT pg_temp.says($$SELECT session_fork('second', 'copy', namespace => 'one')$$) AS fork, pg_temp.ids('one');
UPDATE session_namespaces SET max_sessions_per_owner = 2 WHERE name = 'one';
SELECT session_save('third', '{}', owner => 'alice', namespace => 'one'), session_fork('second', 'copy', namespace => 'one'), pg_temp.ids('one');

DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
