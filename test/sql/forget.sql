--
-- session_export() and session_forget(): what a namespace holds of an owner, by the functions and
-- with owner isolation.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
SELECT session_purge() IS NOT NULL AS others_gone;
INSERT INTO session_namespaces (name, audit) VALUES ('gdpr', true);
INSERT INTO session_namespaces (name, owner_isolation, audit, tombstone) VALUES ('mine', true, true, '1 hour');
INSERT INTO session_namespaces (name) VALUES ('elsewhere');

\x on
SELECT proname AS name, pg_get_function_arguments(oid) AS arguments, pg_get_function_result(oid) AS result, provolatile, prorows
FROM pg_proc WHERE oid IN ('session_export'::regproc, 'session_forget'::regproc) ORDER BY 1;
\x off

-- All pages of an export, item by item.
CREATE FUNCTION pg_temp.pages(owner text, size int, namespace text) RETURNS TABLE (kind text, item jsonb) LANGUAGE plpgsql AS $$
DECLARE
	r record;
	at text;
	n int;
BEGIN
	LOOP
		n := 0;
		FOR r IN SELECT * FROM session_export(pages.owner, at, size, pages.namespace) LOOP
			n := n + 1;
			at := r.page_cursor;
			kind := r.kind;
			item := r.item;
			RETURN NEXT;
		END LOOP;
		EXIT WHEN n < size;
	END LOOP;
END
$$;
-- Without times, which differ.
CREATE FUNCTION pg_temp.plain(item jsonb) RETURNS jsonb LANGUAGE sql AS $$
SELECT item - ARRAY['created_at', 'updated_at', 'expires_at', 'actor']
$$;

-- Two sessions, one with a history; one share given, two shares received; a session in another namespace.
SELECT session_append('a1', '[{"m": 1}, {"m": 2}]', operation_id => 'op', namespace => 'gdpr'),
	session_save('a1', '{"n": 1}', owner => 'ann', namespace => 'gdpr'),
	session_save('a2', '0', owner => 'ann', namespace => 'gdpr'),
	session_share('a1', 'bob', 'editor', 'gdpr');
SELECT session_save('b1', '{"secret": true}', owner => 'bob', namespace => 'gdpr'), session_save('b2', '{}', owner => 'bob', namespace => 'gdpr'),
	session_share('b1', 'ann', 'viewer', 'gdpr'), session_share('b2', 'ann', 'owner', 'gdpr'),
	session_append('b1', '[{"of": "bob"}]', namespace => 'gdpr');
UPDATE session_members SET accepted = false WHERE member = 'ann' AND role = 'owner';
SELECT session_append('e1', '[{"e": 1}]', namespace => 'elsewhere'), session_save('e1', '{}', owner => 'ann', namespace => 'elsewhere'),
	session_save('e2', '{}', owner => 'bob', namespace => 'elsewhere'), session_share('e2', 'ann', 'viewer', 'elsewhere');

-- The export: sessions with messages and members, memberships, events.
SELECT kind, pg_temp.plain(item) AS item FROM session_export('ann', namespace => 'gdpr');
SELECT kind, (SELECT array_agg(k ORDER BY k COLLATE "C") FROM jsonb_object_keys(item) k) AS members
FROM session_export('ann', namespace => 'gdpr') GROUP BY 1, 2 ORDER BY 1, 2;
-- Every page size gives the same items in the same order.
SELECT size, (SELECT string_agg(kind || item, E'\n') FROM pg_temp.pages('ann', size, 'gdpr'))
	= (SELECT string_agg(kind || item, E'\n') FROM session_export('ann', page_size => 10000, namespace => 'gdpr')) AS same
FROM generate_series(1, 12) size;
-- More messages and members than one statement reads, and documents that are stored out of line.
SELECT session_append('long', (SELECT jsonb_agg(jsonb_build_object('i', i, 'text', repeat(md5(i::text), 200))) FROM generate_series(1, 40) i), namespace => 'gdpr'),
	session_save('long', to_jsonb((SELECT string_agg(md5(i::text), '') FROM generate_series(1, 3000) i)), owner => 'lee', namespace => 'gdpr');
SELECT count(session_share('long', 'm' || i, 'viewer', 'gdpr')) FROM generate_series(1, 20) i;
SELECT kind, count(*), count(DISTINCT item) AS different, max(length(item::text)) > 6000 AS large FROM pg_temp.pages('lee', 7, 'gdpr') GROUP BY 1 ORDER BY 1;
SELECT array_agg(item -> 'seq' ORDER BY n) = array_agg(item -> 'seq' ORDER BY (item ->> 'seq')::int) AS in_order
FROM pg_temp.pages('lee', 7, 'gdpr') WITH ORDINALITY AS p(kind, item, n) WHERE kind = 'message';
SELECT item -> 'session_data' = session_get('long', 'gdpr') AS document FROM session_export('lee', page_size => 1, namespace => 'gdpr');
-- A cursor stays valid after the end of its item: the page begins behind it.
BEGIN;
SELECT page_cursor AS at FROM session_export('ann', page_size => 2, namespace => 'gdpr') OFFSET 1 \gset
SELECT session_delete('a1', 'gdpr');
SELECT kind, item ->> 'session_id' AS session_id FROM session_export('ann', :'at', 1, 'gdpr');
ROLLBACK;
-- Sessions that have ended are not exported, and an export does not extend the others.
BEGIN READ ONLY;
SELECT count(*) FROM session_export('ann', namespace => 'gdpr') WHERE kind = 'session';
ROLLBACK;
SELECT count(*) AS nobody FROM session_export('nobody', namespace => 'gdpr');

-- Bad arguments.
SELECT call, pg_temp.err(call) FROM unnest(ARRAY[
	$$SELECT session_export(NULL)$$, $$SELECT session_export('')$$, $$SELECT session_export('ann', page_size => 0)$$,
	$$SELECT session_export('ann', page_size => 10001)$$, $$SELECT session_export('ann', page_size => NULL)$$,
	$$SELECT session_export('ann', namespace => 'none')$$, $$SELECT session_forget(NULL)$$, $$SELECT session_forget('ann', NULL)$$,
	$$SELECT session_forget(repeat('x', 201))$$, $$SELECT session_forget('ann', namespace => 'none')$$]) call;
SELECT at, pg_temp.err(format('SELECT session_export(%L, %L)', 'ann', at)) FROM unnest(ARRAY['', 'x', 'x1.', 'x1.s', 'x1.s.',
	'x1.z.0000000000000000.0000000000000000.00.', 'x1.s.0000000000000000.0000000000000000.00.', 'x1.s.0000000000000000.0000000000000000.05.a',
	'x1.s.0000000000000000.0000000000000000.01.ab', 'x1.b.0000000000000000.0000000000000000.01.a', E'x1.s.0000000000000000.0000000000000000.01.\u0001',
	'x1.v.0000000000000000.0000000000000000.00.0', 'x1.w.0000000000000000.0000000000000000.00.00000000000000000000000000000000----',
	'c1.0000000000000000.a', 'x1.s.000000000000000.0000000000000000.01.a', 'x1.s.0000000000000000.0000000000000000.ff.a']) at;

-- Forget: sessions that are alive, one that has expired, one that has ended with its messages.  (In one
-- transaction, so that the keeper does not remove the last two.)
BEGIN;
SELECT session_append('gone', '[{"m": 3}]', namespace => 'gdpr'), session_save('gone', '{}', owner => 'ann', namespace => 'gdpr'), session_delete('gone', 'gdpr');
SELECT session_save('past', '{"old": 1}', owner => 'ann', namespace => 'gdpr') AS version;
SELECT session_turn_begin('past', '1 hour', holder => 'ann''s laptop', namespace => 'gdpr') > 0 AS turn;
SELECT session_save('past', '{"old": 1}', expires_at => clock_timestamp() + '20 ms', namespace => 'gdpr') AS version;
SELECT pg_temp.wait_until($$NOT session_exists('past', 'gdpr')$$);
SAVEPOINT s;
SELECT session_forget('ann', namespace => 'gdpr') ->> 'sessions' AS undone;
ROLLBACK TO s;
SELECT session_get('a1', 'gdpr'), (SELECT count(*) FROM session_history('a1', namespace => 'gdpr')) AS messages;
SELECT session_forget('ann', keep_events => true, namespace => 'gdpr') AS receipt;
SELECT count(*) FROM session_events WHERE namespace = 'gdpr' AND owner_id = 'ann';
ROLLBACK TO s;
SELECT session_forget('ann', namespace => 'gdpr') AS receipt;
SELECT session_data, owner_id, turn_holder, turn_until, dead_until <= clock_timestamp() AS over FROM conversation_sessions WHERE namespace = 'gdpr' AND session_id = 'past';
COMMIT;
SELECT session_forget('ann', namespace => 'gdpr') AS again;
-- Nothing of the owner is left in the namespace; others and other namespaces keep theirs.
SELECT (SELECT count(*) FROM conversation_sessions s WHERE s::text ~ '\mann\M' AND namespace = 'gdpr') AS sessions,
	(SELECT count(*) FROM conversation_history_ended e WHERE e::text ~ '\mann\M') AS queue,
	(SELECT count(*) FROM session_events e WHERE e::text ~ '\mann\M' AND namespace = 'gdpr') AS events,
	(SELECT count(*) FROM session_members m JOIN conversation_sessions USING (history_id) WHERE m.member = 'ann' AND namespace = 'gdpr') AS members,
	(SELECT count(*) FROM session_operations WHERE namespace = 'gdpr') AS operations,
	(SELECT count(*) FROM conversation_history h WHERE message ? 'm') AS messages;
SELECT session_id, session_data, owner_id, history_id IS NULL AS no_history FROM conversation_sessions
WHERE namespace = 'gdpr' AND session_id IN ('a1', 'a2', 'gone', 'b1', 'b2') ORDER BY 1;
SELECT session_id, owner_id, event, detail FROM session_events WHERE namespace = 'gdpr' AND event IN ('forgotten', 'shared') AND coalesce(owner_id, '') <> 'lee' ORDER BY created_at;
SELECT session_get('e1', 'elsewhere') AS kept, (SELECT count(*) FROM session_history('e1', namespace => 'elsewhere')) AS messages,
	(SELECT count(*) FROM session_members('e2', 'elsewhere')) AS members, session_get('b1', 'gdpr') AS of_bob,
	(SELECT count(*) FROM session_history('b1', namespace => 'gdpr')) AS messages_of_bob;
-- The ids are dead, except for the one that had expired.
SELECT id, pg_temp.err(format('SELECT session_save(%L, %L, namespace => %L)', id, '{}', 'gdpr')) FROM unnest(ARRAY['a1', 'past']) id;

-- With owner isolation the owner may forget itself, nobody else may; a role with BYPASSRLS may forget any
-- owner.
CREATE ROLE regress_ss_forget;
GRANT EXECUTE ON FUNCTION session_export, session_forget, session_save, session_get TO regress_ss_forget;
SELECT session_append('i1', '[{"i": 1}]', namespace => 'mine'), session_save('i1', '{"i": 1}', owner => 'ida', namespace => 'mine'),
	session_save('i2', '{}', owner => 'ida', namespace => 'mine'), session_save('j1', '{}', owner => 'jo', namespace => 'mine'),
	session_share('j1', 'ida', 'viewer', 'mine'), session_delete('i2', 'mine');
SELECT owner_id FROM conversation_sessions WHERE session_id = 'i2';
SET ROLE regress_ss_forget;
SELECT pg_temp.err($$SELECT session_export('ida', namespace => 'mine')$$) AS export, pg_temp.err($$SELECT session_forget('ida', namespace => 'mine')$$) AS forget;
SELECT set_config('request.jwt.claims', '{"sub": "jo"}', false);
SELECT pg_temp.err($$SELECT session_export('ida', namespace => 'mine')$$) AS export, pg_temp.err($$SELECT session_forget('ida', namespace => 'mine')$$) AS forget;
SELECT set_config('request.jwt.claims', '{"sub": "ida"}', false);
SELECT kind, pg_temp.plain(item) AS item FROM session_export('ida', namespace => 'mine') WHERE kind <> 'event';
SELECT session_forget('ida', namespace => 'mine') AS receipt;
-- The tombstones have no owner; until they run out, their ids are dead for the owner as for everybody.
SELECT id, pg_temp.err(format('SELECT session_save(%L, %L, owner => %L, namespace => %L)', id, '{}', 'ida', 'mine')) FROM unnest(ARRAY['i1', 'i2']) id;
RESET ROLE;
RESET request.jwt.claims;
SELECT count(*) FROM conversation_sessions s WHERE s::text ~ '\mida\M';
SELECT count(*) FROM session_events e WHERE e::text ~ '\mida\M';
SELECT event, actor, detail FROM session_events WHERE event = 'forgotten' AND namespace = 'mine';

-- A role outside allowed_roles, and one without EXECUTE.
UPDATE session_namespaces SET allowed_roles = '{}' WHERE name = 'gdpr';
SET ROLE regress_ss_forget;
SELECT pg_temp.err($$SELECT session_export('bob', namespace => 'gdpr')$$) AS export, pg_temp.err($$SELECT session_forget('bob', namespace => 'gdpr')$$) AS forget;
RESET ROLE;
UPDATE session_namespaces SET allowed_roles = NULL WHERE name = 'gdpr';

-- A trigger that keeps a message, or a foreign key that refuses, fails the whole call.
SELECT session_append('k', '[{"k": 1}]', namespace => 'gdpr'), session_save('k', '{}', owner => 'kim', namespace => 'gdpr');
CREATE FUNCTION pg_temp.keep() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$BEGIN RETURN NULL; END$$;
CREATE TRIGGER keep BEFORE DELETE ON conversation_history FOR EACH ROW EXECUTE FUNCTION pg_temp.keep();
SELECT pg_temp.err($$SELECT session_forget('kim', namespace => 'gdpr')$$);
DROP TRIGGER keep ON conversation_history;
CREATE TABLE regress_ss_quotes (history_id uuid, seq bigint, FOREIGN KEY (history_id, seq) REFERENCES conversation_history);
INSERT INTO regress_ss_quotes SELECT history_id, seq FROM conversation_history WHERE message ? 'k';
SELECT pg_temp.err($$SELECT session_forget('kim', namespace => 'gdpr')$$);
SELECT session_get('k', 'gdpr') AS still, (SELECT count(*) FROM session_history('k', namespace => 'gdpr')) AS messages;
DROP TABLE regress_ss_quotes;
SELECT session_forget('kim', namespace => 'gdpr') ->> 'messages' AS messages;
-- READ ONLY.
BEGIN READ ONLY;
SELECT pg_temp.err($$SELECT session_forget('bob', namespace => 'gdpr')$$);
ROLLBACK;

DROP OWNED BY regress_ss_forget;
DROP ROLE regress_ss_forget;
DELETE FROM conversation_sessions;
DELETE FROM session_events;
DELETE FROM session_namespaces;
