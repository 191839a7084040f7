--
-- session_absorb(): merges one session into another and ends the source.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, sliding, ttl, tombstone, max_bytes) VALUES
	('absorb', false, '2 hours', '5 minutes', 8388608), ('other', false, '1 hour', '5 minutes', 8388608), ('reuse', false, '1 hour', '0', 1000), ('long', false, '1 hour', '10 days', 8388608);
SET session_store.namespace = 'absorb';

-- The documents are merged, and members of the source replace those of the target. The source's messages
-- follow the target's in their order, with new seqs and their own created_at. Owner, members, ttl and
-- created_at are the target's.
SELECT session_save('t', '{"a": 1, "b": {"x": 1, "y": 2}, "l": [1, 2]}', owner => 'alice', ttl => '3 hours'), session_append('t', '[{"m": "t1"}, {"m": "t2"}]'), session_share('t', 'bob', 'editor');
SELECT session_save('s', '{"b": {"y": 3, "z": 4}, "c": 5, "l": [3]}', owner => 'carol'), session_append('s', '[{"m": "s1"}, {"m": "s2"}, {"m": "s3"}]'), session_pop('s'), session_append('s', '{"m": "s4"}'), session_share('s', 'dave', 'owner');
CREATE TEMP TABLE said AS SELECT message, created_at FROM session_history('t') UNION ALL SELECT message, created_at FROM session_history('s');
CREATE TEMP TABLE before AS SELECT * FROM session_fetch('t');
SELECT session_absorb('t', 's');
SELECT session_data, owner_id, version, message_count, session_ttl('t') > interval '2 hours 59 minutes' AS own_ttl FROM session_fetch('t');
SELECT f.created_at = b.created_at AS created_at_stays, f.updated_at > b.updated_at AS updated FROM session_fetch('t') f, before b;
SELECT pg_temp.line('t');
SELECT count(*) AS said_when_it_was FROM session_history('t') JOIN said USING (message, created_at);
SELECT member, role FROM session_members('t');
SELECT session_append('t', '{"m": "t3"}');

-- The source is dead as after session_delete.
SELECT session_get('s') AS get, session_exists('s') AS exists, pg_temp.line('s') AS history, session_delete('s') AS delete, session_touch('s') AS touch,
	(SELECT count(*) FROM session_members('s')) AS members, (SELECT count(*) FROM session_fetch('s')) AS fetch;
SELECT pg_temp.err($$SELECT session_save('s', '{}')$$) AS save, pg_temp.err($$SELECT session_append('s', '{}')$$) AS append, pg_temp.err($$SELECT session_merge('s', '{}')$$) AS merge, pg_temp.err($$SELECT session_incr('s', '{n}')$$) AS incr;
SELECT session_data::text ~ 'c' AS keeps_the_data, dead_until BETWEEN clock_timestamp() + interval '4 minutes' AND clock_timestamp() + interval '5 minutes' AS five_minutes
FROM conversation_sessions WHERE namespace = 'absorb' AND session_id = 's';
-- Absorbing the same source again has no effect.
SELECT session_absorb('t', 's') AS again, version, message_count FROM session_fetch('t');
-- The id of the source can be reused explicitly; the new session has none of the old messages.
SELECT session_save('s', '{"new": 1}', if_version => 0) > 1 AS version_goes_on, pg_temp.line('s') AS history, session_append('s', '{"m": "new"}');
SELECT session_absorb('t', 's');
SELECT pg_temp.line('t');
-- The tombstone of the source lasts as long as its namespace says, or not at all.
SELECT session_save('t', '{}', namespace => 'long'), session_save('s', '{}', namespace => 'long'), session_absorb('t', 's', 'long');
SELECT dead_until > clock_timestamp() + interval '239 hours' AS ten_days FROM conversation_sessions WHERE namespace = 'long' AND session_id = 's';
BEGIN; -- the keeper may purge the source at once
SELECT session_save('t', '{}', namespace => 'reuse'), session_append('s', '{"m": 1}', namespace => 'reuse'), session_absorb('t', 's', 'reuse');
SELECT pg_temp.err($$SELECT session_append('s', '{"m": 2}', namespace => 'reuse')$$) AS at_once;
SELECT pg_temp.line('t', namespace => 'reuse') AS target, pg_temp.line('s', namespace => 'reuse') AS source;
COMMIT;

-- The document is merged as session_merge would: RFC 7396.
CREATE FUNCTION pg_temp.merged(target jsonb, source jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM session_save('mt', target, if_version => 0), session_save('ms', source, if_version => 0);
	PERFORM session_absorb('mt', 'ms');
	RETURN coalesce(session_get('mt')::text, 'gone') || CASE WHEN session_delete('mt') THEN '' END;
END
$$;
SELECT target, source, pg_temp.merged(target, source)
FROM (VALUES (1, '{"a": "b"}'::jsonb, '{"a": "c"}'::jsonb), (2, '{"a": "b"}', '{"b": "c"}'), (3, '{"a": "b"}', '{"a": null}'), (4, '{"a": "b", "b": "c"}', '{"a": null}'), (5, '{"a": {"b": "c"}}', '{"a": {"b": "d", "c": null}}'),
	(6, '["a", "b"]', '["c"]'), (7, '{"a": "b"}', '["c"]'), (8, '{"a": "foo"}', 'null'), (9, '[1, 2]', '{"a": "b", "c": null}'), (10, '{}', '{"a": {"bb": {"ccc": null}}}'), (11, '{"a": 1}', '{}'), (12, '"x"', '1.50')) m(n, target, source)
ORDER BY n;

-- Sessions without messages, on either side.
SELECT session_save('n1', '{"a": 1}'), session_save('n2', '{"b": 2}'), session_absorb('n1', 'n2');
SELECT session_get('n1'), message_count, version FROM session_fetch('n1');
SELECT session_append('n3', '[{"m": 1}, {"m": 2}]'), session_absorb('n1', 'n3');
SELECT pg_temp.line('n1'), message_count FROM session_fetch('n1');
SELECT session_save('n4', '{}'), session_absorb('n1', 'n4');
SELECT pg_temp.line('n1'), message_count FROM session_fetch('n1');
-- No seq of the target is reused, not after a pop either.
SELECT session_pop('n1', 2), session_append('n5', '{"m": 3}'), session_absorb('n1', 'n5');
SELECT pg_temp.line('n1'), session_append('n1', '{"m": 4}');
-- Several absorbs in a row, also of sources that have absorbed others.
SELECT session_append('c1', '{"m": 1}'), session_append('c2', '{"m": 2}'), session_append('c3', '{"m": 3}');
SELECT session_absorb('c2', 'c3') AS one, session_absorb('c1', 'c2') AS two;
SELECT pg_temp.line('c1');
-- A fork can be absorbed again; the messages that both have are then there twice.
SELECT session_fork('c1', 'c1 fork'), session_append('c1 fork', '{"m": 4}'), session_absorb('c1', 'c1 fork');
SELECT pg_temp.line('c1'), message_count FROM session_fetch('c1');
-- A thousand messages keep their order.
SELECT count(session_append('big', jsonb_build_object('m', n))) FROM generate_series(1, 1000) n;
SELECT session_absorb('c2 new', 'big') AS no_target, session_save('c2 new', '{}'), session_append('c2 new', '{"m": 0}'), session_absorb('c2 new', 'big');
SELECT count(*), bool_and(seq = (message ->> 'm')::int + 1) AS in_order FROM session_history('c2 new');
SELECT count(*) AS once_each, count(DISTINCT (history_id, seq)) FROM conversation_history WHERE message ->> 'm' = '500';

-- Both sessions have used the same operation id: a repeated append to the target is compared with the
-- target's operation.
SELECT session_append('o1', '{"m": 1}', operation_id => 'op'), session_append('o2', '{"m": 2}', operation_id => 'op'), session_absorb('o1', 'o2');
SELECT session_append('o1', '{"m": 1}', operation_id => 'op') AS said_again;
SELECT pg_temp.line('o1');

-- Nothing changes unless both are alive: absent, expired or dead sources, an absent or expired target.
BEGIN;
SELECT session_save('e', '{"e": 1}', ttl => '30 ms'), session_save('dead', '1'), session_save('lives', '{"l": 1}', ttl => '1 hour');
SELECT pg_temp.wait_until($$NOT session_exists('e')$$), session_delete('dead');
UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '10 minutes' WHERE namespace = 'absorb' AND session_id = 'lives';
SELECT session_absorb('lives', 'absent') AS absent, session_absorb('lives', 'e') AS expired, session_absorb('lives', 'dead') AS dead,
	session_absorb('absent', 'lives') AS into_absent, session_absorb('e', 'lives') AS into_expired, session_absorb('absent', 'missing') AS neither, session_absorb('lives', 'c1', 'other') AS elsewhere;
SELECT session_data, version, session_ttl('lives') < interval '11 minutes' AS no_longer_life FROM session_fetch('lives');
SELECT session_exists('absent') AS absent, session_exists('e') AS e;
-- Absorbing is a change of the target: its ttl restarts.
SELECT session_save('n6', '{}'), session_absorb('lives', 'n6');
SELECT session_ttl('lives') > interval '59 minutes' AS ttl_restarts;
COMMIT;

-- A dead target is an error, not a silent loss; so is absorbing a session into itself.
SELECT call, pg_temp.says('SELECT ' || call)
FROM (VALUES
	(1, $$session_absorb('dead', 'lives')$$), (2, $$session_absorb('lives', 'lives')$$), (3, $$session_absorb('absent', 'absent')$$), (4, $$session_absorb('dead', 'dead')$$),
	(5, $$session_absorb(NULL, 'lives')$$), (6, $$session_absorb('lives', NULL)$$), (7, $$session_absorb('', 'lives')$$), (8, $$session_absorb('lives', '')$$), (9, $$session_absorb('lives', repeat('x', 201))$$), (10, $$session_absorb(E'a\n', 'lives')$$),
	(11, $$session_absorb('lives', 'c1', 'no such')$$)) c(n, call)
ORDER BY n;
SELECT session_exists('lives') AS lives, version FROM session_fetch('lives');
-- A result larger than max_bytes is refused, and both sessions are unchanged.
SELECT session_save('b1', jsonb_build_object('a', repeat('x', 600)), namespace => 'reuse'), session_save('b2', jsonb_build_object('b', repeat('x', 600)), namespace => 'reuse');
SELECT pg_temp.err($$SELECT session_absorb('b1', 'b2', 'reuse')$$);
SELECT session_id, version FROM session_list(id_like => 'b_', namespace => 'reuse') ORDER BY session_id;

-- After a rollback both sessions are as before.
SELECT session_append('r1', '{"m": 1}'), session_append('r2', '{"m": 2}'), session_share('r2', 'dave');
BEGIN;
SELECT session_absorb('r1', 'r2');
SELECT pg_temp.line('r1'), session_exists('r2');
ROLLBACK;
SELECT pg_temp.line('r1') AS r1, pg_temp.line('r2') AS r2, (SELECT string_agg(member, ' ') FROM session_members('r2')) AS members;
BEGIN;
SAVEPOINT a;
SELECT session_absorb('r1', 'r2');
ROLLBACK TO a;
SELECT session_absorb('r2', 'r1');
COMMIT;
SELECT pg_temp.line('r1') AS r1, pg_temp.line('r2') AS r2;
BEGIN READ ONLY;
SELECT pg_temp.err($$SELECT session_absorb('r2', 'c1')$$) AS read_only;
COMMIT;
SELECT session_absorb(target => 'r2', source => 'c1', namespace => 'absorb') AS by_name;

DROP TABLE said, before;
DELETE FROM conversation_sessions;
SELECT pg_temp.wait_until($$session_purge() >= 0 AND NOT EXISTS (SELECT FROM conversation_history_ended)$$) AS nothing_left;
DELETE FROM session_namespaces;
