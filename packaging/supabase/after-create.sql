-- after-create.sql
--	Run by supautils as a superuser when a role without superuser has created the extension. It
--	gives that role what it needs to administer the extension that it does not own: to call, dump,
--	restore and grant. See docs/supabase.md.
--
-- The role is the one that has logged in; for a superuser, who may run this by hand, "postgres".
-- TRIGGER, REFERENCES and TRUNCATE are not granted: code that acts as the tables' owner, a
-- superuser here, must stay out of reach. Run it again after ALTER EXTENSION .. UPDATE.
DO $$
DECLARE
	grantee pg_catalog.name;
	command pg_catalog.text;
BEGIN
	SELECT CASE WHEN r.rolsuper THEN 'postgres' ELSE r.rolname END INTO STRICT grantee
	FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) SESSION_USER;

	FOR command IN
		WITH extension AS (
			SELECT e.oid, n.nspname, n.oid AS schema
			FROM pg_catalog.pg_extension e
				JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
			WHERE e.extname OPERATOR(pg_catalog.=) 'session_store'),
		member AS (
			SELECT d.classid, d.objid
			FROM extension e JOIN pg_catalog.pg_depend d ON d.refobjid OPERATOR(pg_catalog.=) e.oid
			WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
				AND d.deptype OPERATOR(pg_catalog.=) 'e'::"char")
		SELECT pg_catalog.format('GRANT USAGE ON SCHEMA %I TO %I WITH GRANT OPTION', e.nspname, grantee)
		FROM extension e
		WHERE NOT pg_catalog.has_schema_privilege(grantee, e.schema, 'USAGE WITH GRANT OPTION')
		UNION ALL
		SELECT pg_catalog.format('GRANT EXECUTE ON ROUTINE %s TO %I WITH GRANT OPTION',
								 p.oid::pg_catalog.regprocedure, grantee)
		FROM member m JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) m.objid
		WHERE m.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
			AND p.prorettype OPERATOR(pg_catalog.<>) ALL ('{trigger,event_trigger}'::pg_catalog.regtype[])
		UNION ALL
		SELECT pg_catalog.format('GRANT %s ON %s TO %I WITH GRANT OPTION',
								 CASE c.relkind WHEN 'r' THEN 'SELECT, INSERT, UPDATE, DELETE' ELSE 'SELECT' END,
								 c.oid::pg_catalog.regclass, grantee)
		FROM member m JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) m.objid
		WHERE m.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
			AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,v,m}'::"char"[])
		UNION ALL
		SELECT pg_catalog.format('GRANT USAGE, SELECT ON SEQUENCE %s TO %I WITH GRANT OPTION',
								 c.oid::pg_catalog.regclass, grantee)
		FROM member m JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) m.objid
		WHERE m.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
			AND c.relkind OPERATOR(pg_catalog.=) 'S'::"char"
	LOOP
		EXECUTE command;
	END LOOP;
END
$$;
