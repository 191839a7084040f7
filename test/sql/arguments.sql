--
-- Invalid arguments: the values that each function refuses, and the errors.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers

-- NULL where a value is required is 22004, for every such argument.
SELECT call, pg_temp.err('SELECT ' || call)
FROM (VALUES
	($$session_create(data => NULL)$$),
	($$session_save(NULL, '{}')$$),
	($$session_save('args', NULL)$$),
	($$session_touch(NULL)$$),
	($$session_merge(NULL, '{}')$$),
	($$session_merge('args', NULL)$$),
	($$session_incr(NULL, '{n}')$$),
	($$session_incr('args', NULL)$$),
	($$session_incr('args', '{n}', by => NULL)$$),
	($$session_delete(NULL)$$),
	($$session_delete_all(NULL)$$),
	($$session_regenerate(NULL)$$),
	($$session_take(NULL)$$),
	($$session_list(page_size => NULL)$$)) c(call);

-- A session_id of NULL finds no session, as an outer join expects. The namespace and the right of the
-- caller are checked all the same.
SELECT session_append('not null', '{}') AS seq, session_share('not null', 'ann') AS shared;
SELECT id, session_exists(id) AS "exists", session_get(id) AS "get", session_ttl(id) > '0' AS ttl, f.version, h.seq, m.member
FROM (VALUES ('not null'), (NULL)) i (id)
	LEFT JOIN session_fetch(id) f ON true LEFT JOIN session_history(id) h ON true LEFT JOIN session_members(id) m ON true;
CREATE ROLE regress_ss_null;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO regress_ss_null;
INSERT INTO session_namespaces (name, allowed_roles) VALUES ('args', '{}');
SET ROLE regress_ss_null;
SELECT call, pg_temp.says(format('SELECT %s(NULL, namespace => ''no such'')', call)) AS unknown,
	pg_temp.err(format('SELECT %s(NULL, namespace => ''args'')', call)) AS closed, pg_temp.err(format('SELECT %s(NULL)', call)) AS open
FROM unnest(ARRAY['session_exists', 'session_fetch', 'session_get', 'session_history', 'session_members', 'session_ttl']) call;
SELECT pg_temp.err($$SELECT session_history(NULL, last => -1)$$) AS other_argument;
RESET ROLE;
DELETE FROM session_namespaces;
SELECT session_delete('not null');
DROP OWNED BY regress_ss_null;
DROP ROLE regress_ss_null;

-- NULL keeps its meaning where it has one.
SELECT session_save('args', '{}', ttl => NULL, owner => NULL, if_version => NULL, namespace => NULL);
SELECT session_incr('args', '{n}', max => NULL, namespace => NULL);
SELECT session_count(owner => NULL, id_like => NULL, namespace => NULL) > 0 AS counted;
SELECT count(*) > 0 AS listed
FROM session_list(owner => NULL, id_like => NULL, filter => NULL, after => NULL, namespace => NULL);

-- Session ids are 1 to 200 bytes without control characters, in every call.
SELECT call, string_agg(DISTINCT pg_temp.err('SELECT ' || replace(call, '$', quote_literal(id))), ' ') AS errors
FROM (VALUES
	(1, $$session_save($, '{}')$$),
	(2, $$session_get($)$$),
	(3, $$session_fetch($)$$),
	(4, $$session_touch($)$$),
	(5, $$session_merge($, '{}')$$),
	(6, $$session_incr($, '{n}')$$),
	(7, $$session_delete($)$$),
	(8, $$session_delete_all('nobody', except_session_id => $)$$),
	(9, $$session_regenerate($)$$),
	(10, $$session_exists($)$$),
	(11, $$session_ttl($)$$),
	(12, $$session_take($)$$),
	(13, $$session_get_many(ARRAY['a', $])$$),
	(14, $$session_regenerate('args', new_session_id => $)$$)) c(n, call),
	(VALUES (''), (repeat('a', 201)), (repeat('a', 100000)),
		(chr(1)), (E'a\tb'), (E'a\n'), (E'\r'), ('a' || chr(31)), ('a' || chr(127) || 'b')) i(id)
GROUP BY n, call ORDER BY n;
CREATE TEMP TABLE good (label text, id text);
INSERT INTO good VALUES ('one byte', 'a'), ('200 bytes', repeat('a', 200)), ('spaces', '  a  '), ('wildcards', '%_\'),
	('quotes', $$'"$$), ('braces', '{a:b}[c]*?');
SELECT label, session_save(id, to_jsonb(label)) AS version FROM good;
SELECT label, session_get(id) AS data, session_delete(id) AS deleted FROM good;

-- The same rule for owners.
SELECT call, string_agg(DISTINCT pg_temp.err('SELECT ' || replace(call, '$', quote_literal(owner))), ' ') AS errors
FROM (VALUES
	(1, $$session_create(owner => $)$$),
	(2, $$session_save('args', '{}', owner => $)$$),
	(3, $$session_delete_all($)$$),
	(4, $$session_count(owner => $)$$),
	(5, $$session_list(owner => $)$$)) c(n, call),
	(VALUES (''), (repeat('a', 201)), (E'a\tb'), (chr(127))) o(owner)
GROUP BY n, call ORDER BY n;
SELECT session_save('args', '{}', owner => repeat('o', 200)) AS version;

-- Namespaces: 1 to 63 bytes (22023), and one that does not exist is 42704, in every call.
SELECT call,
	string_agg(DISTINCT pg_temp.err('SELECT ' || replace(call, '$', quote_literal(ns))), ' ')
		FILTER (WHERE bad) AS bad,
	string_agg(DISTINCT pg_temp.err('SELECT ' || replace(call, '$', quote_literal(ns))), ' ')
		FILTER (WHERE NOT bad) AS unknown
FROM (VALUES
	(1, $$session_create(namespace => $)$$),
	(2, $$session_save('args', '{}', namespace => $)$$),
	(3, $$session_get('args', $)$$),
	(4, $$session_fetch('args', $)$$),
	(5, $$session_touch('args', namespace => $)$$),
	(6, $$session_merge('args', '{}', namespace => $)$$),
	(7, $$session_incr('args', '{n}', namespace => $)$$),
	(8, $$session_delete('args', $)$$),
	(9, $$session_delete_all('nobody', namespace => $)$$),
	(10, $$session_clear($)$$),
	(11, $$session_regenerate('args', $)$$),
	(12, $$session_exists('args', $)$$),
	(13, $$session_ttl('args', $)$$),
	(14, $$session_count(namespace => $)$$),
	(15, $$session_list(namespace => $)$$),
	(16, $$session_purge(namespace => $)$$),
	(17, $$session_take('args', $)$$),
	(18, $$session_get_many('{args}', $)$$)) c(n, call),
	(VALUES (true, ''), (true, repeat('n', 64)), (true, E'a\nb'),
		(false, repeat('n', 63)), (false, 'no such namespace'), (false, 'DEFAULT')) n(bad, ns)
GROUP BY n, call ORDER BY n;

-- A ttl is 1 ms to 100 years of elapsed time; months are refused.
SELECT ttl, pg_temp.err(format('SELECT session_create(ttl => %L)', ttl)) AS "create",
	pg_temp.err(format('SELECT session_save(''args'', ''{}'', ttl => %L)', ttl)) AS save,
	pg_temp.err(format('SELECT session_touch(''args'', ttl => %L)', ttl)) AS touch
FROM (VALUES ('0'), ('-1 second'), ('1 day -25 hours'), ('999 microseconds'), ('1 microsecond'),
	('1 month'), ('100 years'), ('1 month -29 days'), ('36526 days'), ('2147483647 days'), ('-2147483648 days'),
	('2500000000 hours'), ('1 millisecond'), ('1 day -23:59:59.999'), ('36500 days'), ('876000 hours')) t(ttl);
SELECT pg_temp.err($$SELECT session_save('args', '{}', ttl => 'infinity')$$) = 'ok' AS infinite_ttl;

-- max_rows and page_size are positive numbers.
SELECT call, pg_temp.err('SELECT ' || call)
FROM (VALUES ($$session_purge(-1)$$), ($$session_list(page_size => 0)$$), ($$session_list(page_size => -1)$$)) c(call);

-- A document above max_bytes, before compression, is 54000 in every call that would make one; the old
-- document stays.
INSERT INTO session_namespaces (name, max_bytes)
SELECT 'args', pg_column_size('{"a": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}'::jsonb);
SELECT session_save('fits', '{"a": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}', namespace => 'args');
SELECT call, pg_temp.err('SELECT ' || call)
FROM (VALUES
	($$session_create('{"a": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}', namespace => 'args')$$),
	($$session_save('large', '{"a": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}', namespace => 'args')$$),
	($$session_save('large', to_jsonb(repeat('a', 50000)), namespace => 'args')$$),
	($$session_merge('fits', '{"b": "bbbbbbbb"}', namespace => 'args')$$),
	($$session_incr('fits', '{bbbbbbbb}', namespace => 'args')$$)) c(call);
SELECT session_get('fits', 'args') AS data, version, session_exists('large', 'args') AS large
FROM session_fetch('fits', 'args');
-- After the limit was lowered, larger documents can still be read.
UPDATE session_namespaces SET max_bytes = 16 WHERE name = 'args';
SELECT session_get('fits', 'args') IS NOT NULL AS readable,
	pg_temp.err($$SELECT session_save('fits', '{"b": "bbbbbbbbbbbbbbbb"}', namespace => 'args')$$) AS save;

-- The default is 8 MB.
SELECT pg_temp.err($$SELECT session_save('args', to_jsonb(repeat('a', 8 * 1000 * 1000)))$$) AS below,
	pg_temp.err($$SELECT session_save('args', to_jsonb(repeat('a', 8 * 1024 * 1024 + 1)))$$) AS above;

DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
