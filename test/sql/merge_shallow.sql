--
-- session_merge(.., shallow => true): replaces top-level members; null removes one.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, sliding, audit, audit_saves, max_bytes) VALUES ('sh', false, true, true, 1000);
SET session_store.namespace = 'sh';

-- A member of the patch replaces that of the document as a whole; nulls within it are values.
CREATE TEMP TABLE example (n int GENERATED ALWAYS AS IDENTITY, document jsonb, patch jsonb, expected jsonb);
INSERT INTO example (document, patch, expected) VALUES
	('{"a": {"x": 1, "y": 2}, "b": 1}', '{"a": {"z": 3}}', '{"a": {"z": 3}, "b": 1}'),
	('{"a": {"x": 1}, "b": 1}', '{"a": {"x": null}}', '{"a": {"x": null}, "b": 1}'),
	('{"a": {"x": 1}, "b": 1}', '{"a": null}', '{"b": 1}'),
	('{"b": 1}', '{"a": null}', '{"b": 1}'),
	('{"b": 1}', '{"b": {"c": {"d": null, "e": [null, {"f": null}]}}}', '{"b": {"c": {"d": null, "e": [null, {"f": null}]}}}'),
	('{"a": {"x": 1}}', '{"a": {}}', '{"a": {}}'),
	('{"a": {"x": 1}}', '{"a": [1]}', '{"a": [1]}'),
	('{"a": [1, 2]}', '{"a": [3]}', '{"a": [3]}'),
	('{"a": null, "b": {"c": null}}', '{"d": 0}', '{"a": null, "b": {"c": null}, "d": 0}'),
	('{"a": 1}', '{}', '{"a": 1}'),
	('{"a": 1}', '[1]', '[1]'),
	('{"a": 1}', 'null', 'null'),
	('[1, 2]', '{"a": {"b": null}, "c": null}', '{"a": {"b": null}}'),
	('"text"', '{"a": 1}', '{"a": 1}'),
	('{}', '{"": {"": null}}', '{"": {"": null}}');
SELECT n, session_save('e ' || n, document) AS version FROM example ORDER BY n;
SELECT n, document, patch, merged, CASE WHEN merged <> expected THEN expected END AS expected
FROM (SELECT n, document, patch, expected, session_merge('e ' || n, patch, shallow => true) AS merged FROM example ORDER BY n) m;
SELECT count(*) AS stored FROM example WHERE session_get('e ' || n) = expected;
SELECT version, count(*) FROM example, session_fetch('e ' || n) GROUP BY version;
-- Without it, or with false, it is RFC 7396 at every level.
SELECT session_save('deep', '{"a": {"x": 1, "y": 2}}'), session_merge('deep', '{"a": {"x": null}}') AS by_default, session_merge('deep', '{"a": {"z": {"n": null}}}', shallow => false) AS off;

-- Many members in random order, by direct access and by statements: as ||, without the members that are
-- null in the patch.
SELECT setseed(0.5);
CREATE TEMP TABLE random AS
SELECT n, (SELECT coalesce(jsonb_object_agg('k' || k, CASE k % 3 WHEN 0 THEN to_jsonb(n) WHEN 1 THEN jsonb_build_object('x', n, 'y', NULL) ELSE 'null' END), '{}') FROM generate_series(1, 12) k WHERE random() < 0.5) AS document,
	(SELECT coalesce(jsonb_object_agg('k' || k, CASE WHEN random() < 0.3 THEN 'null' ELSE jsonb_build_object('y', k, 'z', NULL) END), '{}') FROM generate_series(1, 14) k WHERE random() < 0.4) AS patch
FROM generate_series(1, 60) n;
SELECT count(session_save('r ' || n, document)) FROM random;
SELECT count(session_merge('r ' || n, patch, shallow => true)) FROM random WHERE n <= 30;
SET session_store.direct_rows = off;
SELECT count(session_merge('r ' || n, patch, shallow => true)) FROM random WHERE n > 30;
RESET session_store.direct_rows;
SELECT count(*) AS wrong FROM random WHERE session_get('r ' || n) IS DISTINCT FROM
	(SELECT coalesce(jsonb_object_agg(m.key, m.value), '{}') FROM jsonb_each(document || patch) m WHERE NOT (patch ? m.key AND patch -> m.key = 'null'));

-- Everything else is as for a deep merge: a new session, versions, limits, dead ids, events.
SELECT session_merge('absent', '{"a": {"b": null}, "c": null}', shallow => true), session_merge('absent 2', '[1]', 0, shallow => true);
SELECT pg_temp.err($$SELECT session_merge('absent', '{"a": 1}', if_version => 7, shallow => true)$$) AS conflict, session_merge('absent', '{"b": 1}', if_version => 1, shallow => true) AS exactly,
	pg_temp.err($$SELECT session_merge('absent', '{}', shallow => NULL)$$) AS null, pg_temp.err($$SELECT session_merge('absent', jsonb_build_object('x', repeat('x', 1000)), shallow => true)$$) AS too_large;
SELECT session_delete('absent'), pg_temp.err($$SELECT session_merge('absent', '{"a": 1}', shallow => true)$$) AS dead, session_merge('absent', '{"a": {"b": null}}', if_version => 0, shallow => true) AS new_session;
SELECT event, detail FROM session_events WHERE session_id = 'absent' ORDER BY created_at;
BEGIN READ ONLY;
SELECT pg_temp.err($$SELECT session_merge('deep', '{"a": 1}', shallow => true)$$) AS read_only;
COMMIT;
BEGIN;
SELECT session_merge('deep', '{"a": 1}', shallow => true);
SAVEPOINT a;
SELECT session_merge('deep', '{"a": {"b": 1}, "c": 1}', shallow => true);
ROLLBACK TO a;
SELECT session_merge('deep', '{"d": {"e": null}}', shallow => true);
COMMIT;
SELECT session_get('deep');
-- A deeply nested value is copied as it is; a deep merge would have to visit it.
SELECT jsonb_build_object('a', (repeat('{"a":', 3000) || 'null' || repeat('}', 3000))::jsonb) AS deep \gset
UPDATE session_namespaces SET max_bytes = 8388608 WHERE name = 'sh';
SELECT session_merge('deep', :'deep', shallow => true) -> 'a' = :'deep'::jsonb -> 'a' AS same;

DELETE FROM conversation_sessions;
DELETE FROM session_events;
DELETE FROM session_namespaces;
