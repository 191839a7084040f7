--
-- Foreign code that a call reaches while it acts as the owner of the tables: triggers, functions
-- in constraints, domains, indexes, defaults and rules, and foreign keys. None of it may resolve
-- names through the caller's search_path, or run with the owner's rights if its owner does not
-- have them.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
CREATE ROLE regress_ss_attacker;
CREATE SCHEMA regress_ss_evil AUTHORIZATION regress_ss_attacker;
CREATE SCHEMA regress_ss_audit;
INSERT INTO session_namespaces (name, audit, sliding) VALUES ('foreign', true, false);
GRANT EXECUTE ON FUNCTION session_save, session_get, session_delete, session_delete_all, session_clear, session_regenerate, session_purge,
	session_append, session_touch, session_create TO regress_ss_attacker;
SET session_store.namespace = 'foreign';
-- The attacker's functions, and how the test detects that they were called.
SET ROLE regress_ss_attacker;
CREATE SEQUENCE regress_ss_evil.called;
GRANT USAGE ON SEQUENCE regress_ss_evil.called TO PUBLIC;
GRANT USAGE ON SCHEMA regress_ss_evil TO PUBLIC;
CREATE FUNCTION regress_ss_evil.take() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_catalog.nextval('regress_ss_evil.called');
	EXECUTE 'ALTER ROLE regress_ss_attacker SUPERUSER';
EXCEPTION WHEN insufficient_privilege THEN
	NULL;
END $$;
CREATE FUNCTION regress_ss_evil.pwn() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM regress_ss_evil.take(); RETURN COALESCE(NEW, OLD); END$$;
CREATE FUNCTION regress_ss_evil.lower(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$BEGIN PERFORM regress_ss_evil.take(); RETURN $1; END$$;
RESET ROLE;
-- Was the attacker's code called since the last check, and with what effect?
CREATE FUNCTION attacked() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	SELECT CASE WHEN rolsuper THEN 'superuser' WHEN (SELECT is_called FROM regress_ss_evil.called) THEN 'code was called' ELSE 'no' END INTO result
	FROM pg_roles WHERE rolname = 'regress_ss_attacker';
	ALTER ROLE regress_ss_attacker NOSUPERUSER;
	PERFORM setval('regress_ss_evil.called', 1, false);
	RETURN result;
END $$;
-- A call as the attacker: "ok", or the error and its hint.
CREATE FUNCTION said(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	hint pg_catalog.text;
BEGIN
	EXECUTE command;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN sqlstate || ': ' || sqlerrm || CASE WHEN hint <> '' THEN ' HINT: ' || hint ELSE '' END;
END $$;

CREATE FUNCTION pg_temp.path_in_context(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	context text;
BEGIN
	EXECUTE command;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS context = PG_EXCEPTION_CONTEXT;
	RETURN (regexp_match(context, 'function \S+, which[^\n]*'))[1];
END $$;

--
-- Triggers of the owner.
--
CREATE TABLE regress_ss_audit.audit_log (id text);
CREATE FUNCTION regress_ss_audit.log() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO audit_log VALUES (lower(NEW.session_id)); RETURN NULL; END$$;
CREATE TRIGGER regress_ss_log AFTER INSERT ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION regress_ss_audit.log();

-- A function that sets no search_path runs under pg_catalog, whatever the caller's search_path is, and the
-- error says so.
SET search_path = regress_ss_audit, public;
SELECT said($$SELECT session_save('a', '{}')$$);
SELECT pg_temp.path_in_context($$SELECT session_save('a', '{}')$$);
RESET search_path;
-- session_health() names it.
SELECT w FROM jsonb_array_elements_text(session_health()->'warnings') w WHERE w LIKE '%regress_ss_audit%' ORDER BY w;
-- It works with qualified names.
CREATE OR REPLACE FUNCTION regress_ss_audit.log() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO regress_ss_audit.audit_log VALUES (lower(NEW.session_id)); RETURN NULL; END$$;
SELECT said($$SELECT session_save('A', '{}')$$), (SELECT string_agg(id, ' ') FROM regress_ss_audit.audit_log) AS log;
SET ROLE regress_ss_attacker;
SET search_path = regress_ss_evil, pg_catalog;
SELECT public.said($$SELECT public.session_save('B', '{}')$$);
-- The caller's search_path is restored, after an error as well.
SHOW search_path;
SELECT public.session_save('', '{}');
SHOW search_path;
RESET search_path;
RESET ROLE;
SELECT attacked(), (SELECT string_agg(id, ' ') FROM regress_ss_audit.audit_log) AS log;

-- A temporary table with the name of a table that the trigger uses, which has a trigger itself.
CREATE OR REPLACE FUNCTION regress_ss_audit.log() RETURNS trigger LANGUAGE plpgsql AS $$DECLARE v text := NEW.session_id; BEGIN INSERT INTO audit_log VALUES (v); RETURN NULL; END$$;
SET ROLE regress_ss_attacker;
CREATE TEMP TABLE audit_log (id text);
CREATE TRIGGER pwn BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION regress_ss_evil.pwn();
CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (regress_ss_evil.lower(VALUE) IS NOT NULL);
SELECT said($$SELECT session_save('c', '{}')$$);
SELECT said($$SELECT session_create('{}')$$);
RESET ROLE;
SELECT attacked();
-- A function with a search_path, with and without pg_temp: unless the path names it, pg_temp would be
-- searched first.
ALTER FUNCTION regress_ss_audit.log() SET search_path = regress_ss_audit;
SET ROLE regress_ss_attacker;
SELECT said($$SELECT session_save('d', '{}')$$);
RESET ROLE;
SELECT attacked(), (SELECT string_agg(id, ' ') FROM regress_ss_audit.audit_log) AS log;
ALTER FUNCTION regress_ss_audit.log() SET search_path = regress_ss_audit, pg_temp;
SET ROLE regress_ss_attacker;
SELECT said($$SELECT session_save('e', '{}')$$);
RESET ROLE;
SELECT attacked(), (SELECT string_agg(id, ' ') FROM regress_ss_audit.audit_log) AS log;
ALTER FUNCTION regress_ss_audit.log() SET search_path = pg_temp, regress_ss_audit;
SET ROLE regress_ss_attacker;
SELECT said($$SELECT session_save('f', '{}')$$);
RESET ROLE;
SELECT attacked(), (SELECT string_agg(id, ' ') FROM regress_ss_audit.audit_log) AS log;
-- An empty search_path.
CREATE OR REPLACE FUNCTION regress_ss_audit.log() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$DECLARE v text := NEW.session_id; BEGIN INSERT INTO regress_ss_audit.audit_log VALUES (v); RETURN NULL; END$$;
SET ROLE regress_ss_attacker;
SELECT said($$SELECT session_save('g', '{}')$$);
RESET ROLE;
SELECT attacked(), (SELECT string_agg(id, ' ') FROM regress_ss_audit.audit_log) AS log;
SELECT count(*) AS warnings FROM jsonb_array_elements_text(session_health()->'warnings') w WHERE w LIKE '%regress_ss_audit%';
-- Functions that it calls run under its search_path; it calls session_store itself, and errors are caught.
SET ROLE regress_ss_attacker;
DROP DOMAIN pg_temp.text;
RESET ROLE;
CREATE FUNCTION regress_ss_audit.helper(id text) RETURNS void LANGUAGE plpgsql AS $$BEGIN INSERT INTO audit_log VALUES (upper(id)); END$$;
CREATE OR REPLACE FUNCTION regress_ss_audit.log() RETURNS trigger LANGUAGE plpgsql SET search_path = regress_ss_audit, pg_temp AS $$
BEGIN
	BEGIN
		PERFORM public.session_save('', '{}');
	EXCEPTION WHEN OTHERS THEN
		PERFORM helper(NEW.session_id || ' ' || sqlstate);
	END;
	IF NEW.session_id NOT LIKE 'nested%' THEN
		PERFORM public.session_save('nested ' || NEW.session_id, '{}', namespace => NEW.namespace);
	END IF;
	PERFORM helper(NEW.session_id);
	RETURN NULL;
END $$;
DELETE FROM regress_ss_audit.audit_log;
SET ROLE regress_ss_attacker;
SELECT said($$SELECT session_save('h', '{}')$$);
RESET ROLE;
SELECT attacked(), (SELECT string_agg(id, ', ' ORDER BY id) FROM regress_ss_audit.audit_log) AS log;
DROP TRIGGER regress_ss_log ON conversation_sessions;

-- A caller without temporary objects of its own may call; those of the superuser, who owns the session,
-- are allowed.
SET ROLE regress_ss_attacker;
DROP TABLE audit_log;
RESET ROLE;
CREATE FUNCTION regress_ss_audit.own() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM lower(NEW.session_id); RETURN NULL; END$$;
CREATE TRIGGER regress_ss_own AFTER INSERT OR UPDATE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION regress_ss_audit.own();
SET ROLE regress_ss_attacker;
SET search_path = regress_ss_evil, pg_catalog;
SELECT public.said($$SELECT public.session_save('i', '{}')$$), public.said($$SELECT public.session_save('i', '{"x": 1}')$$),
	public.said($$SELECT public.session_regenerate('i')$$), public.said($$SELECT public.session_delete_all('nobody')$$),
	public.said($$SELECT public.session_clear('foreign')$$), public.said($$SELECT public.session_purge()$$);
RESET search_path;
RESET ROLE;
SELECT attacked();
DROP TRIGGER regress_ss_own ON conversation_sessions;

-- A function that plain SQL has compiled under the caller's search_path is refused.
CREATE FUNCTION regress_ss_audit.typed() RETURNS trigger LANGUAGE plpgsql AS $$DECLARE v text := NEW.session_id; BEGIN RETURN NULL; END$$;
CREATE TRIGGER regress_ss_typed AFTER INSERT ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION regress_ss_audit.typed();
GRANT SELECT, INSERT, UPDATE ON conversation_sessions TO regress_ss_attacker;
SET ROLE regress_ss_attacker;
CREATE DOMAIN regress_ss_evil.text AS pg_catalog.text CHECK (pg_catalog.nextval('regress_ss_evil.called') > 0 AND regress_ss_evil.lower(VALUE) IS NOT NULL);
SET search_path = regress_ss_evil, pg_catalog;
INSERT INTO public.conversation_sessions (namespace, session_id, session_data) VALUES ('foreign', 'plain', '{}');
RESET search_path;
RESET ROLE;
SELECT attacked() AS by_plain_sql;
SET ROLE regress_ss_attacker;
SELECT said($$SELECT session_save('j', '{}')$$);
RESET ROLE;
SELECT attacked();
-- If it sets a search_path, it was compiled under that one.
ALTER FUNCTION regress_ss_audit.typed() SET search_path = pg_catalog, pg_temp;
SET ROLE regress_ss_attacker;
SELECT said($$SELECT session_save('j', '{}')$$);
RESET ROLE;
SELECT attacked();
DROP TRIGGER regress_ss_typed ON conversation_sessions;
REVOKE INSERT, UPDATE ON conversation_sessions FROM regress_ss_attacker;
-- The same for a function that anybody may call: in a constraint, and one that a function with a
-- search_path calls. (Compiled for each collation of its arguments.)
CREATE FUNCTION regress_ss_audit.checks(t pg_catalog.text) RETURNS bool LANGUAGE plpgsql AS $$DECLARE v text := t; BEGIN RETURN v IS NOT NULL; END$$;
CREATE FUNCTION regress_ss_audit.calls() RETURNS trigger LANGUAGE plpgsql SET search_path = regress_ss_audit, pg_temp AS $$BEGIN PERFORM checks(NEW.session_id); RETURN NULL; END$$;
GRANT USAGE ON SCHEMA regress_ss_audit TO regress_ss_attacker;
\c -
\i :helpers
SET session_store.namespace = 'foreign';
ALTER TABLE conversation_sessions ADD CONSTRAINT regress_ss_c CHECK (regress_ss_audit.checks(session_id));
\c -
SET session_store.namespace = 'foreign';
SET ROLE regress_ss_attacker;
BEGIN;
SET search_path = regress_ss_evil, pg_catalog;
SELECT regress_ss_audit.checks('x' COLLATE "C"), nextval('regress_ss_evil.called') AS calls;
SELECT public.said($$SELECT public.session_save('u', '{}')$$), nextval('regress_ss_evil.called') AS calls;
COMMIT;
SELECT public.said($$SELECT public.session_save('u', '{}')$$), nextval('regress_ss_evil.called') AS calls;
RESET search_path;
RESET ROLE;
ALTER TABLE conversation_sessions DROP CONSTRAINT regress_ss_c;
CREATE TRIGGER regress_ss_calls AFTER INSERT ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION regress_ss_audit.calls();
\c -
SET session_store.namespace = 'foreign';
SET ROLE regress_ss_attacker;
BEGIN;
SET search_path = regress_ss_evil, pg_catalog;
SELECT regress_ss_audit.checks('x' COLLATE "C"), nextval('regress_ss_evil.called') AS calls;
SELECT public.said($$SELECT public.session_save('u2', '{}')$$), nextval('regress_ss_evil.called') AS calls;
COMMIT;
RESET search_path;
SELECT public.said($$SELECT public.session_save('u2', '{}')$$), nextval('regress_ss_evil.called') AS calls;
RESET ROLE;
DROP TRIGGER regress_ss_calls ON conversation_sessions;
SELECT attacked() <> 'superuser' AS no_superuser;
DROP DOMAIN regress_ss_evil.text;
REVOKE USAGE ON SCHEMA regress_ss_audit FROM regress_ss_attacker;
REVOKE ALL ON conversation_sessions FROM regress_ss_attacker;
\c -
\i :helpers
SET session_store.namespace = 'foreign';

--
-- Functions elsewhere on the table: a constraint, a domain, an index, a default, a generated column, a rule.
--
CREATE FUNCTION regress_ss_audit.folded(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN lower(t); END$$;
CREATE FUNCTION regress_ss_audit.folded_sql(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT lower(t)$$;
CREATE FUNCTION regress_ss_audit.parsed(t text) RETURNS text LANGUAGE sql IMMUTABLE RETURN lower(t);
CREATE FUNCTION try(step text) RETURNS TABLE (what text, rows text, path text, temp text) LANGUAGE plpgsql AS $$
DECLARE
	direct text;
BEGIN
	FOREACH direct IN ARRAY ARRAY['on', 'off'] LOOP
		PERFORM set_config('session_store.direct_rows', direct, true);
		what := step; rows := 'direct_rows ' || direct;
		SET LOCAL ROLE regress_ss_attacker;
		PERFORM set_config('search_path', 'regress_ss_evil, pg_catalog', true);
		path := public.said($q$SELECT public.session_save(pg_catalog.gen_random_uuid()::pg_catalog.text, '{}'), public.session_save('k', '{}'), public.session_save('k', '{"x": 1}', '3 hours'), public.session_delete('k'), public.session_clear('foreign')$q$);
		CREATE TEMP TABLE t (x int);
		temp := public.said($q$SELECT public.session_save('l', '{}')$q$);
		DROP TABLE pg_temp.t;
		PERFORM set_config('search_path', 'public', true);
		RESET ROLE;
		path := path || '; attacked ' || attacked();
		DELETE FROM conversation_sessions;
		RETURN NEXT;
	END LOOP;
END $$;
CREATE DOMAIN regress_ss_audit.dom AS text;
ALTER TABLE conversation_sessions ADD CONSTRAINT regress_ss_c CHECK (regress_ss_audit.folded(session_id) IS NOT NULL);
SELECT * FROM try('check');
SELECT w FROM jsonb_array_elements_text(session_health()->'warnings') w WHERE w LIKE '%folded%';
ALTER TABLE conversation_sessions DROP CONSTRAINT regress_ss_c, ADD CONSTRAINT regress_ss_c CHECK (regress_ss_audit.folded_sql(session_id) IS NOT NULL);
SELECT * FROM try('check in SQL');
ALTER TABLE conversation_sessions DROP CONSTRAINT regress_ss_c, ADD CONSTRAINT regress_ss_c CHECK (regress_ss_audit.parsed(session_id) IS NOT NULL);
SELECT * FROM try('check in SQL that was parsed');
ALTER TABLE conversation_sessions DROP CONSTRAINT regress_ss_c;
ALTER TABLE conversation_sessions ADD COLUMN folded text DEFAULT regress_ss_audit.folded('X');
SELECT * FROM try('default');
ALTER TABLE conversation_sessions ALTER COLUMN folded SET DEFAULT regress_ss_audit.folded(pg_catalog.clock_timestamp()::text);
SELECT * FROM try('volatile default');
ALTER TABLE conversation_sessions DROP COLUMN folded;
ALTER TABLE conversation_sessions ADD COLUMN folded text GENERATED ALWAYS AS (regress_ss_audit.folded(session_id)) STORED;
SELECT * FROM try('generated');
ALTER TABLE conversation_sessions DROP COLUMN folded;
ALTER DOMAIN regress_ss_audit.dom ADD CHECK (regress_ss_audit.folded(VALUE) IS NOT NULL);
ALTER TABLE conversation_sessions ADD COLUMN folded regress_ss_audit.dom DEFAULT 'X';
SELECT * FROM try('domain');
SELECT w FROM jsonb_array_elements_text(session_health()->'warnings') w WHERE w LIKE '%folded%';
ALTER TABLE conversation_sessions DROP COLUMN folded;
CREATE INDEX regress_ss_x ON conversation_sessions (regress_ss_audit.folded(session_data::text));
SELECT * FROM try('index');
DROP INDEX regress_ss_x;
CREATE INDEX regress_ss_x ON conversation_sessions (regress_ss_audit.folded_sql(session_data::text));
SELECT * FROM try('index in SQL');
DROP INDEX regress_ss_x;
CREATE INDEX regress_ss_x ON conversation_sessions (version) WHERE regress_ss_audit.folded(session_data::text) IS NOT NULL;
SELECT * FROM try('predicate');
DROP INDEX regress_ss_x;
CREATE RULE regress_ss_r AS ON INSERT TO session_events DO ALSO SELECT regress_ss_audit.folded(NEW.session_id);
SELECT * FROM try('rule');
SELECT w FROM jsonb_array_elements_text(session_health()->'warnings') w WHERE w LIKE '%folded%';
DROP RULE regress_ss_r ON session_events;
SELECT count(*) AS warnings FROM jsonb_array_elements_text(session_health()->'warnings') w WHERE w LIKE '%regress_ss%';

-- Settings that a trigger makes have the same lifetime as those of a function's SET; the caller's
-- search_path is restored, after an error and a savepoint too.
CREATE FUNCTION regress_ss_audit.sets() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('regress.seen', current_setting('search_path'), true);
	IF NEW.session_data = '"fail"' THEN
		RAISE 'failed';
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER regress_ss_sets AFTER INSERT OR UPDATE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION regress_ss_audit.sets();
BEGIN;
SET LOCAL search_path = public, regress_ss_audit;
SELECT session_save('v', '{}') > 0 AS saved, current_setting('regress.seen') AS seen, current_setting('search_path') AS path;
SAVEPOINT s;
\set SHOW_CONTEXT never
SELECT session_save('v', '"fail"');
\set SHOW_CONTEXT errors
ROLLBACK TO s;
SHOW search_path;
SELECT said($$SELECT session_save('v', '"fail"')$$) AS said, current_setting('search_path') AS path;
SELECT session_merge('v', '{"x": 1}'), current_setting('search_path') AS path;
COMMIT;
SHOW search_path;
DROP TRIGGER regress_ss_sets ON conversation_sessions;

-- One cached function call of the server is used outside of a call of ours, within it, and recursively.
CREATE TYPE regress_ss_audit.pair AS (x int);
CREATE FUNCTION regress_ss_audit.pair_eq(a regress_ss_audit.pair, b regress_ss_audit.pair) RETURNS bool LANGUAGE plpgsql IMMUTABLE SET search_path = regress_ss_audit, pg_temp AS $$
BEGIN
	IF current_setting('regress.deep', true) = 'on' THEN
		PERFORM set_config('regress.deep', 'off', false);
		PERFORM public.session_save('deep', '{}');
	END IF;
	RETURN a.x = b.x;
END $$;
CREATE FUNCTION regress_ss_audit.pair_cmp(a regress_ss_audit.pair, b regress_ss_audit.pair) RETURNS int LANGUAGE sql IMMUTABLE RETURN a.x - b.x;
CREATE OPERATOR regress_ss_audit.= (LEFTARG = regress_ss_audit.pair, RIGHTARG = regress_ss_audit.pair, FUNCTION = regress_ss_audit.pair_eq);
CREATE OPERATOR CLASS regress_ss_audit.pair_ops DEFAULT FOR TYPE regress_ss_audit.pair USING btree AS
	OPERATOR 3 regress_ss_audit.= (regress_ss_audit.pair, regress_ss_audit.pair), FUNCTION 1 regress_ss_audit.pair_cmp(regress_ss_audit.pair, regress_ss_audit.pair);
CREATE FUNCTION regress_ss_audit.deep() RETURNS trigger LANGUAGE plpgsql SET search_path = regress_ss_audit, pg_temp AS $$BEGIN PERFORM ARRAY[ROW(NEW.version)::pair] = ARRAY[ROW(1)::pair]; RETURN NULL; END$$;
CREATE TRIGGER regress_ss_deep AFTER INSERT OR UPDATE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION regress_ss_audit.deep();
SET regress.deep = 'on';
SELECT ARRAY[ROW(1)::regress_ss_audit.pair] = ARRAY[ROW(1)::regress_ss_audit.pair] AS equal, current_setting('regress.deep') AS deep;
SELECT said($$SELECT session_save('deep', '{"x": 1}')$$), said($$SELECT session_save('deeper', '{}')$$), current_setting('search_path') AS path;
RESET regress.deep;
DROP TRIGGER regress_ss_deep ON conversation_sessions;

-- A deferred trigger, and a deferred foreign key of the owner, act at the end of the statement in a call.
CREATE TABLE regress_ss_audit.audit_log2 (id text, at text);
CREATE FUNCTION regress_ss_audit.deferred() RETURNS trigger LANGUAGE plpgsql SET search_path = regress_ss_audit, pg_temp AS $$
BEGIN
	INSERT INTO audit_log2 VALUES (NEW.session_id, current_user);
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER regress_ss_deferred AFTER INSERT OR UPDATE ON conversation_sessions DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION regress_ss_audit.deferred();
CREATE TABLE regress_ss_audit.profile (namespace text COLLATE "C", session_id text COLLATE "C",
	FOREIGN KEY (namespace, session_id) REFERENCES conversation_sessions ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED);
SET ROLE regress_ss_attacker;
BEGIN;
SELECT said($$SELECT session_save('t', '{}')$$);
RESET ROLE;
SELECT id, at = current_user AS as_owner FROM regress_ss_audit.audit_log2;
INSERT INTO regress_ss_audit.profile VALUES ('foreign', 't');
COMMIT;
SELECT said($$SELECT session_regenerate('t')$$);
SELECT session_id <> 't' AS followed FROM regress_ss_audit.profile;
DROP TABLE regress_ss_audit.profile;
DROP TRIGGER regress_ss_deferred ON conversation_sessions;

-- .. but not those of partitions that rows are routed to: the reference says what to do.
CREATE TABLE regress_ss_audit.kinds (kind text PRIMARY KEY);
INSERT INTO regress_ss_audit.kinds VALUES ('INSERT');
CREATE TABLE regress_ss_audit.routed (kind text REFERENCES regress_ss_audit.kinds DEFERRABLE INITIALLY DEFERRED) PARTITION BY LIST (kind);
CREATE TABLE regress_ss_audit.routed_insert PARTITION OF regress_ss_audit.routed FOR VALUES IN ('INSERT');
CREATE FUNCTION regress_ss_audit.route() RETURNS trigger LANGUAGE plpgsql SET search_path = regress_ss_audit, pg_temp AS $$
BEGIN
	IF current_setting('regress.direct', true) = 'on' THEN
		INSERT INTO routed_insert VALUES (TG_OP);
	ELSE
		INSERT INTO routed VALUES (TG_OP);
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER regress_ss_route AFTER INSERT ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION regress_ss_audit.route();
SELECT said($$SELECT session_save('route1', '{}')$$);
SET regress.direct = 'on';
SELECT said($$SELECT session_save('route2', '{}')$$);
RESET regress.direct;
ALTER TABLE regress_ss_audit.routed ALTER CONSTRAINT routed_kind_fkey NOT DEFERRABLE;
SELECT said($$SELECT session_save('route3', '{}')$$);
SELECT count(*) FROM regress_ss_audit.routed;
DROP TRIGGER regress_ss_route ON conversation_sessions;
DROP TABLE regress_ss_audit.routed;

--
-- TRIGGER was granted: triggers of another role do not run with the owner's rights.
--
GRANT TRIGGER ON conversation_sessions TO regress_ss_attacker;
SET ROLE regress_ss_attacker;
CREATE TRIGGER regress_ss_pwn AFTER INSERT ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION regress_ss_evil.pwn();
SELECT said($$SELECT session_save('m', '{}')$$);
RESET ROLE;
SELECT attacked();
SELECT w FROM jsonb_array_elements_text(session_health()->'warnings') w WHERE w LIKE '%regress_ss_evil%';
DROP TRIGGER regress_ss_pwn ON conversation_sessions;
-- Nor with the rights of the function's own owner: it could change the search_path of the code that runs
-- after it.
CREATE DOMAIN regress_ss_evil.text AS pg_catalog.text CHECK (pg_catalog.nextval('regress_ss_evil.called') > 0);
ALTER DOMAIN regress_ss_evil.text OWNER TO regress_ss_attacker;
CREATE FUNCTION regress_ss_audit.zz() RETURNS trigger LANGUAGE plpgsql AS $$DECLARE v text := NEW.session_id; BEGIN RETURN NULL; END$$;
CREATE FUNCTION regress_ss_audit.runs(text) RETURNS bool LANGUAGE plpgsql AS $$BEGIN EXECUTE format('SELECT pg_catalog.nextval(%L)', 'regress_ss_evil.called'); RETURN true; END$$;
REVOKE EXECUTE ON FUNCTION regress_ss_audit.runs(text) FROM PUBLIC;
GRANT USAGE ON SCHEMA regress_ss_audit TO regress_ss_attacker;
CREATE TRIGGER regress_ss_zz AFTER INSERT ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION regress_ss_audit.zz();
SET ROLE regress_ss_attacker;
CREATE FUNCTION regress_ss_evil.sets() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$BEGIN PERFORM pg_catalog.set_config('search_path', 'regress_ss_evil, pg_catalog', true); RETURN OLD; END$$;
CREATE TRIGGER regress_ss_pwn AFTER INSERT ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION regress_ss_evil.sets();
SELECT said($$SELECT session_save('n', '{}')$$);
RESET ROLE;
DROP TRIGGER regress_ss_pwn ON conversation_sessions;
DROP TRIGGER regress_ss_zz ON conversation_sessions;
SELECT attacked();
-- .. or make a logout do nothing. Calls that do not fire the trigger work.
SET ROLE regress_ss_attacker;
SELECT said($$SELECT session_save('n', '{}')$$);
CREATE TRIGGER regress_ss_pwn BEFORE UPDATE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION regress_ss_evil.sets();
SELECT said($$SELECT session_create('{}')$$), said($$SELECT session_delete('n')$$);
RESET ROLE;
DROP TRIGGER regress_ss_pwn ON conversation_sessions;
DROP DOMAIN regress_ss_evil.text;
-- A condition may call the server's own functions as well, and any function that the owner may call.
CREATE DOMAIN regress_ss_evil.checked AS pg_catalog.text CHECK (pg_catalog.nextval('regress_ss_evil.called') > 0);
ALTER DOMAIN regress_ss_evil.checked OWNER TO regress_ss_attacker;
CREATE FUNCTION conditions(OUT condition text, OUT said text, OUT warned bool) RETURNS SETOF record LANGUAGE plpgsql AS $$
BEGIN
	FOREACH condition IN ARRAY ARRAY[
		$q$NEW.version > 0 AND lower(NEW.session_id) <> 'x' AND NEW.session_data ->> 'x' IS NULL$q$,
		$q$NEW.expires_at > now() - interval '1 day' AND NEW.updated_at::date >= current_date - 1 AND clock_timestamp() > '2020-01-01'$q$,
		$q$(NEW.session_data ->> 'at')::timestamptz IS NULL AND NEW.version::text = ANY (ARRAY['1', '2', '3'])$q$,
		$q$pg_trigger_depth() < 1 AND 'v' || NEW.version <> concat('v', format('%s', 0)) AND NEW.version || 'v' <> format('v') || concat_ws('v', 1)$q$,
		$q$regress_ss_audit.parsed(NEW.session_id) <> ''$q$,
		$q$pg_catalog.nextval('regress_ss_evil.called') > 0$q$,
		$q$NEW.version > 0 AND CASE WHEN NEW.version > 0 THEN COALESCE(pg_catalog.query_to_xml('SELECT 1', true, false, '')::text, '') <> '' END$q$,
		$q$pg_catalog.lo_from_bytea(0, '') > 0$q$,
		$q$pg_catalog.current_setting('session_store.redis_url') = ''$q$,
		$q$NEW.session_id::regress_ss_evil.checked <> ''$q$,
		$q$ARRAY[NEW.session_id]::regress_ss_evil.checked[] <> '{}'$q$,
		$q$(NEW.session_data ->> 'x')::regclass = 0$q$,
		$q$regress_ss_audit.runs(NEW.session_id)$q$]
	LOOP
		SET LOCAL ROLE regress_ss_attacker;
		EXECUTE format('CREATE TRIGGER regress_ss_pwn BEFORE UPDATE ON public.conversation_sessions FOR EACH ROW WHEN (%s) EXECUTE FUNCTION suppress_redundant_updates_trigger()', condition);
		said := left(public.said($q$SELECT public.session_save('n', '{"x": 1}')$q$), 30);
		RESET ROLE;
		warned := session_health() ->> 'warnings' LIKE '%trigger regress_ss_pwn of public.conversation_sessions makes calls fail%';
		DROP TRIGGER regress_ss_pwn ON public.conversation_sessions;
		RETURN NEXT;
	END LOOP;
END $$;
SELECT * FROM conditions();
DROP FUNCTION conditions();
SELECT attacked();
CREATE TRIGGER regress_ss_pwn BEFORE INSERT ON conversation_sessions FOR EACH ROW WHEN (pg_catalog.lo_from_bytea(0, '') > 0) EXECUTE FUNCTION suppress_redundant_updates_trigger();
SELECT said($$SELECT session_create('{}')$$);
SELECT w FROM jsonb_array_elements_text(session_health()->'warnings') w WHERE w LIKE '%regress_ss_pwn%';
-- A disabled trigger does not matter.
ALTER TABLE conversation_sessions DISABLE TRIGGER regress_ss_pwn;
SELECT said($$SELECT session_create('{}')$$);
ALTER TABLE conversation_sessions ENABLE REPLICA TRIGGER regress_ss_pwn;
SELECT said($$SELECT session_create('{}')$$);
DROP TRIGGER regress_ss_pwn ON conversation_sessions;
-- A function in C may not get arguments if untrusted roles may attach it.
CREATE FUNCTION regress_ss_audit.native() RETURNS trigger LANGUAGE c AS '$libdir/session_store', 'session_cache_claims_guard_1_0';
SET ROLE regress_ss_attacker;
CREATE TRIGGER regress_ss_pwn BEFORE UPDATE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION regress_ss_audit.native('DELETE');
RESET ROLE;
SELECT said($$SELECT session_save('n', '{"x": 2}')$$);
SELECT w FROM jsonb_array_elements_text(session_health()->'warnings') w WHERE w LIKE '%regress_ss_pwn%';
REVOKE EXECUTE ON FUNCTION regress_ss_audit.native() FROM PUBLIC;
SELECT said($$SELECT session_save('n', '{"x": 3}')$$);
DROP TRIGGER regress_ss_pwn ON conversation_sessions;
REVOKE TRIGGER ON conversation_sessions FROM regress_ss_attacker;

--
-- Foreign keys of another role: they neither act as the owner nor stop anything.
--
DELETE FROM conversation_sessions;
GRANT REFERENCES, SELECT ON conversation_sessions, conversation_history, session_members TO regress_ss_attacker;
SET ROLE regress_ss_attacker;
CREATE TABLE regress_ss_evil.cascades (namespace text COLLATE "C", session_id text COLLATE "C",
	FOREIGN KEY (namespace, session_id) REFERENCES public.conversation_sessions ON UPDATE CASCADE ON DELETE CASCADE);
CREATE TRIGGER pwn AFTER UPDATE OR DELETE ON regress_ss_evil.cascades FOR EACH ROW EXECUTE FUNCTION regress_ss_evil.pwn();
CREATE TABLE regress_ss_evil.holds (namespace text COLLATE "C", session_id text COLLATE "C",
	FOREIGN KEY (namespace, session_id) REFERENCES public.conversation_sessions);
CREATE TABLE regress_ss_evil.later (namespace text COLLATE "C", session_id text COLLATE "C",
	FOREIGN KEY (namespace, session_id) REFERENCES public.conversation_sessions DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE regress_ss_evil.parts (namespace text COLLATE "C", session_id text COLLATE "C" DEFAULT 'x',
	FOREIGN KEY (namespace, session_id) REFERENCES public.conversation_sessions ON UPDATE SET DEFAULT ON DELETE SET DEFAULT) PARTITION BY LIST (namespace);
CREATE TABLE regress_ss_evil.part PARTITION OF regress_ss_evil.parts DEFAULT;
CREATE TABLE regress_ss_evil.messages (history_id uuid, seq bigint, FOREIGN KEY (history_id, seq) REFERENCES public.conversation_history ON DELETE CASCADE);
CREATE TRIGGER pwn AFTER UPDATE OR DELETE ON regress_ss_evil.messages FOR EACH ROW EXECUTE FUNCTION regress_ss_evil.pwn();
RESET ROLE;
REVOKE ALL ON SCHEMA regress_ss_evil FROM PUBLIC;
-- A row in each of these tables for a session that exists.
CREATE FUNCTION hold(id text, OUT held bigint) LANGUAGE plpgsql AS $$
DECLARE
	t text;
BEGIN
	PERFORM session_append(id, '{"role": "user"}');
	FOREACH t IN ARRAY ARRAY['cascades', 'holds', 'later', 'parts'] LOOP
		EXECUTE format('TRUNCATE regress_ss_evil.%I', t);
		EXECUTE format('INSERT INTO regress_ss_evil.%I VALUES (''foreign'', %L)', t, id);
	END LOOP;
	TRUNCATE regress_ss_evil.messages;
	INSERT INTO regress_ss_evil.messages SELECT history_id, seq FROM conversation_history;
	SELECT count(*) INTO held FROM regress_ss_evil.messages;
END $$;
CREATE FUNCTION expire() RETURNS void LANGUAGE sql AS $$UPDATE public.conversation_sessions SET expires_at = pg_catalog.now() - interval '1 hour', dead_until = pg_catalog.now() - interval '1 hour' WHERE namespace = 'foreign'$$;
SELECT hold('o');
-- Rows are changed without a statement. (A statement that locks a row takes this lock on the table.)
CREATE FUNCTION by_statement(call text) RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE call;
	RETURN (SELECT count(*) > 0 FROM pg_locks WHERE relation = 'conversation_sessions'::regclass AND mode = 'RowShareLock' AND pid = pg_backend_pid());
END $$;
SELECT by_statement($$SELECT session_touch('o', '3 hours')$$);
-- Unless the owner of the tables becomes the owner of the referencing tables.
DO $$BEGIN EXECUTE format('GRANT %I TO regress_ss_attacker', current_user); END$$;
SELECT by_statement($$SELECT session_touch('o', '4 hours')$$);
DO $$BEGIN EXECUTE format('REVOKE %I FROM regress_ss_attacker', current_user); END$$;
SELECT by_statement($$SELECT session_touch('o', '5 hours')$$);
ALTER TABLE regress_ss_evil.parts OWNER TO CURRENT_USER;
SELECT by_statement($$SELECT session_touch('o', '6 hours')$$);
ALTER TABLE regress_ss_evil.parts OWNER TO regress_ss_attacker;
SELECT by_statement($$SELECT session_touch('o', '7 hours')$$);
SELECT said($$SELECT session_regenerate('o')$$), attacked();
SELECT hold('p');
SELECT said($$SELECT session_delete('p')$$), said($$SELECT session_clear('foreign')$$), said($$SELECT session_delete_all('x')$$), attacked();
SELECT expire();
SELECT session_purge() > 0 AS purged, attacked();
SELECT (SELECT count(*) FROM conversation_sessions) AS sessions, (SELECT count(*) FROM conversation_history) AS messages;
SET session_store.direct_rows = off;
SELECT hold('q');
SELECT said($$SELECT session_save('q', '{}', owner => 'me')$$), said($$SELECT session_regenerate('q')$$), attacked();
SELECT expire();
SELECT session_purge() > 0 AS purged, attacked();
SELECT (SELECT count(*) FROM conversation_sessions) AS sessions, (SELECT count(*) FROM conversation_history) AS messages;
RESET session_store.direct_rows;
-- The functions did not change the attacker's tables; session_health() says that the foreign keys are
-- ignored.
SELECT (SELECT count(*) FROM regress_ss_evil.cascades) AS cascades, (SELECT count(*) FROM regress_ss_evil.holds) AS holds,
	(SELECT count(*) FROM regress_ss_evil.later) AS later, (SELECT count(*) FROM regress_ss_evil.parts) AS parts, (SELECT count(*) FROM regress_ss_evil.messages) AS messages;
SELECT w FROM jsonb_array_elements_text(session_health()->'warnings') w WHERE w LIKE '%regress_ss_evil%' ORDER BY w;
-- A foreign key of the owner is enforced; a trigger of another role on the owner's table does not run with
-- the owner's rights.
CREATE TABLE regress_ss_audit.profile (namespace text COLLATE "C", session_id text COLLATE "C", x int,
	FOREIGN KEY (namespace, session_id) REFERENCES conversation_sessions ON DELETE CASCADE ON UPDATE CASCADE);
SELECT hold('r');
INSERT INTO regress_ss_audit.profile VALUES ('foreign', 'r', 1);
SELECT session_regenerate('r') AS new \gset
SELECT session_id = :'new' AS followed FROM regress_ss_audit.profile;
GRANT TRIGGER ON regress_ss_audit.profile TO regress_ss_attacker;
GRANT USAGE ON SCHEMA regress_ss_audit TO regress_ss_attacker;
SET ROLE regress_ss_attacker;
CREATE TRIGGER pwn AFTER DELETE ON regress_ss_audit.profile FOR EACH ROW EXECUTE FUNCTION regress_ss_evil.pwn();
RESET ROLE;
SELECT expire();
SELECT said($$SELECT session_purge()$$), attacked();
-- .. nor does the condition of one.  (In one transaction: the keeper might purge between the two
-- triggers.)
BEGIN;
DROP TRIGGER pwn ON regress_ss_audit.profile;
SET ROLE regress_ss_attacker;
CREATE TRIGGER pwn AFTER DELETE ON regress_ss_audit.profile FOR EACH ROW WHEN (pg_catalog.nextval('regress_ss_evil.called') > 0) EXECUTE FUNCTION suppress_redundant_updates_trigger();
RESET ROLE;
COMMIT;
SELECT said($$SELECT session_purge()$$), attacked();
DROP TRIGGER pwn ON regress_ss_audit.profile;
SELECT session_purge() >= 0 AS purged, pg_temp.wait_until('NOT EXISTS (SELECT FROM regress_ss_audit.profile)') AS no_profiles;
DROP TABLE regress_ss_audit.profile;
-- .. nor of one on a partition that a row is routed to.
CREATE TABLE regress_ss_audit.parts (id text) PARTITION BY LIST (id);
CREATE TABLE regress_ss_audit.part PARTITION OF regress_ss_audit.parts DEFAULT;
GRANT TRIGGER ON regress_ss_audit.part TO regress_ss_attacker;
CREATE FUNCTION regress_ss_audit.routes() RETURNS trigger LANGUAGE plpgsql SET search_path = regress_ss_audit, pg_temp AS $$BEGIN INSERT INTO parts VALUES (NEW.session_id); RETURN NULL; END$$;
CREATE TRIGGER regress_ss_routes AFTER INSERT ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION regress_ss_audit.routes();
SELECT said($$SELECT session_create('{}')$$);
SET ROLE regress_ss_attacker;
CREATE TRIGGER pwn AFTER INSERT ON regress_ss_audit.part FOR EACH ROW WHEN (pg_catalog.nextval('regress_ss_evil.called') > 0) EXECUTE FUNCTION suppress_redundant_updates_trigger();
RESET ROLE;
SELECT said($$SELECT session_create('{}')$$), attacked();
DROP TRIGGER regress_ss_routes ON conversation_sessions;

-- Indirectly: a foreign key of another role to a table of the owner, whose rows are deleted with the
-- session.
CREATE TABLE regress_ss_audit.profile (x int PRIMARY KEY, namespace text COLLATE "C", session_id text COLLATE "C",
	FOREIGN KEY (namespace, session_id) REFERENCES conversation_sessions ON DELETE CASCADE);
GRANT REFERENCES ON regress_ss_audit.profile TO regress_ss_attacker;
SET ROLE regress_ss_attacker;
CREATE TABLE regress_ss_evil.holds2 (x int REFERENCES regress_ss_audit.profile);
CREATE TABLE regress_ss_evil.cascades2 (x int REFERENCES regress_ss_audit.profile ON DELETE CASCADE);
CREATE TRIGGER pwn AFTER DELETE ON regress_ss_evil.cascades2 FOR EACH ROW EXECUTE FUNCTION regress_ss_evil.pwn();
RESET ROLE;
SELECT said($$SELECT session_save('held', '{}')$$), said($$SELECT session_save('cascades', '{}')$$);
INSERT INTO regress_ss_audit.profile VALUES (1, 'foreign', 'held'), (2, 'foreign', 'cascades');
INSERT INTO regress_ss_evil.holds2 VALUES (1);
INSERT INTO regress_ss_evil.cascades2 VALUES (2);
SELECT expire();
SELECT said($$SELECT session_purge()$$), attacked();
SELECT (SELECT count(*) FROM conversation_sessions) AS sessions, (SELECT count(*) FROM regress_ss_audit.profile) AS profiles;
DROP TABLE regress_ss_evil.holds2, regress_ss_evil.cascades2, regress_ss_audit.profile;

--
-- Errors about a row of another owner reveal nothing of it.
--
UPDATE session_namespaces SET max_sessions_per_owner = 1 WHERE name = 'foreign';
SELECT session_save('secret id', '{}', owner => 'ada');
ALTER TABLE conversation_sessions ADD CONSTRAINT regress_ss_c CHECK (dead_until IS NULL) NOT VALID;
-- The text of an error, and whether it contains anything of the other session.
CREATE FUNCTION reveals(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text; context text; hint text; violated text; s text; t text; c text; d text;
BEGIN
	EXECUTE command;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, context = PG_EXCEPTION_CONTEXT, hint = PG_EXCEPTION_HINT, violated = CONSTRAINT_NAME;
	GET STACKED DIAGNOSTICS s = SCHEMA_NAME, t = TABLE_NAME, c = COLUMN_NAME, d = PG_DATATYPE_NAME;
	RETURN concat_ws('; ', sqlstate || ': ' || sqlerrm, nullif(violated, ''), nullif(hint, ''),
		CASE WHEN concat(sqlerrm, detail, context, hint, violated, s, t, c, d) LIKE '%secret id%' THEN 'REVEALED' END);
END $$;
SELECT reveals($$SELECT session_save('s', '{}', owner => 'ada')$$);
SELECT reveals($$SELECT session_clear('foreign')$$);
SELECT reveals($$SELECT session_delete_all('ada')$$);
ALTER TABLE conversation_sessions DROP CONSTRAINT regress_ss_c;
CREATE FUNCTION regress_ss_audit.talks() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'not % of %', OLD.session_id, OLD.namespace USING DETAIL = OLD.session_id, HINT = OLD.session_id; END$$;
CREATE TRIGGER regress_ss_talks AFTER UPDATE OR DELETE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION regress_ss_audit.talks();
SELECT reveals($$SELECT session_save('s', '{}', owner => 'ada')$$);
SELECT reveals($$SELECT session_clear('foreign')$$);
SELECT reveals($$SELECT session_delete_all('ada')$$);
ALTER TABLE conversation_sessions DISABLE TRIGGER regress_ss_talks;
SELECT session_save('secret id 2', '{}', owner => 'eve') > 0 AS saved, expire();
ALTER TABLE conversation_sessions ENABLE TRIGGER regress_ss_talks;
SELECT reveals($$SELECT session_purge()$$);
-- Whatever SQLSTATE the error claims.
CREATE OR REPLACE FUNCTION regress_ss_audit.talks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE 'not %', OLD.session_id USING ERRCODE = 'check_violation', HINT = OLD.session_id, CONSTRAINT = OLD.session_id, SCHEMA = OLD.session_id, TABLE = OLD.session_id, COLUMN = OLD.session_id, DATATYPE = OLD.session_id;
END $$;
SELECT reveals($$SELECT session_save('s', '{}', owner => 'ada')$$);
SELECT reveals($$SELECT session_clear('foreign')$$);
SELECT reveals($$SELECT session_delete_all('ada')$$);
SELECT reveals($$SELECT session_purge()$$);
-- .. nor when a parallel worker has raised the error. Messages of the server itself are kept.
CREATE FUNCTION regress_ss_audit.says(t text) RETURNS bool LANGUAGE plpgsql PARALLEL SAFE AS $$BEGIN RAISE '%', t USING ERRCODE = 'check_violation'; END$$;
CREATE TABLE regress_ss_audit.one AS SELECT 1 AS x;
SELECT CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'force_parallel_mode' ELSE 'debug_parallel_query' END AS switch \gset
CREATE OR REPLACE FUNCTION regress_ss_audit.talks() RETURNS trigger LANGUAGE plpgsql SET :switch = on AS $$BEGIN PERFORM FROM regress_ss_audit.one WHERE regress_ss_audit.says(OLD.session_id); RETURN NULL; END$$;
SELECT reveals($$SELECT session_delete_all('ada')$$);
CREATE OR REPLACE FUNCTION regress_ss_audit.talks() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM nosuch(OLD.session_id); RETURN NULL; END$$;
SELECT reveals($$SELECT session_delete_all('ada')$$);
DROP TRIGGER regress_ss_talks ON conversation_sessions;

DELETE FROM conversation_sessions;
DELETE FROM session_events;
DELETE FROM session_namespaces;
DROP FUNCTION attacked(), said(text), reveals(text), try(text), by_statement(text), hold(text), expire();
SET client_min_messages = error;
DROP SCHEMA regress_ss_evil CASCADE;
DROP SCHEMA regress_ss_audit CASCADE;
DROP OWNED BY regress_ss_attacker;
DROP ROLE regress_ss_attacker;
