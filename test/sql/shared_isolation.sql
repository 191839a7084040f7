--
-- Shared sessions with owner isolation: rights of viewers, editors and owners, by functions and
-- by tables, and of everybody else.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
SELECT current_user AS me \gset
CREATE ROLE regress_ss_shared;
CREATE ROLE regress_ss_all BYPASSRLS;
CREATE ROLE regress_ss_bot LOGIN;
ALTER ROLE regress_ss_bot SET request.jwt.claims = '{"sub": "vic"}';
INSERT INTO session_namespaces (name, owner_isolation, cache, sliding, key_prefix) VALUES ('shared', true, 'off', false, 'shared:'), ('open', false, 'off', false, 'open:');
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO regress_ss_shared, regress_ss_all, regress_ss_bot;
GRANT SELECT, INSERT, UPDATE, DELETE ON conversation_sessions, conversation_history, conversation_history_ended, session_members TO regress_ss_shared;
GRANT SELECT ON conversation_messages, session_namespaces TO regress_ss_shared, regress_ss_bot;
GRANT SELECT ON conversation_sessions, session_members TO regress_ss_bot;
SET session_store.namespace = 'shared';

-- Sessions of alice: shared with olga as owner, ed as editor, vic as viewer, and not with sam and anon.
-- Everybody but anon has a session of their own.
SELECT session_save('s', '{"n": 1}', owner => 'alice'), session_append('s', '[{"m": 1}, {"m": 2}, {"m": 3}]'),
	session_share('s', 'olga', 'owner'), session_share('s', 'ed', 'editor'), session_share('s', 'vic');
SELECT count(session_append('own of ' || u, jsonb_build_object('m', u))), count(session_save('own of ' || u, '{}', owner => u)) FROM unnest(ARRAY['alice', 'olga', 'ed', 'vic', 'sam']) u;

-- The result of a call by somebody, or its SQLSTATE; the call is rolled back.
CREATE FUNCTION pg_temp.by(who text, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	PERFORM set_config('request.jwt.claims', CASE WHEN who = 'anon' THEN '' ELSE jsonb_build_object('sub', who)::text END, true), set_config('role', 'regress_ss_shared', true);
	EXECUTE replace(statement, '$ME', who) INTO answer;
	RAISE EXCEPTION USING ERRCODE = 'UNDO1', MESSAGE = coalesce(answer, '-');
EXCEPTION
	WHEN SQLSTATE 'UNDO1' THEN
		RETURN SQLERRM;
	WHEN OTHERS THEN
		RETURN SQLSTATE;
END
$$;
CREATE TEMP TABLE call (n int GENERATED ALWAYS AS IDENTITY, call text);
CREATE TEMP VIEW matrix AS
SELECT n, call, pg_temp.by('alice', 'SELECT ' || call) AS alice, pg_temp.by('olga', 'SELECT ' || call) AS olga, pg_temp.by('ed', 'SELECT ' || call) AS ed,
	pg_temp.by('vic', 'SELECT ' || call) AS vic, pg_temp.by('sam', 'SELECT ' || call) AS sam, pg_temp.by('anon', 'SELECT ' || call) AS anon FROM call;

-- Reading: for viewers and above.
INSERT INTO call (call) VALUES ($$session_get('s')$$), ($$version FROM session_fetch('s')$$), ($$session_exists('s')$$), ($$session_ttl('s') > '1 minute'$$), ($$pg_temp.line('s')$$), ($$pg_temp.line('s', 1, 3)$$), ($$session_tail('s')$$), ($$count(*) FROM session_window('s', 100)$$),
	($$string_agg(member, ' ') FROM session_members('s')$$), ($$session_fork('s', 'copy')$$), ($$session_count(id_like => 's')$$), ($$count(*) FROM session_list(id_like => 's')$$),
	($$session_count()$$), ($$string_agg(session_id, ', ') FROM session_list()$$);
SELECT call, alice, olga, ed, vic, sam, anon FROM matrix ORDER BY n;
TRUNCATE call;
-- Changing: for editors and above. For everybody else, calls whose effect must not be lost are an error;
-- calls that only look for a session do not find it if the caller may not see it.
INSERT INTO call (call) VALUES ($$session_save('s', '{}')$$), ($$session_save('s', '{}', ttl => '1 day', if_version => 1)$$), ($$session_save('s', '{}', if_version => -1)$$), ($$session_merge('s', '{"x": 1}')$$), ($$session_incr('s', '{n}')$$), ($$session_append('s', '{"m": 4}')$$), ($$session_append('s', '{"m": 4}', operation_id => 'op')$$),
	($$session_touch('s') IS NOT NULL$$), ($$session_touch('s', '1 day') IS NOT NULL$$), ($$session_pop('s')$$), ($$session_pop('s', 0)$$), ($$session_trim('s', 1)$$), ($$session_trim('s', 10)$$), ($$session_amend('s', 2, '{"m": 9}')$$), ($$session_compact('s', 2, '9')$$), ($$session_absorb('s', 'own of $ME')$$);
SELECT call, alice, olga, ed, vic, sam, anon FROM matrix ORDER BY n;
TRUNCATE call;
-- Ending, renaming and sharing: for owners. A member may leave.
INSERT INTO call (call) VALUES ($$session_delete('s')$$), ($$length(session_regenerate('s'))$$), ($$session_share('s', 'sam')$$), ($$session_share('s', '$ME', 'owner')$$), ($$session_share('s', 'vic', 'editor')$$),
	($$session_unshare('s', 'vic')$$), ($$session_unshare('s', 'ed')$$), ($$session_unshare('s', 'olga')$$), ($$session_unshare('s', 'nobody')$$), ($$session_unshare('s', '$ME')$$), ($$session_absorb('own of $ME', 's')$$);
SELECT call, alice, olga, ed, vic, sam, anon FROM matrix ORDER BY n;
TRUNCATE call;
-- Calls about many sessions: for the caller's own owner id, and only the caller's own sessions.
INSERT INTO call (call) VALUES ($$session_delete_all('alice')$$), ($$session_delete_all('$ME')$$), ($$session_delete_all('$ME', except_session_id => 'own of $ME')$$), ($$session_clear('shared')$$), ($$session_clear('shared', 's')$$);
SELECT call, alice, olga, ed, vic, sam, anon FROM matrix ORDER BY n;
TRUNCATE call;
-- The owner of a session: an editor can neither take nor give it, and nobody can create one for another
-- owner.
INSERT INTO call (call) VALUES ($$session_save('s', '{}', owner => '$ME')$$), ($$session_save('s', '{}', owner => 'alice')$$), ($$session_save('s', '{}', owner => 'sam')$$), ($$session_save('new', '{}', owner => 'sam')$$);
SELECT call, alice, olga, ed, vic, sam, anon FROM matrix ORDER BY n;
TRUNCATE call;
-- A missing session: the results are those without isolation, and the caller is the owner of a session
-- that begins.
INSERT INTO call (call) VALUES ($$session_get('missing')$$), ($$session_pop('missing')$$), ($$session_trim('missing', 0)$$), ($$session_fork('missing')$$), ($$session_share('missing', 'ed')$$), ($$session_unshare('missing', 'ed')$$), ($$session_delete('missing')$$), ($$session_absorb('own of $ME', 'missing')$$), ($$session_absorb('missing', 'own of $ME')$$),
	($$session_append('missing', '{}')$$), ($$session_merge('missing', '{}')$$), ($$session_incr('missing', '{n}')$$), ($$session_save('missing', '{}')$$), ($$length(session_create())$$), ($$session_save('missing', '{}', owner => '$ME')$$);
SELECT call, alice, olga, ed, vic, sam, anon FROM matrix ORDER BY n;
TRUNCATE call;
-- A session that begins with an append belongs to the caller.
BEGIN;
SET LOCAL ROLE regress_ss_shared;
SET LOCAL request.jwt.claims = '{"sub": "sam"}';
SELECT session_append('begun', '{"m": 1}');
SELECT owner_id, pg_temp.line('begun') FROM session_fetch('begun');
-- A copy belongs to the caller, and has none of the members.
SET LOCAL request.jwt.claims = '{"sub": "vic"}';
SELECT session_fork('s', 'copy');
SELECT owner_id, session_data, version, pg_temp.line('copy') FROM session_fetch('copy');
SELECT session_save('copy', '{"mine": true}'), session_share('copy', 'sam', 'editor');
SELECT member, role FROM session_members('copy');
SET LOCAL request.jwt.claims = '{"sub": "alice"}';
SELECT session_get('copy') AS not_for_alice;
ROLLBACK;
-- An id of another owner is refused without details, and so is a dead id, whether or not it was another's.
SELECT pg_temp.by('vic', $$SELECT session_fork('s', 'own of sam')$$) AS fork_onto_anothers, pg_temp.by('vic', $$SELECT session_fork('own of vic', 's')$$) AS fork_onto_a_shared;

-- Tables: a role with privileges reads what it may view, changes what it may edit, ends what it owns.
INSERT INTO call (call) VALUES ($$count(*) FROM conversation_sessions WHERE session_id = 's'$$), ($$count(*) FROM conversation_sessions WHERE namespace = 'shared'$$), ($$string_agg(seq::text, ' ' ORDER BY seq) FROM conversation_messages WHERE session_id = 's'$$), ($$string_agg(DISTINCT session_id, ', ') FROM conversation_messages$$),
	($$count(*) FROM conversation_history$$), ($$string_agg(member, ' ' ORDER BY member) FROM session_members$$);
SELECT call, alice, olga, ed, vic, sam, anon FROM matrix ORDER BY n;
TRUNCATE call;
CREATE FUNCTION pg_temp.touched(statement text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE statement;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;
INSERT INTO call (call) SELECT format('pg_temp.touched(%L)', s) FROM unnest(ARRAY[
	$$UPDATE conversation_sessions SET session_data = '{}' WHERE session_id = 's'$$, $$UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '1 day' WHERE session_id = 's'$$,
	$$UPDATE conversation_sessions SET owner_id = '$ME' WHERE session_id = 's'$$, $$UPDATE conversation_sessions SET owner_id = NULL WHERE session_id = 's'$$, $$UPDATE conversation_sessions SET owner_id = 'sam' WHERE session_id = 's'$$,
	$$UPDATE conversation_sessions SET session_id = 'moved' WHERE session_id = 's'$$, $$UPDATE conversation_sessions SET namespace = 'open' WHERE session_id = 's'$$,
	$$UPDATE conversation_sessions SET history_id = NULL WHERE session_id = 's'$$, $$UPDATE conversation_sessions SET history_id = gen_random_uuid() WHERE session_id = 's'$$,
	$$UPDATE conversation_sessions SET dead_until = clock_timestamp() + interval '1 hour' WHERE session_id = 's'$$,
	$$UPDATE conversation_sessions SET session_data = '{"all": 1}'$$,
	$$DELETE FROM conversation_sessions WHERE session_id = 's'$$, $$DELETE FROM conversation_sessions$$,
	$$INSERT INTO conversation_sessions (namespace, session_id, session_data, owner_id) VALUES ('shared', 'new', '1', '$ME')$$, $$INSERT INTO conversation_sessions (namespace, session_id, session_data, owner_id) VALUES ('shared', 'new', '1', 'alice')$$, $$INSERT INTO conversation_sessions (namespace, session_id, session_data) VALUES ('shared', 'new', '1')$$,
	$$INSERT INTO conversation_sessions (namespace, session_id, session_data) VALUES ('shared', 's', '1') ON CONFLICT (namespace, session_id) DO UPDATE SET session_data = EXCLUDED.session_data$$]) WITH ORDINALITY t(s, n) ORDER BY n;
\pset format unaligned
SELECT replace(substr(call, 17), '''''', '''') AS statement, alice, olga, ed, vic, sam, anon FROM matrix ORDER BY n;
\pset format aligned
TRUNCATE call;
-- Nobody may write to the tables of members and messages.
INSERT INTO call (call) SELECT format('pg_temp.touched(%L)', s) FROM unnest(ARRAY[
	$$UPDATE session_members SET role = 'owner' WHERE member = '$ME'$$, $$UPDATE session_members SET member = 'sam'$$, $$DELETE FROM session_members$$,
	$$UPDATE conversation_history SET message = '{}'$$, $$DELETE FROM conversation_history$$, $$DELETE FROM conversation_history_ended$$]) WITH ORDINALITY t(s, n) ORDER BY n;
SELECT history_id AS history FROM conversation_sessions WHERE session_id = 's' \gset
SELECT history_id AS of_sam FROM conversation_sessions WHERE session_id = 'own of sam' \gset
INSERT INTO call (call) SELECT format('pg_temp.touched(%L)', format(s, :'history')) FROM unnest(ARRAY[
	$$INSERT INTO session_members (history_id, member, role) VALUES (%L, 'sam', 'owner')$$,
	$$INSERT INTO conversation_history (history_id, seq, created_at, message) VALUES (%L, 4, clock_timestamp(), '{}')$$]) WITH ORDINALITY t(s, n) ORDER BY n;
SELECT replace(call, :'history', 'of s') AS call, ed, vic, sam, anon FROM matrix ORDER BY n;
SELECT replace(call, :'history', 'of s') AS call, alice, olga FROM matrix WHERE call ~ 'conversation_history' ORDER BY n;
TRUNCATE call;
-- Knowing a history_id gives no access: not to that of a living session, and not to one that is yet to be
-- purged.
CREATE FUNCTION pg_temp.take(statement text, id text, ns text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN pg_temp.line(id, namespace => ns);
END
$$;
INSERT INTO call (call) SELECT format('pg_temp.take(%L, %L, %L)', format(s, :'history'), id, ns) FROM (VALUES
	(1, $$INSERT INTO conversation_sessions (namespace, session_id, session_data, owner_id, history_id) VALUES ('shared', 'taken', '1', '$ME', %L)$$, 'taken', 'shared'),
	(2, $$INSERT INTO conversation_sessions (namespace, session_id, session_data, history_id) VALUES ('open', 'taken', '1', %L)$$, 'taken', 'open'),
	(3, $$UPDATE conversation_sessions SET history_id = %L WHERE session_id = 'own of $ME'$$, 'own of $ME', 'shared'),
	(4, $$UPDATE conversation_sessions SET history_id = %L WHERE session_id = 'mine'$$, 'mine', 'open')) t(n, s, id, ns) ORDER BY n;
BEGIN;
SELECT session_append('mine', '{"m": "mine"}', namespace => 'open');
SELECT substring(call FROM 'take..(\w+)') || ', ' || substring(call FROM '(\w+)''.$') AS by, ed !~ '1:1' AS ed, vic !~ '1:1' AS vic, sam !~ '1:1' AS sam, anon !~ '1:1' AS anon FROM matrix ORDER BY n;
SELECT session_delete('s');
SELECT substring(call FROM 'take..(\w+)') || ', ' || substring(call FROM '(\w+)''.$') AS by, ed !~ '1:1' AS ed, vic !~ '1:1' AS vic, sam !~ '1:1' AS sam, anon !~ '1:1' AS anon FROM matrix ORDER BY n;
ROLLBACK;
TRUNCATE call;
SELECT pg_temp.line('s'), version, owner_id FROM session_fetch('s');

-- List and count: the caller's own and shared sessions in one order, newest first, page by page.
BEGIN;
SELECT session_save('p' || n, to_jsonb(n), owner => CASE WHEN n % 3 = 0 THEN 'vic' ELSE 'alice' END), CASE WHEN n % 3 = 1 THEN session_share('p' || n, 'vic') END AS shared FROM generate_series(1, 9) n;
UPDATE conversation_sessions SET created_at = timestamptz '2020-01-01 00:00+00' + substr(session_id, 2)::int * interval '1 hour' WHERE session_id ~ '^p\d$';
SET LOCAL ROLE regress_ss_shared;
SET LOCAL request.jwt.claims = '{"sub": "vic"}';
SELECT string_agg(session_id || ' of ' || owner_id, ', ' ORDER BY ordinality) FROM session_list(id_like => 'p_') WITH ORDINALITY;
SELECT session_count(id_like => 'p_') AS all, session_count(owner => 'vic', id_like => 'p_') AS own, session_count(owner => 'alice', id_like => 'p_') AS of_alice, session_count(owner => 'sam') AS of_sam;
SELECT string_agg(session_id, ', ' ORDER BY ordinality) FROM session_list(owner => 'alice', id_like => 'p_') WITH ORDINALITY;
SELECT string_agg(session_id, ', ' ORDER BY ordinality) AS page, (array_agg(page_cursor ORDER BY ordinality DESC))[1] AS cursor FROM session_list(id_like => 'p_', page_size => 2) WITH ORDINALITY \gset
\echo :page
SELECT string_agg(session_id, ', ' ORDER BY ordinality) AS page, (array_agg(page_cursor ORDER BY ordinality DESC))[1] AS cursor FROM session_list(id_like => 'p_', after => :'cursor', page_size => 2) WITH ORDINALITY \gset
\echo :page
SELECT string_agg(session_id, ', ' ORDER BY ordinality) AS page, (array_agg(page_cursor ORDER BY ordinality DESC))[1] AS cursor FROM session_list(id_like => 'p_', after => :'cursor', page_size => 3) WITH ORDINALITY \gset
\echo :page
SELECT session_id FROM session_list(filter => '7');
SET LOCAL request.jwt.claims = '{"sub": "sam"}';
SELECT count(*) FROM session_list(id_like => 'p_', after => :'cursor');
ROLLBACK;

-- A regenerated session has the same members; a member who left has no access, and one who was not a
-- member has none.
BEGIN;
SET LOCAL ROLE regress_ss_shared;
SET LOCAL request.jwt.claims = '{"sub": "alice"}';
SELECT session_regenerate('s') AS new \gset
SET LOCAL request.jwt.claims = '{"sub": "vic"}';
SELECT session_get(:'new'), session_get('s') AS by_the_old_id, pg_temp.line(:'new');
SELECT session_unshare(:'new', 'vic') AS leaves;
SELECT session_get(:'new') AS left, pg_temp.line(:'new'), session_unshare(:'new', 'vic') AS again, session_count(id_like => :'new') AS counted, (SELECT count(*) FROM conversation_messages WHERE session_id = :'new') AS messages;
SELECT pg_temp.err(format('SELECT session_append(%L, ''{}'')', :'new')) AS append, pg_temp.err(format('SELECT session_save(%L, ''{}'')', :'new')) AS save;
SET LOCAL request.jwt.claims = '{"sub": "olga"}';
SELECT session_share(:'new', 'sam', 'editor');
SET LOCAL request.jwt.claims = '{"sub": "sam"}';
SELECT session_append(:'new', '{"m": 4}'), session_exists(:'new');
-- A new role applies at once.
SET LOCAL request.jwt.claims = '{"sub": "olga"}';
SELECT session_share(:'new', 'sam', 'viewer');
SET LOCAL request.jwt.claims = '{"sub": "sam"}';
SELECT pg_temp.err(format('SELECT session_append(%L, ''{}'')', :'new')) AS append, pg_temp.line(:'new');
-- When the session ends, its shares end.
SET LOCAL request.jwt.claims = '{"sub": "olga"}';
SELECT session_delete(:'new');
SET LOCAL request.jwt.claims = '{"sub": "ed"}';
SELECT session_get(:'new') AS get, pg_temp.line(:'new') AS history, session_touch(:'new') AS touch, session_pop(:'new') AS pop, (SELECT count(*) FROM conversation_messages WHERE session_id = :'new') AS messages, (SELECT count(*) FROM session_members) AS members;
SELECT pg_temp.err(format('SELECT session_append(%L, ''{}'')', :'new')) IN ('SST10', '42501') AS append_refused;
ROLLBACK;

-- As PostgREST calls for a GET: READ ONLY, with a role and claims for the transaction.
BEGIN READ ONLY;
SET LOCAL ROLE regress_ss_shared;
SET LOCAL request.jwt.claims = '{"sub": "vic", "role": "authenticated"}';
SELECT session_get('s'), pg_temp.line('s'), session_exists('own of sam') AS of_sam;
SELECT session_id, owner_id, message_count FROM session_list();
SELECT member, role FROM session_members('s');
SELECT session_id, seq, message FROM conversation_messages ORDER BY session_id, seq;
COMMIT;
BEGIN READ ONLY;
SET LOCAL ROLE regress_ss_shared;
SELECT session_get('s'), pg_temp.line('s'), session_count(), (SELECT count(*) FROM conversation_messages) AS messages, (SELECT count(*) FROM session_members) AS members;
COMMIT;

-- Roles with BYPASSRLS are exempt, with any claims or none.
BEGIN;
SET LOCAL ROLE regress_ss_all;
SELECT session_get('s'), pg_temp.line('own of sam'), session_count() AS all_of_them;
SELECT session_append('s', '{"m": 4}'), session_share('s', 'sam', 'editor'), session_unshare('s', 'ed'), session_save('own of sam', '{}', owner => 'vic');
SELECT session_fork('s', 'copy'), session_absorb('own of sam', 's');
SELECT session_id, owner_id, pg_temp.line(session_id) FROM session_list() WHERE session_id IN ('copy', 'own of sam') ORDER BY session_id;
ROLLBACK;

-- In other namespaces the list of members has no effect on access.
BEGIN;
SELECT session_append('o', '{"m": 1}', namespace => 'open'), session_share('o', 'vic', namespace => 'open');
SET LOCAL ROLE regress_ss_shared;
SET LOCAL request.jwt.claims = '{"sub": "sam"}';
SELECT pg_temp.line('o', namespace => 'open'), session_append('o', '{"m": 2}', namespace => 'open'), session_share('o', 'sam', 'owner', 'open'), session_delete('o', 'open');
ROLLBACK;

-- A role can have a subject in its settings.
\c - regress_ss_bot
\i :helpers
SET session_store.namespace = 'shared';
SELECT session_get('s'), pg_temp.line('s'), session_get('own of sam') AS of_sam, session_count();
SELECT pg_temp.err($$SELECT session_append('s', '{}')$$) AS append, session_append('own of vic', '{"m": 2}');
SELECT session_id, count(*) FROM conversation_messages GROUP BY session_id ORDER BY session_id;
SELECT member, role FROM session_members ORDER BY member;
\c - :me
\i :helpers

DELETE FROM conversation_sessions;
SELECT pg_temp.wait_until($$session_purge() >= 0 AND NOT EXISTS (SELECT FROM conversation_history_ended)$$) AS nothing_left;
DELETE FROM session_namespaces;
DROP OWNED BY regress_ss_shared, regress_ss_all, regress_ss_bot;
DROP ROLE regress_ss_shared, regress_ss_all, regress_ss_bot;
