--
-- Key prefixes: none begins with another, including tail prefixes and reserved ones.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
CREATE FUNCTION pg_temp.add(name text, key_prefix text, tail_prefix text = NULL) RETURNS text LANGUAGE sql AS
	$$SELECT pg_temp.refused(format('INSERT INTO session_namespaces (name, key_prefix, tail_prefix) VALUES (%L, %L, %L)', name, key_prefix, tail_prefix))$$;

-- A prefix that equals, begins or continues another is refused, whichever was first.
SELECT pg_temp.add('first', 'app:chat:', 'tail:chat:');
SELECT prefix, pg_temp.add('second', prefix) AS as_key, pg_temp.add('second', 'other:', prefix) AS as_tail
FROM unnest(ARRAY['app:chat:', 'app:chat:x', 'app:', 'a', 'tail:chat:', 'tail:chat:x', 'tail:', 't']) prefix;
-- Prefixes that are only similar are allowed.
SELECT prefix, pg_temp.add(prefix, prefix) AS as_key
FROM unnest(ARRAY['app:chat;', 'App:', 'app:chut:', 'app:cha:', 'xapp:chat:', '%', '_pp:']) prefix;
DELETE FROM session_namespaces;
-- Wildcards of LIKE have no special meaning in a prefix.
SELECT pg_temp.add('percent', '%:'), pg_temp.add('letters', 'abc:'), pg_temp.add('underscore', '_:'), pg_temp.add('backslash', '\:');
DELETE FROM session_namespaces;

-- Nor may the tail_prefix of a namespace overlap its own key_prefix.
SELECT pg_temp.add('own', 'k:', 'k:t:') AS tail_continues, pg_temp.add('own', 'k:t:', 'k:') AS key_continues,
	pg_temp.add('own', 'k:', 'k:') AS the_same, pg_temp.add('own', 'k:', 't:') AS apart;
-- Updates are checked like inserts; those that change no prefix are allowed, and a new prefix may overlap
-- the old one of the same namespace.
SELECT pg_temp.add('second', 's:');
SELECT change, pg_temp.refused('UPDATE session_namespaces SET ' || change || ' WHERE name = ''second''')
FROM unnest(ARRAY[$$key_prefix = 'k:'$$, $$key_prefix = 'k:x'$$, $$key_prefix = 't'$$, $$tail_prefix = 'k:x'$$, $$tail_prefix = 's:x'$$,
	$$ttl = '2 hours'$$, $$key_prefix = 's:'$$, $$key_prefix = 's:longer'$$, $$key_prefix = 's'$$, $$tail_prefix = 'x:'$$, $$tail_prefix = NULL$$]) change;
SELECT name, key_prefix, tail_prefix FROM session_namespaces ORDER BY name;
-- Several rows of one statement are compared with each other.
SELECT pg_temp.refused($$INSERT INTO session_namespaces (name, key_prefix) VALUES ('x1', 'x:'), ('x2', 'x:y')$$) AS two_rows;
SELECT count(*) FROM session_namespaces;
DELETE FROM session_namespaces;

-- The built-in policy of "default" has `session:` although it has no row.
SELECT prefix, pg_temp.add('rival', prefix) AS as_key, pg_temp.add('rival', 'r:', prefix) AS as_tail
FROM unnest(ARRAY['session:', 'session:x', 'session', 's']) prefix;
DELETE FROM session_namespaces;
-- A row for "default" may have another prefix; then `session:` is free ..
SELECT pg_temp.add('default', 'app:');
SELECT pg_temp.add('rival', 'session:') AS free_now;
-- .. but the built-in policy cannot return while another namespace has it, neither by DELETE nor by a new
-- name.
SELECT pg_temp.refused($$DELETE FROM session_namespaces WHERE name = 'default'$$) AS delete,
	pg_temp.refused($$UPDATE session_namespaces SET name = 'renamed' WHERE name = 'default'$$) AS rename;
SELECT name, key_prefix FROM session_namespaces ORDER BY name;
SELECT pg_temp.refused($$UPDATE session_namespaces SET key_prefix = 'rival:' WHERE name = 'rival'$$) AS give_way;
SELECT pg_temp.refused($$DELETE FROM session_namespaces WHERE name = 'default'$$) AS delete;
SELECT pg_temp.add('default', 'app:'), pg_temp.refused($$UPDATE session_namespaces SET tail_prefix = 'session:t:' WHERE name = 'rival'$$) AS as_tail;
SELECT pg_temp.refused($$DELETE FROM session_namespaces WHERE name = 'default'$$) AS delete;
-- Both may be deleted together, in any order of the rows.
SELECT pg_temp.refused($$DELETE FROM session_namespaces$$) AS delete_all;
SELECT count(*) FROM session_namespaces;
SELECT pg_temp.add('default', 'app:'), pg_temp.add('rival', 'session:');
TRUNCATE session_namespaces;
SELECT count(*) FROM session_namespaces;

-- A row for "default" may have `session:`, or a prefix that continues it.
SELECT pg_temp.add('default', 'session:');
DELETE FROM session_namespaces;
SELECT pg_temp.add('default', 'session:app:');
DELETE FROM session_namespaces;

-- `session_store:` is reserved for the pusher.
SELECT prefix, pg_temp.add('mine', prefix) AS as_key, pg_temp.add('tail ' || prefix, 'k:', prefix) AS as_tail
FROM unnest(ARRAY['session_store:', 'session_store:lease', 'session_store', 'session_']) prefix;
SELECT pg_temp.add('key', 'session_store;', 'sessions:') AS resembling;
DELETE FROM session_namespaces;

-- Prefixes are compared bytewise, up to 100 bytes.
SELECT pg_temp.add('long', repeat('p', 100)), pg_temp.add('longer', repeat('p', 99) || 'q'), pg_temp.add('short', repeat('p', 99));

DELETE FROM session_namespaces;
