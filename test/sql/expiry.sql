--
-- Expiry: every change restarts the ttl, and sessions expire by the clock, not by the time of the
-- transaction.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers

-- Reads do not slide here, so that only changes are seen.
INSERT INTO session_namespaces (name, sliding, ttl, max_lifetime) VALUES
	('still', false, '1 hour', NULL), ('capped', false, '2 hours', '1 hour'), ('soon', false, '100 ms', '200 ms');
SET session_store.namespace = 'still';
CREATE FUNCTION pg_temp.about(a interval, b interval) RETURNS boolean
	RETURN a > b - interval '1 minute' AND a <= b;
CREATE FUNCTION pg_temp.nearly_over(id text) RETURNS void LANGUAGE sql AS
	$$UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '1 minute' WHERE session_id = id$$;

-- A session keeps its own ttl, and every change restarts it.
SELECT session_save('s', '{}', ttl => '2 hours');
SELECT pg_temp.about(session_ttl('s'), '2 hours') AS given;
SELECT pg_temp.nearly_over('s'), session_save('s', '{}');
SELECT pg_temp.about(session_ttl('s'), '2 hours') AS saved;
SELECT pg_temp.nearly_over('s'), session_merge('s', '{}');
SELECT pg_temp.about(session_ttl('s'), '2 hours') AS merged;
SELECT pg_temp.nearly_over('s'), session_incr('s', '{n}');
SELECT pg_temp.about(session_ttl('s'), '2 hours') AS incremented;
SELECT pg_temp.nearly_over('s'), session_touch('s') IS NOT NULL AS touched;
SELECT pg_temp.about(session_ttl('s'), '2 hours') AS touched;
-- Refused changes restart nothing; nor do reads.
SELECT pg_temp.nearly_over('s');
SELECT pg_temp.err($$SELECT session_save('s', '{}', if_version => 77)$$), session_incr('s', '{n}', max => 1) AS over_max,
	session_get('s') IS NOT NULL AS got, session_exists('s') AS exists, session_ttl('s') > '0' AS ttl;
SELECT count(*) FROM session_fetch('s');
SELECT pg_temp.about(session_ttl('s'), '1 minute') AS as_before;

-- Touch returns the expiry that now applies, and can set another ttl, which is kept.
SELECT session_touch('s', ttl => '3 hours') AS expiry \gset
SELECT expires_at = :'expiry' AS that_holds, pg_temp.about(session_ttl('s'), '3 hours') AS three_hours FROM session_fetch('s');
SELECT session_save('s', '{}');
SELECT pg_temp.about(session_ttl('s'), '3 hours') AS remembered;
-- The ttl may be shorter; and a touch changes neither data nor version nor updated_at.
CREATE TEMP TABLE before AS SELECT * FROM session_fetch('s');
SELECT session_touch('s', ttl => '10 minutes') <= clock_timestamp() + interval '10 minutes' AS shorter;
SELECT f.version = b.version AS version, f.session_data = b.session_data AS data, f.updated_at = b.updated_at AS updated_at
FROM before b, session_fetch('s') f;
SELECT session_save('s', '{}', ttl => '4 hours');
SELECT pg_temp.about(session_ttl('s'), '4 hours') AS save_gives_another;

-- A touch that is rolled back has no effect, with a ttl or without.
SELECT pg_temp.nearly_over('s');
BEGIN;
SELECT session_touch('s') > clock_timestamp() + interval '1 hour' AS touched;
ROLLBACK;
SELECT pg_temp.about(session_ttl('s'), '1 minute') AS rolled_back;
BEGIN;
SELECT session_touch('s', ttl => '1 day') > clock_timestamp() + interval '1 hour' AS touched;
ROLLBACK;
SELECT pg_temp.about(session_ttl('s'), '1 minute') AS rolled_back;

-- A new ttl of the namespace applies to new sessions.
UPDATE session_namespaces SET ttl = '30 minutes' WHERE name = 'still';
SELECT session_save('s', '{}'), session_save('new', '{}');
SELECT pg_temp.about(session_ttl('s'), '4 hours') AS own, pg_temp.about(session_ttl('new'), '30 minutes') AS of_the_namespace;

-- A ttl is elapsed time: a day is 24 hours, also across a change to daylight saving time.
SET TIME ZONE 'Europe/Berlin';
SELECT d, session_save('day', '{}', ttl => d::interval) > 0 AS saved,
	abs(extract(epoch FROM session_touch('day') - clock_timestamp()) - extract(epoch FROM d::interval)) < 60 AS elapsed
FROM unnest(ARRAY['1 day', '100 days', '120 days', '200 days', '240 days', '36500 days']) d;
RESET TIME ZONE;

-- max_lifetime caps at created_at + max_lifetime, whatever the ttl, and never extends.
SELECT session_save('c', '{}', namespace => 'capped'), session_save('d', '{}', ttl => '1 day', namespace => 'capped'),
	session_save('e', '{}', ttl => '10 minutes', namespace => 'capped');
SELECT session_id, expires_at = created_at + interval '1 hour' AS capped,
	pg_temp.about(session_ttl(session_id, 'capped'), '10 minutes') AS own
FROM session_list(namespace => 'capped') ORDER BY session_id;
SELECT session_touch('c', ttl => '5 hours', namespace => 'capped') = created_at + interval '1 hour' AS capped
FROM session_fetch('c', 'capped');
-- A session that is used all the time ends all the same.
BEGIN;
SELECT session_save('soon', '{}', namespace => 'soon');
SELECT pg_temp.wait_until($$session_touch('soon', ttl => '100 ms', namespace => 'soon') IS NULL$$) AS ended;
SELECT expires_at <= created_at + interval '200 ms' AS in_time
FROM conversation_sessions WHERE namespace = 'soon' AND session_id = 'soon';
COMMIT;

-- Expiry follows the clock, within a transaction whose now() does not advance; no call returns an expired
-- row.
BEGIN;
SELECT session_save('short', '{"n": 1}', ttl => '30 ms', owner => 'alice');
SELECT created_at AS created FROM conversation_sessions WHERE session_id = 'short' \gset
SELECT now() AS started \gset
SELECT pg_temp.wait_until($$session_get('short') IS NULL$$) AS gone;
SELECT now() = :'started' AS same_now, session_get('short') AS get, (SELECT count(*) FROM session_fetch('short')) AS fetch,
	session_exists('short') AS exists, session_ttl('short') AS ttl, session_touch('short') AS touch,
	session_count(owner => 'alice') AS count, (SELECT count(*) FROM session_list(owner => 'alice')) AS list,
	session_regenerate('short') AS regenerate, session_delete('short') AS delete, session_delete_all('alice') AS delete_all;
-- Saving over it starts a new session, without anything of the old one.
SELECT session_save('short', '{"n": 2}');
SELECT session_data, owner_id, version, message_count, created_at > :'created' AS created_again,
	pg_temp.about(session_ttl('short'), '30 minutes') AS ttl_of_the_namespace
FROM session_fetch('short');
COMMIT;

-- The same for a session that expired by a touch, and for 1 ms, which must not become "never".
SELECT session_save('touched', '{}'), session_touch('touched', ttl => '1 ms') IS NOT NULL AS touched;
SELECT session_save('ms', '{}', ttl => '1 ms');
SELECT pg_temp.wait_until($$session_get('ms') IS NULL$$) AS gone, pg_temp.wait_until($$session_get('touched') IS NULL$$) AS gone_by_touch;

DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
