--
-- Shares that the member has not accepted do not appear in its listings and cost them nothing.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
CREATE ROLE regress_ss_user;
CREATE ROLE regress_ss_service BYPASSRLS;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO regress_ss_user, regress_ss_service;
INSERT INTO session_namespaces (name, owner_isolation, cache, sliding, ttl) VALUES ('unasked', true, 'off', false, '1 day');
SET session_store.namespace = 'unasked';

-- A call by somebody.
CREATE FUNCTION pg_temp.by(who text, expression text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	PERFORM set_config('request.jwt.claims', jsonb_build_object('sub', who)::text, true), set_config('role', 'regress_ss_user', true);
	EXECUTE 'SELECT ' || expression INTO answer;
	PERFORM set_config('role', 'none', true);
	RETURN answer;
END
$$;
-- The number of pages that a call by somebody reads once its plan has been made: the minimum of three
-- runs, because another session may make the server read its catalogs again at any time.
CREATE FUNCTION pg_temp.pages(who text, expression text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	plan json;
	least_pages bigint;
BEGIN
	PERFORM pg_temp.by(who, expression);
	PERFORM set_config('request.jwt.claims', jsonb_build_object('sub', who)::text, true), set_config('role', 'regress_ss_user', true);
	FOR i IN 1 .. 3 LOOP
		EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT ' || expression INTO plan;
		least_pages := least(least_pages, (plan -> 0 -> 'Plan' ->> 'Shared Hit Blocks')::bigint + (plan -> 0 -> 'Plan' ->> 'Shared Read Blocks')::bigint);
	END LOOP;
	PERFORM set_config('role', 'none', true);
	RETURN least_pages;
END
$$;

SELECT count(session_save('bob' || n, '{}', owner => 'bob')), count(session_append('bob' || n, '{"m": 1}')) FROM generate_series(1, 20) n;
-- The calls of the member who is the target.
CREATE TEMP TABLE call (n int GENERATED ALWAYS AS IDENTITY, call text, before bigint);
INSERT INTO call (call) VALUES ('count(*) FROM session_list()'), ($$count(*) FROM session_list(owner => 'bob')$$), ($$count(*) FROM session_list(owner => 'mallory')$$), ($$count(*) FROM session_list(filter => '{}')$$),
	('session_count()'), ($$session_count(owner => 'mallory')$$), ($$session_get('bob7')$$), ($$session_save('bob7', '{}')$$), ($$session_share('bob7', 'carol')$$), ($$count(*) FROM session_members('bob7')$$),
	($$session_create('{}')$$), ($$session_delete_all('bob', except_session_id => 'bob7')$$);
-- The pages that they read; rolled back, so that each run finds the same sessions.
CREATE FUNCTION pg_temp.measure(OUT n int, OUT pages bigint) RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	BEGIN
		SELECT json_object_agg(c.n, pg_temp.pages('bob', c.call)) INTO result FROM (SELECT * FROM call c ORDER BY c.n) c;
		RAISE EXCEPTION USING ERRCODE = 'UNDO1', MESSAGE = result;
	EXCEPTION WHEN SQLSTATE 'UNDO1' THEN
		RETURN QUERY SELECT key::int, value::bigint FROM json_each_text(SQLERRM::json);
	END;
END
$$;
CREATE TEMP TABLE measured AS SELECT * FROM pg_temp.measure();
SELECT count(*) AS calls, min(pages) > 0 AS counted FROM measured;

-- 50,000 shares, some made by calls, the others as calls leave them.
SELECT count(pg_temp.by('mallory', format('session_save(%L, ''{}'')', 'mal' || n))) AS made, count(*) FILTER (WHERE pg_temp.by('mallory', format('session_share(%L, ''bob'', ''owner'')', 'mal' || n)) = 'true') AS shared FROM generate_series(1, 500) n;
SELECT member, role, accepted, count(*) FROM session_members WHERE member = 'bob' GROUP BY 1, 2, 3;
INSERT INTO conversation_sessions (namespace, session_id, session_data, owner_id, history_id) SELECT 'unasked', 'mal' || n, '{}', 'mallory', gen_random_uuid() FROM generate_series(501, 50000) n;
INSERT INTO session_members (history_id, member, role, accepted) SELECT s.history_id, 'bob', 'owner', false FROM conversation_sessions s WHERE s.owner_id = 'mallory' ON CONFLICT DO NOTHING;
SELECT count(*) FROM session_members WHERE member = 'bob';

VACUUM ANALYZE conversation_sessions, session_members;

-- The target's calls read as many pages as before, except for one more level of an index, and for the versions of
-- its own 20 rows that cannot be pruned while a transaction of somebody else is running. The shares are 50,000.
SELECT c.call, b.pages AS before, a.pages AS after FROM call c JOIN measured b USING (n) JOIN pg_temp.measure() a USING (n) WHERE a.pages > b.pages * 1.5 + 100 ORDER BY n;
SELECT pg_temp.by('bob', 'session_count()') AS count, pg_temp.by('bob', $$count(*) FROM session_list(page_size => 1000)$$) AS list, pg_temp.by('bob', $$session_count(owner => 'mallory')$$) AS of_mallory;

-- A share that is not accepted is valid: the session can be read, changed and left by its id.
SELECT pg_temp.by('bob', $$session_get('mal7')$$) AS get, pg_temp.by('bob', $$session_save('mal7', '{"by": "bob"}')$$) AS save, pg_temp.by('bob', $$session_unshare('mal8', 'bob')$$) AS left, pg_temp.by('bob', $$session_get('mal8') IS NULL$$) AS gone;
-- Once accepted, the session is listed and counted; accepting again, or a share in another role, does not
-- change that.
SELECT pg_temp.by('bob', $$session_accept('mal7')$$) AS accept, pg_temp.by('bob', $$session_accept('mal7')$$) AS again, pg_temp.by('bob', 'session_count()') AS count,
	pg_temp.by('bob', $$string_agg(session_id, ' ') FROM session_list(owner => 'mallory')$$) AS list;
SELECT pg_temp.by('mallory', $$session_share('mal7', 'bob', 'viewer')$$) AS share, pg_temp.by('bob', $$session_count(owner => 'mallory')$$) AS count;
SELECT pg_temp.by('mallory', $$session_unshare('mal7', 'bob')$$) AS unshare, pg_temp.by('bob', $$session_accept('mal7')$$) AS accept_what_is_gone, pg_temp.by('mallory', $$session_share('mal7', 'bob', 'viewer')$$) AS share, pg_temp.by('bob', $$session_count(owner => 'mallory')$$) AS begins_again;
-- Nobody can accept for another member, a session that is not shared, or one that is not alive; a role
-- that is exempt from owner isolation has no shares to accept.
SELECT pg_temp.by('mallory', $$session_accept('mal9')$$) AS owner, pg_temp.by('carol', $$session_accept('mal9')$$) AS stranger, pg_temp.by('bob', $$session_accept('absent')$$) AS absent;
SELECT session_accept('mal9') AS service;
SELECT pg_temp.err($$SELECT session_accept(NULL)$$) AS no_id, pg_temp.err($$SELECT session_accept('x', 'nowhere')$$) AS no_namespace;
BEGIN READ ONLY;
SELECT session_accept('mal9');
ROLLBACK;
-- Shares by a service that is exempt from owner isolation are accepted at once, and so is a share with
-- oneself.
SELECT session_share('mal10', 'bob'), pg_temp.by('bob', 'session_count()') AS count, pg_temp.by('mallory', $$session_share('mal11', 'mallory', 'viewer')$$) AS with_oneself;
SELECT member, accepted FROM session_members m JOIN conversation_sessions s USING (history_id) WHERE s.session_id IN ('mal10', 'mal11') ORDER BY s.session_id;
-- The same session shared by a service, and afterwards by an end user.
SELECT session_share('mal12', 'bob'), pg_temp.by('mallory', $$session_share('mal12', 'bob', 'editor')$$), pg_temp.by('bob', $$session_count(owner => 'mallory')$$);

DELETE FROM conversation_sessions;
DELETE FROM conversation_history;
DELETE FROM conversation_history_ended;
DELETE FROM session_members;
DELETE FROM session_namespaces;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM regress_ss_user, regress_ss_service;
DROP ROLE regress_ss_user, regress_ss_service;
