--
-- session_merge(): JSON Merge Patch exactly as in RFC 7396.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers

-- Appendix A of the RFC: every example.
CREATE TEMP TABLE example (n int, original jsonb, patch jsonb, result jsonb);
INSERT INTO example VALUES
	(1, '{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
	(2, '{"a":"b"}', '{"b":"c"}', '{"a":"b", "b":"c"}'),
	(3, '{"a":"b"}', '{"a":null}', '{}'),
	(4, '{"a":"b", "b":"c"}', '{"a":null}', '{"b":"c"}'),
	(5, '{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
	(6, '{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
	(7, '{"a":{"b":"c"}}', '{"a":{"b":"d", "c":null}}', '{"a":{"b":"d"}}'),
	(8, '{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
	(9, '["a","b"]', '["c","d"]', '["c","d"]'),
	(10, '{"a":"b"}', '["c"]', '["c"]'),
	(11, '{"a":"foo"}', 'null', 'null'),
	(12, '{"a":"foo"}', '"bar"', '"bar"'),
	(13, '{"e":null}', '{"a":1}', '{"e":null, "a":1}'),
	(14, '[1,2]', '{"a":"b", "c":null}', '{"a":"b"}'),
	(15, '{}', '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}');
-- The example of its section 3.
INSERT INTO example VALUES (16,
	'{"title": "Goodbye!", "author": {"givenName": "John", "familyName": "Doe"}, "tags": ["example", "sample"],
	  "content": "This will be unchanged"}',
	'{"title": "Hello!", "phoneNumber": "+01-123-456-7890", "author": {"familyName": null}, "tags": ["example"]}',
	'{"title": "Hello!", "author": {"givenName": "John"}, "tags": ["example"],
	  "content": "This will be unchanged", "phoneNumber": "+01-123-456-7890"}');
-- The rules beyond the examples: nulls are removed at every depth of objects that the patch adds, but not
-- inside arrays, nor from members that the patch does not name.
INSERT INTO example VALUES
	(20, '{"a":{"b":{"c":1, "d":2}}}', '{"a":{"b":{"c":null}, "e":{"f":null, "g":{"h":null}}}}', '{"a":{"b":{"d":2}, "e":{"g":{}}}}'),
	(21, '{}', '{"a":[null, {"b":null}]}', '{"a":[null, {"b":null}]}'),
	(22, '{"a":{"keep":null}, "b":1}', '{"b":2}', '{"a":{"keep":null}, "b":2}'),
	(23, '{"a":{"keep":null}}', '{"a":{"x":1}}', '{"a":{"keep":null, "x":1}}'),
	(24, '{"a":1}', '{"a":{"b":null, "c":1}}', '{"a":{"c":1}}'),
	(25, '{"a":[1]}', '{"a":{"b":{"c":null}}}', '{"a":{"b":{}}}'),
	(26, '"text"', '{"a":{"b":1, "c":null}}', '{"a":{"b":1}}'),
	(27, 'null', '{"a":null}', '{}'),
	(28, '{"a":1}', '{}', '{"a":1}'),
	(29, '[1]', '{}', '{}'),
	(30, '{"":1, " ":2}', '{"":null, " ":{"":3}}', '{" ":{"":3}}'),
	(31, '{"a":{"b":1}}', '{"a":{}}', '{"a":{"b":1}}'),
	(32, '{"a":{"b":1}}', '{"a":null}', '{}'),
	(33, '{"a":1}', '{"b":null}', '{"a":1}'),
	(34, '{"a":1.50}', '{"b":1e100}', '{"a":1.50, "b":1e100}'),
	(35, '{"a":1}', 'false', 'false'),
	(36, '{"a":1}', '[null]', '[null]');

SELECT count(session_save('rfc ' || n, original)) AS saved FROM example;
SELECT n, merged = result AS as_the_rfc, CASE WHEN merged <> result THEN merged END AS merged
FROM (SELECT n, result, session_merge('rfc ' || n, patch) AS merged FROM example ORDER BY n) m;
-- The result of the call is what is stored.
SELECT count(*) AS stored FROM example WHERE session_get('rfc ' || n) = result;
-- Merging the same patch again changes nothing.
SELECT n FROM example WHERE session_merge('rfc ' || n, patch) <> result;

-- For an absent id merge creates a session, as if the original document were empty.
SELECT session_merge('absent', '{"a": 1, "b": null, "c": {"d": null}}');
SELECT session_merge('absent array', '[1, null]');
SELECT session_merge('absent null', 'null');
SELECT session_get('absent'), session_get('absent array'), session_get('absent null') IS NULL AS is_null;

-- For an expired session too, and nothing of it is kept.
BEGIN;
SELECT session_save('expired', '{"secret": 1}', ttl => '30 ms', owner => 'alice');
SELECT pg_temp.wait_until($$NOT session_exists('expired')$$);
SELECT session_merge('expired', '{"b": 2}');
SELECT session_data, owner_id FROM session_fetch('expired');
COMMIT;

-- ttl, owner and created_at stay as they were; the lifetime restarts.
SELECT session_save('kept', '{}', ttl => '2 hours', owner => 'alice');
UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '1 minute' WHERE session_id = 'kept';
SELECT session_merge('kept', '{"a": 1}');
SELECT owner_id, session_ttl('kept') > interval '1 hour 59 minutes' AS restarted FROM session_fetch('kept');

-- Deeply nested documents cause no crash and lose nothing.
SELECT pg_temp.err($$SELECT session_save('deep', (repeat('{"a":', 1000) || '{"x": 1, "y": 2}' || repeat('}', 1000))::jsonb)$$);
SELECT session_merge('deep', (repeat('{"a":', 1000) || '{"x": null, "z": 3}' || repeat('}', 1000))::jsonb)
	= (repeat('{"a":', 1000) || '{"y": 2, "z": 3}' || repeat('}', 1000))::jsonb AS deep;
-- Nor do large objects.
SELECT session_merge('wide', (SELECT jsonb_object_agg('k' || n, n) FROM generate_series(1, 5000) n)) IS NOT NULL AS wide;
SELECT session_merge('wide', (SELECT jsonb_object_agg('k' || n, CASE WHEN n % 2 = 0 THEN -n END) FROM generate_series(1, 6000) n))
	= (SELECT jsonb_object_agg('k' || n, -n) FROM generate_series(2, 6000, 2) n) AS wide;

DELETE FROM conversation_sessions;
