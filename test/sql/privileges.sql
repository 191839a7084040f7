--
-- Privileges after CREATE EXTENSION: PUBLIC may execute nothing that reads or writes sessions;
-- pg_monitor sees numbers. Read from the catalogs, so that a new object is included.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
CREATE TEMP VIEW member AS
SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON d.refobjid = e.oid
WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'session_store';

-- Functions: an ACL that is NULL means that PUBLIC may execute.
SELECT p.proname, CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS grantee, a.privilege_type, a.is_grantable
FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid,
	aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
WHERE a.grantee <> p.proowner ORDER BY 1, 2;

-- Tables, views and sequences, with their columns.
SELECT c.relname, CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS grantee, a.privilege_type, a.is_grantable
FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid,
	aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
WHERE a.grantee <> c.relowner AND c.relkind <> 'c' ORDER BY 1, 2, 3;
SELECT count(*) AS columns FROM member m JOIN pg_attribute a ON m.classid = 'pg_class'::regclass AND a.attrelid = m.objid WHERE a.attacl IS NOT NULL;

-- Types: the row types of tables and views, and those that calls return. Arrays follow their elements.
SELECT t.typname, CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS grantee, a.privilege_type
FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid JOIN pg_type t ON t.oid = c.reltype,
	aclexplode(coalesce(t.typacl, acldefault('T', t.typowner))) a WHERE a.grantee <> t.typowner
UNION ALL
SELECT t.typname, CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END, a.privilege_type
FROM member m JOIN pg_type t ON m.classid = 'pg_type'::regclass AND t.oid = m.objid AND t.typelem = 0,
	aclexplode(coalesce(t.typacl, acldefault('T', t.typowner))) a WHERE a.grantee <> t.typowner ORDER BY 1, 2;
-- So no other role can create a table that would prevent an upgrade or DROP EXTENSION; calls work all the
-- same.
CREATE ROLE regress_ss_typist;
CREATE SCHEMA regress_ss_typist AUTHORIZATION regress_ss_typist;
GRANT EXECUTE ON FUNCTION session_save, session_fetch, session_list TO regress_ss_typist;
GRANT SELECT ON conversation_sessions, session_stats TO regress_ss_typist;
SET ROLE regress_ss_typist;
SELECT t AS type, pg_temp.err(format('CREATE TABLE regress_ss_typist.t (a %s)', t)) AS "column", pg_temp.err(format('CREATE TABLE regress_ss_typist.t (a %s[])', t)) AS "array",
	pg_temp.err(format('CREATE DOMAIN regress_ss_typist.d AS %s', t)) AS domain, pg_temp.err(format('CREATE TYPE regress_ss_typist.c AS (a %s)', t)) AS member,
	pg_temp.err(format($f$CREATE FUNCTION regress_ss_typist.f() RETURNS %s LANGUAGE sql AS 'SELECT NULL'$f$, t)) AS result
FROM unnest(ARRAY['conversation_sessions', 'session_namespaces', 'conversation_history', 'conversation_history_ended', 'session_members', 'session_events', 'session_samples',
	'session_stats', 'conversation_messages', 'session_record', 'session_summary']) t;
SELECT pg_temp.err('CREATE VIEW regress_ss_typist.v AS SELECT s FROM public.conversation_sessions s') AS view,
	pg_temp.err('CREATE TABLE regress_ss_typist.t AS SELECT s FROM public.conversation_sessions s') AS "table";
SELECT session_save('typed', '{"a": 1}');
SELECT session_id, session_data FROM session_fetch('typed') UNION ALL SELECT session_id, NULL FROM session_list();
RESET ROLE;
BEGIN;
ALTER TABLE conversation_sessions ADD COLUMN regress_ss_new int DEFAULT 1;
ROLLBACK;
DELETE FROM conversation_sessions;
DROP OWNED BY regress_ss_typist;
DROP ROLE regress_ss_typist;

-- Every table has row-level security, and a policy for each command that a grant would allow.
SELECT c.relname, c.relrowsecurity AS row_security, NOT c.relforcerowsecurity AS owner_is_free,
	(SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid) > 0 AS policies
FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
WHERE c.relkind IN ('r', 'p') ORDER BY 1;
-- No policy names a role, and none is permissive without a condition.
SELECT count(*) AS suspicious FROM pg_policy p JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = p.polrelid
WHERE p.polroles <> '{0}' OR (p.polcmd IN ('r', 'd', 'w', '*') AND (p.polqual IS NULL OR pg_get_expr(p.polqual, p.polrelid) = 'true'));

-- All objects belong to the role that created the extension; no function is SECURITY DEFINER.
SELECT count(DISTINCT owner) AS owners, bool_and(owner = (SELECT extowner FROM pg_extension WHERE extname = 'session_store')) AS of_the_extension
FROM (SELECT relowner AS owner FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
	UNION ALL SELECT proowner FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
	UNION ALL SELECT typowner FROM member m JOIN pg_type t ON m.classid = 'pg_type'::regclass AND t.oid = m.objid) o;
SELECT count(*) AS security_definer FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid WHERE p.prosecdef;

-- pg_monitor can read health, metrics and counts, but no session.
CREATE ROLE regress_ss_monitor IN ROLE pg_monitor;
INSERT INTO session_namespaces (name, allowed_roles) VALUES ('secret', '{}');
SELECT session_save('s', '{"secret": 1}', owner => 'alice', namespace => 'secret');
INSERT INTO session_samples (namespace, sampled_at, estimated, sessions, expired, tombstones, owned, messages, total_bytes, max_bytes, over_1mb)
VALUES ('secret', clock_timestamp(), false, 1, 0, 0, 0, 0, 10, 10, 0) ON CONFLICT DO NOTHING;
SET ROLE regress_ss_monitor;
SELECT jsonb_typeof(session_health()) AS health, session_metrics() <> '' AS metrics;
SELECT count(*) AS namespaces FROM session_stats WHERE namespace = 'secret';
SELECT pg_temp.err($$SELECT session_get('s', 'secret')$$) AS get, pg_temp.err($$SELECT session_list(namespace => 'secret')$$) AS list,
	pg_temp.err('SELECT * FROM conversation_sessions') AS sessions, pg_temp.err('SELECT * FROM session_samples') AS samples,
	pg_temp.err('SELECT * FROM session_events') AS events, pg_temp.err('SELECT * FROM session_namespaces') AS namespaces,
	pg_temp.err('SELECT session_purge()') AS purge;
SELECT session_health()::text ~ 'alice|"s"' AS names_a_session, session_metrics() ~ 'alice|"s"' AS names_a_session;
RESET ROLE;

DELETE FROM conversation_sessions;
DELETE FROM session_samples;
DELETE FROM session_namespaces;
DROP ROLE regress_ss_monitor;
