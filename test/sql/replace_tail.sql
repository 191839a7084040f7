--
-- session_replace_tail(), and owner, patch and keep of session_append().
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, sliding, ttl, audit, audit_saves, max_bytes) VALUES ('tail', false, '2 hours', true, true, 300);
SET session_store.namespace = 'tail';

-- The last n messages are replaced in one step, under seqs that were never used.
SELECT session_append('s', '[{"m": 1}, {"m": 2}, {"m": 3}]'), session_save('s', '{"doc": 1}');
SELECT session_replace_tail('s', 2, '[{"m": "2b"}, {"m": "3b"}, {"m": "4b"}]');
SELECT pg_temp.line('s'), message_count, version FROM session_fetch('s');
SELECT session_replace_tail('s', 1, '{"m": 5}') AS by_one, pg_temp.line('s');
-- n 0 appends; [] pops; n 0 and [] do nothing, and the lifetime stays. It returns last_seq.
SELECT session_replace_tail('s', 0, '{"m": 6}') AS appended, session_replace_tail('s', 2, '[]') AS popped, pg_temp.line('s');
SELECT updated_at AS updated FROM session_fetch('s') \gset
SELECT session_replace_tail('s', 0, '[]') AS nothing;
SELECT updated_at = :'updated' AS updated_at FROM session_fetch('s');
-- If there are fewer messages than n, all of them are replaced.
SELECT session_replace_tail('s', 100, '[{"m": "a"}, {"m": "b"}]') AS all, pg_temp.line('s');
SELECT session_replace_tail('s', 2147483647, '[]') AS empty, session_replace_tail('s', 5, '{"m": "c"}') AS of_none;
SELECT pg_temp.line('s'), message_count, version FROM session_fetch('s');

-- expected: the messages to be replaced, oldest first, compared as jsonb; any difference is 40001, and
-- nothing changes.
SELECT session_append('e', '[{"m": 1}, {"m": 2, "n": [1, {"x": null}]}, {"m": 3}]');
SELECT expected, pg_temp.err(format('SELECT session_replace_tail(''e'', 2, ''{"m": 4}'', %L)', expected))
FROM unnest(ARRAY['[]', '[{"m": 3}]', '[{"m": 3}, {"m": 2, "n": [1, {"x": null}]}]', '[{"m": 2}, {"m": 3}]', '[{"m": 2, "n": [1, {"x": 0}]}, {"m": 3}]', '[{"m": 1}, {"m": 2, "n": [1, {"x": null}]}, {"m": 3}]', '[2, 3]', '[null, null]', '[[], []]', '{}', '{"m": 3}', '1', 'null']) expected;
SELECT pg_temp.says($$SELECT session_replace_tail('e', 2, '{"m": 4}', '[{"m": 2}, {"m": 3}]')$$) AS differs, pg_temp.says($$SELECT session_replace_tail('e', 2, '{"m": 4}', '[{"m": 3}]')$$) AS number;
SELECT pg_temp.line('e') AS unchanged, message_count, last_seq FROM conversation_sessions WHERE session_id = 'e';
SELECT session_replace_tail('e', 2, '{"m": 4}', '[{"n": [1, {"x": null}], "m": 2.0}, {"m": 3}]') AS equal, session_replace_tail('e', 5, '[]', '[{"m": 1}, {"m": 4}]') AS as_many_as_there_are, session_replace_tail('e', 3, '{"m": 9}', '[]') AS none, pg_temp.line('e');
-- Many, and large ones.
SELECT session_append('many', (SELECT jsonb_agg(jsonb_build_object('m', n)) FROM generate_series(1, 1000) n));
SELECT pg_temp.err(format('SELECT session_replace_tail(''many'', 900, ''[]'', %L)', (SELECT jsonb_agg(jsonb_build_object('m', n) ORDER BY n) FROM (SELECT CASE n WHEN 777 THEN 0 ELSE n END AS n FROM generate_series(101, 1000) n) x))) AS one_differs,
	session_replace_tail('many', 900, '{"m": "last"}', (SELECT jsonb_agg(jsonb_build_object('m', n) ORDER BY n) FROM generate_series(101, 1000) n)) AS equal;
SELECT message_count, pg_temp.line('many', 2) FROM session_fetch('many');

-- An operation is carried out once, for its arguments and no others; expected is then not compared again.
SELECT session_append('o', '[{"m": 1}, {"m": 2}]', 'append');
SELECT session_replace_tail('o', 1, '{"m": 3}', '[{"m": 2}]', 'op') AS first, session_append('o', '{"m": 4}'), session_replace_tail('o', 1, '{"m": 3}', '[{"m": 2}]', 'op') AS again, pg_temp.line('o');
SELECT what, pg_temp.err('SELECT ' || what) FROM unnest(ARRAY[$$session_replace_tail('o', 2, '{"m": 3}', '[{"m": 2}]', 'op')$$, $$session_replace_tail('o', 1, '{"m": 5}', '[{"m": 2}]', 'op')$$,
	$$session_replace_tail('o', 1, '{"m": 3}', '[{"m": 3}]', 'op')$$, $$session_replace_tail('o', 1, '{"m": 3}', operation_id => 'op')$$, $$session_append('o', '{"m": 3}', 'op')$$,
	$$session_replace_tail('o', 0, '[{"m": 1}, {"m": 2}]', operation_id => 'append')$$]) what;
SELECT session_replace_tail('o', 0, '[]', operation_id => 'nothing') AS nothing, session_replace_tail('o', 0, '[]', operation_id => 'nothing') AS again, pg_temp.line('o');
-- A conflict uses up no operation_id.
SELECT pg_temp.err($$SELECT session_replace_tail('o', 1, '{"m": 5}', '[{"m": 0}]', 'conflict')$$), session_replace_tail('o', 1, '{"m": 5}', '[{"m": 4}]', 'conflict');
-- An operation is kept when its messages are replaced.
SELECT session_append('o', '{"m": "x"}', 'x') AS x, session_replace_tail('o', 1, '[]'), session_append('o', '{"m": "x"}', 'x') AS again;

-- Without a session it has no effect; a dead one is no session.
SELECT session_replace_tail('absent', 1, '{"m": 1}') AS absent, session_replace_tail('absent', 1, '{"m": 1}', '[]', 'op') AS operation, session_exists('absent');
SELECT session_save('dead', '{}'), session_delete('dead'), session_replace_tail('dead', 1, '{}');
-- Bad arguments.
SELECT call, pg_temp.says('SELECT session_replace_tail(' || call || ')')
FROM unnest(ARRAY[$$NULL, 1, '{}'$$, $$'s', NULL, '{}'$$, $$'s', 1, NULL$$, $$'s', -1, '{}'$$, $$'s', 1, '1'$$, $$'s', 1, '[1]'$$, $$'s', 1, '{}', '{}'$$, $$'s', 1, '{}', '"x"'$$, $$'s', 1, '{}', NULL, ''$$, $$'s', 1, '{}', namespace => 'nowhere'$$,
	$$'s', 1, jsonb_build_object('m', repeat('x', 400))$$]) call;
BEGIN READ ONLY;
SELECT pg_temp.err($$SELECT session_replace_tail('s', 0, '[]')$$) AS read_only;
COMMIT;
-- The same when the row and the messages are written by plain statements.
SET session_store.direct_rows = off;
SELECT session_replace_tail('s', 1, '[{"m": "d"}, {"m": "e"}]', '[{"m": "c"}]'), session_append('s', '{"m": "f"}', patch => '{"x": 1}', keep => 2);
SELECT pg_temp.line('s'), message_count, session_data, version FROM session_fetch('s');
RESET session_store.direct_rows;
-- A rollback undoes it.
BEGIN;
SAVEPOINT a;
SELECT session_replace_tail('s', 1, '{"m": "f"}', operation_id => 'rolled back');
ROLLBACK TO a;
SELECT session_replace_tail('s', 1, '{"m": "g"}', operation_id => 'rolled back'), pg_temp.line('s');
COMMIT;

-- append with a patch: one change of document and history.
SELECT session_append('p', '{"m": 1}', patch => '{"a": 1, "b": {"c": 2}}') AS seq;
SELECT session_get('p'), version, pg_temp.line('p') FROM session_fetch('p');
SELECT session_append('p', '{"m": 2}', patch => '{"a": null, "b": {"d": 3}}') AS seq;
SELECT session_get('p'), version, pg_temp.line('p') FROM session_fetch('p');
SELECT session_append('p', '[]', patch => '{"n": 1}') AS no_messages, session_append('p', '{"m": 3}') AS no_patch;
SELECT session_get('p'), version, pg_temp.line('p') FROM session_fetch('p');
-- The document is checked, and after an error both are as they were.
SELECT pg_temp.says($$SELECT session_append('p', '{"m": 4}', patch => jsonb_build_object('big', repeat('x', 400)))$$) AS too_large, pg_temp.err($$SELECT session_append('q', '{"m": 1}', patch => jsonb_build_object('big', repeat('x', 400)))$$) AS also_new, session_exists('q');
SELECT session_get('p'), version, pg_temp.line('p') FROM session_fetch('p');
-- A patch that is not an object replaces the document, as in session_merge.
SELECT session_append('scalar', '{"m": 1}', patch => '7'), session_get('scalar');

-- append with keep: the newest messages stay, as after a session_trim.
SELECT session_append('k', '[{"m": 1}, {"m": 2}, {"m": 3}]', keep => 2) AS seq;
SELECT pg_temp.line('k'), message_count FROM session_fetch('k');
SELECT session_append('k', '{"m": 4}', keep => 2) AS one_more, pg_temp.line('k');
SELECT session_append('k', '{"m": 5}', keep => 100) AS plenty, pg_temp.line('k');
SELECT session_append('k', '[]', keep => 1) AS trims_only, pg_temp.line('k');
SELECT session_append('k', '[{"m": 6}, {"m": 7}]', keep => 0) AS none, pg_temp.line('k'), session_append('k', '{"m": 8}') AS seqs_go_on;
SELECT pg_temp.line('k'), message_count, last_seq FROM conversation_sessions WHERE session_id = 'k';
SELECT pg_temp.says($$SELECT session_append('k', '{}', keep => -1)$$) AS negative, pg_temp.err($$SELECT session_append('k', '[]')$$) AS nothing_to_do;
-- A longer history.
SELECT session_append('k', (SELECT jsonb_agg(jsonb_build_object('m', n)) FROM generate_series(1, 500) n)), session_append('k', '{"m": "new"}', keep => 300);
SELECT message_count, (SELECT count(*) FROM session_history('k')), (SELECT min(seq) FROM session_history('k')) FROM session_fetch('k');

-- append with an owner: it applies to a session that the call creates, and to no other.
SELECT session_append('w', '{"m": 1}', owner => 'ann'), session_append('w', '{"m": 2}', owner => 'bob');
SELECT session_save('z', '{}'), session_append('z', '{"m": 1}', owner => 'ann');
SELECT session_id, owner_id, version FROM session_list() WHERE session_id IN ('w', 'z') ORDER BY 1;
SELECT pg_temp.err($$SELECT session_append('w2', '{}', owner => '')$$) AS invalid;
-- All arguments are part of an operation.
SELECT session_append('a', '{"m": 1}', 'op', NULL, 'ann', '{"x": 1}', 5) AS first, session_append('a', '{"m": 1}', 'op', owner => 'ann', patch => '{"x": 1}', keep => 5) AS again;
SELECT what, pg_temp.err(format('SELECT session_append(''a'', ''{"m": 1}'', ''op'', %s)', what))
FROM unnest(ARRAY[$$owner => 'bob', patch => '{"x": 1}', keep => 5$$, $$owner => 'ann', patch => '{"x": 2}', keep => 5$$, $$owner => 'ann', patch => '{"x": 1}', keep => 6$$, $$owner => 'ann', patch => '{"x": 1}'$$, $$owner => 'ann', keep => 5$$, $$patch => '{"x": 1}', keep => 5$$, 'keep => NULL']) what;
SELECT session_get('a'), version, message_count, pg_temp.line('a') FROM session_fetch('a');
-- Events: the same as from the calls that have these effects.
SELECT session_id, event, count(*), max(detail ->> 'version') AS version FROM session_events WHERE session_id IN ('a', 'p', 'k', 'w', 'o') GROUP BY 1, 2 ORDER BY 1, 2;

-- With owner isolation a caller cannot create a session for another owner, and cannot change sessions of
-- others.
INSERT INTO session_namespaces (name, owner_isolation) VALUES ('apart', true);
CREATE ROLE regress_ss_ann;
GRANT EXECUTE ON FUNCTION session_append, session_replace_tail, session_share TO regress_ss_ann;
SET ROLE regress_ss_ann;
SET request.jwt.claims = '{"sub": "ann"}';
SELECT pg_temp.err($$SELECT session_append('a1', '{"m": 1}', namespace => 'apart', owner => 'bob')$$) AS for_another, session_append('a1', '{"m": 1}', namespace => 'apart', owner => 'ann') AS own, session_append('a2', '{"m": 1}', namespace => 'apart') AS implied;
SELECT session_replace_tail('a1', 1, '{"m": 2}', '[{"m": 1}]', namespace => 'apart') AS own;
SET request.jwt.claims = '{"sub": "bob"}';
SELECT pg_temp.err($$SELECT session_append('a1', '{"m": 1}', namespace => 'apart', owner => 'bob')$$) AS append, session_replace_tail('a1', 1, '{}', namespace => 'apart') AS replace_tail, pg_temp.err($$SELECT session_replace_tail('a1', 1, '{}', '[{"m": 1}]', namespace => 'apart')$$) AS reveals_nothing;
SET request.jwt.claims = '{"sub": "ann"}';
SELECT session_share('a1', 'bob', 'viewer', 'apart');
SET request.jwt.claims = '{"sub": "bob"}';
SELECT pg_temp.err($$SELECT session_replace_tail('a1', 1, '{}', namespace => 'apart')$$) AS viewer;
RESET ROLE;
RESET request.jwt.claims;
SELECT session_id, owner_id, message_count FROM conversation_sessions WHERE namespace = 'apart' ORDER BY 1;
REVOKE EXECUTE ON FUNCTION session_append, session_replace_tail, session_share FROM regress_ss_ann;
DROP ROLE regress_ss_ann;

DELETE FROM conversation_sessions;
SELECT pg_temp.wait_until($$session_purge() >= 0 AND NOT EXISTS (SELECT FROM conversation_history_ended)$$) AS nothing_left;
DELETE FROM session_events;
DELETE FROM session_namespaces;
