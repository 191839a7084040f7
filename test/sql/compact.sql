--
-- session_compact(): a summary stands in for the messages up to a seq; session_tail(): the summary and the
-- last messages after it. Windows, exports, forks and ends of a session that has a summary.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, sliding, ttl, audit, max_bytes, tail_size, tombstone) VALUES ('co', false, '2 hours', true, 1000, 3, '5 minutes'), ('other', false, '1 hour', false, 8388608, 20, '0');
SET session_store.namespace = 'co';
CREATE FUNCTION pg_temp.said(first int, last int) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_agg(jsonb_build_object('m', n)) FROM generate_series(first, last) n
$$;

-- The same by both ways to the row of the session: what is returned, and what keeps, removes and replaces a summary.
CREATE TEMP TABLE step (n int GENERATED ALWAYS AS IDENTITY, call text, direct text, by_statements text);
INSERT INTO step (call) VALUES ($$session_tail($)$$), ($$session_append($, pg_temp.said(1, 8))$$), ($$session_tail($)$$), ($$session_compact($, 4, '{"text": "1 to 4"}')$$), ($$session_tail($)$$),
	($$pg_temp.line($)$$), ($$(SELECT (f.version, f.message_count, f.owner_id) FROM session_fetch($) f)$$),
	($$session_compact($, 7, '"1 to 7"')$$), ($$session_tail($)$$), ($$session_append($, '{"m": 9}')$$), ($$session_append($, pg_temp.said(10, 11), keep => 9)$$), ($$session_tail($)$$), ($$pg_temp.line($)$$),
	-- later messages
	($$session_amend($, 8, '{"m": 80}')$$), ($$session_pop($, 2)$$), ($$session_replace_tail($, 1, '[{"m": 12}, {"m": 13}]')$$), ($$session_replace_tail($, 0, '[]')$$), ($$session_tail($)$$),
	-- the oldest ones
	($$session_trim($, 4)$$), ($$session_tail($)$$), ($$session_compact($, 5, '[]')$$), ($$session_tail($)$$),
	-- messages that it stands in for
	($$session_amend($, 7, '{"m": 70}')$$), ($$session_tail($)$$), ($$session_compact($, 7, '0')$$), ($$session_amend($, 7, '{"m": 7}')$$), ($$session_tail($)$$),
	($$session_compact($, 12, 'null')$$), ($$session_tail($)$$), ($$session_pop($)$$), ($$session_tail($)$$), ($$session_pop($)$$), ($$session_tail($)$$),
	($$session_compact($, 7, '0')$$), ($$session_pop($, from_start => true)$$), ($$session_tail($)$$), ($$session_append($, pg_temp.said(14, 15))$$),
	($$session_compact($, 14, '0')$$), ($$session_replace_tail($, 1, '{"m": 16}')$$), ($$session_tail($)$$), ($$session_replace_tail($, 2, '{"m": 17}')$$), ($$session_tail($)$$),
	-- no message is left, and all of them are summarized
	($$session_compact($, 17, 'false')$$), ($$session_trim($, 0)$$), ($$session_tail($)$$), ($$session_pop($)$$), ($$session_compact($, 3, 'true')$$), ($$session_tail($)$$),
	($$session_append($, '{"m": 18}')$$), ($$session_tail($)$$),
	-- an operation that is repeated
	($$session_append($, '{"m": 19}', 'op')$$), ($$session_replace_tail($, 3, '{"m": 20}', operation_id => 'op 2')$$), ($$session_compact($, 20, '"all"')$$), ($$session_replace_tail($, 3, '{"m": 20}', operation_id => 'op 2')$$), ($$session_append($, '{"m": 19}', 'op')$$), ($$session_tail($)$$),
	-- no change of the document removes it
	($$session_save($, '{"a": 1}')$$), ($$session_merge($, '{"b": 2}')$$), ($$session_incr($, '{n}')$$), ($$session_append($, '{"m": 21}', patch => '{"c": 3}')$$), ($$session_touch($, '1 hour') > now()$$), ($$session_share($, 'someone')$$), ($$session_tail($)$$),
	($$session_compact($, 20, '"all"', 'other')$$), ($$session_tail($, 'other')$$),
	($$session_delete($)$$), ($$session_compact($, 20, '"all"')$$), ($$session_tail($)$$), ($$session_save($, '{}', if_version => 0) > 1$$), ($$session_tail($)$$), ($$session_compact($, 20, '"all"')$$), ($$session_append($, '{"m": 22}')$$), ($$session_tail($)$$);
DO $$BEGIN PERFORM pg_temp.run_steps('d'); END$$;
SET session_store.direct_rows = off;
DO $$BEGIN PERFORM pg_temp.run_steps('s'); END$$;
RESET session_store.direct_rows;
SELECT call, direct, CASE WHEN by_statements IS DISTINCT FROM direct THEN by_statements END AS differs FROM step ORDER BY n;

-- The session's updated_at moves and its ttl restarts, but for what was refused.
SELECT session_append('t', pg_temp.said(1, 3));
CREATE FUNCTION pg_temp.minutes_after(call text) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '30 minutes' WHERE namespace = 'co' AND session_id = 't';
	EXECUTE 'SELECT ' || call;
	RETURN round(extract(epoch FROM session_ttl('t')) / 60);
END
$$;
SELECT pg_temp.minutes_after($$session_compact('t', 2, '{"m": "two"}')$$) AS compacted, pg_temp.minutes_after($$pg_temp.err('SELECT session_compact(''t'', 4, ''{}'')')$$) AS refused, pg_temp.minutes_after($$session_tail('t')$$) AS read;
SELECT updated_at AS updated_at FROM session_fetch('t') \gset
SELECT session_compact('t', 2, '{"m": "again"}');
SELECT f.updated_at > :'updated_at' AS updated, f.version, f.message_count, pg_temp.line('t') FROM session_fetch('t') f;

-- Large summaries, as they went in; those that were large leave nothing behind. A fork has one of its own.
CREATE FUNCTION pg_temp.long(n int) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(md5(i::text), '') FROM generate_series(1, n) i
$$;
SELECT session_append('large', pg_temp.said(1, 5), namespace => 'other'), session_compact('large', 3, to_jsonb(pg_temp.long(5000)), 'other'), session_save('large', to_jsonb(pg_temp.long(3000)), namespace => 'other');
SELECT session_append('large', '{"m": 6}', namespace => 'other'), session_fork('large', 'copy', namespace => 'other'), session_fork('large', 'early', 2, 'other'), session_fork('large', 'to it', 3, 'other');
SELECT id, t -> 0 ->> 'summary' = pg_temp.long(5000) AS same, t - 0 AS rest FROM unnest('{large,copy,early,to it}'::text[]) id, session_tail(id, 'other') t;
SELECT session_compact('copy', 4, '"short"', 'other'), session_amend('large', 1, '{"m": 1}', 'other');
SELECT id, CASE WHEN id <> 'to it' THEN session_tail(id, 'other') END, session_get(id, 'other') #>> '{}' = pg_temp.long(3000) AS document FROM unnest('{large,copy,to it}'::text[]) id;
SET session_store.direct_rows = off;
SELECT session_tail('to it', 'other') -> 0 ->> 'summary' = pg_temp.long(5000) AS same, session_append('to it', '{"m": 4}', namespace => 'other');
RESET session_store.direct_rows;
SELECT session_tail('to it', 'other') -> 0 ->> 'summary' = pg_temp.long(5000) AS same, session_tail('to it', 'other') - 0 AS rest;

-- A fork of a session whose messages were trimmed away; an absorption.
SELECT session_trim('copy', 0, 'other'), session_fork('copy', 'empty', namespace => 'other');
SELECT session_tail('empty', 'other'), session_append('empty', '{"m": 7}', namespace => 'other');
SELECT session_tail('empty', 'other'), session_absorb('empty', 'copy', 'other'), session_absorb('large', 'to it', 'other');
SELECT id, session_tail(id, 'other') FROM unnest('{empty,copy,large,to it}'::text[]) id;

-- A fork over an expired fork of the same session has the same summary; plain SQL gives the row another
-- conversation, with and without the summary.
SELECT session_append('source', '[{"m": 1}, {"m": 2}]', namespace => 'other'), session_compact('source', 1, '"same"', 'other');
CREATE FUNCTION pg_temp.fork_over_expired(direct text) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('session_store.direct_rows', direct, true), session_fork('source', direct, namespace => 'other');
	UPDATE conversation_sessions SET expires_at = clock_timestamp() WHERE namespace = 'other' AND session_id = direct;
	PERFORM session_fork('source', direct, namespace => 'other');
	RETURN session_tail(direct, 'other');
END
$$;
SELECT direct, pg_temp.fork_over_expired(direct) FROM unnest('{on,off}'::text[]) direct;
UPDATE conversation_sessions SET history_id = gen_random_uuid(), summary = summary WHERE namespace = 'other' AND session_id = 'on';
UPDATE conversation_sessions SET history_id = gen_random_uuid() WHERE namespace = 'other' AND session_id = 'off';
SELECT id, session_tail(id, 'other') FROM unnest('{on,off}'::text[]) id;
UPDATE conversation_sessions SET history_id = NULL, summary = summary WHERE namespace = 'other' AND session_id = 'on';
SELECT session_tail('on', 'other'), count(*) FROM conversation_sessions WHERE namespace = 'other' AND session_id = 'on' AND summary_up_to IS NULL;
SELECT session_delete(id, 'other') FROM unnest('{source,on,off}'::text[]) id;

-- Another id: the summary goes with the session, and nothing of it stays behind.
SELECT session_regenerate('empty', 'other', 'sixteen bytes...');
SELECT session_tail('sixteen bytes...', 'other'), session_tail('empty', 'other');
SELECT count(*) FROM conversation_sessions WHERE dead_until IS NOT NULL AND (summary IS NOT NULL OR summary_up_to IS NOT NULL);

-- A new session over one that expired has no summary; nor has it a message that could be summarized.
BEGIN;
SELECT session_append('e', pg_temp.said(1, 2)), session_compact('e', 1, '"old"'), session_append('e 2', '{"m": 1}'), session_compact('e 2', 1, '"old"'), session_touch('e', '1 ms') < session_touch('e 2', '2 ms') AS touched;
SELECT pg_temp.wait_until($$NOT session_exists('e') AND NOT session_exists('e 2')$$);
SELECT session_compact('e', 1, '"new"') AS expired, session_tail('e') AS no_tail, session_compact('absent', 1, '1') AS absent, session_tail('absent');
SELECT session_save('e', '{}') > 1 AS saved, session_append('e 2', '{"m": 2}');
SELECT session_tail('e'), session_tail('e 2'), pg_temp.says($$SELECT session_compact('e', 1, '"new"')$$), session_compact('e 2', 1, '"none of its messages"');
SELECT session_tail('e 2'), session_tail(session_create());
COMMIT;

-- Bad input: each kind has an error, and nothing happens.
SELECT call, pg_temp.says('SELECT ' || call)
FROM (VALUES (1, $$session_compact(NULL, 1, '{}')$$), (2, $$session_compact('t', NULL, '{}')$$), (3, $$session_compact('t', 1, NULL)$$), (4, $$session_compact('', 1, '{}')$$), (5, $$session_compact(repeat('x', 201), 1, '{}')$$),
	(6, $$session_compact(E'a\n', 1, '{}')$$), (7, $$session_compact('t', 0, '{}')$$), (8, $$session_compact('t', -1, '{}')$$), (9, $$session_compact('t', 4, '{}')$$), (10, $$session_compact('t', 9223372036854775807, '{}')$$),
	(11, $$session_compact(session_create(), 1, '{}')$$), (12, $$session_compact('t', 1, '{}', 'no such')$$), (13, $$session_compact('t', 1, to_jsonb(repeat('x', 1000)))$$), (14, $$session_compact('absent', 1, to_jsonb(repeat('x', 1000)))$$),
	(15, $$session_tail('')$$), (16, $$session_tail(repeat('x', 201))$$), (17, $$session_tail('t', 'no such')$$)) c(n, call) ORDER BY n;
SELECT session_tail(NULL), session_tail('t');

-- An event for each, without the summary; none for what was not done.
SELECT session_id, detail FROM session_events WHERE event = 'compacted' AND session_id IN ('t', 'e', 'e 2') ORDER BY created_at;
SELECT count(*) AS in_silence FROM session_events WHERE namespace = 'other';

-- Rollback and savepoint rollback; every isolation level; READ ONLY.
BEGIN;
SELECT session_compact('t', 3, '"rolled back"');
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT session_compact('t', 3, '"three"');
SAVEPOINT a;
SELECT session_compact('t', 1, '"one"'), session_pop('t', 3), session_append('t', '{"m": 4}');
ROLLBACK TO a;
SELECT session_append('t', '{"m": 4}');
SELECT session_compact('t', 4, '"own message"'), session_append('t', '{"m": 5}');
COMMIT;
SELECT session_tail('t');
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT session_pop('t', 2), session_compact('t', 2, '"serial"');
COMMIT;
BEGIN READ ONLY;
SELECT session_tail('t'), pg_temp.says($$SELECT session_compact('t', 1, '{"m": "x"}')$$) AS read_only, pg_temp.says($$SELECT session_compact('absent', 1, '{"m": "x"}')$$) AS absent;
COMMIT;

-- Plain SQL: both columns or none, with a history, up to a seq that was given.
SELECT statement, pg_temp.says('UPDATE conversation_sessions SET ' || statement || ' WHERE namespace = ''co'' AND session_id = ''t''')
FROM (VALUES (1, $$summary = NULL$$), (2, $$summary_up_to = NULL$$), (3, $$summary_up_to = 0$$), (4, $$summary_up_to = last_seq + 1$$), (5, $$summary = NULL, summary_up_to = NULL$$), (6, $$summary = '1'$$), (7, $$summary_up_to = 1$$),
	(8, $$summary = '"by hand"', summary_up_to = 1$$)) s(n, statement) ORDER BY n;
SELECT session_tail('t'), pg_temp.says($$UPDATE conversation_sessions SET summary = '1', summary_up_to = 1 WHERE history_id IS NULL AND dead_until IS NULL$$) AS without_history,
	pg_temp.says($$INSERT INTO conversation_sessions (session_id, session_data, summary, summary_up_to) VALUES ('i', '{}', '1', 1)$$) AS inserted;
-- Messages that are changed by hand leave the summary.
DELETE FROM conversation_history WHERE seq = 1 AND history_id = (SELECT history_id FROM conversation_sessions WHERE namespace = 'co' AND session_id = 't');
SELECT session_tail('t');
-- It goes with the history, and with the session.
BEGIN;
UPDATE conversation_sessions SET history_id = NULL WHERE namespace = 'co' AND session_id = 't';
SELECT summary, summary_up_to, session_tail('t') FROM conversation_sessions WHERE namespace = 'co' AND session_id = 't';
ROLLBACK;
BEGIN;
UPDATE conversation_sessions SET history_id = gen_random_uuid() WHERE namespace = 'co' AND session_id = 't';
SELECT summary, summary_up_to, session_tail('t') FROM conversation_sessions WHERE namespace = 'co' AND session_id = 't';
ROLLBACK;
CREATE FUNCTION pg_temp.after_end(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	found text;
BEGIN
	PERFORM session_append('end', pg_temp.said(1, 2), owner => 'o', namespace => 'other'), session_compact('end', 1, '"secret"', 'other');
	EXECUTE statement;
	SELECT format('dead: %s, summary: %s', dead_until IS NOT NULL, summary IS NOT NULL OR summary_up_to IS NOT NULL) INTO found FROM conversation_sessions WHERE namespace = 'other' AND session_id = 'end';
	DELETE FROM conversation_sessions WHERE namespace = 'other' AND session_id = 'end';
	RETURN found;
END
$$;
SELECT statement, pg_temp.after_end(statement) FROM unnest(ARRAY[$$SELECT session_delete('end', 'other')$$, $$SELECT session_take('end', 'other')$$, $$SELECT session_delete_all('o', namespace => 'other')$$, $$SELECT session_clear('other', id_prefix => 'end')$$,
	$$SELECT session_forget('o', namespace => 'other')$$, $$UPDATE conversation_sessions SET dead_until = clock_timestamp() WHERE session_id = 'end'$$, $$UPDATE conversation_sessions SET dead_until = clock_timestamp(), summary = '1', summary_up_to = 2 WHERE session_id = 'end'$$]) statement;

-- Windows: the summary comes first and counts, the messages get what is left, and those before it are in none.
UPDATE session_namespaces SET token_path = '{tokens}' WHERE name = 'other';
SELECT session_append('w', (SELECT jsonb_agg(jsonb_build_object('role', CASE WHEN n % 2 = 1 THEN 'user' ELSE 'assistant' END, 'content', '', 'tokens', 10)) FROM generate_series(1, 6) n), namespace => 'other'), session_compact('w', 2, '{"text": "1 and 2", "tokens": 5}', 'other');
SELECT max_tokens, max_messages, align, (SELECT string_agg(coalesce(seq::text, (message -> 'summary' ->> 'text')) || ':' || tokens || CASE WHEN created_at IS NULL THEN ' no time' ELSE '' END, ', ' ORDER BY ordinality) FROM session_window('w', max_tokens, max_messages, align, 'other') WITH ORDINALITY)
FROM (VALUES (4, NULL, 'user'), (5, NULL, 'user'), (14, NULL, 'user'), (15, NULL, 'user'), (15, NULL, 'strict'), (24, NULL, 'user'), (25, NULL, 'user'), (44, NULL, 'user'), (45, NULL, 'user'), (1000, NULL, 'user'),
	(NULL, 1, 'user'), (NULL, 2, 'user'), (NULL, 2, 'strict'), (NULL, 3, 'user'), (NULL, 5, 'user'), (NULL, 100, 'strict'), (25, 2, 'user'), (4, 2, 'user'), (20, 2, 'strict')) l(max_tokens, max_messages, align);
-- A summary that exceeds the limit by itself is left out, and the messages after it get all of it.
SELECT session_compact('w', 2, '{"text": "1 and 2", "tokens": 50}', 'other');
SELECT max_tokens, max_messages, align, (SELECT string_agg(coalesce(seq::text, (message -> 'summary' ->> 'text')) || ':' || tokens, ', ' ORDER BY ordinality) FROM session_window('w', max_tokens, max_messages, align, 'other') WITH ORDINALITY)
FROM (VALUES (9, NULL, 'user'), (10, NULL, 'user'), (20, NULL, 'strict'), (49, NULL, 'user'), (49, 2, 'user'), (50, NULL, 'user'), (60, NULL, 'user')) l(max_tokens, max_messages, align);
-- The estimate of a summary without a number; a summary of everything; a call before the summary whose result comes after it.
SELECT session_compact('w', 6, '"sixteen bytes..."', 'other');
SELECT * FROM session_window('w', 8, namespace => 'other');
SELECT * FROM session_window('w', 7, align => 'strict', namespace => 'other');
SELECT session_append('c', '[{"role": "user", "content": "1"}, {"role": "assistant", "tool_calls": [{"id": "c"}]}, {"role": "tool", "tool_call_id": "c", "content": "3"}, {"role": "assistant", "content": "4"}, {"role": "user", "content": "5"}]', namespace => 'other'), session_compact('c', 2, '"1 and 2"', 'other');
SELECT seq, message FROM session_window('c', max_messages => 10, namespace => 'other');
-- reasoning before the summary keeps its message out of the window, as reasoning that does not fit does
SELECT session_append('r', '[{"type": "message", "role": "user", "content": "1"}, {"type": "reasoning"}, {"type": "function_call", "call_id": "c"}, {"type": "function_call_output", "call_id": "c"}]', namespace => 'other'), session_compact('r', 2, '"1 and 2"', 'other');
SELECT seq, message FROM session_window('r', max_messages => 10, namespace => 'other');
SELECT session_compact('r', 1, '1', 'other');
SELECT seq, message FROM session_window('r', max_messages => 10, namespace => 'other');

-- A tail that does not fit into one JSON array: an error, until a summary leaves out enough of it.
SELECT session_append('huge', '{"m": 1}', namespace => 'other');
INSERT INTO conversation_history (history_id, seq, message) SELECT history_id, 2, jsonb_build_object('m', repeat('x', 90000000)) FROM conversation_sessions WHERE session_id = 'huge';
INSERT INTO conversation_history (history_id, seq, message) SELECT history_id, n, message FROM conversation_sessions JOIN conversation_history USING (history_id), generate_series(3, 4) n WHERE session_id = 'huge' AND seq = 2;
UPDATE conversation_sessions SET last_seq = 4, message_count = 4 WHERE session_id = 'huge';
SELECT pg_temp.err($$SELECT session_tail('huge', 'other')$$) AS too_large, session_compact('huge', 3, '"short"', 'other');
SELECT octet_length(session_tail('huge', 'other')::text) - 90000000 AS rest;

-- An export has the summary after its session, on any page.
SELECT session_append('x', pg_temp.said(1, 2), namespace => 'other', owner => 'ex'), session_compact('x', 1, '{"a": 1}', 'other'), session_append('y', '{"m": 1}', namespace => 'other', owner => 'ex');
SELECT e.kind, e.item - '{created_at,updated_at,expires_at,session_data,version}'::text[] FROM session_export('ex', namespace => 'other') WITH ORDINALITY e ORDER BY e.ordinality;
WITH RECURSIVE page AS (SELECT 1 AS n, e.* FROM session_export('ex', page_size => 1, namespace => 'other') e UNION ALL SELECT p.n + 1, e.* FROM page p, session_export('ex', p.page_cursor, 1, 'other') e)
SELECT string_agg(kind, ' ' ORDER BY n) FROM page;

-- Somebody else's trigger that keeps the row as it is: an error, and nothing of the call stays.
CREATE FUNCTION regress_ss_keep() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN CASE WHEN NEW.summary = '"skip"' THEN NULL ELSE NEW END;
END
$$;
CREATE TRIGGER regress_ss_keep BEFORE UPDATE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION regress_ss_keep();
SELECT pg_temp.err($$SELECT session_compact('t', 2, '"skip"')$$) AS skipped, session_compact('t', 2, '"fine"');
SELECT session_tail('t');
DROP TRIGGER regress_ss_keep ON conversation_sessions;
DROP FUNCTION regress_ss_keep();

-- Turns: with the token of the turn that is held, or without one unless the namespace requires it.
SELECT session_turn_begin('t', '1 hour') AS turn \gset
SELECT session_compact('t', 2, '"under the turn"', turn => :turn), pg_temp.err('SELECT session_compact(''t'', 2, ''1'', turn => ' || :turn - 1 || ')') AS another, pg_temp.err($$SELECT session_compact('t', 99, '1', turn => 1)$$) AS checked_first,
	pg_temp.err($$SELECT session_compact('t', 2, '1', turn => 0)$$) AS no_token, pg_temp.err($$SELECT session_compact('absent', 2, '1', turn => 1)$$) AS absent, session_compact('t', 2, '"unchecked"');
UPDATE session_namespaces SET turns = 'required' WHERE name = 'co';
SELECT pg_temp.err($$SELECT session_compact('t', 2, '1')$$) AS required, session_compact('t', 2, '"required"', turn => :turn), session_turn_end('t', :turn), pg_temp.err('SELECT session_compact(''t'', 2, ''1'', turn => ' || :turn || ')') AS ended;
UPDATE session_namespaces SET turns = 'optional' WHERE name = 'co';
SELECT session_tail('t');

-- Owner isolation: editors may, viewers may read, and for everybody else there is no such session. A role that was
-- granted the table may not write the columns.
INSERT INTO session_namespaces (name, owner_isolation, cache) VALUES ('iso', true, 'off');
CREATE ROLE regress_ss_web;
GRANT EXECUTE ON FUNCTION session_compact, session_tail TO regress_ss_web;
SELECT session_append('of ann', pg_temp.said(1, 2), namespace => 'iso', owner => 'ann'), session_share('of ann', 'ed', 'editor', 'iso'), session_share('of ann', 'vic', 'viewer', 'iso');
CREATE FUNCTION pg_temp.by(who text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	PERFORM set_config('request.jwt.claims', CASE WHEN who <> '' THEN jsonb_build_object('sub', who)::text ELSE '' END, true), set_config('role', 'regress_ss_web', true);
	answer = pg_temp.answer(format($q$SELECT session_compact('of ann', 1, '"by %s"', 'iso')$q$, who)) || ', ' || pg_temp.answer($q$SELECT session_tail('of ann', 'iso')$q$);
	RESET ROLE;
	RETURN answer;
END
$$;
SELECT who, pg_temp.by(who) FROM (VALUES (1, 'sam'), (2, ''), (3, 'vic'), (4, 'ann'), (5, 'ed'), (6, 'vic')) w(n, who) ORDER BY n;
REVOKE EXECUTE ON FUNCTION session_compact FROM regress_ss_web;
SELECT pg_temp.by('ann') AS without_execute;
GRANT EXECUTE ON FUNCTION session_compact TO regress_ss_web;
UPDATE session_namespaces SET owner_isolation = false, allowed_roles = '{pg_monitor}' WHERE name = 'iso';
SELECT pg_temp.by('ann') AS not_allowed;
UPDATE session_namespaces SET allowed_roles = '{regress_ss_web}' WHERE name = 'iso';
GRANT SELECT, INSERT, UPDATE ON conversation_sessions TO regress_ss_web;
SET ROLE regress_ss_web;
SELECT statement, pg_temp.says(statement) FROM unnest(ARRAY[$$UPDATE conversation_sessions SET summary = '1' WHERE namespace = 'iso'$$, $$UPDATE conversation_sessions SET summary_up_to = 2 WHERE namespace = 'iso'$$, $$UPDATE conversation_sessions SET summary = NULL, summary_up_to = NULL WHERE namespace = 'iso'$$,
	$$UPDATE conversation_sessions SET session_data = '{}' WHERE namespace = 'iso'$$, $$INSERT INTO conversation_sessions (namespace, session_id, session_data, summary, summary_up_to) VALUES ('iso', 'i', '{}', '1', 1)$$]) statement;
RESET ROLE;
SELECT session_tail('of ann', 'iso');

DROP OWNED BY regress_ss_web;
DROP ROLE regress_ss_web;
DELETE FROM conversation_sessions;
SELECT pg_temp.wait_until($$session_purge() >= 0 AND NOT EXISTS (SELECT FROM conversation_history_ended)$$) AS nothing_left;
DELETE FROM session_events;
DELETE FROM session_namespaces;
