--
-- Lifecycle events of conversations: forked, absorbed, shared, and saved with audit_saves; the
-- actor and its subject; and events_keep.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
DELETE FROM session_events;
CREATE ROLE regress_ss_actor;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO regress_ss_actor;
INSERT INTO session_namespaces (name, audit, audit_saves, tombstone, owner_isolation, cache) VALUES
	('audited', true, false, '5 minutes', false, 'hot'), ('saves', true, true, '5 minutes', false, 'hot'), ('isolated', true, false, '5 minutes', true, 'off'), ('quiet', false, true, '5 minutes', false, 'hot');
SET session_store.namespace = 'audited';
CREATE TEMP VIEW event AS
SELECT event, session_id, owner_id, CASE actor WHEN session_user THEN 'me' ELSE actor::text END AS actor, detail
FROM session_events ORDER BY created_at, event_id;

-- An append that begins a session is an event "created"; messages that are added or removed are no events.
SELECT session_append('s', '{"m": 1}'), session_append('s', '[{"m": 2}, {"m": 3}]', 'op'), session_append('s', '[{"m": 2}, {"m": 3}]', 'op'), session_pop('s'), session_trim('s', 1);
SELECT session_save('s', '{"secret": 1}', owner => 'alice'), session_merge('s', '{"b": 1}'), session_incr('s', '{n}'), (SELECT count(*) FROM session_history('s')) AS read;
SELECT * FROM event;
DELETE FROM session_events;

-- Fork: an event of the source that names the copy, and the creation of the copy.
SELECT session_append('s', '[{"m": 4}, {"m": 5}]'), session_fork('s', 'copy'), session_fork('s', 'short', 4);
SELECT session_save('without', '{}'), session_fork('without', 'empty');
SELECT event, session_id, owner_id, actor, detail FROM event WHERE event = 'forked';
SELECT event, session_id, owner_id FROM event WHERE event <> 'forked' ORDER BY session_id;
SELECT session_fork('s') AS new \gset
SELECT detail ->> 'new_session_id' = :'new' AS names_it FROM event WHERE event = 'forked' ORDER BY detail ->> 'new_session_id' = :'new' DESC LIMIT 1;
DELETE FROM session_events;
-- Calls that are refused or find nothing cause no event.
SELECT session_fork('absent', 'x') AS absent, pg_temp.err($$SELECT session_fork('s', 'copy')$$) AS lives, pg_temp.err($$SELECT session_fork('s', 's')$$) AS itself;
SELECT count(*) FROM event;

-- Absorb: an event of the target that names the source, and the deletion of the source, which names the
-- target.
SELECT session_absorb('s', 'copy');
SELECT * FROM event ORDER BY event;
DELETE FROM session_events;
SELECT session_absorb('s', 'copy') AS dead, session_absorb('s', 'absent') AS absent, pg_temp.err($$SELECT session_absorb('copy', 's')$$) AS dead_target, pg_temp.err($$SELECT session_absorb('s', 's')$$) AS itself;
SELECT count(*) FROM event;

-- Share: an event with the member and the role; the role is null for an unshare.
SELECT session_share('s', 'bob'), session_share('s', 'bob', 'editor'), session_share('s', 'carol', 'owner'), session_unshare('s', 'bob');
SELECT * FROM event;
DELETE FROM session_events;
SELECT session_unshare('s', 'bob') AS no_member, session_share('absent', 'bob') AS absent, pg_temp.err($$SELECT session_share('s', 'bob', 'admin')$$) AS bad;
SELECT count(*) FROM event;

-- Save: an event only where the namespace asks for it, with the version and nothing of the document.
SELECT session_save('v', '{"secret": 1}', namespace => 'saves'), session_save('v', '{"secret": 2}', namespace => 'saves'), session_merge('v', '{"b": 1}', namespace => 'saves'), session_incr('v', '{n}', namespace => 'saves');
SELECT event, session_id, actor, detail FROM event;
SELECT count(*) AS tells_a_secret FROM session_events WHERE detail::text ~ 'secret' OR session_events::text ~ 'secret';
DELETE FROM session_events;
-- No such event for reads, touches, refused calls and appends.
SELECT session_get('v', 'saves') IS NOT NULL AS get, session_touch('v', namespace => 'saves') IS NOT NULL AS touch, session_append('v', '{"m": 1}', namespace => 'saves'), session_incr('v', '{n}', max => 1, namespace => 'saves') AS over_the_ceiling,
	pg_temp.err($$SELECT session_save('v', '1', if_version => 1, namespace => 'saves')$$) AS conflict;
SELECT count(*) FROM event;
-- It applies from the statement that switches it on or off; without audit it has no effect.
UPDATE session_namespaces SET audit_saves = true WHERE name = 'audited';
SELECT session_save('s', '{}') > 1 AS saved;
UPDATE session_namespaces SET audit_saves = false WHERE name = 'audited';
SELECT session_save('s', '{}') > 1 AS saved, session_save('q', '1', namespace => 'quiet'), session_save('q', '2', namespace => 'quiet');
SELECT event, session_id, detail ? 'version' AS version FROM event;
DELETE FROM session_events;

-- The subject of the caller's claims is recorded beside the role, also in namespaces without owner
-- isolation.
SET request.jwt.claims = '{"sub": "alice", "role": "authenticated"}';
SET ROLE regress_ss_actor;
SELECT session_append('i', '{"m": 1}', namespace => 'isolated'), session_share('i', 'bob', 'editor', 'isolated'), session_fork('i', 'i2', namespace => 'isolated'), session_absorb('i', 'i2', 'isolated');
SELECT session_regenerate('i', 'isolated') AS new \gset
SELECT session_delete(:'new', 'isolated'), session_share('s', 'dave');
RESET ROLE;
SELECT event, replace(session_id, :'new', 'new id') AS session_id, owner_id, actor, detail FROM event WHERE event IN ('created', 'forked', 'absorbed', 'shared', 'deleted') ORDER BY event, session_id, detail;
SELECT count(*) AS several, bool_and(detail ->> 'subject' = 'alice') AS all_of_alice FROM event;
DELETE FROM session_events;
-- Claims without a subject are recorded as none.
SET request.jwt.claims = '{"role": "anon"}';
SELECT session_share('s', 'eve');
SET request.jwt.claims = '';
SELECT session_unshare('s', 'eve');
RESET request.jwt.claims;
SELECT session_save('plain', '{}');
SELECT event, detail FROM event;
DELETE FROM session_events;

-- A rollback leaves no event, nor does a call in a namespace without audit.
BEGIN;
SELECT session_fork('s', 'rb'), session_absorb('s', 'short'), session_share('s', 'rb');
ROLLBACK;
SELECT session_append('q2', '{"m": 1}', namespace => 'quiet'), session_fork('q2', 'q3', namespace => 'quiet'), session_share('q2', 'bob', namespace => 'quiet'), session_absorb('q2', 'q3', 'quiet'), session_delete('q2', 'quiet');
SELECT count(*) FROM event;

-- Events are kept as long as their namespace says, then the keeper removes them (it checks when it
-- starts).
SELECT session_share('s', 'kept'), session_save('v2', '{}', namespace => 'saves');
UPDATE session_namespaces SET events_keep = '10 days' WHERE name = 'audited';
INSERT INTO session_events (namespace, session_id, event, actor, created_at) VALUES
	('audited', 'nine days', 'created', current_user, clock_timestamp() - interval '9 days'), ('audited', 'eleven days', 'created', current_user, clock_timestamp() - interval '11 days'),
	('saves', 'eleven days', 'created', current_user, clock_timestamp() - interval '11 days'), ('saves', 'a month', 'created', current_user, clock_timestamp() - interval '31 days');
SELECT pg_terminate_backend(pid) AS restarted FROM pg_stat_activity WHERE backend_type = 'session_store keeper' AND datname = current_database();
SELECT pg_temp.wait_until($$NOT EXISTS (SELECT FROM session_events WHERE (namespace, session_id) IN (('audited', 'eleven days'), ('saves', 'a month')))$$) AS removed;
SELECT namespace, session_id, event FROM session_events ORDER BY namespace, session_id;

DELETE FROM conversation_sessions;
SELECT pg_temp.wait_until($$session_purge() >= 0 AND NOT EXISTS (SELECT FROM conversation_history_ended)$$) AS nothing_left;
DELETE FROM session_events;
DELETE FROM session_namespaces;
DROP OWNED BY regress_ss_actor;
DROP ROLE regress_ss_actor;
