--
-- Fixed expiry: a session that a call gives an expires_at ends then, however it is used and changed,
-- until a call gives it a ttl or another expires_at.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers

INSERT INTO session_namespaces (name, ttl, sliding, max_lifetime) VALUES
	('fixed', '1 hour', true, NULL), ('capped', '1 hour', true, '2 hours'), ('kept', NULL, true, NULL),
	('kept_capped', NULL, true, '2 hours');
SET session_store.namespace = 'fixed';
SELECT date_trunc('milliseconds', clock_timestamp()) + interval '10 minutes' AS t10,
	date_trunc('milliseconds', clock_timestamp()) + interval '20 minutes' AS t20,
	date_trunc('milliseconds', clock_timestamp()) + interval '3 hours' AS t180 \gset
CREATE FUNCTION pg_temp.ends(id text, ns text = 'fixed') RETURNS timestamptz LANGUAGE sql AS
	$$SELECT expires_at FROM session_fetch(id, ns)$$;
CREATE FUNCTION pg_temp.about(a interval, b interval) RETURNS boolean
	RETURN a > b - interval '1 minute' AND a <= b;

-- Create, save and touch set it; reads and other changes keep it.
SELECT session_create('{}', expires_at => :'t10') AS id \gset
SELECT pg_temp.ends(:'id') = :'t10' AS created;
SELECT session_save('s', '{"n": 1}', expires_at => :'t10') AS version;
SELECT session_get('s'), pg_temp.ends('s') = :'t10' AS got;
SELECT session_touch('s') = :'t10' AS touched, session_save('s', '{}') AS version, session_merge('s', '{"a": 1}') AS merged,
	session_incr('s', '{n}') AS incremented, session_append('s', '{"m": 1}') AS appended;
SELECT pg_temp.ends('s') = :'t10' AS kept, ttl IS NULL AS no_ttl FROM conversation_sessions WHERE session_id = 's' AND namespace = 'fixed';
-- The same expiry again, another one, and a ttl, with which the session slides again.
SELECT session_touch('s', expires_at => :'t10') = :'t10' AS same, session_touch('s', expires_at => :'t20') = :'t20' AS later;
SELECT session_save('s', '{}', expires_at => :'t10') AS version;
SELECT pg_temp.ends('s') = :'t10' AS earlier;
SELECT session_touch('s', ttl => '2 hours') > :'t20' AS by_ttl;
SELECT pg_temp.about(session_ttl('s'), '2 hours') AS slides, ttl FROM conversation_sessions WHERE session_id = 's' AND namespace = 'fixed';
SELECT session_save('s', '{}', expires_at => :'t10') AS version;
SELECT session_save('s', '{}', ttl => '30 minutes') AS version;
SELECT pg_temp.about(session_ttl('s'), '30 minutes') AS by_ttl;
-- A regenerated session, a fork, and the target of an absorb have it too.
SELECT session_save('r', '{}', expires_at => :'t10') AS version;
SELECT session_regenerate('r') AS id \gset
SELECT pg_temp.ends(:'id') = :'t10' AS regenerated;
SELECT session_save('f', '{}', expires_at => :'t20') AS version, session_fork('f', 'g');
SELECT session_get('g'), pg_temp.ends('g') = :'t20' AS forked;
SELECT session_save('h', '{}', ttl => '1 hour'), session_append('h', '{"m": 2}'), session_absorb('f', 'h') AS moved;
SELECT pg_temp.ends('f') = :'t20' AS absorbed;
-- A rolled-back change gives none.
BEGIN;
SELECT session_touch('f', expires_at => :'t10') = :'t10' AS touched;
SAVEPOINT a;
SELECT session_save('f', '{}', expires_at => :'t180') AS version;
ROLLBACK TO a;
SELECT pg_temp.ends('f') = :'t10' AS savepoint;
ROLLBACK;
SELECT pg_temp.ends('f') = :'t20' AS rolled_back;

-- A pending touch from before does not extend it, not even if the fixed expiry is the present one of the
-- row.
SELECT session_save('noted', '{}', ttl => '1 hour') AS version;
UPDATE conversation_sessions SET expires_at = :'t10' WHERE session_id = 'noted';
SELECT session_get('noted');
SELECT session_ttl('noted') > '50 minutes' OR current_setting('shared_preload_libraries') !~ 'session_store' AS slid;
SELECT session_touch('noted', expires_at => :'t10') = :'t10' AS given;
SELECT session_get('noted');
SELECT pg_temp.ends('noted') = :'t10' AS holds;

-- max_lifetime still limits it; a time that is too far in the future becomes the latest possible one.
SELECT session_save('c', '{}', expires_at => :'t180', namespace => 'capped') AS version;
SELECT pg_temp.ends('c', 'capped') = created_at + interval '2 hours' AS capped FROM session_fetch('c', 'capped');
SELECT session_save('far', '{}', expires_at => '9999-12-31') AS version;
SELECT pg_temp.ends('far') = created_at + interval '36525 days' AS capped FROM session_fetch('far');

-- Infinity, and a namespace without a ttl: kept until deleted.
SELECT session_save('i', '{}', expires_at => 'infinity') AS version, session_save('k', '{}', namespace => 'kept') AS by_namespace,
	session_save('k', '{}', namespace => 'kept_capped') AS and_capped;
SELECT namespace, session_id, ttl IS NULL AS fixed, expires_at - created_at AS lives FROM conversation_sessions
WHERE (namespace, session_id) IN (('fixed', 'i'), ('kept', 'k'), ('kept_capped', 'k')) ORDER BY namespace COLLATE "C";
SELECT session_get('k', 'kept'), session_touch('k', namespace => 'kept') = expires_at AS touched, session_fork('i', 'i2')
FROM conversation_sessions WHERE namespace = 'kept' AND session_id = 'k';
SELECT expires_at - created_at AS fork_lives FROM session_fetch('i2');
SELECT session_save('k', '{}', ttl => '1 hour', namespace => 'kept') AS version;
SELECT pg_temp.about(session_ttl('k', 'kept'), '1 hour') AS by_ttl;
SELECT session_delete('i');
SELECT session_exists('i');

-- In the past: save and touch end the session at once, without a tombstone; if there is none, they do
-- nothing.
SELECT session_save('p', '{"n": 1}'), session_save('q', '{"n": 1}', expires_at => :'t10'), session_append('q', '{"m": 1}');
SELECT session_save('p', '{"n": 2}', expires_at => '2000-01-01') AS null_is_gone, session_touch('q', expires_at => '2000-01-01') = '2000-01-01' AS gone;
SELECT session_get('p'), session_exists('q');
SELECT session_save('p', '{"n": 3}', if_version => 0) AS new_session;
SELECT session_get('p'), pg_temp.about(session_ttl('p'), '1 hour') AS with_a_ttl;
SELECT session_save('absent', '{}', expires_at => '2000-01-01') AS nothing, session_touch('absent', expires_at => '2000-01-01') AS nothing,
	count(*) AS no_row FROM conversation_sessions WHERE session_id = 'absent';
-- .. after the checks of a save; and a dead id stays dead.
SELECT session_save('p', '{}'), session_delete('g');
SELECT pg_temp.err($$SELECT session_save('p', '{}', if_version => 77, expires_at => '2000-01-01')$$) AS conflict,
	pg_temp.err($$SELECT session_save('absent', '{}', if_version => -1, expires_at => '2000-01-01')$$) AS must_exist,
	pg_temp.err($$SELECT session_save('g', '{}', expires_at => '2000-01-01')$$) AS dead, session_touch('g', expires_at => '2000-01-01') AS nothing;
SELECT session_exists('p') AS still_there;
BEGIN;
SELECT session_save('p', '{}', expires_at => '2000-01-01') AS null_is_gone;
SELECT session_exists('p');
ROLLBACK;
SELECT session_exists('p') AS rolled_back;

-- Errors: both arguments, -infinity, and creating a session that has ended.
SELECT pg_temp.err($$SELECT session_save('s', '{}', ttl => '1 hour', expires_at => 'infinity')$$) AS both,
	pg_temp.err($$SELECT session_touch('s', ttl => '1 hour', expires_at => 'infinity')$$) AS both,
	pg_temp.err($$SELECT session_create('{}', ttl => '1 hour', expires_at => 'infinity')$$) AS both,
	pg_temp.err($$SELECT session_create('{}', expires_at => '2000-01-01')$$) AS past,
	pg_temp.err($$SELECT session_touch('s', expires_at => '-infinity')$$) AS never;
SELECT pg_temp.err($$UPDATE conversation_sessions SET expires_at = 'infinity' WHERE session_id = 's'$$) AS infinity,
	pg_temp.err($$UPDATE conversation_sessions SET ttl = '0' WHERE session_id = 's'$$) AS no_ttl;

-- In plain SQL: a null ttl with an expires_at is a fixed expiry; a null ttl without it, or no ttl, means
-- that of the namespace.
INSERT INTO conversation_sessions (namespace, session_id, session_data, ttl, expires_at) VALUES
	('fixed', 'sql1', '{}', NULL, :'t10'), ('fixed', 'sql2', '{}', NULL, NULL);
INSERT INTO conversation_sessions (namespace, session_id, session_data, expires_at) VALUES ('fixed', 'sql3', '{}', :'t10'), ('kept', 'sql4', '{}', :'t10');
INSERT INTO conversation_sessions (namespace, session_id, session_data) VALUES ('kept', 'sql5', '{}');
SELECT session_id, ttl, expires_at = :'t10' AS t10, expires_at - created_at > '36000 days' AS kept FROM conversation_sessions
WHERE session_id ~ '^sql' ORDER BY session_id COLLATE "C";
UPDATE conversation_sessions SET ttl = NULL, expires_at = :'t20' WHERE session_id = 'sql3';
SELECT session_get('sql3'), pg_temp.ends('sql3') = :'t20' AS fixed;
-- Rows that are inserted as a whole keep their values, as when a dump is restored.
CREATE TEMP TABLE copied AS SELECT * FROM conversation_sessions WHERE session_id IN ('s', 'sql1', 'far');
DELETE FROM conversation_sessions WHERE session_id IN ('s', 'sql1', 'far');
INSERT INTO conversation_sessions SELECT * FROM copied;
SELECT count(*) AS differ FROM (SELECT * FROM copied EXCEPT SELECT * FROM conversation_sessions) d;

-- The same by statements, while rows cannot be accessed directly.
SET session_store.direct_rows = off;
SELECT session_save('t', '{}', expires_at => :'t10') AS version;
SELECT session_get('t'), session_touch('t') = :'t10' AS touched, session_save('t', '{}') AS version, session_merge('t', '{"a": 1}') AS merged;
SELECT pg_temp.ends('t') = :'t10' AS kept, session_touch('t', expires_at => :'t20') = :'t20' AS later;
SELECT session_touch('t', ttl => '2 hours') > :'t20' AS by_ttl, ttl FROM conversation_sessions WHERE session_id = 't';
SELECT session_save('t', '{}', expires_at => 'infinity') AS version;
SELECT expires_at - created_at AS lives FROM session_fetch('t');
SELECT session_save('t', '{}', expires_at => '2000-01-01') AS null_is_gone;
SELECT session_get('t');
RESET session_store.direct_rows;

DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
