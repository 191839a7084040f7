--
-- Lifecycle events in namespaces with audit.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
DELETE FROM session_events;
CREATE ROLE regress_ss_actor;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO regress_ss_actor;
INSERT INTO session_namespaces (name, audit, max_sessions_per_owner, tombstone) VALUES ('audited', true, 2, '5 minutes'), ('quiet', false, 2, '5 minutes');
CREATE TEMP VIEW event AS
SELECT event, session_id, owner_id, CASE actor WHEN session_user THEN 'me' ELSE actor::text END AS actor
FROM session_events WHERE namespace = 'audited' ORDER BY created_at, event_id;

-- "created" and "deleted", once each, with the calling role; changes in between are no events.
SELECT session_save('s', '{}', owner => 'alice', namespace => 'audited');
SELECT session_save('s', '{"a": 1}', namespace => 'audited'), session_merge('s', '{"b": 1}', namespace => 'audited'),
	session_incr('s', '{n}', namespace => 'audited'), session_touch('s', namespace => 'audited') IS NOT NULL AS touched, session_get('s', 'audited');
SELECT * FROM event;
SET ROLE regress_ss_actor;
SELECT session_delete('s', 'audited');
SELECT session_delete('s', 'audited');
RESET ROLE;
SELECT * FROM event;
DELETE FROM session_events;

-- Merge, increment and create begin sessions too; reusing a dead id is a creation.
SELECT session_merge('m', '{}', namespace => 'audited'), session_incr('i', '{n}', namespace => 'audited'), session_save('s', '{}', if_version => 0, namespace => 'audited');
SELECT length(session_create(owner => 'bob', namespace => 'audited')) > 0 AS created;
SELECT event, CASE WHEN length(session_id) < 43 THEN session_id END AS session_id, owner_id, actor FROM event;
DELETE FROM session_events;

-- Delete_all and clear: one event for each session.
SELECT session_save('a1', '{}', owner => 'carol', namespace => 'audited'), session_save('a2', '{}', owner => 'carol', namespace => 'audited');
SELECT session_delete_all('carol', namespace => 'audited');
SELECT event, session_id, owner_id FROM event WHERE event = 'deleted' ORDER BY session_id;
SELECT session_clear('audited');
SELECT event, session_id FROM event WHERE event = 'deleted' AND session_id IN ('m', 'i', 's') ORDER BY session_id;
DELETE FROM session_events;

-- Regenerate: one event, which contains neither data nor the new id, a secret that still works.
SELECT session_save('r', '{"secret": 1}', owner => 'alice', namespace => 'audited');
SELECT session_regenerate('r', 'audited') AS new \gset
SELECT event, count(*), bool_or(session_id IN ('r', :'new')) AS names_it, bool_and(owner_id = 'alice') AS owner FROM event GROUP BY event ORDER BY event;
SELECT count(*) AS with_data FROM session_events WHERE detail::text ~ 'secret';
DELETE FROM session_events;

-- Evicted by the quota.
SELECT session_save('e' || n, '{}', owner => 'dave', namespace => 'audited') FROM generate_series(1, 3) n;
SELECT event, session_id, owner_id FROM event WHERE event <> 'created';
DELETE FROM session_events;

-- "expired": when the purge removes the row, or when the id is used again before that.
BEGIN;
SELECT session_save('x1', '{}', owner => 'eve', ttl => '30 ms', namespace => 'audited'), session_save('x2', '{}', ttl => '30 ms', namespace => 'quiet');
SELECT pg_temp.wait_until($$NOT session_exists('x1', 'audited') AND NOT session_exists('x2', 'quiet')$$);
SELECT session_purge(namespace => 'audited') AS purged;
SELECT event, session_id, owner_id FROM event;
COMMIT;
-- no event either, if the purge comes while that namespace audits
DELETE FROM conversation_sessions WHERE session_id = 'x2';
-- The removal of a tombstone is no event: its session had ended before.
UPDATE session_namespaces SET tombstone = '1 ms' WHERE name = 'audited';
SELECT session_save('t', '{}', namespace => 'audited');
SELECT session_delete('t', 'audited');
SELECT pg_temp.wait_until($$session_purge(namespace => 'audited') >= 0
	AND NOT EXISTS (SELECT FROM conversation_sessions WHERE session_id = 't')$$) AS purged;
SELECT event, count(*) FROM event WHERE session_id = 't' GROUP BY event ORDER BY event;

-- No event for calls that are rolled back or refused, or in a namespace without audit.
DELETE FROM session_events;
BEGIN;
SELECT session_save('rb', '{}', namespace => 'audited'), session_clear('audited') IS NOT NULL AS cleared;
ROLLBACK;
SELECT pg_temp.err($$SELECT session_save('rb', '{}', if_version => 5, namespace => 'audited')$$), pg_temp.err($$SELECT session_incr('rb', '{n}', 2, 1, namespace => 'audited')$$),
	session_delete('never', 'audited');
SELECT session_save('q', '{}', owner => 'alice', namespace => 'quiet'), session_regenerate('q', 'quiet') IS NOT NULL AS regenerated,
	session_delete_all('alice', namespace => 'quiet') AS deleted, session_save('d', '{}'), session_delete('d');
SELECT count(*) FROM session_events;
-- Audit applies from the statement that switches it on.
UPDATE session_namespaces SET audit = true WHERE name = 'quiet';
SELECT session_save('q2', '{}', namespace => 'quiet');
UPDATE session_namespaces SET audit = false WHERE name = 'quiet';
SELECT session_delete('q2', 'quiet');
SELECT namespace, event, session_id FROM session_events;
SELECT created_at BETWEEN clock_timestamp() - interval '10 minutes' AND clock_timestamp() AS by_the_clock FROM session_events;

-- An expired session that is saved over before the purge comes has one event "expired", with its own
-- owner, before the event "created" of the next one. (In one transaction, so that the purge skips the
-- row.)  A tombstone that has run out has no such event.
DELETE FROM session_events;
BEGIN;
UPDATE session_namespaces SET max_sessions_per_owner = NULL, tombstone = '1 ms' WHERE name = 'audited';
SELECT session_save(id, '{}', ttl => '30 ms', owner => 'alice', namespace => 'audited') FROM unnest(ARRAY['saved', 'merged', 'appended', 'forked']) id;
SELECT session_save('dead', '{}', owner => 'alice', namespace => 'audited'), session_save('source', '{}', owner => 'alice', namespace => 'audited'), session_delete('dead', 'audited');
SELECT pg_temp.wait_until($$NOT session_exists('forked', 'audited') AND NOT EXISTS (SELECT FROM conversation_sessions WHERE session_id = 'dead' AND dead_until > clock_timestamp())$$);
DELETE FROM session_events;
SELECT session_save('saved', '1', owner => 'bob', namespace => 'audited'), session_save('saved', '2', namespace => 'audited'), session_merge('merged', '{}', namespace => 'audited'), session_append('appended', '{}', namespace => 'audited'),
	session_fork('source', 'forked', namespace => 'audited'), session_save('dead', '{}', namespace => 'audited');
SELECT session_id, string_agg(event || coalesce(' of ' || owner_id, ''), ', ' ORDER BY created_at, event_id) FROM session_events GROUP BY 1 ORDER BY 1;
ROLLBACK;

DELETE FROM conversation_sessions;
DELETE FROM session_events;
DELETE FROM session_namespaces;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM regress_ss_actor;
DROP ROLE regress_ss_actor;
