--
-- Sliding expiry: a read extends the expiry without writing. Needs shared_preload_libraries.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, sliding, ttl, max_lifetime) VALUES
	('slide', true, '1 hour', NULL), ('still', false, '1 hour', NULL), ('capped', true, '1 hour', '70 minutes'), ('quick', true, '2 seconds', NULL);
CREATE FUNCTION pg_temp.minutes(id text, ns text) RETURNS int LANGUAGE sql AS
	$$SELECT round(extract(epoch FROM session_ttl(id, ns)) / 60)::int$$;
CREATE FUNCTION pg_temp.age(id text, ns text, remaining interval) RETURNS text LANGUAGE sql AS
	$$UPDATE conversation_sessions SET expires_at = clock_timestamp() + remaining WHERE session_id = id AND namespace = ns RETURNING session_id$$;

-- Get and fetch slide, and later calls see that at once; exists and ttl do not.
SELECT session_save(id, '{}', owner => 'alice', namespace => ns) FROM unnest(ARRAY['get', 'fetch', 'look', 'ro']) id, unnest(ARRAY['slide', 'still']) ns;
SELECT count(pg_temp.age(id, ns, '30 minutes')) FROM unnest(ARRAY['get', 'fetch', 'look', 'ro']) id, unnest(ARRAY['slide', 'still']) ns;
SELECT session_exists('look', 'slide'), pg_temp.minutes('look', 'slide') AS ttl;
SELECT pg_temp.minutes('look', 'slide') AS only_looked;
SELECT session_get('get', 'slide'), session_get('get', 'still');
SELECT pg_temp.minutes('get', 'slide') AS slid, pg_temp.minutes('get', 'still') AS still;
SELECT session_id FROM session_fetch('fetch', 'slide') UNION ALL SELECT session_id FROM session_fetch('fetch', 'still');
SELECT pg_temp.minutes('fetch', 'slide') AS slid, pg_temp.minutes('fetch', 'still') AS still;
-- The keeper must not write a row between the snapshot of the list and the computation; it skips rows that
-- are locked.
BEGIN;
SELECT count(*) FROM (SELECT FROM conversation_sessions WHERE namespace = 'slide' FOR UPDATE) locked;
SELECT session_id, round(extract(epoch FROM expires_at - clock_timestamp()) / 60) AS minutes
FROM session_list(owner => 'alice', namespace => 'slide') ORDER BY session_id COLLATE "C";
COMMIT;
-- In READ ONLY transactions too; and a read in a transaction that is rolled back counts all the same.
BEGIN READ ONLY;
SELECT session_get('ro', 'slide');
SELECT pg_temp.minutes('ro', 'slide') AS slid;
ROLLBACK;
SELECT pg_temp.minutes('ro', 'slide') AS slid;
-- A miss records nothing.
SELECT session_get('absent', 'slide') IS NULL AS absent, session_ttl('absent', 'slide') IS NULL AS no_ttl;

-- Reads do not change versions, documents and updated_at.
SELECT version, session_data, updated_at - created_at < interval '1 second' AS not_updated FROM conversation_sessions WHERE namespace = 'slide' AND session_id = 'get';
-- The keeper writes expiries that moved by more than the slack.
SELECT pg_temp.wait_until($$(SELECT bool_and(expires_at > clock_timestamp() + interval '50 minutes') FROM conversation_sessions
	WHERE namespace = 'slide' AND session_id IN ('get', 'fetch', 'ro'))$$) AS written;
SELECT round(extract(epoch FROM expires_at - clock_timestamp()) / 60) AS look FROM conversation_sessions WHERE namespace = 'slide' AND session_id = 'look';
SELECT version, count(*) FROM conversation_sessions WHERE namespace = 'slide' GROUP BY version;
SELECT count(*) AS check_at_too_late FROM conversation_sessions WHERE check_at > expires_at;

-- Of reads and changes after each other, the last one decides.
SELECT session_touch('get', '10 minutes', 'slide') IS NOT NULL AS touched;
SELECT pg_temp.minutes('get', 'slide') AS shorter;
SELECT session_get('get', 'slide');
SELECT pg_temp.minutes('get', 'slide') AS still_shorter;
SELECT session_save('get', '{}', ttl => '3 hours', namespace => 'slide') > 1 AS saved;
SELECT pg_temp.minutes('get', 'slide') AS longer;

-- The expiry that touch returns applies, also if its transaction changed the row before and takes a while
-- to commit.
SELECT session_save('same', '{}', namespace => 'still');
BEGIN;
SELECT pg_temp.age('same', 'still', '1 minute');
SELECT session_touch('same', namespace => 'still') > clock_timestamp() + interval '59 minutes' AS touched;
SELECT pg_temp.wait_until($$session_ttl('same', 'still') < interval '59 minutes'$$, '3 seconds') AS lost_on_the_way;
COMMIT;
SELECT pg_temp.minutes('same', 'still') AS minutes;

-- A read does not revive a session that is then deleted, expired by hand, or replaced by a new one.
SELECT session_get('fetch', 'slide');
SELECT session_delete('fetch', 'slide');
SELECT session_get('fetch', 'slide') IS NULL AS dead, session_ttl('fetch', 'slide') IS NULL AS no_ttl;
SELECT session_get('ro', 'slide');
DELETE FROM conversation_sessions WHERE namespace = 'slide' AND session_id = 'ro';
SELECT session_get('ro', 'slide') IS NULL AS gone;
SELECT session_save('ro', '"new"', ttl => '5 minutes', namespace => 'slide');
SELECT pg_temp.minutes('ro', 'slide') AS ttl_of_the_new_one;
SELECT session_get('look', 'slide');
SELECT session_regenerate('look', 'slide') AS new \gset
SELECT session_exists('look', 'slide') AS old, pg_temp.minutes(:'new', 'slide') AS takes_it_along;

-- max_lifetime limits the effect of reads, too.
SELECT session_save('c', '{}', namespace => 'capped');
UPDATE conversation_sessions SET created_at = clock_timestamp() - interval '30 minutes', expires_at = clock_timestamp() + interval '20 minutes' WHERE namespace = 'capped';
SELECT session_get('c', 'capped');
SELECT pg_temp.minutes('c', 'capped') AS capped;

-- A session that is read without a pause for three lifetimes is always there (if this test itself was
-- delayed, the session is replaced); then, without reads, it ends.
CREATE PROCEDURE pg_temp.use(id text) LANGUAGE plpgsql AS $$
DECLARE
	start timestamptz;
	last_use timestamptz;
	give_up timestamptz = clock_timestamp() + interval '2 minutes';
	found boolean;
BEGIN
	LOOP
		IF last_use IS NULL OR clock_timestamp() - last_use > interval '1 second' THEN
			PERFORM session_save(id, '{}', namespace => 'quick');
			COMMIT;
			start = clock_timestamp();
			last_use = start;
		END IF;
		found = session_get(id, 'quick') IS NOT NULL;
		COMMIT;
		IF NOT found AND clock_timestamp() - last_use < interval '1 second' THEN
			RAISE EXCEPTION 'a session in use ended';
		END IF;
		EXIT WHEN clock_timestamp() > give_up OR clock_timestamp() - start > interval '6 seconds';
		IF found THEN
			last_use = clock_timestamp();
		END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;
END
$$;
CALL pg_temp.use('used');
-- The same for a reader with an old snapshot, and for the transaction that created or changed the session:
-- each reads for three lifetimes. (If this test itself was delayed, the result does not count.)
CREATE FUNCTION pg_temp.ends_in_use(id text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	start timestamptz = clock_timestamp();
	last_use timestamptz = start;
	found boolean;
BEGIN
	LOOP
		found = session_get(id, 'quick') IS NOT NULL;
		IF clock_timestamp() - last_use > interval '1 second' OR clock_timestamp() - start > interval '6 seconds' THEN
			RETURN false;
		END IF;
		IF NOT found THEN
			RETURN true;
		END IF;
		last_use = clock_timestamp();
		PERFORM pg_sleep(0.01);
	END LOOP;
END
$$;
SELECT session_save('repeatable', '{}', namespace => 'quick');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT pg_temp.ends_in_use('repeatable') AS ends_for_repeatable_read;
COMMIT;
BEGIN;
SELECT session_save('made here', '{}', namespace => 'quick');
SELECT pg_temp.ends_in_use('made here') AS ends_where_made;
COMMIT;
SELECT session_save('changed here', '{}', namespace => 'quick');
BEGIN;
SELECT session_save('changed here', '{"a": 1}', namespace => 'quick');
SELECT pg_temp.ends_in_use('changed here') AS ends_where_changed;
COMMIT;
SELECT pg_temp.wait_until($$NOT session_exists('used', 'quick')$$) AS ends_when_left_alone;

-- The recorded touches are counted, and none was dropped.
SELECT (session_health() #>> '{touches,noted}')::bigint > 0 AS noted, (session_health() #>> '{touches,dropped}')::bigint AS dropped,
	(session_health() #>> '{touches,slots}')::bigint >= (session_health() #>> '{touches,used}')::bigint AS room;

DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
