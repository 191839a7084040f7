--
-- Access to functions: EXECUTE, allowed_roles, READ ONLY transactions.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
CREATE ROLE regress_ss_nobody;
CREATE ROLE regress_ss_app;
CREATE ROLE regress_ss_team;
CREATE ROLE regress_ss_member IN ROLE regress_ss_team;
CREATE ROLE regress_ss_indirect IN ROLE regress_ss_member;
INSERT INTO session_namespaces (name, allowed_roles) VALUES
	('open', NULL), ('team', '{regress_ss_team}'), ('gone', '{regress_ss_never}'), ('shut', '{}'),
	('several', '{regress_ss_never,regress_ss_app,regress_ss_team}');
CREATE TEMP TABLE call (n int GENERATED ALWAYS AS IDENTITY, call text);
INSERT INTO call (call) VALUES
	($$session_create(namespace => $)$$), ($$session_save('x', '{}', namespace => $)$$), ($$session_get('x', $)$$),
	($$session_fetch('x', $)$$), ($$session_touch('x', namespace => $)$$), ($$session_merge('x', '{}', namespace => $)$$),
	($$session_incr('x', '{n}', namespace => $)$$), ($$session_exists('x', $)$$), ($$session_ttl('x', $)$$),
	($$session_count(namespace => $)$$), ($$session_list(namespace => $)$$), ($$session_regenerate('x', $)$$), ($$session_take('x', $)$$), ($$session_get_many('{x}', $)$$),
	($$session_delete('x', $)$$), ($$session_delete_all('o', namespace => $)$$), ($$session_clear($)$$), ($$session_purge(namespace => $)$$);
GRANT SELECT ON call TO PUBLIC;
CREATE FUNCTION pg_temp.call(call text, ns text) RETURNS text LANGUAGE sql AS
	$$SELECT pg_temp.err('SELECT ' || replace(call, '$', quote_literal(ns)))$$;

-- Without grants: no privilege on any function or table of the extension, nor on later ones.
SELECT count(*) > 15 AS functions, count(*) FILTER (WHERE has_function_privilege('regress_ss_nobody', p.oid, 'EXECUTE')) AS executable,
	string_agg(p.proname, ' ') FILTER (WHERE has_function_privilege('regress_ss_nobody', p.oid, 'EXECUTE')) AS names
FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid
WHERE d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
	AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'session_store');
SELECT count(*) > 4 AS relations,
	count(*) FILTER (WHERE has_table_privilege('regress_ss_nobody', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
		OR has_any_column_privilege('regress_ss_nobody', c.oid, 'SELECT, INSERT, UPDATE, REFERENCES')) AS accessible
FROM pg_depend d JOIN pg_class c ON c.oid = d.objid
WHERE d.classid = 'pg_class'::regclass AND d.deptype = 'e' AND c.relkind IN ('r', 'v', 'S', 'm', 'p', 'f')
	AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'session_store');
SET ROLE regress_ss_nobody;
SELECT string_agg(DISTINCT pg_temp.call(call, 'open'), ' ') AS calls FROM call;
SELECT pg_temp.err('SELECT session_health()') AS health, pg_temp.err('SELECT session_metrics()') AS metrics;
SELECT t, pg_temp.err('SELECT * FROM ' || t) AS "select", pg_temp.err('DELETE FROM ' || t) AS delete
FROM unnest(ARRAY['conversation_sessions', 'session_namespaces', 'session_events', 'session_samples', 'session_stats']) t;
RESET ROLE;

-- EXECUTE is enough: no right on any table is needed.
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO regress_ss_app, regress_ss_member, regress_ss_indirect;
SET ROLE regress_ss_app;
SELECT call, pg_temp.call(call, 'open') FROM call ORDER BY n;
SELECT session_save('mine', '{"a": 1}', owner => 'alice', namespace => 'open');
SELECT session_get('mine', 'open'), session_exists('mine', 'open'), session_count(namespace => 'open');
SELECT owner_id FROM session_fetch('mine', 'open');
SELECT session_id FROM session_list(namespace => 'open');
SELECT session_save('in default', '{}');
SELECT pg_temp.err('SELECT * FROM conversation_sessions') AS tables;
SELECT session_clear('default');

-- allowed_roles: roles that are members of one, directly or not, may use the namespace, and no others, by
-- any function.
SELECT string_agg(DISTINCT pg_temp.call(call, 'team'), ' ') AS team, string_agg(DISTINCT pg_temp.call(call, 'gone'), ' ') AS gone,
	string_agg(DISTINCT pg_temp.call(call, 'shut'), ' ') AS shut FROM call;
SELECT string_agg(DISTINCT pg_temp.call(call, 'several'), ' ') AS several
FROM call WHERE call !~ 'delete|clear|regenerate';
SET ROLE regress_ss_member;
SELECT session_save('t', '"of the team"', namespace => 'team'), session_get('t', 'team');
SELECT session_get('t', 'team');
SET ROLE regress_ss_indirect;
SELECT session_get('t', 'team'), pg_temp.err($$SELECT session_get('t', 'shut')$$) AS shut;
SET ROLE regress_ss_app;
SELECT pg_temp.err($$SELECT session_get('t', 'team')$$) AS before;
RESET ROLE;
-- Membership is checked at the time of the call.
GRANT regress_ss_team TO regress_ss_app;
SET ROLE regress_ss_app;
SELECT session_get('t', 'team') AS granted;
RESET ROLE;
REVOKE regress_ss_team FROM regress_ss_app;
SET ROLE regress_ss_app;
SELECT pg_temp.err($$SELECT session_get('t', 'team')$$) AS revoked;
RESET ROLE;
-- So is the calling role: within a SECURITY DEFINER function of a member, the caller has the member's
-- access.
CREATE FUNCTION public.regress_ss_lend(id text) RETURNS jsonb LANGUAGE sql SECURITY DEFINER AS $$SELECT session_get(id, 'team')$$;
ALTER FUNCTION public.regress_ss_lend(text) OWNER TO regress_ss_member;
SET ROLE regress_ss_app;
SELECT public.regress_ss_lend('t') AS lent, pg_temp.err($$SELECT session_get('t', 'team')$$) AS own;
RESET ROLE;
DROP FUNCTION public.regress_ss_lend(text);
-- A change of the policy applies to everybody at once; a superuser is a member of all roles.
UPDATE session_namespaces SET allowed_roles = '{regress_ss_app}' WHERE name = 'team';
SELECT session_get('t', 'team') AS superuser;
SET ROLE regress_ss_app;
SELECT session_get('t', 'team') AS now_allowed;
SET ROLE regress_ss_member;
SELECT pg_temp.err($$SELECT session_get('t', 'team')$$) AS no_longer;
RESET ROLE;
-- session_may() answers for the calling role.
SET ROLE regress_ss_nobody;
SELECT ns, session_may(ns) FROM unnest(ARRAY['open', 'team', 'gone', 'shut', 'default']) ns;
RESET ROLE;

-- Reads work in READ ONLY transactions, as PostgREST makes them; writes are 25006, also those that would
-- find nothing to change.
BEGIN READ ONLY;
SET LOCAL ROLE regress_ss_app;
SELECT session_get('mine', 'open'), session_exists('mine', 'open'), session_ttl('mine', 'open') > '0' AS ttl, session_count(namespace => 'open');
SELECT session_id, version FROM session_fetch('mine', 'open');
SELECT session_id FROM session_list(namespace => 'open');
SELECT call, pg_temp.call(call, 'open') FROM call WHERE call !~ 'get|fetch|exists|ttl\(|count|list' ORDER BY n;
COMMIT;
SELECT session_get('mine', 'open');

DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM regress_ss_app, regress_ss_member, regress_ss_indirect;
DROP TABLE call;
DROP ROLE regress_ss_nobody, regress_ss_app, regress_ss_team, regress_ss_member, regress_ss_indirect;
