/*
 * session_store: carries the rows of an earlier state of version 1.0.0-dev over into today's tables.
 *
 * For databases whose extension was created from an earlier state of 1.0.0-dev, from commit bce6701 on.
 * Install the new files and restart the server.  Then, in each database that has the extension, run
 *
 *		psql -X -d DATABASE -f carry_over.sql
 *
 * as the owner of the tables, who must be allowed to create the extension.  Clients have to wait.
 *
 * The script copies the rows of all tables of the extension, drops the extension, creates it again and
 * puts the rows back.  All this is one transaction: after an error the database is as it was.  It needs
 * room for a second copy of the rows.
 *
 * Also carried over, as far as they differ from what CREATE EXTENSION makes:
 *
 *	- privileges on functions, tables and columns, and those that were revoked
 *	- triggers of your own on the tables, and whether they are enabled
 *	- of the tables: FORCE ROW LEVEL SECURITY, REPLICA IDENTITY, storage options, and storage,
 *	  compression, statistics and options of columns, unless the extension sets the same one itself
 *	- comments on columns that have no comment of the extension
 *
 * Objects of your own that depend on the extension (views, foreign keys, functions) make it fail with
 * a list of them: drop them first.  It refuses to run if a table has columns of your own.
 *
 * Lost, with a warning for each: indexes, policies, constraints and rules of your own on the tables,
 * a trigger that cannot be created again, and settings that the extension sets itself, UNLOGGED, a
 * tablespace and DISABLE ROW LEVEL SECURITY among them.  Lost without a warning: other comments, changes of
 * the policies, functions and triggers of the extension, and publications' membership: add the tables
 * again (docs/reference.md says which).
 */
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;

DO $$
DECLARE
	tables name := (SELECT r.rolname FROM pg_extension e JOIN pg_class c ON c.relnamespace = e.extnamespace
		AND c.relname = 'conversation_sessions' JOIN pg_roles r ON r.oid = c.relowner WHERE e.extname = 'session_store');
BEGIN
	IF tables IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = 'session_store is not installed in this database, or its table conversation_sessions is missing';
	ELSIF tables <> current_user THEN
		RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'this script must be run by the owner of the tables',
			HINT = format('Connect as role %I.', tables);
	END IF;
END
$$;

SELECT quote_ident(n.nspname) AS schema,
	to_regclass(quote_ident(n.nspname) || '.session_operations') IS NOT NULL AS has_operations,
	to_regclass(quote_ident(n.nspname) || '.session_cache_claims') IS NOT NULL AS has_claims,
	to_regclass(quote_ident(n.nspname) || '.session_orphans') IS NOT NULL AS has_orphans,
	to_regclass(quote_ident(n.nspname) || '.session_counters') IS NOT NULL AS has_counters
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'session_store' \gset

LOCK TABLE :schema.session_namespaces, :schema.conversation_sessions, :schema.conversation_history,
	:schema.conversation_history_ended, :schema.session_members, :schema.session_events, :schema.session_samples
	IN ACCESS EXCLUSIVE MODE;
\if :has_operations
LOCK TABLE :schema.session_operations IN ACCESS EXCLUSIVE MODE;
\endif
\if :has_counters
LOCK TABLE :schema.session_counters IN ACCESS EXCLUSIVE MODE;
\endif

-- The tables of the extension, and the columns that are carried over.
CREATE TEMP TABLE old_columns (relname name, columns name[]) ON COMMIT DROP;
INSERT INTO old_columns VALUES
	('session_namespaces', '{name,key_prefix,ttl,sliding,max_lifetime,cache,cache_ttl,hot_uses,hash_keys,max_bytes,max_sessions_per_owner,on_quota,tombstone,allowed_roles,owner_isolation,audit,events_keep,durability,tail_prefix,tail_size,audit_saves,operation_keep,token_path,turns}'),
	('conversation_sessions', '{created_at,check_at,ttl,namespace,session_id,owner_id,last_seq,message_count,version,updated_at,expires_at,session_data,history_id,dead_until,turn,turn_until,turn_holder,summary,summary_up_to}'),
	('conversation_history', '{history_id,seq,created_at,operation_last,message,operation_id,operation_hash}'),
	('session_operations', '{keep_until,history_id,result,namespace,operation_id,operation_hash}'),
	('conversation_history_ended', '{namespace,history_id,from_seq,ended_at,entry_id,owner_id}'),
	('session_members', '{history_id,member,role,created_at,accepted}'),
	('session_events', '{created_at,event_id,namespace,session_id,owner_id,event,actor,detail}'),
	('session_samples', '{namespace,sampled_at,estimated,sessions,expired,tombstones,owned,messages,total_bytes,max_bytes,over_1mb}'),
	('session_orphans', '{history_id,seen_at}'),
	('session_counters', '{resets_at,hits,namespace,counter_id}'),
	('session_cache_claims', '{system_identifier,database_oid,data_directory,timeline,redis,moved,tokens,epochs,claimed_at}');

DO $$
DECLARE
	found record;
BEGIN
	-- a table that this script does not know has rows that it would not put back
	FOR found IN
		SELECT c.relname FROM pg_extension e
			JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e' AND d.classid = 'pg_class'::regclass
			JOIN pg_class c ON c.oid = d.objid AND c.relkind IN ('r', 'p', 'S', 'm', 'f')
		WHERE e.extname = 'session_store' AND c.relname NOT IN (SELECT relname FROM old_columns)
	LOOP
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = format('table %I belongs to the extension and would be lost', found.relname),
			HINT = 'Use the script of the same commit as the installed files.';
	END LOOP;
	FOR found IN
		SELECT c.relname, a.attname FROM pg_extension e
			JOIN pg_class c ON c.relnamespace = e.extnamespace
			JOIN old_columns o ON o.relname = c.relname
			JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		WHERE e.extname = 'session_store' AND a.attname <> ALL (o.columns)
	LOOP
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = format('column %I of table %I is not one of the extension', found.attname, found.relname),
			HINT = 'Its values would be lost. Move them elsewhere, and drop it.';
	END LOOP;
	FOR found IN
		SELECT c.relname, 'index' AS kind, i.relname AS name FROM pg_extension e
			JOIN pg_class c ON c.relnamespace = e.extnamespace
			JOIN old_columns o ON o.relname = c.relname
			JOIN pg_index x ON x.indrelid = c.oid JOIN pg_class i ON i.oid = x.indexrelid
		WHERE e.extname = 'session_store' AND i.relname <> c.relname || '_pkey' AND i.relname <> ALL ('{conversation_sessions_check_at,
			conversation_sessions_created,conversation_sessions_owner,conversation_sessions_history,conversation_history_operation,
			conversation_history_ended_history,session_members_member,session_members_unaccepted,session_events_owner,session_operations_keep_until,session_counters_resets_at}'::name[])
	LOOP
		RAISE WARNING USING ERRCODE = '01000', MESSAGE = format('%s %I on table %I is dropped', found.kind, found.name, found.relname),
			HINT = 'Create it again afterwards.';
	END LOOP;
END
$$;

-- Policies, constraints and rules, to tell afterwards which of them were the owner's.
CREATE TEMP VIEW table_objects AS
SELECT c.relnamespace, c.relname, o.kind, o.name
FROM pg_class c JOIN (SELECT polrelid, 'policy', polname FROM pg_policy
	UNION ALL SELECT conrelid, 'constraint', conname FROM pg_constraint
	UNION ALL SELECT ev_class, 'rule', rulename FROM pg_rewrite) AS o (relid, kind, name) ON o.relid = c.oid
WHERE c.relkind IN ('r', 'p');
CREATE TEMP TABLE old_objects ON COMMIT DROP AS
SELECT o.relname, o.kind, o.name FROM pg_extension e JOIN table_objects o ON o.relnamespace = e.extnamespace
	JOIN old_columns t ON t.relname = o.relname
WHERE e.extname = 'session_store';

-- Triggers of the owner.
CREATE TEMP TABLE old_triggers ON COMMIT DROP AS
SELECT c.relname, t.tgname AS name, t.tgenabled AS enabled, pg_get_triggerdef(t.oid) AS definition
FROM pg_extension e JOIN pg_class c ON c.relnamespace = e.extnamespace
	JOIN old_columns o ON o.relname = c.relname
	JOIN pg_trigger t ON t.tgrelid = c.oid AND NOT t.tgisinternal
WHERE e.extname = 'session_store' AND NOT EXISTS (SELECT FROM pg_depend d
	WHERE d.classid = 'pg_proc'::regclass AND d.objid = t.tgfoid AND d.refobjid = e.oid AND d.deptype = 'e');

-- What ALTER TABLE and COMMENT ON COLUMN can set, other than the server's defaults; `command` sets it again.
CREATE TEMP VIEW table_settings AS
SELECT c.relnamespace, c.relname, s.kind, s.name, s.value, s.command
FROM pg_class c, LATERAL (
	SELECT 'option', o.option_name, o.option_value, format('SET (%I = %L)', o.option_name, o.option_value) FROM pg_options_to_table(c.reloptions) o
	UNION ALL SELECT 'option', 'toast.' || o.option_name, o.option_value, format('SET (toast.%I = %L)', o.option_name, o.option_value)
		FROM pg_class t, pg_options_to_table(t.reloptions) o WHERE t.oid = c.reltoastrelid
	UNION ALL SELECT 'row level security', 'force', 'on', 'FORCE ROW LEVEL SECURITY' WHERE c.relforcerowsecurity
	UNION ALL SELECT 'row level security', 'enabled', 'off', NULL WHERE NOT c.relrowsecurity
	UNION ALL SELECT 'replica identity', '', r.value, 'REPLICA IDENTITY ' || r.value FROM (SELECT CASE c.relreplident WHEN 'f' THEN 'FULL' WHEN 'n' THEN 'NOTHING' WHEN 'i' THEN
		(SELECT 'USING INDEX ' || quote_ident(i.relname) FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid WHERE x.indrelid = c.oid AND x.indisreplident) END) r (value)
		WHERE r.value IS NOT NULL
	UNION ALL SELECT 'tablespace', '', t.spcname, NULL FROM pg_tablespace t WHERE t.oid = c.reltablespace
	UNION ALL SELECT 'persistence', '', 'unlogged', NULL WHERE c.relpersistence = 'u'
	UNION ALL SELECT v.kind, a.attname, v.value, format('ALTER COLUMN %I SET %s %s', a.attname, v.kind, v.value) FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid, LATERAL (VALUES
		('storage', CASE WHEN a.attstorage <> y.typstorage THEN CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END END),
		('compression', CASE a.attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END),
		('statistics', CASE WHEN a.attstattarget >= 0 THEN a.attstattarget::text END)) v (kind, value)
		WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND v.value IS NOT NULL
	UNION ALL SELECT 'column option', a.attname || '.' || o.option_name, o.option_value, format('ALTER COLUMN %I SET (%I = %L)', a.attname, o.option_name, o.option_value)
		-- (not those that the server sets itself)
		FROM pg_attribute a, pg_options_to_table(a.attoptions) o WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND o.option_name !~ '^pg_'
	UNION ALL SELECT 'comment', a.attname, col_description(c.oid, a.attnum), 'COMMENT' FROM pg_attribute a
		WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND col_description(c.oid, a.attnum) IS NOT NULL) s (kind, name, value, command)
WHERE c.relkind = 'r';
CREATE TEMP TABLE old_settings ON COMMIT DROP AS
SELECT s.relname, s.kind, s.name, s.value, s.command FROM pg_extension e JOIN table_settings s ON s.relnamespace = e.extnamespace
	JOIN old_columns t ON t.relname = s.relname
WHERE e.extname = 'session_store';

-- Privileges that the extension had given when it was created, and that were revoked since.
CREATE TEMP TABLE old_revokes ON COMMIT DROP AS
SELECT 'FUNCTION' AS kind, p.proname AS name, a.privilege_type, a.grantee
FROM pg_extension e
	JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e' AND d.classid = 'pg_proc'::regclass
	JOIN pg_proc p ON p.oid = d.objid
	JOIN pg_init_privs i ON i.classoid = 'pg_proc'::regclass AND i.objoid = p.oid, aclexplode(i.initprivs) a
WHERE e.extname = 'session_store' AND a.grantee <> p.proowner AND NOT EXISTS (SELECT FROM aclexplode(COALESCE(p.proacl, acldefault('f', p.proowner))) n
	WHERE n.grantee = a.grantee AND n.privilege_type = a.privilege_type)
UNION ALL
SELECT 'TABLE', c.relname, a.privilege_type, a.grantee
FROM pg_extension e
	JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e' AND d.classid = 'pg_class'::regclass
	JOIN pg_class c ON c.oid = d.objid AND c.relkind IN ('r', 'v')
	JOIN pg_init_privs i ON i.classoid = 'pg_class'::regclass AND i.objoid = c.oid AND i.objsubid = 0, aclexplode(i.initprivs) a
WHERE e.extname = 'session_store' AND a.grantee <> c.relowner AND NOT EXISTS (SELECT FROM aclexplode(COALESCE(c.relacl, acldefault('r', c.relowner))) n
	WHERE n.grantee = a.grantee AND n.privilege_type = a.privilege_type);

-- Privileges of other roles.  Functions are named without arguments, which may have changed.
CREATE TEMP TABLE old_grants ON COMMIT DROP AS
SELECT 'FUNCTION' AS kind, p.proname AS name, NULL::name AS "column", a.privilege_type, a.grantee, a.is_grantable
FROM pg_extension e
	JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e' AND d.classid = 'pg_proc'::regclass
	JOIN pg_proc p ON p.oid = d.objid, aclexplode(p.proacl) a
WHERE e.extname = 'session_store' AND a.grantee <> p.proowner
UNION ALL
SELECT 'TABLE', c.relname, NULL, a.privilege_type, a.grantee, a.is_grantable
FROM pg_extension e
	JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e' AND d.classid = 'pg_class'::regclass
	JOIN pg_class c ON c.oid = d.objid AND c.relkind IN ('r', 'v'), aclexplode(c.relacl) a
WHERE e.extname = 'session_store' AND a.grantee <> c.relowner
UNION ALL
SELECT 'TABLE', c.relname, t.attname, a.privilege_type, a.grantee, a.is_grantable
FROM pg_extension e
	JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e' AND d.classid = 'pg_class'::regclass
	JOIN pg_class c ON c.oid = d.objid AND c.relkind IN ('r', 'v')
	JOIN pg_attribute t ON t.attrelid = c.oid AND NOT t.attisdropped, aclexplode(t.attacl) a
WHERE e.extname = 'session_store' AND a.grantee <> c.relowner;

CREATE TEMP TABLE old_namespaces ON COMMIT DROP AS
	SELECT n.*, COALESCE((to_jsonb(n) ->> 'operation_keep')::interval, '1 day') AS kept,
		ARRAY(SELECT jsonb_array_elements_text(NULLIF(to_jsonb(n) -> 'token_path', 'null'))) AS tokens_at,
		COALESCE(to_jsonb(n) ->> 'turns', 'optional') AS turns_are FROM :schema.session_namespaces n;
CREATE TEMP TABLE old_sessions ON COMMIT DROP AS TABLE :schema.conversation_sessions;
ALTER TABLE old_sessions ADD COLUMN IF NOT EXISTS turn int8, ADD COLUMN IF NOT EXISTS turn_until timestamptz,
	ADD COLUMN IF NOT EXISTS turn_holder text,
	ADD COLUMN IF NOT EXISTS summary jsonb, ADD COLUMN IF NOT EXISTS summary_up_to int8;
CREATE TEMP TABLE old_history ON COMMIT DROP AS TABLE :schema.conversation_history;
CREATE TEMP TABLE old_ended ON COMMIT DROP AS
	SELECT e.namespace, e.history_id, e.from_seq, e.ended_at, e.entry_id, to_jsonb(e) ->> 'owner_id' AS owner_id FROM :schema.conversation_history_ended e;
CREATE TEMP TABLE old_members ON COMMIT DROP AS
	SELECT m.history_id, m.member, m.role, m.created_at, COALESCE((to_jsonb(m) ->> 'accepted')::bool, true) AS accepted FROM :schema.session_members m;
CREATE TEMP TABLE old_events ON COMMIT DROP AS TABLE :schema.session_events;
CREATE TEMP TABLE old_samples ON COMMIT DROP AS TABLE :schema.session_samples;
-- Operations were columns of the first message.  They are kept as long as a new one, from now on.
\if :has_operations
CREATE TEMP TABLE old_operations ON COMMIT DROP AS TABLE :schema.session_operations;
\else
CREATE TEMP TABLE old_operations ON COMMIT DROP AS
	SELECT clock_timestamp() + COALESCE(n.kept, '1 day') AS keep_until, h.history_id, h.operation_last AS result, s.namespace, h.operation_id, h.operation_hash
	FROM old_history h JOIN old_sessions s ON s.history_id = h.history_id LEFT JOIN old_namespaces n ON n.name = s.namespace
	WHERE h.operation_id IS NOT NULL AND h.operation_hash IS NOT NULL AND h.operation_last IS NOT NULL;
\endif
\if :has_claims
CREATE TEMP TABLE old_claims ON COMMIT DROP AS TABLE :schema.session_cache_claims;
\endif
\if :has_counters
CREATE TEMP TABLE old_counters ON COMMIT DROP AS TABLE :schema.session_counters;
\endif
\if :has_orphans
CREATE TEMP TABLE old_orphans ON COMMIT DROP AS TABLE :schema.session_orphans;
\endif

DROP EXTENSION session_store;
CREATE EXTENSION session_store SCHEMA :schema;

INSERT INTO :schema.session_namespaces (name, key_prefix, ttl, sliding, max_lifetime, cache, cache_ttl, hot_uses, hash_keys, max_bytes,
	max_sessions_per_owner, on_quota, tombstone, allowed_roles, owner_isolation, audit, events_keep, durability, tail_prefix, tail_size, audit_saves, operation_keep, token_path, turns)
SELECT name, key_prefix, ttl, sliding, max_lifetime, cache, cache_ttl, hot_uses, hash_keys, max_bytes,
	max_sessions_per_owner, on_quota, tombstone, allowed_roles, owner_isolation, audit, events_keep, durability, tail_prefix, tail_size, audit_saves, kept, NULLIF(tokens_at, '{}'), turns_are
FROM old_namespaces;
INSERT INTO :schema.conversation_history (history_id, seq, created_at, message)
SELECT history_id, seq, created_at, message FROM old_history;
INSERT INTO :schema.session_members (history_id, member, role, created_at, accepted)
SELECT history_id, member, role, created_at, accepted FROM old_members;
INSERT INTO :schema.session_operations (keep_until, history_id, result, namespace, operation_id, operation_hash)
SELECT keep_until, history_id, result, namespace, operation_id, operation_hash FROM old_operations;
INSERT INTO :schema.conversation_sessions (created_at, check_at, ttl, namespace, session_id, owner_id, last_seq, message_count, version,
	updated_at, expires_at, session_data, history_id, dead_until, turn, turn_until, turn_holder, summary, summary_up_to)
SELECT created_at, check_at, ttl, namespace, session_id, owner_id, last_seq, message_count, version,
	updated_at, expires_at, session_data, history_id, dead_until, turn, turn_until, turn_holder, summary, summary_up_to
FROM old_sessions;
INSERT INTO :schema.conversation_history_ended (namespace, history_id, from_seq, ended_at, entry_id, owner_id)
SELECT namespace, history_id, from_seq, ended_at, entry_id, owner_id FROM old_ended;
INSERT INTO :schema.session_events (created_at, event_id, namespace, session_id, owner_id, event, actor, detail)
SELECT created_at, event_id, namespace, session_id, owner_id, event, actor, detail FROM old_events;
INSERT INTO :schema.session_samples (namespace, sampled_at, estimated, sessions, expired, tombstones, owned, messages, total_bytes, max_bytes, over_1mb)
SELECT namespace, sampled_at, estimated, sessions, expired, tombstones, owned, messages, total_bytes, max_bytes, over_1mb FROM old_samples;
\if :has_claims
INSERT INTO :schema.session_cache_claims (system_identifier, database_oid, data_directory, timeline, redis, moved, tokens, epochs, claimed_at)
SELECT system_identifier, database_oid, data_directory, timeline, redis, moved, tokens, epochs, claimed_at FROM old_claims;
\endif
\if :has_counters
INSERT INTO :schema.session_counters (resets_at, hits, namespace, counter_id) SELECT resets_at, hits, namespace, counter_id FROM old_counters;
\endif
\if :has_orphans
INSERT INTO :schema.session_orphans (history_id, seen_at) SELECT history_id, seen_at FROM old_orphans;
\endif

DO $$
DECLARE
	found record;
BEGIN
	FOR found IN
		SELECT o.relname, o.kind, o.name FROM old_objects o, pg_extension e
		WHERE e.extname = 'session_store' AND NOT EXISTS (SELECT FROM table_objects n
			WHERE n.relnamespace = e.extnamespace AND n.relname = o.relname AND n.kind = o.kind AND n.name = o.name)
	LOOP
		RAISE WARNING USING ERRCODE = '01000', MESSAGE = format('%s %I on table %I is dropped', found.kind, found.name, found.relname),
			HINT = 'Create it again if it was yours, before clients return.';
	END LOOP;
END
$$;
DROP VIEW table_objects;

-- Settings that the extension does not make itself.  Columns and indexes may be gone.
CREATE TEMP TABLE lost_settings ON COMMIT DROP AS
SELECT o.relname, o.kind, o.name, o.value, o.command, n.value AS new_value,
	o.command IS NOT NULL AND n.value IS NULL
		AND (o.kind <> 'replica identity' OR o.value !~ '^USING' OR to_regclass(:'schema' || '.' || substr(o.value, 13)) IS NOT NULL)
		AND (o.kind NOT IN ('storage', 'compression', 'statistics', 'column option', 'comment') OR EXISTS (SELECT FROM pg_attribute a
			WHERE a.attrelid = to_regclass(:'schema' || '.' || quote_ident(o.relname)) AND a.attname = split_part(o.name, '.', 1) AND NOT a.attisdropped)) AS carried
FROM old_settings o
	JOIN pg_extension e ON e.extname = 'session_store'
	LEFT JOIN table_settings n ON n.relnamespace = e.extnamespace AND n.relname = o.relname AND n.kind = o.kind AND n.name = o.name
WHERE o.value IS DISTINCT FROM n.value;
SELECT CASE kind WHEN 'comment' THEN format('COMMENT ON COLUMN %s.%I.%I IS %L', :'schema', relname, name, value)
	ELSE format('ALTER TABLE %s.%I %s', :'schema', relname, command) END
FROM lost_settings WHERE carried
\gexec
DO $$
DECLARE
	found record;
BEGIN
	FOR found IN SELECT * FROM lost_settings WHERE NOT carried AND kind <> 'comment' LOOP
		RAISE WARNING USING ERRCODE = '01000', MESSAGE = format('%s of table %I is no longer %s', concat_ws(' ', found.kind, NULLIF(found.name, '')), found.relname, found.value),
			DETAIL = 'It is ' || COALESCE(found.new_value, 'as CREATE EXTENSION makes it') || '.', HINT = 'Set it again if it was you who set it.';
	END LOOP;
	FOR found IN SELECT t.*, quote_ident(n.nspname) AS schema FROM old_triggers t, pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'session_store' LOOP
		BEGIN
			EXECUTE found.definition;
			EXECUTE format('ALTER TABLE %s.%I %s TRIGGER %I', found.schema, found.relname,
				CASE found.enabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE' END, found.name);
		EXCEPTION WHEN OTHERS THEN
			RAISE WARNING USING ERRCODE = '01000', MESSAGE = format('trigger %I on table %I is dropped', found.name, found.relname),
				DETAIL = 'It cannot be created again: ' || SQLERRM, HINT = 'Create it again, before clients return.';
		END;
	END LOOP;
END
$$;
DROP VIEW table_settings;

-- Only on what still exists.
SELECT format('REVOKE %s ON %s %s.%I FROM %s', r.privilege_type, r.kind, :'schema', r.name,
	CASE WHEN r.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r.grantee)) END)
FROM old_revokes r
WHERE CASE r.kind WHEN 'TABLE' THEN to_regclass(:'schema' || '.' || quote_ident(r.name)) IS NOT NULL
	ELSE (SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.proname = r.name AND quote_ident(n.nspname) = :'schema') = 1 END
\gexec
SELECT format('GRANT %s%s ON %s %s.%I TO %s%s', g.privilege_type, ' (' || quote_ident(g."column") || ')', g.kind, :'schema', g.name,
	CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
	CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
FROM old_grants g
WHERE CASE g.kind WHEN 'TABLE' THEN CASE WHEN g."column" IS NULL THEN to_regclass(:'schema' || '.' || quote_ident(g.name)) IS NOT NULL
		ELSE EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass(:'schema' || '.' || quote_ident(g.name)) AND attname = g."column" AND NOT attisdropped) END
	ELSE (SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.proname = g.name AND quote_ident(n.nspname) = :'schema') = 1 END
\gexec
COMMIT;
