--
-- Access to tables: for a role that was granted the tables, policies enforce the same rules as
-- the functions.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
CREATE ROLE regress_ss_reader;
CREATE ROLE regress_ss_team;
INSERT INTO session_namespaces (name, allowed_roles, audit) VALUES
	('mine', '{regress_ss_reader}', true), ('theirs', '{regress_ss_team}', true), ('everybody', NULL, false);
GRANT SELECT, INSERT, UPDATE, DELETE ON conversation_sessions, session_namespaces, session_events, session_samples TO regress_ss_reader;
GRANT SELECT ON session_stats TO regress_ss_reader;
SELECT session_save('s1', '"mine"', namespace => 'mine'), session_save('s1', '"theirs"', namespace => 'theirs'),
	session_save('s1', '"everybody"', namespace => 'everybody'), session_save('s1', '"default"');
INSERT INTO session_samples (namespace, sampled_at, estimated, sessions, expired, tombstones, owned, messages, total_bytes, max_bytes, over_1mb)
SELECT name, clock_timestamp(), false, 1, 0, 0, 0, 0, 10, 10, 0 FROM session_namespaces
ON CONFLICT DO NOTHING;

SET ROLE regress_ss_reader;
-- It sees the rows of its namespaces, in every table and view.
SELECT namespace, session_id, session_data FROM conversation_sessions ORDER BY namespace;
SELECT name FROM session_namespaces ORDER BY name;
SELECT DISTINCT namespace FROM session_events ORDER BY namespace;
SELECT DISTINCT namespace FROM session_samples WHERE namespace <> 'default' ORDER BY namespace;
SELECT DISTINCT namespace FROM session_stats WHERE namespace <> 'default' ORDER BY namespace;
SELECT count(*) AS theirs FROM conversation_sessions WHERE namespace = 'theirs' AND session_id = 's1';
-- A function that is not LEAKPROOF sees no other rows.
CREATE FUNCTION pg_temp.leak(ns text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS
	$$BEGIN IF ns = 'theirs' THEN RAISE EXCEPTION 'leaked'; END IF; RETURN true; END$$;
SELECT count(*) FROM conversation_sessions WHERE pg_temp.leak(namespace);

-- It writes these rows, and no others.
INSERT INTO conversation_sessions (namespace, session_id, session_data) VALUES ('mine', 's2', '"inserted"');
UPDATE conversation_sessions SET session_data = '"updated"' WHERE namespace = 'mine' AND session_id = 's1';
SELECT pg_temp.err($$INSERT INTO conversation_sessions (namespace, session_id, session_data) VALUES ('theirs', 's2', '1')$$) AS insert,
	pg_temp.err($$UPDATE conversation_sessions SET namespace = 'theirs' WHERE namespace = 'mine' AND session_id = 's2'$$) AS move,
	pg_temp.err($$INSERT INTO conversation_sessions (namespace, session_id, session_data) VALUES ('theirs', 's1', '1')
		ON CONFLICT (namespace, session_id) DO UPDATE SET session_data = EXCLUDED.session_data$$) AS upsert,
	pg_temp.err($$INSERT INTO session_events (namespace, session_id, event) VALUES ('theirs', 's1', 'created')$$) AS event;
WITH updated AS (UPDATE conversation_sessions SET session_data = '"taken"' WHERE namespace = 'theirs' RETURNING 1) SELECT count(*) AS updated FROM updated;
WITH deleted AS (DELETE FROM conversation_sessions WHERE namespace = 'theirs' RETURNING 1) SELECT count(*) AS deleted FROM deleted;
WITH deleted AS (DELETE FROM session_events WHERE namespace = 'theirs' RETURNING 1) SELECT count(*) AS deleted FROM deleted;
WITH deleted AS (DELETE FROM conversation_sessions WHERE namespace = 'mine' AND session_id = 's2' RETURNING 1) SELECT count(*) AS own_deleted FROM deleted;

-- Events can be read: none can be forged, altered or removed, not even those of its own namespaces.
SELECT pg_temp.err($$INSERT INTO session_events (namespace, session_id, event) VALUES ('mine', 's1', 'created')$$) AS forged,
	pg_temp.err($$INSERT INTO session_events (namespace, session_id, event) VALUES ('default', 's1', 'created')$$) AS forged_elsewhere;
WITH updated AS (UPDATE session_events SET actor = 'somebody', owner_id = 'somebody' RETURNING 1) SELECT count(*) AS altered FROM updated;
WITH deleted AS (DELETE FROM session_events RETURNING 1) SELECT count(*) AS removed FROM deleted;
SELECT count(*) AS events FROM session_events WHERE namespace = 'mine';

-- A role cannot change policies, not even those of its own namespaces.
WITH updated AS (UPDATE session_namespaces SET allowed_roles = NULL RETURNING 1) SELECT count(*) AS updated FROM updated;
WITH deleted AS (DELETE FROM session_namespaces RETURNING 1) SELECT count(*) AS deleted FROM deleted;
SELECT pg_temp.err($$INSERT INTO session_namespaces (name) VALUES ('another')$$) AS insert;
WITH updated AS (UPDATE session_samples SET sessions = 7 RETURNING 1) SELECT count(*) AS samples FROM updated;
-- TRUNCATE is not subject to policies and was granted to nobody.
SELECT pg_temp.err('TRUNCATE conversation_sessions') AS truncate, pg_temp.err('TRUNCATE session_namespaces') AS truncate_namespaces;
-- row_security = off is an error and gives no access.
SET row_security = off;
SELECT pg_temp.err('SELECT count(*) FROM conversation_sessions') AS row_security_off;
RESET row_security;
RESET ROLE;

-- All other rows are unchanged.
SELECT namespace, session_id, session_data, version FROM conversation_sessions ORDER BY namespace, session_id;
SELECT name, allowed_roles FROM session_namespaces ORDER BY name;
SELECT count(*) > 0 AS events FROM session_events WHERE namespace = 'theirs';

-- Without EXECUTE on the functions, it has access to the tables only.
SET ROLE regress_ss_reader;
SELECT pg_temp.err($$SELECT session_get('s1', 'mine')$$) AS call;
RESET ROLE;

-- Rows of a namespace without a policy are visible to the owner of the tables only.
INSERT INTO conversation_sessions (namespace, session_id, session_data, ttl) VALUES ('ownerless', 's1', '1', '1 hour');
SET ROLE regress_ss_reader;
SELECT count(*) FROM conversation_sessions WHERE namespace = 'ownerless';
RESET ROLE;

DELETE FROM conversation_sessions;
DELETE FROM session_events;
DELETE FROM session_samples;
DELETE FROM session_namespaces;
DROP FUNCTION pg_temp.leak(text);
REVOKE ALL ON conversation_sessions, session_namespaces, session_events, session_samples, session_stats FROM regress_ss_reader;
DROP ROLE regress_ss_reader, regress_ss_team;
