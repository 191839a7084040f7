--
-- session_health() and privileges: warnings about owners and roles, and the functions keep
-- working meanwhile.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
CREATE ROLE regress_ss_owner;
CREATE ROLE regress_ss_other;
CREATE FUNCTION pg_temp.metric(name text) RETURNS text LANGUAGE sql AS $$SELECT substring(session_metrics() FROM '(?n)^session_store_' || name || ' (.*)$')$$;
CREATE FUNCTION pg_temp.warnings(about text) RETURNS SETOF text LANGUAGE sql AS $$SELECT w FROM jsonb_array_elements_text(session_health() -> 'warnings') w WHERE w ~ about$$;

-- All tables belong to a role without privileges, but for one.
DO $$
BEGIN
	EXECUTE (SELECT string_agg(format('ALTER TABLE %s OWNER TO regress_ss_owner', c.oid::regclass), '; ') FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.deptype = 'e'
		JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'session_store' WHERE c.relkind = 'r');
END
$$;
SELECT session_save('s', '{}') AS works, pg_temp.metric('tables_of_other_owners') AS metric, (SELECT count(*) FROM pg_temp.warnings('belongs to')) AS warnings;
CREATE FUNCTION pg_temp.given_away(name text, OUT health text, OUT metrics text, OUT metric text, OUT warning text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('ALTER TABLE %I OWNER TO regress_ss_other', name);
	health = pg_temp.err('SELECT session_health()');
	metrics = pg_temp.err('SELECT session_metrics()');
	IF health = 'ok' AND metrics = 'ok' THEN
		metric = pg_temp.metric('tables_of_other_owners');
		warning = (SELECT string_agg(w, E'\n') FROM pg_temp.warnings('belongs to') w);
	END IF;
	EXECUTE format('ALTER TABLE %I OWNER TO regress_ss_owner', name);
END
$$;
\pset format unaligned
SELECT g.* FROM unnest(ARRAY['session_namespaces', 'conversation_history', 'session_members', 'conversation_history_ended', 'session_events', 'session_samples', 'session_counters', 'session_orphans', 'session_cache_claims']) t,
	LATERAL pg_temp.given_away(t) g;
\pset format aligned
-- Membership in the other role is enough.
GRANT regress_ss_other TO regress_ss_owner;
ALTER TABLE session_samples OWNER TO regress_ss_other;
SELECT pg_temp.metric('tables_of_other_owners') AS metric, (SELECT count(*) FROM pg_temp.warnings('belongs to')) AS warnings;
DO $$
BEGIN
	EXECUTE (SELECT string_agg(format('ALTER TABLE %s OWNER TO %I', c.oid::regclass, current_user), '; ') FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.deptype = 'e'
		JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'session_store' WHERE c.relkind = 'r');
END
$$;

-- The name of a role that does not exist gives access to nobody, and is reported.
INSERT INTO session_namespaces (name, allowed_roles) VALUES ('spelt', '{regress_ss_owner}'), ('misspelt', '{regress_ss_ownre,regress_ss_owner,"No such role"}');
SELECT pg_temp.metric('unknown_roles') AS metric;
SELECT pg_temp.warnings('allowed_roles');
UPDATE session_namespaces SET allowed_roles = '{regress_ss_other}' WHERE name = 'misspelt';
SELECT pg_temp.metric('unknown_roles') AS corrected;
UPDATE session_namespaces SET allowed_roles = '{}' WHERE name = 'misspelt';
SELECT pg_temp.metric('unknown_roles') AS nobody;

DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
REVOKE regress_ss_other FROM regress_ss_owner;
DROP ROLE regress_ss_owner, regress_ss_other;
