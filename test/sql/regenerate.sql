--
-- session_regenerate(): a new id for the same session, against session fixation.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers

-- Reads do not slide here, so only changes move an expiry.
INSERT INTO session_namespaces (name, sliding, tombstone, max_sessions_per_owner) VALUES
	('regen', false, '5 minutes', NULL), ('reuse', false, '0', NULL), ('long', false, '1 day', NULL), ('one', false, '0', 1);
SET session_store.namespace = 'regen';

-- Everything but the id is kept: document, owner, version, created_at, expiry and ttl.
SELECT session_save('old', '{"a": 1}', ttl => '3 hours', owner => 'alice');
SELECT session_save('old', '{"a": 2}');
CREATE TEMP TABLE before AS SELECT * FROM session_fetch('old');
SELECT session_regenerate('old') AS new \gset
SELECT f.session_id <> b.session_id AS new_id, f.session_data = b.session_data AS data, f.owner_id = b.owner_id AS owner,
	f.version = b.version AS version, f.created_at = b.created_at AS created_at, f.expires_at = b.expires_at AS expires_at,
	f.message_count = b.message_count AS message_count
FROM before b, session_fetch(:'new') f;
SELECT session_save(:'new', '{"a": 3}');
SELECT session_ttl(:'new') > interval '2 hours 59 minutes' AS remembers_its_ttl;
-- The new id is as random as that of session_create.
SELECT length(:'new') >= 43 AS long_enough, :'new' ~ '^[A-Za-z0-9_-]+$' AS plain;

-- The old id is dead.
SELECT session_get('old') AS get, session_exists('old') AS exists, session_touch('old') AS touch,
	session_delete('old') AS delete, session_regenerate('old') AS regenerate;
SELECT pg_temp.err($$SELECT session_save('old', '{}')$$) AS save, pg_temp.err($$SELECT session_merge('old', '{}')$$) AS merge,
	pg_temp.err($$SELECT session_incr('old', '{n}')$$) AS incr;
SELECT session_data::text ~ 'a' AS keeps_the_data FROM conversation_sessions WHERE session_id = 'old';

-- There is one session, not two.
SELECT session_count() AS counted, session_count(owner => 'alice') AS owned,
	(SELECT array_agg(session_id = :'new') FROM session_list(owner => 'alice')) AS listed;

-- It can be regenerated again, and deleted once.
SELECT session_regenerate(:'new') AS newer \gset
SELECT session_exists(:'new') AS new, session_exists(:'newer') AS newer, :'new' <> :'newer' AS different;
SELECT session_delete(:'new') AS new, session_delete(:'newer') AS newer;

-- The old id is dead for at least 5 minutes, even in a namespace without tombstones; longer if the
-- namespace says so.
SELECT session_save('old', '1', namespace => 'reuse'), session_save('old', '1', namespace => 'long');
SELECT session_regenerate('old', 'reuse') IS NOT NULL AS reuse, session_regenerate('old', 'long') IS NOT NULL AS long;
SELECT pg_temp.err($$SELECT session_save('old', '2', namespace => 'reuse')$$) AS save,
	pg_temp.err($$SELECT session_merge('old', '{}', namespace => 'reuse')$$) AS merge,
	pg_temp.err($$SELECT session_incr('old', '{n}', namespace => 'reuse')$$) AS incr;
SELECT namespace, dead_until > clock_timestamp() + interval '4 minutes 30 seconds' AS five_minutes,
	dead_until > clock_timestamp() + interval '23 hours' AS a_day
FROM conversation_sessions WHERE session_id = 'old' AND namespace IN ('reuse', 'long') ORDER BY namespace;
-- A purge does not end that earlier.
SELECT session_purge(namespace => 'reuse') AS purged;
SELECT pg_temp.err($$SELECT session_save('old', '2', namespace => 'reuse')$$) AS save;

-- Absent, expired and dead sessions cannot be regenerated.
BEGIN;
SELECT session_save('expired', '1', ttl => '30 ms');
SELECT pg_temp.wait_until($$NOT session_exists('expired')$$);
SELECT session_regenerate('absent') AS absent, session_regenerate('expired') AS expired, session_regenerate('old') AS dead;
COMMIT;

-- It does not count as a new session for the owner's quota.
SELECT session_save('only', '1', owner => 'bob', namespace => 'one');
SELECT session_regenerate('only', 'one') AS new \gset
SELECT session_count(namespace => 'one') AS counted, session_get(:'new', 'one') AS data;

-- After a rollback the old id is alive, and the new one was never used.
SELECT session_save('kept', '1');
BEGIN;
SELECT session_regenerate('kept') AS new \gset
SELECT session_exists('kept') AS old, session_exists(:'new') AS new;
ROLLBACK;
SELECT session_exists('kept') AS old, session_exists(:'new') AS new;

-- In one statement each call returns another id.
SELECT count(DISTINCT id) FROM (SELECT session_regenerate(session_create(to_jsonb(n))) AS id FROM generate_series(1, 100) n) r;

DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
