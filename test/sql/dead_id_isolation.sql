--
-- Dead ids with owner isolation: only the former owner can reuse the id, and a session that
-- replaces the row of another owner does not reveal that row's counters.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
CREATE ROLE regress_ss_web;
CREATE ROLE regress_ss_batch BYPASSRLS;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO regress_ss_web, regress_ss_batch;
GRANT SELECT, INSERT, UPDATE ON conversation_sessions TO regress_ss_web;
INSERT INTO session_namespaces (name, cache, owner_isolation, sliding) VALUES ('iso', 'off', true, false), ('open', 'off', false, false), ('two', 'off', true, false);
UPDATE session_namespaces SET max_sessions_per_owner = 1 WHERE name = 'two';

-- The result of a call by somebody, or its SQLSTATE; the call is rolled back.
CREATE FUNCTION pg_temp.by(who text, call text, role text = 'regress_ss_web') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	PERFORM set_config('request.jwt.claims', CASE WHEN who = 'anon' THEN '' ELSE jsonb_build_object('sub', who)::text END, true), set_config('role', role, true);
	EXECUTE 'SELECT ' || call INTO answer;
	RAISE EXCEPTION USING ERRCODE = 'UNDO1', MESSAGE = coalesce(answer, '-');
EXCEPTION
	WHEN SQLSTATE 'UNDO1' THEN
		RETURN SQLERRM;
	WHEN OTHERS THEN
		RETURN SQLSTATE;
END
$$;

-- Each way in which a session of alice can end; the sessions are shared with ed and olga. One session has
-- no owner.
SELECT count(session_save(id, '{"secret": 1}', owner => 'alice', namespace => 'iso')) + count(session_save(id, '{"secret": 2}', namespace => 'iso')) + count(session_share(id, 'ed', 'editor', 'iso')) + count(session_share(id, 'olga', 'owner', 'iso')) AS saved
FROM unnest(ARRAY['deleted', 'logged out', 'cleared', 'regenerated', 'absorbed']) id;
SELECT session_save('target', '{}', owner => 'alice', namespace => 'iso'), session_save('nobodys', '{}', namespace => 'iso'), session_save('in open', '{}', owner => 'alice', namespace => 'open');
SELECT session_save('evicted', '1', owner => 'alice', namespace => 'two'), session_save('evicting', '1', owner => 'alice', namespace => 'two');
SELECT session_delete('deleted', 'iso'), session_delete('nobodys', 'iso'), session_delete('in open', 'open'), session_clear('iso', 'cleared'), session_regenerate('regenerated', 'iso') IS NOT NULL AS regenerated, session_absorb('target', 'absorbed', 'iso');
SELECT session_delete_all('alice', except_session_id => 'target', namespace => 'iso') AS logged_out;
SELECT id, pg_temp.by('alice', c) AS alice, pg_temp.by('olga', c) AS olga, pg_temp.by('ed', c) AS ed, pg_temp.by('sam', c) AS sam, pg_temp.by('anon', c) AS anon, pg_temp.by('x', c, 'regress_ss_batch') AS bypassrls
FROM unnest(ARRAY['deleted', 'logged out', 'cleared', 'regenerated', 'absorbed', 'nobodys']) WITH ORDINALITY i(id, n), LATERAL (SELECT format('session_save(%L, ''1'', if_version => 0, namespace => ''iso'') > 1', id) AS c) c ORDER BY n;
SELECT pg_temp.by('alice', $$session_save('evicted', '1', if_version => 0, namespace => 'two') > 1$$) AS alice, pg_temp.by('sam', $$session_save('evicted', '1', if_version => 0, namespace => 'two') > 1$$) AS sam;
SELECT pg_temp.by('sam', $$session_merge('deleted', '{}', if_version => 0, namespace => 'iso')$$) AS merge, pg_temp.by('sam', $$session_fork('own', 'deleted', namespace => 'iso')$$) AS fork,
	pg_temp.by('sam', $$session_save('in open', '1', if_version => 0, namespace => 'open') > 1$$) AS where_all_may;
-- Nothing else revives it, not for alice either; and no list or count includes it.
SELECT pg_temp.by('alice', c) AS answer, c FROM unnest(ARRAY[$$session_save('deleted', '1', namespace => 'iso')$$, $$session_append('deleted', '{}', namespace => 'iso')$$, $$session_get('deleted', 'iso')$$, $$session_count(namespace => 'iso')$$,
	$$string_agg(session_id, ' ') FROM session_list(namespace => 'iso') WHERE session_id <> 'target'$$, $$session_delete_all('alice', 'target', 'iso')$$, $$session_delete('deleted', 'iso')$$]) c;
-- The row shows only to its owner that it existed, and nothing of its content.
SELECT session_data, owner_id, history_id, message_count, expires_at <= clock_timestamp() AS expired FROM conversation_sessions WHERE session_id IN ('deleted', 'logged out', 'cleared', 'regenerated', 'absorbed', 'nobodys', 'in open') ORDER BY session_id COLLATE "C";
SELECT who, pg_temp.by(who, $$count(*) FROM conversation_sessions WHERE session_id = 'deleted'$$) AS seen FROM unnest(ARRAY['alice', 'olga', 'ed', 'sam', 'anon']) who;

-- An expired session of another owner: its id can be used, and the counters continue from a random greater
-- value.
CREATE FUNCTION pg_temp.age() RETURNS boolean LANGUAGE sql AS $$WITH done AS (UPDATE conversation_sessions SET expires_at = clock_timestamp() - interval '1 second' WHERE session_id ~ '^old' RETURNING 1) SELECT count(*) = 3 FROM done$$;
BEGIN;
SELECT sum(session_save(id, '1', owner => o, namespace => ns)) + sum(session_append(id, '{}', namespace => ns)) AS saved FROM (VALUES ('old', 'alice', 'iso'), ('old of nobody', NULL, 'iso'), ('old', 'alice', 'open')) s (id, o, ns);
SELECT pg_temp.age();
SELECT pg_temp.by('alice', $$session_save('old', '2', namespace => 'iso')$$) AS own, pg_temp.by('alice', $$session_append('old', '{}', namespace => 'iso')$$) AS own_seq,
	pg_temp.by('sam', $$session_save('old', '2', namespace => 'iso') > 1048576$$) AS anothers, pg_temp.by('sam', $$session_append('old', '{}', namespace => 'iso') > 1048576$$) AS anothers_seq,
	pg_temp.by('sam', $$session_save('old of nobody', '2', namespace => 'iso') > 1048576$$) AS nobodys, pg_temp.by('sam', $$session_save('old', '2', namespace => 'open')$$) AS open;
SELECT pg_temp.by('sam', $$session_save('old', '2', namespace => 'iso')$$) <> pg_temp.by('sam', $$session_save('old', '2', namespace => 'iso')$$) AS differs;
ROLLBACK;

DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
DROP OWNED BY regress_ss_web, regress_ss_batch;
DROP ROLE regress_ss_web, regress_ss_batch;
