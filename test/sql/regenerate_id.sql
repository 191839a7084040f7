--
-- session_regenerate() with new_session_id: the session gets the id that the caller has chosen.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, sliding, tombstone, audit, tail_prefix) VALUES ('regen', false, '5 minutes', true, 'regen-tail:');
INSERT INTO session_namespaces (name, owner_isolation, allowed_roles) VALUES ('iso', true, '{regress_ss_regen}');
SET session_store.namespace = 'regen';

-- Everything but the id is kept.
SELECT session_save('old', '{"a": 1}', ttl => '3 hours', owner => 'alice'), session_append('old', '{"m": 1}'), session_save('old', '{"a": 2}'), session_share('old', 'bob');
CREATE TEMP TABLE before AS SELECT * FROM session_fetch('old');
SELECT session_regenerate('old', new_session_id => 'sixteen bytes id') AS id;
SELECT f.session_data = b.session_data AND f.owner_id = b.owner_id AND f.version = b.version AND f.created_at = b.created_at AND f.expires_at = b.expires_at AND f.message_count = b.message_count AS same,
	pg_temp.line('sixteen bytes id') AS messages, (SELECT member FROM session_members('sixteen bytes id')) AS member
FROM before b, session_fetch('sixteen bytes id') f;
SELECT session_get('old') AS old, pg_temp.err($$SELECT session_save('old', '1')$$) AS save, session_count() AS sessions, session_regenerate('old', new_session_id => 'another id of 16') AS again;
-- Without it, or with NULL, the id is random.
SELECT session_save('r1', '1'), session_save('r2', '2');
SELECT length(session_regenerate('r1', NULL, NULL)) AS r1, length(session_regenerate('r2', 'regen')) AS r2;

-- Errors: short ids, ids in use, and the session's own id; all sessions stay as they are.
SELECT session_save('lives', '1'), session_save('the other session', '2'), session_save('the dead session', '3'), session_delete('the dead session');
SELECT call, pg_temp.says('SELECT ' || call)
FROM (VALUES
	(1, $$session_regenerate('lives', new_session_id => '')$$), (2, $$session_regenerate('lives', new_session_id => '15 bytes only..')$$), (3, $$session_regenerate('lives', new_session_id => repeat('x', 201))$$),
	(4, $$session_regenerate('lives', new_session_id => E'with a control\n character')$$), (5, $$session_regenerate('the other session', new_session_id => 'the other session')$$),
	(6, $$session_regenerate('lives', new_session_id => 'the other session')$$), (7, $$session_regenerate('lives', new_session_id => 'the dead session')$$),
	(8, $$session_regenerate('lives', 'no such', 'sixteen bytes id')$$), (9, $$session_regenerate(NULL, new_session_id => 'sixteen bytes id')$$), (10, $$session_regenerate('absent', new_session_id => 'short')$$)) c(n, call) ORDER BY n;
SELECT session_regenerate('absent', new_session_id => 'the other session') AS no_session_no_error, session_get('lives') AS lives, session_get('the other session') AS other;

-- The id of a session that has expired, or of a tombstone that has run out, can be used. Its counters
-- continue; its messages are gone. (In one transaction, so that no purge comes first.)
BEGIN;
SELECT session_append('id of the expired', '[{"m": 1}, {"m": 2}, {"m": 3}]'), session_save('id of the expired', '1'), session_save('id of the expired', '2'), session_save('id of the expired', '3', owner => 'carol');
UPDATE conversation_sessions SET expires_at = clock_timestamp() - interval '1 second' WHERE session_id = 'id of the expired';
UPDATE conversation_sessions SET dead_until = clock_timestamp() - interval '1 second' WHERE session_id = 'the dead session';
SELECT session_append('m1', '{"m": "mine"}'), session_save('m1', '{"of": "m1"}'), session_save('m2', '{"of": "m2"}');
SELECT session_regenerate('m1', new_session_id => 'id of the expired'), session_regenerate('m2', new_session_id => 'the dead session');
COMMIT;
SELECT session_id, session_data, owner_id, version, message_count, pg_temp.line(session_id) FROM session_fetch('id of the expired') UNION ALL SELECT session_id, session_data, owner_id, version, message_count, pg_temp.line(session_id) FROM session_fetch('the dead session');
SELECT session_append('id of the expired', '{"m": "next"}') AS next_seq, session_save('id of the expired', '{}') AS next_version;
SELECT event, session_id, owner_id FROM session_events WHERE namespace = 'regen' AND event IN ('expired', 'regenerated') ORDER BY created_at, event;
SELECT pg_temp.wait_until($$session_purge() >= 0 AND NOT EXISTS (SELECT FROM conversation_history_ended)$$) AS purged;
SELECT pg_temp.line('id of the expired') AS messages_left, (SELECT count(*) FROM conversation_history h WHERE NOT EXISTS (SELECT FROM conversation_sessions s WHERE s.history_id = h.history_id)) AS orphans;

-- The same by statements, and with a rollback.
SET session_store.direct_rows = off;
SELECT session_save('m3', '3'), session_regenerate('m3', new_session_id => 'by a statement 3');
RESET session_store.direct_rows;
SELECT session_get('by a statement 3') AS data;
BEGIN;
SAVEPOINT s;
SELECT session_regenerate('by a statement 3', new_session_id => 'the dead session 2') AS id, session_get('by a statement 3') AS old;
ROLLBACK TO s;
SELECT session_get('by a statement 3') AS old, session_get('the dead session 2') AS new;
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT session_regenerate('by a statement 3', new_session_id => 'serializable id 4');
COMMIT;
BEGIN READ ONLY;
SELECT pg_temp.err($$SELECT session_regenerate('serializable id 4', new_session_id => 'read only transaction')$$) AS read_only;
COMMIT;
SELECT session_get('serializable id 4') AS data;

-- With owner isolation the ids of others give no access to their sessions.
CREATE ROLE regress_ss_regen;
GRANT EXECUTE ON FUNCTION session_regenerate, session_fetch TO regress_ss_regen;
SELECT session_save('of ann', '1', owner => 'ann', namespace => 'iso'), session_save('a session of bob', '2', owner => 'bob', namespace => 'iso'), session_save('expired session of bob', '3', owner => 'bob', namespace => 'iso'), session_save('ended session of bob', '4', owner => 'bob', namespace => 'iso'), session_delete('ended session of bob', 'iso');
BEGIN;
UPDATE conversation_sessions SET expires_at = clock_timestamp() - interval '1 second' WHERE session_id = 'expired session of bob';
SET ROLE regress_ss_regen;
SET request.jwt.claims = '{"sub": "ann"}';
SELECT call, pg_temp.err('SELECT ' || call)
FROM (VALUES (1, $$session_regenerate('of ann', 'iso', 'a session of bob')$$), (2, $$session_regenerate('of ann', 'iso', 'ended session of bob')$$)) c(n, call) ORDER BY n;
SELECT session_regenerate('a session of bob', 'iso', 'no session of mine') AS not_mine, session_regenerate('of ann', 'iso', 'expired session of bob') AS mine;
SELECT session_data, owner_id, version > 1000 AS random_version FROM session_fetch('expired session of bob', 'iso');
COMMIT;
RESET request.jwt.claims;
RESET ROLE;

-- A violation of a unique index of the owner of the tables is not taken for one of the primary key; a
-- trigger that keeps the expired row is an error.
CREATE UNIQUE INDEX regress_ss_one ON conversation_sessions ((session_id ~ 'unique')) WHERE session_id ~ 'unique';
SELECT session_save('a unique session', '1'), session_save('m5', '5');
SELECT pg_temp.err($$SELECT session_regenerate('m5', new_session_id => 'another unique session')$$) AS index;
DROP INDEX regress_ss_one;
BEGIN;
SELECT session_save('one more expired id', '1');
UPDATE conversation_sessions SET expires_at = clock_timestamp() - interval '1 second' WHERE session_id = 'one more expired id';
CREATE FUNCTION public.regress_ss_keep() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$BEGIN RETURN NULL; END$$;
CREATE TRIGGER regress_ss_keep BEFORE DELETE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION public.regress_ss_keep();
SELECT pg_temp.err($$SELECT session_regenerate('m5', new_session_id => 'one more expired id')$$) AS kept;
DROP TRIGGER regress_ss_keep ON conversation_sessions;
DROP FUNCTION public.regress_ss_keep();
SELECT session_regenerate('m5', new_session_id => 'one more expired id');
SELECT session_get('one more expired id') AS data;
COMMIT;

DELETE FROM conversation_sessions;
DELETE FROM session_events;
DELETE FROM session_namespaces;
SELECT pg_temp.wait_until($$session_purge() >= 0 AND NOT EXISTS (SELECT FROM conversation_history_ended)$$) AS nothing_left;
DROP OWNED BY regress_ss_regen;
DROP ROLE regress_ss_regen;
