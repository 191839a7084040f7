--
-- session_share(), session_unshare(), session_members(). (Rights of the roles with owner
-- isolation: shared_isolation.)
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, sliding, ttl, tombstone) VALUES ('members', false, '2 hours', '5 minutes'), ('other', false, '1 hour', '0');
SET session_store.namespace = 'members';
CREATE FUNCTION pg_temp.members(id text, namespace text = NULL) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN (SELECT string_agg(m.member || ':' || m.role, ' ' ORDER BY m.ordinality) FROM session_members(id, namespace) WITH ORDINALITY m);
END
$$;

-- A member is a viewer unless another role is given.
SELECT session_save('s', '{}', owner => 'alice');
SELECT session_share('s', 'bob'), session_share('s', 'carol', 'editor'), session_share('s', 'dave', 'owner'), session_share('s', 'eve', role => 'viewer');
SELECT member, role, created_at BETWEEN clock_timestamp() - interval '1 minute' AND clock_timestamp() AS by_the_clock FROM session_members('s');
-- Sharing again changes the role of the member.
SELECT session_share('s', 'bob', 'editor'), session_share('s', 'dave', 'viewer'), session_share('s', 'eve', 'viewer');
SELECT pg_temp.members('s');
-- Unshare returns whether there was such a member.
SELECT session_unshare('s', 'carol') AS first, session_unshare('s', 'carol') AS second, session_unshare('s', 'nobody') AS never;
SELECT pg_temp.members('s');
-- Members are listed by the time of the share, then by name.
BEGIN;
SELECT session_save('order', '{}');
SELECT session_share('order', 'zoe'), pg_temp.wait_until($$clock_timestamp() > (SELECT max(created_at) FROM session_members('order')) + interval '1 ms'$$), session_share('order', 'adam');
SELECT pg_temp.members('order');
UPDATE session_members SET created_at = '2020-01-01 00:00+00' WHERE member IN ('zoe', 'adam');
SELECT pg_temp.members('order') AS at_the_same_time;
COMMIT;

-- Neither counts as a change of the document, and neither needs messages.
SELECT version, message_count, session_data FROM session_fetch('s');
-- The owner can be a member, too, and so can any name of 1 to 200 bytes.
SELECT session_share('s', 'alice', 'viewer'), session_share('s', repeat('x', 200)), session_share('s', U&'\00e4\+01f600 "x"');
SELECT count(*), max(octet_length(member)) FROM session_members('s');

-- Without a session there are no members: absent, expired, dead, or in another namespace.
BEGIN;
SELECT session_save('e', '1', ttl => '30 ms'), session_share('e', 'bob');
SELECT session_save('dead', '1'), session_share('dead', 'bob');
SELECT pg_temp.wait_until($$NOT session_exists('e')$$), session_delete('dead');
SELECT id, session_share(id, 'bob') AS share, session_unshare(id, 'bob') AS unshare, pg_temp.members(id) AS members FROM unnest(ARRAY['absent', 'e', 'dead']) id;
SELECT session_share('s', 'bob', namespace => 'other') AS elsewhere, pg_temp.members('s', 'other');
SELECT session_exists('absent') AS made;
-- The members of a session end with it: a new session under its id has none.
SELECT session_save('e', '2') > 1 AS new_session, session_save('dead', '2', if_version => 0) > 1 AS dead_reused;
SELECT pg_temp.members('e') AS e, pg_temp.members('dead') AS dead, session_share('e', 'carol'), session_share('dead', 'carol');
SELECT pg_temp.members('e') AS e, pg_temp.members('dead') AS dead;
COMMIT;
SELECT session_save('re', '1', namespace => 'other'), session_share('re', 'bob', namespace => 'other'), session_delete('re', 'other'), session_append('re', '{}', namespace => 'other');
SELECT pg_temp.members('re', 'other') AS reused_at_once;
SELECT session_save('plain', '1'), session_share('plain', 'bob');
DELETE FROM conversation_sessions WHERE session_id = 'plain';
SELECT session_save('plain', '2'), pg_temp.members('plain') AS after_plain_delete;

-- A regenerated session keeps its members.
SELECT pg_temp.members('order') AS before, session_regenerate('order') AS new \gset
SELECT pg_temp.members(:'new') = :'before' AS kept, pg_temp.members('order') AS of_the_old_id;

-- Bad input: each kind has its own error, and nothing changes.
SELECT session_save('b', '{}'), session_share('b', 'bob', 'editor');
SELECT call, pg_temp.says('SELECT ' || call)
FROM (VALUES
	(1, $$session_share('b', NULL)$$), (2, $$session_share('b', '')$$), (3, $$session_share('b', repeat('x', 201))$$), (4, $$session_share('b', E'a\tb')$$), (5, $$session_share('absent', '')$$),
	(6, $$session_share('b', 'bob', 'admin')$$), (7, $$session_share('b', 'bob', '')$$), (8, $$session_share('b', 'bob', 'Viewer')$$), (9, $$session_share('b', 'bob', NULL)$$), (10, $$session_share('absent', 'bob', 'admin')$$),
	(11, $$session_share(NULL, 'bob')$$), (12, $$session_share('', 'bob')$$), (13, $$session_share('b', 'bob', namespace => 'no such')$$),
	(20, $$session_unshare('b', NULL)$$), (21, $$session_unshare('b', '')$$), (22, $$session_unshare('b', repeat('x', 201))$$), (23, $$session_unshare(NULL, 'bob')$$), (24, $$session_unshare('', 'bob')$$), (25, $$session_unshare('b', 'bob', 'no such')$$),
	(30, $$session_members(NULL)$$), (31, $$session_members('')$$), (32, $$session_members('b', 'no such')$$)) c(n, call)
ORDER BY n;
SELECT pg_temp.members('b');

-- A rollback undoes shares and unshares.
BEGIN;
SELECT session_share('b', 'carol'), session_share('b', 'bob', 'owner');
SAVEPOINT a;
SELECT session_unshare('b', 'bob');
SELECT pg_temp.members('b');
ROLLBACK TO a;
SELECT pg_temp.members('b');
ROLLBACK;
SELECT pg_temp.members('b');
BEGIN READ ONLY;
SELECT pg_temp.err($$SELECT session_share('b', 'carol')$$) AS share, pg_temp.err($$SELECT session_unshare('b', 'bob')$$) AS unshare, pg_temp.members('b');
COMMIT;

-- The owner of the tables may use plain SQL: the role must be one of the three, and the member a valid
-- name.
UPDATE session_members SET role = 'owner' WHERE member = 'bob' AND history_id = (SELECT history_id FROM conversation_sessions WHERE session_id = 'b');
SELECT pg_temp.members('b');
SELECT pg_temp.refused($$UPDATE session_members SET role = 'admin' WHERE member = 'bob'$$) AS role, pg_temp.refused($$UPDATE session_members SET member = '' WHERE role = 'owner'$$) AS empty,
	pg_temp.refused($$UPDATE session_members SET member = NULL WHERE role = 'owner'$$) AS nobody;
DELETE FROM session_members WHERE member = 'bob';
SELECT pg_temp.members('b'), session_unshare('b', 'bob') AS none_to_unshare, session_share('b', 'bob') AS share;

-- No member is left behind: the purge, or the keeper by itself, removes those of ended sessions.
DELETE FROM conversation_sessions;
SELECT pg_temp.wait_until($$session_purge() >= 0 AND NOT EXISTS (SELECT FROM session_members)$$) AS none_left;
SELECT pg_temp.wait_until($$session_purge() >= 0 AND NOT EXISTS (SELECT FROM conversation_history_ended)$$) AS nothing_left;
DELETE FROM session_namespaces;
