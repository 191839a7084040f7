--
-- Results of functions for an id that is absent, alive, expired, dead or purged, and by
-- if_version: the table in docs/reference.md.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, tombstone) VALUES ('st', '5 minutes');
SET session_store.namespace = 'st';
-- The result of a call about an id in a given state; the call is rolled back.
CREATE FUNCTION pg_temp.in_state(state text, call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	BEGIN
		IF state <> 'absent' THEN
			PERFORM session_save('x', '{"a": 1}', ttl => CASE WHEN state IN ('expired', 'purged') THEN interval '1 ms' ELSE '1 hour' END);
		END IF;
		IF state = 'dead' THEN
			PERFORM session_delete('x');
		ELSIF state IN ('expired', 'purged') THEN
			WHILE session_exists('x') LOOP
				PERFORM pg_sleep(0.001);
			END LOOP;
		END IF;
		IF state = 'held' THEN
			UPDATE conversation_sessions SET turn = 7, turn_until = clock_timestamp() + interval '1 hour' WHERE session_id = 'x';
		END IF;
		IF state = 'purged' THEN
			DELETE FROM conversation_sessions WHERE session_id = 'x';
		END IF;
		answer = pg_temp.answer('SELECT ' || call);
		RAISE EXCEPTION USING ERRCODE = 'UNDO1';
	EXCEPTION WHEN SQLSTATE 'UNDO1' THEN
		RETURN answer;
	END;
END
$$;
SELECT call, pg_temp.in_state('absent', call) AS absent, pg_temp.in_state('alive', call) AS alive, pg_temp.in_state('expired', call) AS expired, pg_temp.in_state('dead', call) AS dead, pg_temp.in_state('purged', call) AS purged
FROM unnest(ARRAY[$$session_save('x', '{}')$$,$$session_save('x', '{}', if_version => 0)$$,$$session_save('x', '{}', if_version => 1)$$,$$session_save('x', '{}', if_version => 7)$$,$$session_save('x', '{}', if_version => -1)$$,
$$session_merge('x', '{"b":2}')$$,$$session_merge('x', '{"b":2}', if_version => 0)$$,$$session_merge('x', '{"b":2}', if_version => 1)$$,$$session_merge('x', '{"b":2}', if_version => 7)$$,$$session_merge('x', '{"b":2}', if_version => -1)$$,
$$session_incr('x', '{n}')$$,$$session_append('x', '{"m":1}')$$,$$session_delete('x')$$,$$session_get('x')$$,$$session_touch('x') IS NOT NULL$$,
$$session_take('x')$$,$$(SELECT session_data FROM session_get_many('{x}'))$$,$$session_regenerate('x', new_session_id => 'sixteen bytes...')$$,
$$session_turn_begin('x') IS NOT NULL$$,$$(SELECT count(*) FROM session_turn('x'))$$,$$session_turn_renew('x', 7)$$,$$session_turn_end('x', 7)$$,
$$session_save('x', '{}', turn => 7)$$,$$session_save('x', '{}', if_version => 0, turn => 7)$$,$$session_merge('x', '{}', turn => 7)$$,$$session_incr('x', '{n}', turn => 7)$$,$$session_append('x', '{"m":1}', turn => 7)$$,
$$session_pop('x', turn => 7)$$,$$session_trim('x', 1, turn => 7)$$,$$session_replace_tail('x', 1, '[]', turn => 7)$$,$$session_amend('x', 1, '{}', turn => 7)$$,$$session_compact('x', 1, '"s"', turn => 7)$$]) call;
-- With the turn held.
SELECT call, pg_temp.in_state('held', call) AS held
FROM unnest(ARRAY[$$session_turn_begin('x')$$,$$(SELECT count(*) FROM session_turn('x'))$$,$$session_turn_renew('x', 7)$$,$$session_turn_end('x', 7)$$,$$session_save('x', '{}', turn => 7)$$,$$session_merge('x', '{}', turn => 7)$$,
$$session_incr('x', '{n}', turn => 7)$$,$$session_append('x', '{"m":1}', turn => 7)$$,$$session_pop('x', turn => 7)$$,$$session_trim('x', 1, turn => 7)$$,$$session_replace_tail('x', 1, '[]', turn => 7)$$,$$session_amend('x', 1, '{}', turn => 7)$$]) call;
DELETE FROM session_namespaces;
