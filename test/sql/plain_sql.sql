--
-- Plain SQL on the tables keeps every invariant: versions grow, check_at is never later than the
-- end of the session, expiries are finite, ids are valid.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, sliding, ttl) VALUES ('direct', false, '2 hours');
SET session_store.namespace = 'direct';
CREATE TEMP VIEW broken AS
SELECT namespace, session_id FROM conversation_sessions
WHERE check_at > expires_at OR NOT isfinite(expires_at) OR NOT isfinite(check_at) OR version < 1;

-- INSERT: two columns make a session of namespace "default"; the others are filled in.
INSERT INTO conversation_sessions (session_id, session_data) VALUES ('few', '{"a": 1}');
SELECT namespace, owner_id, version, ttl = '1 hour' AS ttl, expires_at BETWEEN created_at + interval '1 hour' AND created_at + interval '1 hour 1 minute' AS lives, check_at <= expires_at AS check_at,
	updated_at >= created_at AS updated, last_seq, message_count, dead_until
FROM conversation_sessions WHERE session_id = 'few';
SELECT session_get('few', 'default'), session_save('few', '{}', namespace => 'default');
-- The ttl of the namespace is the default, a given ttl is kept, and a given expiry applies.
INSERT INTO conversation_sessions (namespace, session_id, session_data, ttl, expires_at, owner_id) VALUES
	('direct', 'plain', '1', DEFAULT, DEFAULT, 'alice'), ('direct', 'own ttl', '1', '10 minutes', DEFAULT, NULL),
	('direct', 'own end', '1', DEFAULT, clock_timestamp() + interval '5 minutes', NULL);
SELECT session_id, owner_id, round(extract(epoch FROM session_ttl(session_id)) / 60) AS minutes
FROM conversation_sessions WHERE namespace = 'direct' ORDER BY session_id;
SELECT session_save('own ttl', '2'), session_save('own end', '2');
SELECT session_id, round(extract(epoch FROM session_ttl(session_id)) / 60) AS minutes
FROM conversation_sessions WHERE namespace = 'direct' ORDER BY session_id;
-- A restored row keeps its version, creation and expiry.
INSERT INTO conversation_sessions (namespace, session_id, session_data, version, created_at, updated_at, expires_at)
VALUES ('direct', 'restored', '1', 17, '2020-01-01 00:00+00', '2020-01-02 00:00+00', clock_timestamp() + interval '1 hour');
SELECT version, created_at = '2020-01-01 00:00+00' AS created_at, updated_at = '2020-01-02 00:00+00' AS updated_at FROM session_fetch('restored');
SELECT session_save('restored', '2');

-- Ids and owners are checked; times must be finite, and the document not null.
CREATE FUNCTION pg_temp.insert_with(col text, val text) RETURNS text LANGUAGE sql AS
	$$SELECT pg_temp.refused(format('INSERT INTO conversation_sessions (namespace, %s session_data, %I) VALUES (''direct'', %s ''1'', %s)',
		CASE WHEN col = 'session_id' THEN '' ELSE 'session_id,' END, col, CASE WHEN col = 'session_id' THEN '' ELSE '''x'',' END, val))$$;
SELECT col, val, pg_temp.insert_with(col, val)
FROM (VALUES ('session_id', $$''$$), ('session_id', $$repeat('a', 201)$$), ('session_id', $$E'a\n'$$), ('session_id', 'chr(127)'), ('session_id', 'NULL'),
	('owner_id', $$''$$), ('owner_id', $$repeat('a', 201)$$), ('owner_id', $$E'\t'$$),
	('expires_at', $$'infinity'$$), ('expires_at', $$'-infinity'$$), ('created_at', $$'infinity'$$), ('created_at', $$'-infinity'$$),
	('ttl', $$'0'$$), ('ttl', $$'-1 hour'$$), ('ttl', $$'1 month'$$), ('ttl', $$'36526 days'$$)) v(col, val);
SELECT pg_temp.refused($$INSERT INTO conversation_sessions (namespace, session_id, session_data) VALUES (repeat('n', 64), 'x', '1')$$) AS namespace,
	pg_temp.refused($$INSERT INTO conversation_sessions (namespace, session_id) VALUES ('direct', 'x')$$) AS no_data;
SELECT count(*) FROM conversation_sessions WHERE session_id = 'x';
SELECT col, val, pg_temp.refused(format('UPDATE conversation_sessions SET %I = %s WHERE namespace = ''direct'' AND session_id = ''plain''', col, val))
FROM (VALUES ('session_id', $$''$$), ('session_id', $$E'a\n'$$), ('owner_id', $$''$$), ('expires_at', $$'infinity'$$), ('expires_at', $$'-infinity'$$),
	('expires_at', 'NULL'), ('session_data', 'NULL'), ('ttl', $$'0'$$), ('ttl', $$'1 month'$$), ('ttl', 'NULL'), ('version', 'NULL')) v(col, val);
SELECT session_data, owner_id, version FROM session_fetch('plain');

-- UPDATE: a change of document, owner or both counts one version; nothing else does. A lower version is
-- not stored, a higher one is.
CREATE FUNCTION pg_temp.version(assignment text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	v bigint;
BEGIN
	EXECUTE format('UPDATE conversation_sessions SET %s WHERE namespace = ''direct'' AND session_id = ''plain'' RETURNING version', assignment) INTO v;
	RETURN v;
END
$$;
SELECT pg_temp.version($$session_data = '2'$$) AS data, pg_temp.version($$owner_id = 'bob'$$) AS owner,
	pg_temp.version($$session_data = '3', owner_id = 'carol'$$) AS both, pg_temp.version($$owner_id = NULL$$) AS no_owner;
SELECT pg_temp.version($$expires_at = clock_timestamp() + interval '1 hour'$$) AS expiry, pg_temp.version($$ttl = '1 hour'$$) AS ttl,
	pg_temp.version($$check_at = clock_timestamp()$$) AS check_at;
SELECT pg_temp.version($$session_data = '4', version = 1$$) AS lower, pg_temp.version($$version = 1$$) AS lower_alone,
	pg_temp.version($$version = -5$$) AS negative, pg_temp.version($$session_data = '5', version = 100$$) AS higher, pg_temp.version($$session_data = '6'$$) AS goes_on;
-- An upsert with a version of its own does not lower the version.
INSERT INTO conversation_sessions (namespace, session_id, session_data, version) VALUES ('direct', 'plain', '7', 3)
ON CONFLICT (namespace, session_id) DO UPDATE SET session_data = EXCLUDED.session_data, version = EXCLUDED.version RETURNING version;
-- Versions start at 1, because 0 and -1 have other meanings in if_version; and no version is lower than
-- before.
SELECT v, pg_temp.err(format('INSERT INTO conversation_sessions (namespace, session_id, session_data, version) VALUES (''direct'', ''v %s'', ''1'', %s)', v, v)) IS NOT NULL AS tried
FROM unnest(ARRAY[0, -1, -5]) v;
SELECT count(*) AS below_one FROM conversation_sessions WHERE version < 1;
INSERT INTO conversation_sessions (namespace, session_id, session_data, version) VALUES ('direct', 'last', '1', 9223372036854775807);
SELECT pg_temp.err($$SELECT session_save('last', '2')$$) <> 'ok' AS save_refused,
	pg_temp.err($$UPDATE conversation_sessions SET session_data = '3' WHERE session_id = 'last'$$) <> 'ok' AS update_refused;
SELECT version FROM session_fetch('last');
DELETE FROM conversation_sessions WHERE session_id = 'last' OR session_id LIKE 'v %';
-- The functions see these changes.
SELECT session_data, version FROM session_fetch('plain');
SELECT pg_temp.err($$SELECT session_save('plain', '8', if_version => 101)$$) AS stale, session_save('plain', '8', if_version => 102);
-- The same with session_replication_role = replica.
SET session_replication_role = replica;
SELECT pg_temp.version($$session_data = '9'$$), pg_temp.version($$session_data = '10', version = 200$$);
RESET session_replication_role;

-- check_at is lowered with the expiry, raised only by the purge, and cannot be set to a later time.
SELECT session_save('checked', '1', ttl => '1 hour');
SELECT check_at AS first_check FROM conversation_sessions WHERE session_id = 'checked' \gset
UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '10 minutes' WHERE session_id = 'checked';
SELECT check_at <= expires_at AS follows, check_at < :'first_check' AS lowered FROM conversation_sessions WHERE session_id = 'checked';
SELECT check_at AS low_check FROM conversation_sessions WHERE session_id = 'checked' \gset
UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '5 hours' WHERE session_id = 'checked';
SELECT session_save('checked', '2'), session_touch('checked', '6 hours') IS NOT NULL AS touched;
SELECT check_at = :'low_check' AS stays FROM conversation_sessions WHERE session_id = 'checked';
UPDATE conversation_sessions SET check_at = expires_at + interval '1 day' WHERE session_id = 'checked';
SELECT check_at <= expires_at AS not_later FROM conversation_sessions WHERE session_id = 'checked';
INSERT INTO conversation_sessions (namespace, session_id, session_data, check_at, expires_at)
VALUES ('direct', 'check later', '1', clock_timestamp() + interval '9 hours', clock_timestamp() + interval '1 hour');
SELECT check_at <= expires_at AS not_later FROM conversation_sessions WHERE session_id = 'check later';

-- An expiry that is set by hand applies, also from the past to the future.
BEGIN;
UPDATE conversation_sessions SET expires_at = clock_timestamp() - interval '1 second' WHERE session_id = 'plain';
SELECT session_get('plain') AS past;
UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '1 hour' WHERE session_id = 'plain';
SELECT session_get('plain') AS back;
COMMIT;
SELECT count(*) AS broken FROM broken;

-- A tombstone is no session, whatever its expiry: all functions agree on that.
SELECT session_save('dead', '1', owner => 'dead');
SELECT session_delete('dead');
SELECT pg_temp.err($$UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '1 hour' WHERE session_id = 'dead'$$);
INSERT INTO conversation_sessions (namespace, session_id, session_data, owner_id, dead_until)
VALUES ('direct', 'born dead', '1', 'dead', clock_timestamp() + interval '1 hour');
SELECT session_id, session_get(session_id) AS get, session_exists(session_id) AS exists, session_ttl(session_id) AS ttl, pg_temp.err(format('SELECT session_save(%L, ''2'')', session_id)) AS save
FROM conversation_sessions WHERE dead_until IS NOT NULL ORDER BY session_id;
SELECT session_count(id_like => '%dead') AS count, session_count(owner => 'dead') AS count_owned, (SELECT count(*) FROM session_list(id_like => '%dead')) AS list,
	session_delete_all('dead') AS delete_all, session_clear('direct', '%dead') AS clear;
-- If dead_until is removed by hand, the row is a session again.
UPDATE conversation_sessions SET dead_until = NULL, session_data = '"again"', expires_at = clock_timestamp() + interval '1 hour' WHERE session_id = 'dead';
SELECT session_get('dead'), session_save('dead', '1') > 1 AS saved;
DELETE FROM conversation_sessions WHERE session_id LIKE '%dead';

-- COPY out and in makes an exact copy. (A touch may be written to a row at any time; and the keeper may
-- raise the check_at of 'plain', which followed its expiry into the past.)
CREATE FUNCTION pg_temp.changing(id text) RETURNS text[] LANGUAGE sql AS $$SELECT CASE WHEN id = 'plain' THEN '{expires_at,check_at}' ELSE '{expires_at}' END::text[]$$;
CREATE TEMP TABLE copied AS SELECT * FROM conversation_sessions WHERE namespace = 'direct';
\getenv output_dir PG_ABS_BUILDDIR
\set file :output_dir '/results/plain_sql.data'
\set copy_in '\\copy conversation_sessions FROM ' :'file'
COPY conversation_sessions TO STDOUT \g :file
DELETE FROM conversation_sessions;
:copy_in
SELECT count(*) > 5 AS several, count(*) = (SELECT count(*) FROM copied) AS all_of_them
FROM (SELECT to_jsonb(s) - pg_temp.changing(s.session_id) FROM conversation_sessions s INTERSECT SELECT to_jsonb(c) - pg_temp.changing(c.session_id) FROM copied c) same;
COPY conversation_sessions (namespace, session_id, session_data) FROM stdin;
direct	copied in	{"from": "stdin"}
\.
SELECT session_get('copied in'), session_save('copied in', '{}'), session_ttl('copied in') > interval '1 hour' AS ttl_of_the_namespace;
SELECT count(*) AS broken FROM broken;

-- DELETE and TRUNCATE end sessions, and leave no tombstones.
DELETE FROM conversation_sessions WHERE session_id = 'plain';
SELECT session_get('plain'), session_save('plain', '1');
TRUNCATE conversation_sessions;
SELECT session_count() AS counted, session_get('plain'), session_count(namespace => 'default') AS counted_default;
SELECT session_save('plain', '2');

DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
