-- Which sessions are alive: functions about one session, counts, listings, views and policies
-- agree, in C and in SQL, over many kinds of rows and policies.
INSERT INTO session_namespaces (name, key_prefix, cache, sliding, ttl, max_lifetime)
VALUES ('alive_any', 'alive_any:', 'off', true, '1 hour', NULL),
	   ('alive_hour', 'alive_hour:', 'off', false, '1 hour', '1 hour'),
	   ('alive_days', 'alive_days:', 'off', true, '1 day', '2 days');
INSERT INTO conversation_sessions (namespace, session_id, owner_id, session_data, ttl, created_at, updated_at, expires_at, check_at, dead_until)
SELECT n, format('%s/%s/%s/%s', c, e, coalesce(d::text, 'none'), coalesce(t::text, 'fixed')), 'ada', '{}', t, c, now(), e, e, d
FROM unnest(ARRAY['alive_any', 'alive_hour', 'alive_days']) n,
	unnest(ARRAY[now(), now() - interval '59 min', now() - interval '1 hour', now() - interval '61 min', now() - interval '3 days',
				 '0001-01-01', '4713-01-01 BC', '200000-01-01', '4714-11-24 BC', '294276-12-31']::timestamptz[]) c,
	unnest(ARRAY[now(), now() - interval '1 s', now() + interval '1 day', '4713-01-01 BC', '200000-01-01']::timestamptz[]) e,
	unnest(ARRAY[NULL, now() - interval '1 s', '4713-01-01 BC']::timestamptz[]) d,
	unnest(ARRAY['1 hour', NULL]::interval[]) t;

SELECT s.namespace,
	count(*) FILTER (WHERE session_alive(s.namespace, s.session_id, s.created_at, s.expires_at, s.dead_until, s.ttl)) AS alive,
	count(*) FILTER (WHERE session_exists(s.session_id, s.namespace)) AS existing,
	session_count(namespace => s.namespace) AS counted,
	session_count(owner => 'ada', namespace => s.namespace) AS counted_of_owner
FROM conversation_sessions s WHERE s.namespace LIKE 'alive%' GROUP BY s.namespace ORDER BY 1;

-- row by row (the keeper purges dead rows meanwhile)
SELECT count(*) AS rows_that_differ
FROM conversation_sessions s
	LEFT JOIN (SELECT n, l.session_id FROM unnest(ARRAY['alive_any', 'alive_hour', 'alive_days']) n, session_list(page_size => 1000, namespace => n) l) l
		ON l.n = s.namespace AND l.session_id = s.session_id
WHERE s.namespace LIKE 'alive%'
	AND (l.session_id IS NOT NULL) <> session_alive(s.namespace, s.session_id, s.created_at, s.expires_at, s.dead_until, s.ttl);

-- A read extends the expiry of a session that has a ttl, and of no other: neither one that has ended by now, nor one
-- that would end later.  Setting only the ttl to NULL fixes the expiry that the session has.  (In one transaction, so
-- that the keeper writes none of them.)
BEGIN;
DO $$
DECLARE
	lives interval := '200 ms';
BEGIN
	PERFORM session_save(id, '{}', owner => 'ada', namespace => 'alive_any') FROM unnest(ARRAY['slid', 'fixed', 'kept', 'late slid', 'late fixed', 'late kept']) id;
	UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '10 min' WHERE session_id LIKE 'late %';
	PERFORM session_get(id, 'alive_any') FROM unnest(ARRAY['late slid', 'late fixed', 'late kept']) id;
	LOOP
		UPDATE conversation_sessions SET expires_at = clock_timestamp() + lives WHERE session_id IN ('slid', 'fixed', 'kept');
		EXIT WHEN (SELECT count(session_get(id, 'alive_any')) = 3 FROM unnest(ARRAY['slid', 'fixed', 'kept']) id);
		lives := lives * 2;
	END LOOP;
	WHILE EXISTS (SELECT FROM conversation_sessions WHERE session_id IN ('slid', 'fixed', 'kept') AND expires_at > clock_timestamp()) LOOP
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
UPDATE conversation_sessions SET ttl = NULL WHERE session_id IN ('kept', 'late kept');
UPDATE conversation_sessions SET ttl = NULL, expires_at = expires_at WHERE session_id IN ('fixed', 'late fixed');
SELECT s.session_id, round(extract(epoch FROM session_ttl(s.session_id, s.namespace)) / 60) AS minutes,
	round(extract(epoch FROM l.expires_at - clock_timestamp()) / 60) AS listed, session_exists(s.session_id, s.namespace) AS existing,
	session_alive(s.namespace, s.session_id, s.created_at, s.expires_at, s.dead_until, s.ttl) AS alive,
	EXISTS (SELECT FROM session_export('ada', page_size => 1000, namespace => 'alive_any') e WHERE e.kind = 'session' AND e.item ->> 'session_id' = s.session_id
		AND (e.item ->> 'expires_at')::timestamptz = l.expires_at) AS exported
FROM conversation_sessions s LEFT JOIN session_list(page_size => 1000, namespace => 'alive_any') l USING (session_id)
WHERE s.namespace = 'alive_any' AND s.session_id ~ '^(late )?(slid|fixed|kept)$' ORDER BY s.session_id COLLATE "C";
SELECT session_purge(1000, 'alive_any') > 0 AS purged;
SELECT session_id, ttl, round(extract(epoch FROM expires_at - clock_timestamp()) / 60) AS minutes
FROM conversation_sessions WHERE session_id ~ '^(late )?(slid|fixed|kept)$' ORDER BY session_id COLLATE "C";
ROLLBACK;

-- A max_lifetime that is shortened by mistake hides sessions; once it is restored, none is lost.
SELECT session_save('kept', '{"n": 1}', namespace => 'alive_days') > 0 AS saved;
UPDATE conversation_sessions SET created_at = now() - interval '10 min' WHERE session_id = 'kept';
UPDATE session_namespaces SET max_lifetime = '1 s' WHERE name = 'alive_days';
SELECT session_get('kept', 'alive_days') AS hidden, session_count(namespace => 'alive_days') >= 0 AS counted;
SELECT session_purge(namespace => 'alive_days') IS NOT NULL AS purged;
UPDATE session_namespaces SET max_lifetime = '2 days' WHERE name = 'alive_days';
SELECT session_get('kept', 'alive_days') AS back;

DELETE FROM conversation_sessions WHERE namespace LIKE 'alive%';
DELETE FROM session_namespaces WHERE name LIKE 'alive%';
