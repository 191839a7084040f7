--
-- session_namespaces: defaults of a policy, and values that are refused.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers

-- Columns that are left out have the documented defaults; the prefix is made from the name.
INSERT INTO session_namespaces (name) VALUES ('plain');
SELECT name, ttl, sliding, max_lifetime, cache, cache_ttl, hot_uses, hash_keys, max_bytes FROM session_namespaces;
SELECT max_sessions_per_owner, on_quota, tombstone, allowed_roles, owner_isolation, audit, events_keep, durability,
	tail_prefix, tail_size FROM session_namespaces;
SELECT key_prefix LIKE 'plain%' AS prefix_of_the_name FROM session_namespaces;
-- If one name begins with another, their prefixes still do not.
INSERT INTO session_namespaces (name) VALUES ('pla'), ('plain2'), ('Plain');
SELECT count(*) AS begin_each_other FROM session_namespaces a JOIN session_namespaces b
	ON a.name <> b.name AND starts_with(a.key_prefix, b.key_prefix);
DELETE FROM session_namespaces WHERE name <> 'plain';

-- Invalid values are refused, in an INSERT and in an UPDATE.
CREATE FUNCTION pg_temp.policy(assignment text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	col text = split_part(assignment, ' = ', 1);
	val text = split_part(assignment, ' = ', 2);
BEGIN
	RETURN pg_temp.refused(format('UPDATE session_namespaces SET %I = %s WHERE name = ''plain''', col, val)) || ' ' ||
		pg_temp.refused(CASE WHEN col = 'name' THEN format('INSERT INTO session_namespaces (name, key_prefix) VALUES (%s, ''fresh:'')', val)
			ELSE format('INSERT INTO session_namespaces (name, %I) VALUES (''fresh'', %s)', col, val) END);
END
$$;
SELECT assignment, pg_temp.policy(assignment)
FROM unnest(ARRAY[
	$$ttl = '0'$$, $$ttl = '-1 second'$$, $$ttl = '999 microseconds'$$, $$ttl = '1 month'$$, $$ttl = '36526 days'$$, $$ttl = 'infinity'$$,
	$$max_lifetime = '0'$$, $$max_lifetime = '-1 hour'$$, $$max_lifetime = '1 year'$$, $$max_lifetime = '36526 days'$$, $$max_lifetime = 'infinity'$$,
	$$sliding = NULL$$,
	$$cache = 'warm'$$, $$cache = ''$$, $$cache = 'HOT'$$, $$cache = NULL$$,
	$$cache_ttl = '0'$$, $$cache_ttl = '-1 second'$$, $$cache_ttl = '1 month'$$, $$cache_ttl = NULL$$,
	$$hot_uses = 0$$, $$hot_uses = -1$$, $$hot_uses = NULL$$,
	$$hash_keys = NULL$$,
	$$max_bytes = 0$$, $$max_bytes = -1$$, $$max_bytes = 9223372036854775807$$, $$max_bytes = NULL$$,
	$$max_sessions_per_owner = 0$$, $$max_sessions_per_owner = -1$$,
	$$on_quota = 'ignore'$$, $$on_quota = NULL$$,
	$$tombstone = '-1 second'$$, $$tombstone = '1 month'$$, $$tombstone = 'infinity'$$, $$tombstone = NULL$$,
	$$owner_isolation = NULL$$, $$audit = NULL$$,
	$$events_keep = '-1 day'$$, $$events_keep = NULL$$,
	$$durability = 'maybe'$$, $$durability = NULL$$,
	$$tail_prefix = ''$$, $$tail_prefix = repeat('t', 101)$$, $$tail_prefix = E'a\n'$$,
	$$tail_size = 0$$, $$tail_size = -1$$, $$tail_size = NULL$$,
	$$allowed_roles = '{NULL}'$$,
	$$key_prefix = ''$$, $$key_prefix = repeat('k', 101)$$, $$key_prefix = E'a\tb'$$, $$key_prefix = 'a' || chr(127)$$,
	$$name = ''$$, $$name = repeat('n', 64)$$, $$name = E'a\nb'$$, $$name = chr(127)$$, $$name = NULL$$]) assignment;
-- None of them was stored.
SELECT count(*), bool_and(ttl = '1 hour' AND max_lifetime IS NULL AND cache = 'hot' AND tombstone = '5 minutes') AS unchanged
FROM session_namespaces;

-- The extreme valid values are accepted.
SELECT assignment, pg_temp.refused(replace('UPDATE session_namespaces SET $ WHERE name = ''plain''', '$', assignment))
FROM unnest(ARRAY[
	$$ttl = '1 ms'$$, $$ttl = '36500 days'$$, $$ttl = '1 day -1 hour'$$, $$ttl = NULL$$, $$max_lifetime = '1 ms'$$, $$max_lifetime = '36500 days'$$, $$max_lifetime = NULL$$,
	$$cache = 'off'$$, $$cache = 'all'$$, $$cache = 'hot'$$, $$on_quota = 'refuse'$$, $$durability = 'relaxed'$$,
	$$tombstone = '0'$$, $$max_sessions_per_owner = 1$$, $$max_sessions_per_owner = NULL$$, $$hot_uses = 1$$, $$tail_size = 1$$,
	$$allowed_roles = '{}'$$, $$allowed_roles = '{no_role_yet}'$$, $$allowed_roles = NULL$$,
	$$key_prefix = 'k'$$, $$key_prefix = repeat('k', 100)$$, $$tail_prefix = repeat('t', 100)$$, $$tail_prefix = NULL$$,
	$$name = 'renamed'$$]) assignment;
SELECT pg_temp.refused(format('INSERT INTO session_namespaces (name, key_prefix) VALUES (%L, ''n:'')', repeat('n', 63))) AS name_of_63;

-- A name has one policy.
SELECT pg_temp.refused($$INSERT INTO session_namespaces (name, key_prefix) VALUES ('renamed', 'twice:')$$) AS twice;

-- Namespace "default" needs no row and then has the defaults of the columns; a row replaces that until it
-- is deleted.
DELETE FROM session_namespaces;
SELECT session_save('a', '{}'), session_ttl('a') IS NULL AS not_seen_by_this_statement;
INSERT INTO session_namespaces (name, ttl, max_bytes) VALUES ('default', '10 minutes', 40);
SELECT key_prefix FROM session_namespaces;
SELECT session_save('b', '{}'), session_get('a');
SELECT session_ttl('b') <= interval '10 minutes' AS ten_minutes, session_ttl('a') > interval '59 minutes' AS keeps_its_hour,
	pg_temp.err($$SELECT session_save('c', '{"a": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}')$$) AS max_bytes;
DELETE FROM session_namespaces WHERE name = 'default';
SELECT session_save('c', '{"a": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}'), session_get('b');
SELECT session_ttl('c') > interval '59 minutes' AS an_hour_again;

DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
