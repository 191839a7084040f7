--
-- The life of a session: create, save, get, fetch, exists, ttl, delete.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers

-- A missing session is NULL, false or no row, never an error.
SELECT session_get('nothing') IS NULL AS get, (SELECT count(*) FROM session_fetch('nothing')) AS fetch,
	session_exists('nothing') AS exists, session_ttl('nothing') AS ttl, session_touch('nothing') AS touch,
	session_delete('nothing') AS delete, session_regenerate('nothing') AS regenerate;

-- Save creates and replaces, and returns the version.
SELECT session_save('s', '{"step": 1}');
SELECT session_get('s');
SELECT session_save('s', '{"other": [1, 2.50, "x", null, true]}');
SELECT session_get('s');

-- Empty documents, and those that look like false, are values and not misses.
SELECT doc, session_save('value ' || doc, doc::jsonb) AS version
FROM unnest(ARRAY['{}', 'null', '[]', '0', '""', 'false']) doc;
SELECT doc, session_get('value ' || doc) AS data, session_get('value ' || doc) IS NULL AS is_null,
	session_exists('value ' || doc) AS exists,
	(SELECT count(*) FROM session_fetch('value ' || doc) f WHERE f.session_data = doc::jsonb) AS fetched
FROM unnest(ARRAY['{}', 'null', '[]', '0', '""', 'false']) doc;

-- Fetch: one row with everything about the session except its messages.
SELECT namespace, session_id, session_data, owner_id, version, message_count,
	created_at <= updated_at AS updated_later,
	updated_at BETWEEN clock_timestamp() - interval '1 minute' AND clock_timestamp() AS updated_now,
	expires_at BETWEEN clock_timestamp() + interval '59 minutes' AND clock_timestamp() + interval '1 hour' AS lives_an_hour
FROM session_fetch('s');
-- created_at stays, updated_at advances.
SELECT created_at AS created, updated_at AS updated FROM session_fetch('s') \gset
SELECT session_save('s', '{"step": 3}');
SELECT created_at = :'created' AS created_stays, updated_at > :'updated' AS updated_moves FROM session_fetch('s');

-- The remaining time of the default ttl, an hour.
SELECT session_ttl('s') > interval '59 minutes' AND session_ttl('s') <= interval '1 hour' AS an_hour;

-- The owner can be given at any save, and is kept when left out.
SELECT session_save('s', '{}', owner => 'alice');
SELECT session_save('s', '{"again": true}');
SELECT owner_id FROM session_fetch('s');
SELECT session_save('s', '{"again": true}', owner => 'bob');
SELECT owner_id, session_data FROM session_fetch('s');

-- Create: a random id of 256 bits that is safe in URLs and cookies, and different each time.
SELECT count(DISTINCT id) AS different, min(length(id)) >= 43 AS long_enough, bool_and(id ~ '^[A-Za-z0-9_-]+$') AS plain
FROM (SELECT session_create() AS id FROM generate_series(1, 1000)) created;
SELECT session_create() AS id \gset
SELECT session_data, owner_id, version FROM session_fetch(:'id');
SELECT session_create('{"a": 1}', '10 minutes', 'alice') AS id \gset
SELECT session_data, owner_id, version, session_ttl(:'id') BETWEEN interval '9 minutes' AND interval '10 minutes' AS ten_minutes
FROM session_fetch(:'id');
SELECT session_create('null') AS id \gset
SELECT session_get(:'id');

-- Delete succeeds once.
SELECT session_delete('s') AS first, session_delete('s') AS second;
SELECT session_get('s') AS get, (SELECT count(*) FROM session_fetch('s')) AS fetch, session_exists('s') AS exists,
	session_ttl('s') AS ttl, session_touch('s') AS touch;

-- Documents are returned as they were saved, whatever their size.
SELECT pg_temp.err($$SELECT session_save('large', jsonb_build_object('x', repeat(md5('x'), 100000), 'n', 1e300, 'p', 0.10))$$);
SELECT session_get('large') = jsonb_build_object('x', repeat(md5('x'), 100000), 'n', 1e300, 'p', 0.10) AS same,
	session_get('large') ->> 'p' AS scale;

-- The same id in two namespaces names two sessions.
INSERT INTO session_namespaces (name) VALUES ('basics');
SELECT session_save('twice', '"here"') AS here, session_save('twice', '"there"', namespace => 'basics') AS there;
SELECT session_get('twice') AS here, session_get('twice', 'basics') AS there;
SELECT session_delete('twice', 'basics') AS deleted, session_get('twice') AS here, session_get('twice', 'basics') AS there;

-- Positional and named arguments give the same results.
SELECT session_save('positional', '{}', '1 hour', 'alice', 0, 'basics') AS positional,
	session_save(namespace => 'basics', if_version => 0, owner => 'alice', ttl => '1 hour', data => '{}', session_id => 'named') AS named;

DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
