--
-- session_amend(): replaces one message, which keeps its seq and created_at.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, sliding, ttl, audit, max_bytes) VALUES ('am', false, '2 hours', true, 1000), ('other', false, '1 hour', false, 8388608);
SET session_store.namespace = 'am';

-- The same by direct access and by statements.
CREATE TEMP TABLE step (n int GENERATED ALWAYS AS IDENTITY, call text, direct text, by_statements text);
INSERT INTO step (call) VALUES ($$session_append($, '[{"m": 1}, {"m": 2}, {"m": 3}]')$$), ($$session_amend($, 2, '{"m": "two"}')$$), ($$pg_temp.line($)$$),
	($$(SELECT (f.version, f.message_count, f.owner_id) FROM session_fetch($) f)$$), ($$session_amend($, 1, '{"m": "one", "more": [1, null]}')$$), ($$session_amend($, 4, '{"m": 4}')$$),
	($$session_amend($, 9223372036854775807, '{"m": 4}')$$), ($$session_pop($)$$), ($$session_amend($, 3, '{"m": 3}')$$), ($$session_append($, '{"m": 4}')$$), ($$session_amend($, 3, '{"m": 3}')$$),
	($$session_amend($, 4, '{}')$$), ($$session_trim($, 1)$$), ($$session_amend($, 2, '{"m": 2}')$$), ($$session_amend($, 4, '{"m": "four"}')$$), ($$pg_temp.line($)$$),
	($$session_append($, '[{"m": 5}, {"m": 6}]', 'op')$$), ($$session_amend($, 5, '{"m": "five"}')$$), ($$session_append($, '[{"m": 5}, {"m": 6}]', 'op')$$), ($$pg_temp.line($)$$),
	($$session_amend($, 5, '{"m": "five"}', 'other')$$), ($$session_delete($)$$), ($$session_amend($, 5, '{"m": "five"}')$$), ($$session_save($, '{}', if_version => 0) > 1$$), ($$session_amend($, 5, '{"m": "five"}')$$);
DO $$BEGIN PERFORM pg_temp.run_steps('d'); END$$;
SET session_store.direct_rows = off;
DO $$BEGIN PERFORM pg_temp.run_steps('s'); END$$;
RESET session_store.direct_rows;
SELECT call, direct, CASE WHEN by_statements IS DISTINCT FROM direct THEN by_statements END AS differs FROM step ORDER BY n;

-- The message keeps its time; the session's updated_at moves, and its ttl restarts, if there was such a message.
SELECT session_append('t', '[{"m": 1}, {"m": 2}]');
SELECT created_at AS said_at FROM session_history('t', 1) \gset
CREATE FUNCTION pg_temp.minutes_after(call text) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '30 minutes' WHERE namespace = 'am' AND session_id = 't';
	EXECUTE 'SELECT ' || call;
	RETURN round(extract(epoch FROM session_ttl('t')) / 60);
END
$$;
SELECT pg_temp.minutes_after($$session_amend('t', 2, '{"m": "two"}')$$) AS amended, pg_temp.minutes_after($$session_amend('t', 3, '{"m": 3}')$$) AS no_such_message;
SELECT updated_at AS updated_at FROM session_fetch('t') \gset
SELECT session_amend('t', 2, '{"m": "again"}');
SELECT h.created_at = :'said_at' AS same_time, f.updated_at > :'updated_at' AS updated, f.version, pg_temp.line('t') FROM session_history('t', 1) h, session_fetch('t') f;

-- Large messages are stored unchanged; the TOAST values of the replaced ones are removed.
SELECT session_append('large', jsonb_build_object('x', (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 5000) n)), namespace => 'other');
SELECT session_amend('large', 1, jsonb_build_object('x', (SELECT string_agg(md5((-n)::text), '') FROM generate_series(1, 6000) n)), 'other');
SELECT message ->> 'x' = (SELECT string_agg(md5((-n)::text), '') FROM generate_series(1, 6000) n) AS same FROM session_history('large', namespace => 'other');
SELECT session_amend('large', 1, '{"m": "small"}', 'other'), session_append('large', '{"m": 2}', namespace => 'other');
SELECT session_amend('large', 2, (SELECT message FROM session_history('large', first => 1, namespace => 'other')), 'other') AS from_another, pg_temp.line('large', namespace => 'other') AS seen_before;
SELECT pg_temp.line('large', namespace => 'other');

-- A fork has messages of its own.
SELECT session_fork('large', 'fork', namespace => 'other'), session_amend('fork', 1, '{"m": "of the fork"}', 'other'), session_amend('large', 2, '{"m": "of the source"}', 'other');
SELECT pg_temp.line('large', namespace => 'other') AS source, pg_temp.line('fork', namespace => 'other') AS fork;

-- Bad input: each kind has an error, and nothing changes.
SELECT call, pg_temp.says('SELECT ' || call)
FROM (VALUES (1, $$session_amend(NULL, 1, '{}')$$), (2, $$session_amend('t', NULL, '{}')$$), (3, $$session_amend('t', 1, NULL)$$), (4, $$session_amend('', 1, '{}')$$), (5, $$session_amend(repeat('x', 201), 1, '{}')$$),
	(6, $$session_amend(E'a\n', 1, '{}')$$), (7, $$session_amend('t', 0, '{}')$$), (8, $$session_amend('t', -1, '{}')$$), (9, $$session_amend('t', 1, '[]')$$), (10, $$session_amend('t', 1, '[{"m": 1}]')$$), (11, $$session_amend('t', 1, 'null')$$),
	(12, $$session_amend('t', 1, '1')$$), (13, $$session_amend('t', 1, '"text"')$$), (14, $$session_amend('absent', 1, '1')$$), (15, $$session_amend('t', 1, '{}', 'no such')$$),
	(16, $$session_amend('t', 1, jsonb_build_object('x', repeat('x', 1000)))$$), (17, $$session_amend('absent', 1, jsonb_build_object('x', repeat('x', 1000)))$$)) c(n, call) ORDER BY n;
SELECT pg_temp.line('t'), f.updated_at > :'updated_at' AS updated FROM session_fetch('t') f;

-- No such session: false, whatever the state of the id.
BEGIN;
SELECT session_append('e', '{"m": 1}'), session_touch('e', '1 ms') IS NOT NULL AS touched;
SELECT pg_temp.wait_until($$NOT session_exists('e')$$);
SELECT session_amend('e', 1, '{"m": 2}') AS expired, session_amend('absent', 1, '{}') AS absent, session_amend(session_create(), 1, '{}') AS without_messages, session_amend('large', 1, '{}') AS of_another_namespace;
COMMIT;

-- An event for each, with the seq and nothing of the message; none for an amend that found no message.
SELECT session_id, event, detail, count(*) FROM session_events WHERE event = 'amended' GROUP BY 1, 2, 3 ORDER BY 1, 3;
SELECT count(*) AS in_silence FROM session_events WHERE namespace = 'other';

-- Rollback and savepoint rollback; every isolation level; READ ONLY.
BEGIN;
SELECT session_amend('t', 1, '{"m": "rolled back"}');
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT session_amend('t', 1, '{"m": "one"}');
SAVEPOINT a;
SELECT session_amend('t', 1, '{"m": "x"}'), session_amend('t', 2, '{"m": "x"}'), session_pop('t');
ROLLBACK TO a;
SELECT session_append('t', '{"m": 3}');
SELECT session_amend('t', 3, '{"m": "three"}') AS own_message;
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT session_amend('t', 2, '{"m": "serial"}'), session_pop('t');
COMMIT;
BEGIN READ ONLY;
SELECT pg_temp.says($$SELECT session_amend('t', 1, '{"m": "x"}')$$) AS read_only, pg_temp.says($$SELECT session_amend('absent', 1, '{"m": "x"}')$$) AS absent;
COMMIT;
SELECT pg_temp.line('t'), message_count FROM session_fetch('t');
SELECT count(*) AS events FROM session_events WHERE session_id = 't' AND event = 'amended';

-- Triggers of the owner of the tables: one that skips the update is an error, and the call has no effect;
-- one that alters the message is respected.
CREATE FUNCTION regress_ss_message() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NEW.message ? 'skip' THEN
		RETURN NULL;
	ELSIF NEW.message ? 'redact' THEN
		NEW.message = '{"m": "redacted"}';
	END IF;
	RETURN NEW;
END
$$;
CREATE TRIGGER regress_ss_message BEFORE UPDATE ON conversation_history FOR EACH ROW EXECUTE FUNCTION regress_ss_message();
SELECT pg_temp.minutes_after($$pg_temp.err('SELECT session_amend(''t'', 1, ''{"skip": 1}'')')$$) AS not_extended, pg_temp.err($$SELECT session_amend('t', 1, '{"skip": 1}')$$) AS skipped, session_amend('t', 2, '{"redact": 1}');
SELECT pg_temp.line('t');
DROP TRIGGER regress_ss_message ON conversation_history;
DROP FUNCTION regress_ss_message();

-- Owner isolation: editors may amend, viewers may not, and other callers see no such session.
INSERT INTO session_namespaces (name, owner_isolation, cache) VALUES ('iso', true, 'off');
CREATE ROLE regress_ss_web;
GRANT EXECUTE ON FUNCTION session_amend(text, bigint, jsonb, text, bigint) TO regress_ss_web;
SELECT session_append('of ann', '{"m": 1}', namespace => 'iso'), session_save('of ann', '{}', owner => 'ann', namespace => 'iso') > 0 AS saved, session_share('of ann', 'ed', 'editor', 'iso'), session_share('of ann', 'vic', 'viewer', 'iso');
CREATE FUNCTION pg_temp.by(who text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	PERFORM set_config('request.jwt.claims', CASE WHEN who <> '' THEN jsonb_build_object('sub', who)::text ELSE '' END, true), set_config('role', 'regress_ss_web', true);
	answer = pg_temp.answer(format($q$SELECT session_amend('of ann', 1, '{"m": "by %s"}', 'iso')$q$, who));
	RESET ROLE;
	RETURN answer || ', ' || pg_temp.line('of ann', namespace => 'iso');
END
$$;
SELECT who, pg_temp.by(who) FROM (VALUES (1, 'sam'), (2, ''), (3, 'vic'), (4, 'ann'), (5, 'ed')) w(n, who) ORDER BY n;
REVOKE EXECUTE ON FUNCTION session_amend(text, bigint, jsonb, text, bigint) FROM regress_ss_web;
SELECT pg_temp.by('ann') AS without_execute;
GRANT EXECUTE ON FUNCTION session_amend(text, bigint, jsonb, text, bigint) TO regress_ss_web;
UPDATE session_namespaces SET owner_isolation = false, allowed_roles = '{pg_monitor}' WHERE name = 'iso';
SELECT pg_temp.by('ann') AS not_allowed;

DROP OWNED BY regress_ss_web;
DROP ROLE regress_ss_web;
DELETE FROM conversation_sessions;
SELECT pg_temp.wait_until($$session_purge() >= 0 AND NOT EXISTS (SELECT FROM conversation_history_ended)$$) AS nothing_left;
DELETE FROM session_events;
DELETE FROM session_namespaces;
