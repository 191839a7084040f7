--
-- Tombstones: a deleted id cannot be reused for a while.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers

-- A late save, merge or increment is an error, never a silent loss; touch and reads find no session.
SELECT session_save('t', '{"secret": 1}', owner => 'alice');
SELECT session_delete('t') AS first, session_delete('t') AS second;
SELECT call, pg_temp.err('SELECT ' || call)
FROM (VALUES
	($$session_save('t', '{}')$$),
	($$session_save('t', '{}', if_version => 1)$$),
	($$session_save('t', '{}', if_version => -1)$$),
	($$session_save('t', '{}', owner => 'mallory', ttl => '1 day')$$),
	($$session_merge('t', '{}')$$),
	($$session_merge('t', '{}', if_version => -1)$$),
	($$session_incr('t', '{n}')$$),
	($$session_incr('t', '{n}', max => 0)$$)) c(call);
SELECT session_get('t') AS get, (SELECT count(*) FROM session_fetch('t')) AS fetch, session_exists('t') AS exists,
	session_ttl('t') AS ttl, session_touch('t') AS touch, session_touch('t', ttl => '1 day') AS touch_ttl,
	session_regenerate('t') AS regenerate, session_delete('t') AS delete;
SELECT session_count() AS counted, session_count(owner => 'alice') AS owned, (SELECT count(*) FROM session_list()) AS listed,
	session_delete_all('alice') AS deleted_all, session_clear('default') AS cleared;

-- The tombstone is the row of the session, emptied and expired.
SELECT session_data::text ~ 'secret' AS keeps_the_data, expires_at <= clock_timestamp() AS expired,
	dead_until BETWEEN clock_timestamp() + interval '4 minutes' AND clock_timestamp() + interval '5 minutes' AS five_minutes
FROM conversation_sessions WHERE session_id = 't';
-- No change revives it, and a purge does not remove it early.
SELECT session_purge() >= 0 AS purged;
SELECT pg_temp.err($$SELECT session_save('t', '{}')$$);

-- if_version => 0 explicitly reuses the id, for save and for merge: a new session.
SELECT session_save('t', '{"new": 1}', if_version => 0) > 1 AS version_goes_on;
SELECT session_data, owner_id, message_count FROM session_fetch('t');
SELECT session_save('t', '{"new": 2}') IS NOT NULL AS usable, session_delete('t') AS deleted;
SELECT session_merge('t', '{"newer": 1}', if_version => 0);
SELECT dead_until FROM conversation_sessions WHERE session_id = 't';

-- Deleting an absent id leaves no tombstone.
SELECT session_delete('never') AS deleted;
SELECT session_save('never', '{}');

-- Delete_all and clear leave tombstones too.
SELECT session_save('a1', '{}', owner => 'carol'), session_save('a2', '{}', owner => 'carol');
SELECT session_delete_all('carol');
SELECT pg_temp.err($$SELECT session_save('a1', '{}')$$), pg_temp.err($$SELECT session_save('a2', '{}')$$);
SELECT session_clear('default', 'nev%');
SELECT pg_temp.err($$SELECT session_save('never', '{}')$$);

-- A namespace without tombstones is for ids that are names and reused: at once.
INSERT INTO session_namespaces (name, tombstone) VALUES ('retry', '0'), ('brief', '50 ms'), ('long', '10 days');
SELECT session_save('r', '1', namespace => 'retry', owner => 'alice');
SELECT session_delete('r', 'retry') AS first, session_delete('r', 'retry') AS second;
SELECT session_exists('r', 'retry') AS exists, session_get('r', 'retry') AS get;
SELECT session_incr('r', '{n}', namespace => 'retry');
SELECT session_data, owner_id FROM session_fetch('r', 'retry');
SELECT session_delete('r', 'retry');
SELECT session_save('r', '2', namespace => 'retry') IS NOT NULL AS saved, session_delete('r', 'retry') AS deleted;
SELECT session_merge('r', '{}', namespace => 'retry');
SELECT session_clear('retry'), pg_temp.err($$SELECT session_save('r', '3', namespace => 'retry')$$);

-- A short tombstone runs out; the version has increased (in one transaction, so that the row is not purged
-- meanwhile).
BEGIN;
SELECT session_save('b', '1', namespace => 'brief');
SELECT session_delete('b', 'brief');
SELECT pg_temp.wait_until($$pg_temp.err('SELECT session_save(''b'', ''2'', namespace => ''brief'')') = 'ok'$$) AS passes;
SELECT session_data, version > 1 AS version_goes_on FROM session_fetch('b', 'brief');
COMMIT;
-- A long one lasts as long as the namespace says.
SELECT session_save('l', '1', namespace => 'long'), session_delete('l', 'long');
SELECT session_delete('l', 'long');
SELECT dead_until > clock_timestamp() + interval '239 hours' AS ten_days
FROM conversation_sessions WHERE namespace = 'long' AND dead_until IS NOT NULL;

-- An expired session leaves no dead id: it can be used at once, and deleting it returns false.
BEGIN;
SELECT session_save('e', '1', ttl => '30 ms');
SELECT pg_temp.wait_until($$NOT session_exists('e')$$);
SELECT session_delete('e') AS deleted;
SELECT session_save('e', '2');
COMMIT;

-- A plain DELETE leaves no tombstone, and removes one.
SELECT session_save('plain', '{}');
DELETE FROM conversation_sessions WHERE session_id = 'plain';
SELECT session_save('plain', '{}');
SELECT session_delete('plain'), pg_temp.err($$SELECT session_save('plain', '{}')$$);
DELETE FROM conversation_sessions WHERE session_id = 'plain';
SELECT session_save('plain', '{}');

-- After a rollback the session is alive.
BEGIN;
SELECT session_delete('plain');
SELECT session_exists('plain');
ROLLBACK;
SELECT session_exists('plain'), session_save('plain', '{}');

-- Every way to end a session makes the same tombstone, with owner isolation and without.
INSERT INTO session_namespaces (name, cache, owner_isolation, max_sessions_per_owner, on_quota) VALUES
	('kept', 'off', true, 1, 'evict'), ('bare', 'off', false, 1, 'evict');
SELECT count(session_save(id, '{"a": 1}', owner => id, namespace => n)), count(session_append(id, '{"m": 1}', namespace => n))
FROM unnest(ARRAY['kept', 'bare']) n, unnest(ARRAY['delete', 'regenerate', 'delete_all', 'evict', 'sql']) id;
SELECT session_delete('delete', n), session_regenerate('regenerate', n) IS NOT NULL, session_delete_all('delete_all', namespace => n)
FROM unnest(ARRAY['kept', 'bare']) n;
SELECT session_save('another', '{}', owner => 'evict', namespace => n) FROM unnest(ARRAY['kept', 'bare']) n;
UPDATE conversation_sessions SET dead_until = now() + interval '5 min' WHERE session_id = 'sql' AND namespace IN ('kept', 'bare');
SELECT namespace, count(*) AS rows, session_data, owner_id = session_id AS owned, version, message_count, last_seq, history_id,
	expires_at <= clock_timestamp() AS expired, updated_at BETWEEN created_at AND clock_timestamp() AS just_updated,
	check_at <= dead_until AS is_checked, dead_until > expires_at AS dead
FROM conversation_sessions WHERE namespace IN ('kept', 'bare') AND dead_until IS NOT NULL
GROUP BY 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 ORDER BY 1;
SELECT count(session_clear(n)) FROM unnest(ARRAY['kept', 'bare']) n;
SELECT namespace, count(*) AS rows, session_data, owner_id IS NULL AS unowned, message_count, history_id, dead_until > expires_at AS dead
FROM conversation_sessions WHERE namespace IN ('kept', 'bare') GROUP BY 1, 3, 4, 5, 6, 7 ORDER BY 1;

DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
