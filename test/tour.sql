--
-- A tour of session_store in a minute: ./dev up shows it, ./dev test runs it.
--
-- Each step is a caption, the SQL and its answer. The tour stops at the first
-- surprise, so it is a test too; it can be repeated in the same database.
-- Together with tour.sh it fits two screens of 50 lines.
--
\set QUIET on
\set ON_ERROR_STOP on
\set SHOW_CONTEXT never
\pset pager off
\pset tuples_only on
\pset format unaligned
\pset fieldsep '  |  '
\pset null '(null)'

-- Remove what an earlier tour left, tombstones included.
DELETE FROM conversation_sessions WHERE session_id LIKE 'tour-%';

-- Waits for a condition on a session to become true.
CREATE FUNCTION pg_temp.wait_until(condition text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	deadline timestamptz = clock_timestamp() + interval '20 seconds';
	holds boolean = false;
BEGIN
	WHILE NOT holds LOOP
		IF clock_timestamp() > deadline THEN
			RAISE EXCEPTION 'not within 20 seconds: %', condition;
		END IF;
		PERFORM pg_sleep(0.05);
		EXECUTE 'SELECT ' || condition INTO holds;
	END LOOP;
END
$$;

\echo
\echo '=== 1. Save: any JSON document under an id. The answer is its version.'
\set ECHO queries
SELECT session_save('tour-alice', '{"user": "alice", "cart": {"apples": 2}}', ttl => '30 minutes');

\echo '=== 2. Get: a missing or expired session is NULL, not an error.'
SELECT session_get('tour-alice'), session_get('tour-nobody');

\echo '=== 3. Sliding expiry: a read restarts the 30 minutes (less a second, then again in full).'
\set ECHO none
SELECT pg_temp.wait_until($$session_ttl('tour-alice') < interval '29 minutes 59 seconds'$$) \g /dev/null
\set ECHO queries
SELECT date_trunc('second', session_ttl('tour-alice'));
SELECT session_get('tour-alice') IS NOT NULL, date_trunc('second', session_ttl('tour-alice') + '0.5 seconds');

\echo '=== 4. Versions: a save that expects version 1 makes it version 2; the next one is too late.'
SELECT session_save('tour-alice', '{"user": "alice", "cart": {"apples": 3}}', if_version => 1);
\set ON_ERROR_STOP off
SELECT session_save('tour-alice', '{"user": "alice", "cart": {}}', if_version => 1);
\set sqlstate :SQLSTATE
\set ON_ERROR_STOP on
\set ECHO none
\echo 'SQLSTATE' :sqlstate
SELECT :'sqlstate' = '40001' AS as_told \gset
\if :as_told
\else
	DO $$ BEGIN RAISE EXCEPTION 'expected SQLSTATE 40001, the version conflict'; END $$;
\endif

\echo '=== 5. Merge and count: concurrent requests do not overwrite each other''s members.'
\set ECHO queries
SELECT session_merge('tour-alice', '{"cart": {"pears": 1}, "theme": "dark"}');
SELECT session_incr('tour-alice', '{attempts}', max => 1), session_incr('tour-alice', '{attempts}', max => 1);

\echo '=== 6. A conversation: messages are appended beside the session; a repeated append is done once.'
SELECT session_append('tour-alice', '[{"text": "Is there tea?"}, {"text": "Green."}]', operation_id => 'turn-1');
SELECT session_append('tour-alice', '[{"text": "Is there tea?"}, {"text": "Green."}]', operation_id => 'turn-1');
SELECT seq, message ->> 'text' FROM session_history('tour-alice', last => 2);

\echo '=== 7. Expiry: a session of one second is gone in time, purged or not; the purge removes its row.'
SELECT session_save('tour-brief', '{"gone": "soon"}', ttl => '1 second');
\set ECHO none
SELECT pg_temp.wait_until($$NOT session_exists('tour-brief')$$) \g /dev/null
SELECT session_purge() \g /dev/null
\set ECHO queries
SELECT session_get('tour-brief'), (SELECT count(*) FROM conversation_sessions WHERE session_id = 'tour-brief') AS rows;

\echo '=== 8. Logout sticks: a late request cannot revive a deleted session.'
SELECT session_delete('tour-alice');
\set ON_ERROR_STOP off
SELECT session_save('tour-alice', '{"user": "alice"}');
\set sqlstate :SQLSTATE
\set ON_ERROR_STOP on
\set ECHO none
\echo 'SQLSTATE' :sqlstate
SELECT :'sqlstate' = 'SST10' AS as_told \gset
\if :as_told
\else
	DO $$ BEGIN RAISE EXCEPTION 'expected SQLSTATE SST10, the dead id'; END $$;
\endif
