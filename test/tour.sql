--
-- A tour of session_store in a minute: ./dev up shows it, ./dev test runs it.
--
-- Each step is a caption, the SQL and its answer. The tour stops at the first
-- surprise, so it is a test too; it can be taken again in the same database.
--
\set QUIET on
\set ON_ERROR_STOP on
\set SHOW_CONTEXT never
\pset pager off
\pset footer off
\pset null '(null)'

-- What an earlier tour left behind goes, tombstones included.
DELETE FROM conversation_sessions WHERE session_id LIKE 'tour-%';

\echo
\echo '=== 1. Save: any JSON document under an id. The answer is its version.'
\set ECHO queries
SELECT session_save('tour-alice', '{"user": "alice", "cart": {"apples": 2}}', ttl => '30 minutes');

\echo '=== 2. Get: what is missing or expired is NULL, never an error.'
SELECT session_get('tour-alice') AS alice, session_get('tour-nobody') AS nobody;

\echo '=== 3. Sliding expiry: a second passes, then a read starts the 30 minutes anew.'
\set ECHO none
DO $$
DECLARE
	deadline timestamptz = clock_timestamp() + interval '10 seconds';
BEGIN
	WHILE session_ttl('tour-alice') > interval '29 minutes 59 seconds' LOOP
		IF clock_timestamp() > deadline THEN
			RAISE EXCEPTION 'the session does not age';
		END IF;
		PERFORM pg_sleep(0.05);
	END LOOP;
END
$$;
\set ECHO queries
SELECT session_ttl('tour-alice') AS left_before;
SELECT session_get('tour-alice') AS alice;
SELECT session_ttl('tour-alice') AS left_after;

\echo '=== 4. Versions: a save that expects version 1 succeeds and makes it version 2 ..'
SELECT session_save('tour-alice', '{"user": "alice", "cart": {"apples": 3}}', if_version => 1);

\echo '    .. so the next one that expects version 1 comes too late and overwrites nothing.'
\set ON_ERROR_STOP off
SELECT session_save('tour-alice', '{"user": "alice", "cart": {}}', if_version => 1);
\set sqlstate :SQLSTATE
\set ON_ERROR_STOP on
\set ECHO none
\echo '    SQLSTATE' :sqlstate
\echo
SELECT :'sqlstate' = '40001' AS as_told \gset
\if :as_told
\else
	DO $$ BEGIN RAISE EXCEPTION 'expected SQLSTATE 40001, the version conflict'; END $$;
\endif

\echo '=== 5. Merge and count: parallel requests do not lose each other''s keys.'
\set ECHO queries
SELECT session_merge('tour-alice', '{"cart": {"pears": 1}, "theme": "dark"}');
SELECT session_incr('tour-alice', '{attempts}', max => 2) AS first,
	   session_incr('tour-alice', '{attempts}', max => 2) AS second,
	   session_incr('tour-alice', '{attempts}', max => 2) AS over_the_ceiling;
SELECT session_get('tour-alice') AS alice;

\echo '=== 6. A conversation: messages are appended beside the session; a retry appends once.'
SELECT session_append('tour-alice', '[{"role": "user", "text": "Is there tea?"}, {"role": "assistant", "text": "Green."}]', operation_id => 'turn-1') AS last_seq;
SELECT session_append('tour-alice', '[{"role": "user", "text": "Is there tea?"}, {"role": "assistant", "text": "Green."}]', operation_id => 'turn-1') AS last_seq_of_the_retry;
SELECT seq, message ->> 'role' AS role, message ->> 'text' AS text FROM session_history('tour-alice', last => 2);

\echo '=== 7. Expiry: a session of one second. It is gone on time, purged or not.'
SELECT session_save('tour-brief', '{"gone": "soon"}', ttl => '1 second');
\set ECHO none
DO $$
DECLARE
	deadline timestamptz = clock_timestamp() + interval '10 seconds';
BEGIN
	WHILE session_exists('tour-brief') LOOP
		IF clock_timestamp() > deadline THEN
			RAISE EXCEPTION 'the session does not expire';
		END IF;
		PERFORM pg_sleep(0.05);
	END LOOP;
END
$$;
\set ECHO queries
SELECT session_exists('tour-brief'), session_get('tour-brief');

\echo '=== 8. Purge: removes expired rows. A worker calls it by itself, and may have been first.'
SELECT session_purge();
SELECT count(*) AS rows_left FROM conversation_sessions WHERE session_id = 'tour-brief';

\echo '=== 9. Delete sticks: a late request cannot bring a logged-out session back.'
SELECT session_delete('tour-alice');
\set ON_ERROR_STOP off
SELECT session_save('tour-alice', '{"user": "alice"}');
\set sqlstate :SQLSTATE
\set ON_ERROR_STOP on
\set ECHO none
\echo '    SQLSTATE' :sqlstate
\echo
SELECT :'sqlstate' = 'SST10' AS as_told \gset
\if :as_told
\else
	DO $$ BEGIN RAISE EXCEPTION 'expected SQLSTATE SST10, the dead id'; END $$;
\endif

\echo '=== 10. Health: is everything as it should be, and if not, what to do.'
\set ECHO queries
SELECT jsonb_pretty(session_health()) AS health;
