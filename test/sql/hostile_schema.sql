--
-- CREATE EXTENSION in a schema with hostile objects: it uses none of them, or fails and leaves
-- nothing behind.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
SET client_min_messages = error;
SELECT current_database() AS home \gset
DROP DATABASE IF EXISTS regress_ss_hostile;
CREATE ROLE regress_ss_attacker;
CREATE DATABASE regress_ss_hostile TEMPLATE template0;
\c regress_ss_hostile
\i :helpers
CREATE SCHEMA app AUTHORIZATION regress_ss_attacker;
SET ROLE regress_ss_attacker;
SET search_path = app;
CREATE SEQUENCE app.called;
CREATE FUNCTION app.note() RETURNS void LANGUAGE sql AS $$SELECT pg_catalog.nextval('app.called'::pg_catalog.regclass)$$;

-- Operators that would match better than the server's wherever types differ or are unknown.
SET client_min_messages = error;
SELECT count(*) AS operators
FROM (VALUES ('='), ('<>'), ('<'), ('>'), ('<='), ('>='), ('||'), ('+'), ('-'), ('/'), ('*')) o(op),
	(VALUES ('text', 'text'), ('text', 'name'), ('name', 'text'), ('text', 'varchar'), ('varchar', 'text'), ('bigint', 'integer'), ('integer', 'bigint'),
		('bigint', 'bigint'), ('integer', 'integer'), ('timestamptz', 'timestamptz'), ('timestamptz', 'interval'), ('jsonb', 'jsonb'),
		('interval', 'interval'), ('boolean', 'boolean'), ('bigint', 'numeric')) t(l, r),
	LATERAL (SELECT pg_temp.err(format('CREATE FUNCTION app.op_%s(%s, %s) RETURNS bool LANGUAGE plpgsql AS
		$f$BEGIN PERFORM app.note(); RETURN true; END$f$', md5(op || l || r), l, r)) AS f) f,
	LATERAL (SELECT pg_temp.err(format('CREATE OPERATOR app.%s (LEFTARG = %s, RIGHTARG = %s, PROCEDURE = app.op_%s)', op, l, r, md5(op || l || r))) AS o) d
WHERE d.o = 'ok';
-- Functions with names of the server's functions, and with our names and other arguments.
SELECT count(*) AS functions
FROM (VALUES ('clock_timestamp', ''), ('gen_random_uuid', ''), ('now', ''), ('pg_extension_config_dump', 'text, text'),
		('pg_extension_config_dump', 'regclass, unknown_'), ('pg_has_role', 'name, name'), ('pg_has_role', 'text, text'), ('session_may', 'text'),
		('session_may', 'name'), ('session_may', 'varchar, varchar'), ('session_get', 'text'), ('session_save', 'text, jsonb'),
		('session_store_wake', 'integer'), ('session_row_guard', 'integer')) f(name, args)
WHERE pg_temp.err(format('CREATE FUNCTION app.%I(%s) RETURNS pg_catalog.int8 LANGUAGE plpgsql AS
	$f$BEGIN PERFORM app.note(); RETURN 1; END$f$', name, replace(args, 'unknown_', 'text'))) = 'ok';
-- Types with names of the server's types, and casts between these and the server's.
CREATE DOMAIN app.jsonb AS pg_catalog.text;
CREATE DOMAIN app.timestamptz AS pg_catalog.text;
CREATE DOMAIN app.text AS pg_catalog.int4;
CREATE DOMAIN app.name AS pg_catalog.int4;
CREATE DOMAIN app.trigger AS pg_catalog.int4;
CREATE TYPE app.trap AS (x pg_catalog.text);
CREATE FUNCTION app.to_interval(app.trap) RETURNS pg_catalog.interval LANGUAGE plpgsql AS $$BEGIN PERFORM app.note(); RETURN '1 ms'; END$$;
CREATE FUNCTION app.to_bool(app.trap) RETURNS pg_catalog.bool LANGUAGE plpgsql AS $$BEGIN PERFORM app.note(); RETURN true; END$$;
CREATE CAST (app.trap AS pg_catalog.interval) WITH FUNCTION app.to_interval(app.trap) AS IMPLICIT;
CREATE CAST (app.trap AS pg_catalog.bool) WITH FUNCTION app.to_bool(app.trap) AS IMPLICIT;
CREATE AGGREGATE app.count(pg_catalog.text) (SFUNC = pg_catalog.int8inc_any, STYPE = pg_catalog.int8, INITCOND = '0');
RESET ROLE;
RESET search_path;

-- The extension is created in that schema.
CREATE EXTENSION session_store SCHEMA app;
SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'session_store';
-- None of its objects, and no default, constraint, policy, rule or trigger of them, depends on objects of
-- the attacker.
CREATE TEMP VIEW ours AS
WITH RECURSIVE o(classid, objid) AS (
	SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
	WHERE e.extname = 'session_store' AND d.deptype = 'e'
	UNION
	SELECT d.classid, d.objid FROM pg_depend d JOIN o ON d.refclassid = o.classid AND d.refobjid = o.objid WHERE d.deptype IN ('i', 'a', 'n'))
SELECT classid, objid FROM o;
CREATE TEMP VIEW theirs AS
SELECT 'pg_operator'::regclass AS classid, oid AS objid FROM pg_operator WHERE oprowner = (SELECT oid FROM pg_roles WHERE rolname = 'regress_ss_attacker')
UNION ALL SELECT 'pg_proc'::regclass, oid FROM pg_proc WHERE proowner = (SELECT oid FROM pg_roles WHERE rolname = 'regress_ss_attacker')
UNION ALL SELECT 'pg_type'::regclass, oid FROM pg_type WHERE typowner = (SELECT oid FROM pg_roles WHERE rolname = 'regress_ss_attacker')
UNION ALL SELECT 'pg_class'::regclass, oid FROM pg_class WHERE relowner = (SELECT oid FROM pg_roles WHERE rolname = 'regress_ss_attacker');
SELECT count(*) > 150 AS traps FROM theirs;
SELECT pg_describe_object(d.classid, d.objid, d.objsubid) AS fell_for, pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid) AS trap
FROM pg_depend d JOIN ours o ON d.classid = o.classid AND d.objid = o.objid
	JOIN theirs t ON d.refclassid = t.classid AND d.refobjid = t.objid;
-- No column, argument or result has a type of the attacker.
SELECT count(*) AS theirs FROM ours o JOIN pg_attribute a ON o.classid = 'pg_class'::regclass AND a.attrelid = o.objid
	JOIN pg_type t ON t.oid = a.atttypid WHERE t.typowner = 'regress_ss_attacker'::regrole;
-- The attacker owns none of our objects.
SELECT count(*) AS owned_by_them FROM ours o JOIN theirs t USING (classid, objid);
-- Neither the script nor later calls have called a function of the attacker.
SELECT is_called AS called FROM app.called;
SELECT app.session_save('a', '{}', owner => 'alice'), app.session_merge('a', '{"x": 1}'), app.session_incr('a', '{n}', 2);
INSERT INTO app.session_namespaces (name, max_sessions_per_owner, audit) VALUES ('ns', 1, true);
SELECT app.session_save('b', '{}', owner => 'alice', namespace => 'ns'), app.session_save('c', '{}', owner => 'alice', namespace => 'ns');
SELECT app.session_get('a', NULL::pg_catalog.text), app.session_count(), app.session_exists('a'), app.session_ttl('a') > '0'::interval AS ttl;
SELECT session_id FROM app.session_list(owner => 'alice', id_like => '%', filter => '{"x": 1}', namespace => NULL);
SELECT app.session_regenerate('a') IS NOT NULL AS regenerate, app.session_clear('ns'), app.session_purge(), jsonb_typeof(app.session_health()) AS health;
UPDATE app.conversation_sessions SET session_data = '{}';
SELECT count(*) >= 0 AS stats FROM app.session_stats;
SELECT is_called AS called FROM app.called;

-- DROP EXTENSION removes everything of ours, and leaves the attacker's objects.
DROP EXTENSION session_store;
SELECT count(*) > 150 AS traps FROM theirs;
SELECT count(*) AS left_over FROM pg_class c WHERE c.relnamespace = 'app'::regnamespace AND c.relowner <> 'regress_ss_attacker'::regrole;

-- If an object with a name of ours exists, CREATE EXTENSION fails, whatever its kind and its
-- owner, and leaves nothing behind.
SELECT taken, pg_temp.err(format('SET ROLE regress_ss_attacker; %s; RESET ROLE', taken)) AS made,
	pg_temp.err('CREATE EXTENSION session_store SCHEMA app') IN ('42P07', '42710', '42723') AS refused,
	(SELECT count(*) FROM pg_extension WHERE extname = 'session_store') AS extension,
	(SELECT count(*) FROM pg_class WHERE relnamespace = 'app'::regnamespace AND relowner <> 'regress_ss_attacker'::regrole)
	+ (SELECT count(*) FROM pg_proc WHERE pronamespace = 'app'::regnamespace AND proowner <> 'regress_ss_attacker'::regrole) AS left_over,
	pg_temp.err(format('SET ROLE regress_ss_attacker; %s; RESET ROLE', undo)) AS undone
FROM (VALUES
	('CREATE TABLE app.conversation_sessions (a int)', 'DROP TABLE app.conversation_sessions'),
	('CREATE TABLE app.session_namespaces (name pg_catalog.text)', 'DROP TABLE app.session_namespaces'),
	('CREATE VIEW app.session_events AS SELECT 1 AS a', 'DROP VIEW app.session_events'),
	('CREATE TYPE app.session_record AS (a int)', 'DROP TYPE app.session_record'),
	('CREATE FUNCTION app.session_may(pg_catalog.text, pg_catalog.text, pg_catalog.uuid, pg_catalog.text) RETURNS bool LANGUAGE sql AS ''SELECT true''', 'DROP FUNCTION app.session_may(pg_catalog.text, pg_catalog.text, pg_catalog.uuid, pg_catalog.text)'),
	('CREATE FUNCTION app.session_get(pg_catalog.text, pg_catalog.text) RETURNS pg_catalog.jsonb LANGUAGE sql AS ''SELECT NULL::pg_catalog.jsonb''', 'DROP FUNCTION app.session_get(pg_catalog.text, pg_catalog.text)'),
	('CREATE FUNCTION app.session_row_guard() RETURNS pg_catalog.trigger LANGUAGE plpgsql AS ''BEGIN RETURN NEW; END''', 'DROP FUNCTION app.session_row_guard()')) t(taken, undo);
SELECT is_called AS called FROM app.called;

-- Afterwards it works again, in a schema of any name.
SELECT pg_temp.err('CREATE EXTENSION session_store SCHEMA nowhere') AS no_such_schema;
CREATE SCHEMA "Mixed Case";
CREATE EXTENSION session_store SCHEMA "Mixed Case";
SELECT "Mixed Case".session_save('a', '{"a": 1}', owner => 'alice'), "Mixed Case".session_incr('a', '{a}');
SELECT "Mixed Case".session_get('a'), "Mixed Case".session_regenerate('a') IS NOT NULL AS regenerated, "Mixed Case".session_purge();
SELECT session_data FROM "Mixed Case".conversation_sessions WHERE dead_until IS NULL;
-- It works on after its schema is renamed.
ALTER SCHEMA "Mixed Case" RENAME TO renamed;
SELECT renamed.session_save('b', '2'), renamed.session_count();
\c
SELECT renamed.session_get('b'), renamed.session_count();

\c :home
SET client_min_messages = error;
DROP DATABASE regress_ss_hostile;
DROP ROLE regress_ss_attacker;
