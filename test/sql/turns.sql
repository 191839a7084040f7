--
-- Turns: who may write to a session now. A token that is not valid any more changes nothing.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, sliding, ttl, audit, tombstone) VALUES ('t', false, '2 hours', true, '5 minutes');
INSERT INTO session_namespaces (name, turns) VALUES ('req', 'required');
INSERT INTO session_namespaces (name) VALUES ('other');
SET session_store.namespace = 't';
-- The tokens of a session in the order in which they were given, by number.
CREATE TEMP TABLE token (n int GENERATED ALWAYS AS IDENTITY, id text, token bigint);
CREATE FUNCTION pg_temp.begun(id text, ttl interval = '1 hour', holder text = NULL, namespace text = NULL) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	given bigint = session_turn_begin(id, ttl, holder => holder, namespace => namespace);
	before bigint = max(t.token) FROM token t WHERE t.id = begun.id;
BEGIN
	IF given <= before THEN
		RAISE EXCEPTION 'token % after %', given, before;
	END IF;
	IF given IS NOT NULL THEN
		INSERT INTO token (id, token) VALUES (id, given);
	END IF;
	RETURN given IS NOT NULL;
END
$$;
-- The token of the turn that was given last, or as many turns before.
CREATE FUNCTION pg_temp.turn(id text, before int = 0) RETURNS bigint LANGUAGE sql AS $$
	SELECT t.token FROM token t WHERE t.id = turn.id ORDER BY n DESC OFFSET before LIMIT 1
$$;
-- The answer, or the error with its detail.
CREATE FUNCTION pg_temp.told(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
	detail text;
BEGIN
	EXECUTE statement INTO answer;
	RETURN coalesce(answer, 'NULL');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN concat_ws(': ', SQLSTATE, CASE WHEN SQLSTATE = 'SST12' THEN detail END);
END
$$;

-- The same by both ways to the row of the session.
CREATE TEMP TABLE step (n int GENERATED ALWAYS AS IDENTITY, call text, direct text, by_statements text);
INSERT INTO step (call) VALUES ($$pg_temp.begun($)$$), ($$session_save($, '{"n": 1}', '1 hour', 'ann')$$), ($$pg_temp.begun($, '1 hour', 'worker 1')$$), ($$(SELECT t.holder FROM session_turn($) t)$$),
	($$pg_temp.begun($)$$), ($$session_save($, '{"n": 2}', turn => pg_temp.turn($))$$), ($$session_merge($, '{"m": 1}', turn => pg_temp.turn($))$$), ($$session_incr($, '{n}', turn => pg_temp.turn($))$$),
	($$session_append($, '[{"m": 1}, {"m": 2}, {"m": 3}, {"m": 4}]', turn => pg_temp.turn($))$$), ($$session_amend($, 1, '{"m": "one"}', turn => pg_temp.turn($))$$), ($$session_pop($, turn => pg_temp.turn($))$$),
	($$session_replace_tail($, 1, '{"m": "three"}', turn => pg_temp.turn($))$$), ($$session_trim($, 2, turn => pg_temp.turn($))$$), ($$session_turn_renew($, pg_temp.turn($), '1 minute')$$),
	($$(SELECT t.until < clock_timestamp() + interval '2 minutes' FROM session_turn($) t)$$), ($$session_turn_renew($, 1)$$), ($$session_turn_end($, 1)$$), ($$session_save($, '{"n": 3}', turn => 1)$$),
	($$session_save($, '{"n": 3}', turn => 9000000000000000)$$), ($$session_save($, '{"n": 4}')$$), ($$session_turn_end($, pg_temp.turn($))$$), ($$session_turn_end($, pg_temp.turn($))$$),
	($$session_turn_renew($, pg_temp.turn($))$$), ($$(SELECT count(*) FROM session_turn($))$$), ($$session_save($, '{"n": 5}', turn => pg_temp.turn($))$$),
	($$pg_temp.begun($)$$), ($$session_merge($, '{}', turn => pg_temp.turn($, 1))$$), ($$session_append($, '{}', turn => pg_temp.turn($, 1))$$), ($$session_incr($, '{n}', turn => pg_temp.turn($, 1))$$),
	($$session_pop($, turn => pg_temp.turn($, 1))$$), ($$session_trim($, 0, turn => pg_temp.turn($, 1))$$), ($$session_amend($, 3, '{}', turn => pg_temp.turn($, 1))$$), ($$session_replace_tail($, 1, '[]', turn => pg_temp.turn($, 1))$$),
	($$session_save($, '{}', if_version => 1, turn => pg_temp.turn($, 1))$$), ($$session_save($, '{}', if_version => 1, turn => pg_temp.turn($))$$), ($$session_save($, '{}', if_version => 0, turn => pg_temp.turn($))$$),
	($$pg_temp.line($)$$), ($$(SELECT (f.version, f.session_data, f.owner_id, f.message_count) FROM session_fetch($) f)$$),
	-- its time passes
	($$session_turn_renew($, pg_temp.turn($), '1 ms')$$), ($$pg_temp.wait_until(format('NOT EXISTS (SELECT FROM session_turn(%L))', $))$$), ($$session_turn_renew($, pg_temp.turn($))$$), ($$session_turn_end($, pg_temp.turn($))$$),
	($$session_save($, '{}', turn => pg_temp.turn($))$$), ($$pg_temp.begun($)$$), ($$session_save($, '{"n": 6}', turn => pg_temp.turn($))$$),
	-- an end of the session ends it, and wins
	($$session_delete($)$$), ($$(SELECT count(*) FROM session_turn($))$$), ($$session_save($, '{}', turn => pg_temp.turn($))$$), ($$session_pop($, turn => pg_temp.turn($))$$), ($$session_turn_renew($, pg_temp.turn($))$$),
	($$session_turn_end($, pg_temp.turn($))$$), ($$session_turn_begin($)$$), ($$(SELECT (turn = pg_temp.turn($), turn_until, turn_holder) FROM conversation_sessions WHERE namespace = 't' AND session_id = $)$$),
	($$session_save($, '{}', if_version => 0, turn => pg_temp.turn($))$$), ($$session_save($, '{}', if_version => 0) > 6$$), ($$session_save($, '{}', turn => pg_temp.turn($))$$), ($$pg_temp.begun($)$$), ($$session_take($)$$),
	($$session_append($, '{}', turn => pg_temp.turn($))$$), ($$session_save($ || 'absent', '{}', turn => pg_temp.turn($))$$), ($$session_append($ || 'absent', '{}', turn => pg_temp.turn($))$$),
	($$session_amend($ || 'absent', 1, '{}', turn => pg_temp.turn($))$$), ($$session_replace_tail($ || 'absent', 1, '{}', turn => pg_temp.turn($))$$), ($$session_trim($ || 'absent', 1, turn => pg_temp.turn($))$$), ($$session_exists($ || 'absent')$$);
DO $$BEGIN PERFORM pg_temp.run_steps('d', 'told'); END$$;
SET session_store.direct_rows = off;
DO $$BEGIN PERFORM pg_temp.run_steps('s', 'told'); END$$;
RESET session_store.direct_rows;
SELECT call, direct, CASE WHEN by_statements IS DISTINCT FROM direct THEN by_statements END AS differs FROM step ORDER BY n;
SELECT event, count(*), count(detail ->> 'turn') AS with_turn, string_agg(detail ->> 'holder', ' ') AS holders FROM session_events WHERE session_id = 'd' AND event LIKE 'turn%' GROUP BY 1 ORDER BY 1;

-- A turn is no change: by our calls and by plain SQL, the version, the times and everything else stay.
SELECT session_save('still', '{"n": 1}'), session_append('still', '{"m": 1}');
CREATE TEMP TABLE before AS SELECT to_jsonb(s) - '{turn,turn_until,turn_holder}'::text[] AS row FROM conversation_sessions s WHERE session_id = 'still';
SELECT pg_temp.begun('still', holder => 'me'), session_turn_renew('still', pg_temp.turn('still')), session_turn_end('still', pg_temp.turn('still')), pg_temp.begun('still', '1 ms');
UPDATE conversation_sessions SET turn_until = NULL, turn_holder = 'by hand' WHERE session_id = 'still';
SELECT to_jsonb(s) - '{turn,turn_until,turn_holder}'::text[] = row AS same FROM conversation_sessions s, before WHERE session_id = 'still';
-- In plain SQL a token never decreases; what is no turn is refused.
UPDATE conversation_sessions SET turn = NULL, turn_holder = NULL WHERE session_id = 'still' RETURNING turn = pg_temp.turn('still') AS kept;
UPDATE conversation_sessions SET turn = 5 WHERE session_id = 'still' RETURNING turn = pg_temp.turn('still') AS kept;
SELECT set_clause, pg_temp.says('UPDATE conversation_sessions SET ' || set_clause || ' WHERE session_id = ''still''')
FROM (VALUES (1, $$turn = 0$$), (2, $$turn = -1$$), (3, $$turn_until = 'infinity'$$), (4, $$turn_until = '-infinity'$$), (5, $$turn_holder = ''$$), (6, $$turn_holder = E'a\tb'$$), (7, $$turn_holder = repeat('x', 201)$$)) c(n, set_clause) ORDER BY n;
UPDATE conversation_sessions SET turn = 9000000000000000, turn_until = NULL WHERE session_id = 'still';
SELECT session_turn_begin('still', '1 ms') AS after_a_token_ahead_of_the_clock;
UPDATE conversation_sessions SET turn = 9223372036854775807, turn_until = NULL WHERE session_id = 'still';
SELECT pg_temp.says($$SELECT session_turn_begin('still')$$) AS exhausted;
-- The time of a turn is counted down by hand as well, and is no change that a tombstone would refuse.
SELECT session_save('hand', '1'), pg_temp.begun('hand');
UPDATE conversation_sessions SET turn_until = clock_timestamp() WHERE session_id = 'hand';
SELECT pg_temp.told($$SELECT session_save('hand', '2', turn => pg_temp.turn('hand'))$$) AS passed, pg_temp.begun('hand');
-- A logout by hand, and a new session by hand over an expired one.
UPDATE conversation_sessions SET dead_until = clock_timestamp() + interval '1 hour' WHERE session_id = 'hand' RETURNING turn IS NOT NULL AS token, turn_until, turn_holder;
SELECT session_save('hand2', '1'), pg_temp.begun('hand2', holder => 'me');
UPDATE conversation_sessions SET expires_at = clock_timestamp() WHERE session_id = 'hand2';
SELECT (SELECT count(*) FROM session_turn('hand2')) AS held, pg_temp.told($$SELECT session_turn_begin('hand2')$$) AS begin, pg_temp.told($$SELECT session_merge('hand2', '{}', turn => pg_temp.turn('hand2'))$$) AS merge;
UPDATE conversation_sessions SET session_data = '2', expires_at = clock_timestamp() + interval '1 hour' WHERE session_id = 'hand2' RETURNING turn IS NOT NULL AS token, turn_until, turn_holder;
SELECT pg_temp.told($$SELECT session_save('hand2', '3', turn => pg_temp.turn('hand2'))$$) AS of_the_old_session, pg_temp.begun('hand2');

-- Expired, and created again by a call.
SELECT session_save('e', '1'), pg_temp.begun('e', holder => 'me');
UPDATE conversation_sessions SET expires_at = clock_timestamp() WHERE session_id = 'e';
SELECT session_save('e', '2') AS new_session, (SELECT count(*) FROM session_turn('e')) AS held, pg_temp.told($$SELECT session_save('e', '3', turn => pg_temp.turn('e'))$$) AS of_the_old_session;
SELECT pg_temp.begun('e');
SELECT pg_temp.told($$SELECT session_save('e', '4', expires_at => '2000-01-01', turn => pg_temp.turn('e', 1))$$) AS old_turn, session_save('e', '4', expires_at => '2000-01-01', turn => pg_temp.turn('e')) AS ended, session_exists('e');

-- regenerate keeps the turn under the new id; forks have none; absorb keeps that of the target. Other ends end it.
SELECT session_save('r', '{"n": 1}'), pg_temp.begun('r', holder => 'agent');
SELECT session_regenerate('r', new_session_id => 'regenerated-0123456789') AS new_id;
SELECT t.holder, session_save('regenerated-0123456789', '{"n": 2}', turn => pg_temp.turn('r')) AS saved, pg_temp.told($$SELECT session_save('r', '{}', turn => pg_temp.turn('r'))$$) AS old_id FROM session_turn('regenerated-0123456789') t;
SELECT turn = pg_temp.turn('r') AS token, turn_until, turn_holder FROM conversation_sessions WHERE session_id = 'r';
SELECT session_fork('regenerated-0123456789', 'fork') AS fork, (SELECT count(*) FROM session_turn('fork')) AS held, pg_temp.begun('fork', holder => 'of the fork');
SELECT session_absorb('fork', 'regenerated-0123456789'), (SELECT t.holder FROM session_turn('fork') t), session_incr('fork', '{n}', turn => pg_temp.turn('fork')), pg_temp.told($$SELECT session_pop('regenerated-0123456789', turn => pg_temp.turn('r'))$$) AS absorbed;
SELECT session_save(id, '1', owner => 'zoe'), pg_temp.begun(id, holder => 'me') FROM unnest(ARRAY['c1', 'c2', 'c3']) id;
SELECT session_clear('t', id_prefix => 'c1'), session_delete_all('zoe', 'c3') AS deleted, (session_forget('zoe') ->> 'sessions')::int AS forgotten;
SELECT session_id, turn = pg_temp.turn(session_id) AS token, turn_until, turn_holder, pg_temp.told(format('SELECT session_merge(%L, ''{}'', turn => pg_temp.turn(%1$L))', session_id)) AS merge FROM conversation_sessions WHERE session_id LIKE 'c_' ORDER BY 1;

-- A repeated operation answers its first result, whatever turn it gives; the turn is no part of the operation.
SELECT session_append('op', '{"m": 0}') AS created, pg_temp.begun('op');
SELECT session_append('op', '[{"m": 1}, {"m": 2}]', 'first', turn => pg_temp.turn('op')) AS first, session_replace_tail('op', 1, '{"m": 3}', operation_id => 'second', turn => pg_temp.turn('op')) AS second;
SELECT session_turn_end('op', pg_temp.turn('op'));
SELECT session_append('op', '[{"m": 1}, {"m": 2}]', 'first', turn => pg_temp.turn('op')) AS old_turn, session_append('op', '[{"m": 1}, {"m": 2}]', 'first') AS none, session_replace_tail('op', 1, '{"m": 3}', operation_id => 'second', turn => 7) AS never_given,
	pg_temp.told($$SELECT session_append('op', '{"m": 4}', 'third', turn => pg_temp.turn('op'))$$) AS another, pg_temp.told($$SELECT session_append('op', '{"m": 4}', 'first', turn => pg_temp.turn('op'))$$) AS reused, pg_temp.line('op');

-- A namespace can require turns of changes by these calls, but not to create a session, to end it or to read it.
SET session_store.namespace = 'req';
SELECT session_save('q', '{"n": 1}'), session_append('q2', '{"m": 1}', owner => 'ann'), session_merge('q3', '{"n": 1}'), session_incr('q4', '{n}'), session_create('{}') <> '' AS created;
SELECT call, pg_temp.told('SELECT ' || call) AS without, CASE WHEN call LIKE '%)' THEN pg_temp.told('SELECT ' || left(call, -1) || ', turn => 1)') END AS invalid
FROM unnest(ARRAY[$$session_save('q', '{}')$$, $$session_save('q', '{}', if_version => 1)$$, $$session_save('q', '{}', expires_at => '2000-01-01')$$, $$session_merge('q', '{}')$$, $$session_incr('q', '{n}')$$, $$session_append('q', '{}')$$, $$session_append('q', '{}', 'op')$$,
	$$session_pop('q')$$, $$session_pop('q2')$$, $$session_trim('q', 9)$$, $$session_amend('q', 1, '{}')$$, $$session_amend('q2', 1, '{}')$$, $$session_replace_tail('q', 0, '[]')$$, $$session_pop('absent')$$, $$session_trim('absent', 1)$$]) WITH ORDINALITY c(call, n) ORDER BY n;
SELECT pg_temp.begun('q2'), session_amend('q2', 1, '{"m": "one"}', turn => pg_temp.turn('q2')), session_append('q2', '{"m": 2}', 'op', turn => pg_temp.turn('q2')), session_append('q2', '{"m": 2}', 'op') AS repeated;
SELECT session_get('q'), session_touch('q') IS NOT NULL AS touched, session_fork('q2', 'q5'), session_share('q2', 'bob'), session_regenerate('q3') <> '' AS regenerated, session_take('q4'), session_delete('q');
SELECT session_save('q', '{"n": 2}', if_version => 0) > 1 AS created_again;
UPDATE session_namespaces SET turns = 'optional' WHERE name = 'req';
SELECT session_save('q2', '{}');
SELECT pg_temp.err($$UPDATE session_namespaces SET turns = 'always' WHERE name = 'req'$$), pg_temp.err($$UPDATE session_namespaces SET turns = NULL WHERE name = 'req'$$);
SET session_store.namespace = 't';

-- Bad input: each kind has an error.
SELECT session_save('bad', '{}');
SELECT call, pg_temp.says('SELECT ' || call)
FROM (VALUES (1, $$session_turn_begin(NULL)$$), (2, $$session_turn_begin('')$$), (3, $$session_turn_begin(repeat('x', 201))$$), (4, $$session_turn_begin(E'a\n')$$), (5, $$session_turn_begin('bad', namespace => 'no such')$$),
	(6, $$session_turn_begin('bad', NULL)$$), (7, $$session_turn_begin('bad', '0')$$), (8, $$session_turn_begin('bad', '-1 s')$$), (9, $$session_turn_begin('bad', '1 month')$$), (10, $$session_turn_begin('bad', '1000000 days')$$),
	(11, $$session_turn_begin('bad', wait => NULL)$$), (12, $$session_turn_begin('bad', wait => '-1 ms')$$), (13, $$session_turn_begin('bad', wait => '25 hours')$$), (14, $$session_turn_begin('bad', wait => '1 month')$$),
	(15, $$session_turn_begin('bad', holder => '')$$), (16, $$session_turn_begin('bad', holder => repeat('x', 201))$$), (17, $$session_turn_begin('bad', holder => E'a\tb')$$),
	(18, $$session_turn_renew(NULL, 1)$$), (19, $$session_turn_renew('bad', NULL)$$), (20, $$session_turn_renew('bad', 0)$$), (21, $$session_turn_renew('bad', 1, '0')$$), (22, $$session_turn_renew('bad', 1, NULL)$$), (23, $$session_turn_renew('bad', 1, namespace => 'no such')$$),
	(24, $$session_turn_end(NULL, 1)$$), (25, $$session_turn_end('bad', NULL)$$), (26, $$session_turn_end('bad', -5)$$), (27, $$session_turn_end('bad', 1, 'no such')$$), (28, $$session_turn('')$$), (29, $$session_turn('bad', 'no such')$$), (30, $$session_turn(NULL, 'no such')$$),
	(31, $$session_save('bad', '{}', turn => 0)$$), (32, $$session_merge('bad', '{}', turn => -1)$$), (33, $$session_incr('bad', '{n}', turn => 0)$$), (34, $$session_append('bad', '{}', turn => 0)$$), (35, $$session_pop('bad', turn => 0)$$), (36, $$session_trim('bad', 1, turn => 0)$$),
	(37, $$session_amend('bad', 1, '{}', turn => 0)$$), (38, $$session_replace_tail('bad', 1, '[]', turn => 0)$$)) c(n, call) ORDER BY n;
SELECT count(*) AS null_id FROM session_turn(NULL);
SELECT pg_temp.says($$SELECT session_save('bad', '{}', turn => 1)$$) AS never_begun, pg_temp.begun('bad', '1 ms', repeat('x', 200)) AS longest_holder;
SELECT version AS changed FROM session_fetch('bad');

-- Rollback and savepoint rollback; every isolation level; READ ONLY.
SELECT session_save('tx', '{"n": 1}');
BEGIN;
SELECT pg_temp.begun('tx') AS rolled_back;
ROLLBACK;
SELECT count(*) AS held FROM session_turn('tx');
BEGIN;
SAVEPOINT a;
SELECT session_turn_begin('tx', holder => 'gone') > 0 AS begun;
ROLLBACK TO a;
SELECT pg_temp.begun('tx', holder => 'stays'), session_save('tx', '{"n": 2}', turn => pg_temp.turn('tx'));
SAVEPOINT b;
SELECT session_turn_end('tx', pg_temp.turn('tx')), pg_temp.told($$SELECT session_save('tx', '{"n": 3}', turn => pg_temp.turn('tx'))$$) AS ended, session_turn_begin('tx') > 0 AS another;
ROLLBACK TO b;
SELECT t.holder, session_save('tx', '{"n": 4}', turn => pg_temp.turn('tx')) FROM session_turn('tx') t;
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT session_save('tx', '{"n": 5}', turn => pg_temp.turn('tx')), session_turn_renew('tx', pg_temp.turn('tx'), '1 hour'), session_turn_end('tx', pg_temp.turn('tx')), pg_temp.begun('tx');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT session_incr('tx', '{n}', turn => pg_temp.turn('tx')), (SELECT count(*) FROM session_turn('tx')) AS held;
COMMIT;
BEGIN READ ONLY;
SELECT call, pg_temp.err('SELECT ' || call) FROM unnest(ARRAY[$$session_turn_begin('tx')$$, $$session_turn_begin('absent')$$, $$session_turn_renew('tx', 1)$$, $$session_turn_end('tx', 1)$$, $$session_turn('tx')$$]) call;
COMMIT;
-- A transaction that has written must not wait, whatever there is to wait for.
BEGIN;
SELECT session_save('tx', '{"n": 6}');
SELECT pg_temp.says($$SELECT session_turn_begin('tx', wait => '1 s')$$) AS busy, pg_temp.err($$SELECT session_turn_begin('absent', wait => '1 ms')$$) AS absent, pg_temp.err($$SELECT session_turn_begin('tx')$$) AS without_wait;
ROLLBACK;

-- Somebody else's trigger that keeps the row: an error, and no turn.
SELECT session_save('kept', '{}');
CREATE FUNCTION regress_ss_keep() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$BEGIN RETURN NULL; END$$;
CREATE TRIGGER regress_ss_keep BEFORE UPDATE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION regress_ss_keep();
SELECT pg_temp.err($$SELECT session_turn_begin('kept')$$) AS skipped, (SELECT count(*) FROM session_turn('kept')) AS held;
DROP TRIGGER regress_ss_keep ON conversation_sessions;
DROP FUNCTION regress_ss_keep();
-- A large document stays where it is.
SELECT session_save('large', (SELECT jsonb_agg(md5(n::text)) FROM generate_series(1, 5000) n)), pg_temp.begun('large'), session_turn_renew('large', pg_temp.turn('large'));
SELECT jsonb_array_length(session_get('large')) AS length;

-- Owner isolation: editors may, viewers see who holds the turn, and for everybody else there is no such session.
INSERT INTO session_namespaces (name, owner_isolation, cache) VALUES ('iso', true, 'off');
CREATE ROLE regress_ss_web;
GRANT EXECUTE ON FUNCTION session_turn_begin, session_turn_renew, session_turn_end, session_turn, session_merge, session_pop TO regress_ss_web;
SELECT session_save('of ann', '{}', owner => 'ann', namespace => 'iso'), session_share('of ann', 'ed', 'editor', 'iso'), session_share('of ann', 'vic', 'viewer', 'iso');
CREATE FUNCTION pg_temp.by(who text, call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	PERFORM set_config('request.jwt.claims', CASE WHEN who <> '' THEN jsonb_build_object('sub', who)::text ELSE '' END, true), set_config('role', 'regress_ss_web', true);
	answer = pg_temp.told('SELECT ' || call);
	RESET ROLE;
	RETURN answer;
END
$$;
SELECT session_turn_begin('of ann', '1 hour', holder => 'agent', namespace => 'iso') AS token \gset
SELECT who, pg_temp.by(who, $$(SELECT t.holder FROM session_turn('of ann', 'iso') t)$$) AS turn, pg_temp.by(who, $$session_turn_begin('of ann', namespace => 'iso')$$) AS busy, pg_temp.by(who, format($$session_turn_renew('of ann', %s, '1 hour', 'iso')$$, :token)) AS renew,
	pg_temp.by(who, $$session_merge('of ann', '{}', namespace => 'iso', turn => 1)$$) AS merge, pg_temp.by(who, $$session_pop('of ann', namespace => 'iso', turn => 1)$$) AS pop
FROM (VALUES (1, 'sam'), (2, ''), (3, 'vic'), (4, 'ann'), (5, 'ed')) w(n, who) ORDER BY n;
SELECT pg_temp.by('vic', format($$session_turn_end('of ann', %s, 'iso')$$, :token)) AS viewer, pg_temp.by('sam', format($$session_turn_end('of ann', %s, 'iso')$$, :token)) AS stranger, pg_temp.by('ed', format($$session_turn_end('of ann', %s, 'iso')$$, :token)) AS editor;
SELECT who, pg_temp.by(who, $$session_turn_begin('of ann', '1 hour', namespace => 'iso') > 0$$) AS free FROM (VALUES (1, 'sam'), (2, ''), (3, 'vic'), (4, 'ed')) w(n, who) ORDER BY n;
SELECT session_delete('of ann', 'iso'), pg_temp.by('sam', $$session_turn_begin('of ann', namespace => 'iso')$$) AS dead;
UPDATE session_namespaces SET owner_isolation = false, allowed_roles = '{pg_monitor}' WHERE name = 'iso';
SELECT pg_temp.by('ann', call) AS not_allowed FROM unnest(ARRAY[$$session_turn_begin('x', namespace => 'iso')$$, $$session_turn_renew('x', 1, namespace => 'iso')$$, $$session_turn_end('x', 1, 'iso')$$, $$session_turn('x', 'iso')$$, $$session_turn(NULL, 'iso')$$]) call;
-- A role that was granted the table sets none of its columns.
GRANT SELECT, INSERT, UPDATE ON conversation_sessions TO regress_ss_web;
GRANT EXECUTE ON FUNCTION session_may TO regress_ss_web;
SELECT set_clause, pg_temp.by('', format($$pg_temp.says('UPDATE conversation_sessions SET %s WHERE session_id = ''tx''')$$, replace(set_clause, '''', ''''''))) AS update
FROM unnest(ARRAY['turn = 9000000000000000', 'turn_until = clock_timestamp()', $$turn_holder = 'x'$$]) set_clause;
SELECT pg_temp.by('', $$pg_temp.says('INSERT INTO conversation_sessions (session_id, session_data, turn) VALUES (''mine'', ''1'', 1)')$$) AS insert;

DROP OWNED BY regress_ss_web;
DROP ROLE regress_ss_web;
DELETE FROM conversation_sessions;
SELECT pg_temp.wait_until($$session_purge() >= 0 AND NOT EXISTS (SELECT FROM conversation_history_ended)$$) AS nothing_left;
DELETE FROM session_events;
DELETE FROM session_namespaces;
