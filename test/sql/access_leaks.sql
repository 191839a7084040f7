--
-- Information leaks: nobody learns about sessions and namespaces to which they have no access.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, cache, max_sessions_per_owner) VALUES ('quota', 'off', 5);

-- pg_locks shows advisory locks to everybody: their keys are not a plain hash of namespace and owner.
BEGIN;
SELECT session_save('l', '{}', owner => 'alice', namespace => 'quota');
SELECT count(*) AS held, count(*) FILTER (WHERE (classid::int8 << 32 | objid::int8) IN (hashtextextended('alice', hashtextextended('quota', 0)), hashtextextended('quotaalice', 0))) AS plain
FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND objsubid = x'5353'::int;
COMMIT;

-- A role cannot tell a namespace that it may not use from one that does not exist.
INSERT INTO session_namespaces (name, cache, allowed_roles) VALUES ('closed', 'off', '{}');
CREATE ROLE regress_ss_nobody;
SET ROLE regress_ss_nobody;
SELECT ns, session_alive(ns, 'x', clock_timestamp(), '2100-01-01', NULL) AS alive, session_may(ns) AS may FROM unnest(ARRAY['closed', 'no such']) ns;
RESET ROLE;

-- No claims are an error, and none tell anything about sessions: they name a subject or they do not.
CREATE ROLE regress_ss_web;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO regress_ss_web;
GRANT SELECT, INSERT, UPDATE, DELETE ON conversation_sessions TO regress_ss_web;
INSERT INTO session_namespaces (name, cache, owner_isolation) VALUES ('iso', 'off', true);
INSERT INTO session_namespaces (name, cache, audit) VALUES ('audited', 'off', true);
-- The result of a call under some claims, or its SQLSTATE.
CREATE FUNCTION pg_temp.answer(claims text, call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	PERFORM set_config('request.jwt.claims', claims, true), set_config('role', 'regress_ss_web', true);
	EXECUTE 'SELECT (' || call || ')::text' INTO answer;
	RESET ROLE;
	RETURN coalesce(answer, '-');
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END
$$;
SELECT session_save('of alice', '1', owner => 'alice', namespace => 'iso'), session_save('of 5', '5', owner => '5', namespace => 'iso');
CREATE TEMP TABLE claims (n int GENERATED ALWAYS AS IDENTITY, what text, claims text);
INSERT INTO claims (what, claims) VALUES ('alice', '{"sub": "alice", "role": "web"}'), ('and numbers that jsonb refuses', '{"sub": "alice", "n": 1e999999}'), ('and NUL', '{"n": "\u0000", "sub": "alice"}'),
	('and a surrogate', '{"\ud800": "\udc00", "sub": "alice"}'), ('with escapes', '{"\u0073ub": "\u0061lic\u0065"}'), ('the last counts', '{"sub": "bob", "sub": "alice"}'), ('not the inner', '{"a": {"sub": "bob"}, "sub": "alice", "b": [{"sub": "bob"}]}'),
	('100 deep', '{"sub": "alice", "a": ' || repeat('[', 99) || repeat(']', 99) || '}'),
	('a number', '{"sub": 5}'), ('true', '{"sub": true}'), ('null', '{"sub": null}'), ('empty', '{"sub": ""}'), ('an object', '{"sub": {"sub": "alice"}}'), ('an array', '{"sub": ["alice"]}'), ('then a number', '{"sub": "alice", "sub": 5}'),
	('NUL', '{"sub": "al\u0000ice"}'), ('half a surrogate', '{"sub": "alice\ud800"}'), ('no object', '["sub", "alice"]'), ('a scalar', '"alice"'), ('not JSON', 'alice'), ('cut', '{"sub": "alice"'), ('more behind', '{"sub": "alice"} {}'),
	('no colon', '{"sub" "alice"}'), ('comma', '{"sub": "alice",}'), ('bad escape', '{"sub": "alice", "x": "\x"}'), ('101 deep', '{"sub": "alice", "a": ' || repeat('[', 100) || repeat(']', 100) || '}'),
	('very deep', '{"sub": "alice", "a": ' || repeat('[', 1000000) || repeat(']', 1000000) || '}'), ('very deep and cut', repeat('{"sub":', 1000000));
SELECT what, pg_temp.answer(claims, $$session_get('of alice', 'iso')$$) AS alices, pg_temp.answer(claims, $$session_get('of 5', 'iso')$$) AS "5's", pg_temp.answer(claims, $$session_get('absent', 'iso')$$) AS absent,
	pg_temp.answer(claims, $$session_touch('of alice', namespace => 'iso') IS NOT NULL$$) AS touch, pg_temp.answer(claims, $$session_share('of alice', 'x', namespace => 'iso')$$) AS share, pg_temp.answer(claims, $$session_share('absent', 'x', namespace => 'iso')$$) AS share_absent,
	pg_temp.answer(claims, $$(SELECT count(*) FROM conversation_sessions WHERE namespace = 'iso')$$) AS rows FROM claims ORDER BY n;
-- A logout is recorded whatever the claims are, and never fails because of them.
DO $$
DECLARE
	c record;
BEGIN
	FOR c IN SELECT * FROM claims ORDER BY n LOOP
		PERFORM set_config('request.jwt.claims', c.claims, true), session_save(c.what, '{}', owner => 'o', namespace => 'audited');
		PERFORM CASE WHEN c.n % 2 = 0 THEN session_delete(c.what, 'audited')::int ELSE session_delete_all('o', namespace => 'audited') END;
	END LOOP;
END
$$;
SELECT detail, string_agg(session_id, ', ' ORDER BY session_id) FROM session_events WHERE event = 'deleted' GROUP BY 1 ORDER BY 1;
RESET request.jwt.claims;
DROP OWNED BY regress_ss_web;
DROP ROLE regress_ss_web, regress_ss_nobody;

DELETE FROM conversation_sessions;
DELETE FROM session_events;
DELETE FROM session_namespaces;
