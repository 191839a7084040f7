-- Which sessions are alive: functions about one session, counts, listings, views and policies
-- agree, in C and in SQL, over many kinds of rows and policies.
INSERT INTO session_namespaces (name, key_prefix, cache, sliding, ttl, max_lifetime)
VALUES ('alive_any', 'alive_any:', 'off', true, '1 hour', NULL),
	   ('alive_hour', 'alive_hour:', 'off', false, '1 hour', '1 hour'),
	   ('alive_days', 'alive_days:', 'off', true, '1 day', '2 days');
INSERT INTO conversation_sessions (namespace, session_id, owner_id, session_data, ttl, created_at, updated_at, expires_at, check_at, dead_until)
SELECT n, format('%s/%s/%s', c, e, coalesce(d::text, 'none')), 'ada', '{}', '1 hour', c, now(), e, e, d
FROM unnest(ARRAY['alive_any', 'alive_hour', 'alive_days']) n,
	unnest(ARRAY[now(), now() - interval '59 min', now() - interval '1 hour', now() - interval '61 min', now() - interval '3 days',
				 '0001-01-01', '4713-01-01 BC', '200000-01-01', '4714-11-24 BC', '294276-12-31']::timestamptz[]) c,
	unnest(ARRAY[now(), now() - interval '1 s', now() + interval '1 day', '4713-01-01 BC', '200000-01-01']::timestamptz[]) e,
	unnest(ARRAY[NULL, now() - interval '1 s', '4713-01-01 BC']::timestamptz[]) d;

SELECT s.namespace,
	count(*) FILTER (WHERE session_alive(s.namespace, s.session_id, s.created_at, s.expires_at, s.dead_until)) AS alive,
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
	AND (l.session_id IS NOT NULL) <> session_alive(s.namespace, s.session_id, s.created_at, s.expires_at, s.dead_until);

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
