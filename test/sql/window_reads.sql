--
-- Cost of session_window(): a window costs what it returns, whatever the length of the history.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, sliding) VALUES ('win', false);
SET session_store.namespace = 'win';
-- A conversation of 100 messages and one of 100,000: questions, calls, results, answers.
CREATE FUNCTION pg_temp.turns(n int) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_agg(m ORDER BY i, k) FROM generate_series(1, n / 4) i, LATERAL (VALUES (1, jsonb_build_object('role', 'user', 'content', 'question ' || i)), (2, jsonb_build_object('role', 'assistant', 'tool_calls', jsonb_build_array(jsonb_build_object('id', 'call ' || i)))),
		(3, jsonb_build_object('role', 'tool', 'tool_call_id', 'call ' || i, 'content', 'result')), (4, jsonb_build_object('role', 'assistant', 'content', 'answer ' || i))) t(k, m)
$$;
SELECT session_append('short', pg_temp.turns(100)), session_append('long', pg_temp.turns(100000));
-- A conversation in which all messages are the model's, after reasoning: the search before a window does
-- not go back to the beginning.
SELECT session_append('reasoned', jsonb_build_array('{"type": "reasoning", "summary": []}'::jsonb) || (SELECT jsonb_agg(jsonb_build_object('role', 'assistant', 'content', 'text ' || i)) FROM generate_series(1, 20000) i));
SELECT count(*) AS warm FROM unnest(ARRAY['short', 'long', 'reasoned']) id, session_window(id, max_messages => 1);
SELECT what, s.rows AS short, l.rows AS long, s.pages <= 60 AND l.pages <= 60 AS few_pages, CASE WHEN s.pages > 60 OR l.pages > 60 THEN s.pages || ' ' || l.pages END AS pages
FROM unnest(ARRAY['max_messages => 20', 'max_messages => 1', 'max_messages => 2', 'max_messages => 3', 'max_messages => 22', 'max_tokens => 100', 'max_tokens => 1', 'max_tokens => 100, max_messages => 90', 'max_messages => 3, align => ''strict''']) WITH ORDINALITY w(what, n),
	pg_temp.pages(format('SELECT * FROM session_window(%L, %s)', 'short', what)) s, pg_temp.pages(format('SELECT * FROM session_window(%L, %s)', 'long', what)) l ORDER BY n;
ANALYZE conversation_sessions, conversation_history;
SELECT count(*) AS warm FROM unnest(ARRAY['short', 'long', 'reasoned']) id, session_window(id, max_messages => 1);
SELECT what, l.rows AS long, l.pages <= 60 AS few_pages, CASE WHEN l.pages > 60 THEN l.pages END AS pages
FROM unnest(ARRAY['max_messages => 20', 'max_messages => 3', 'max_tokens => 100']) WITH ORDINALITY w(what, n), pg_temp.pages(format('SELECT * FROM session_window(%L, %s)', 'long', what)) l ORDER BY n;
SELECT rows, pages <= 60 AS few_pages, CASE WHEN pages > 60 THEN pages END AS pages FROM pg_temp.pages($$SELECT * FROM session_window('reasoned', max_messages => 5)$$);
-- Large windows are read in pages, in order, each message once.
SELECT count(*) AS messages, min(seq) AS first, max(seq) AS last, bool_and(seq = 100000 - 5000 + ordinality) AS in_order, sum(tokens) > 5000 AS tokens FROM session_window('long', max_messages => 5000) WITH ORDINALITY;
SELECT count(*) AS messages, min(seq) AS first FROM session_window('long', max_tokens => 2147483647);
DELETE FROM conversation_sessions;
SELECT pg_temp.wait_until($$session_purge() >= 0 AND NOT EXISTS (SELECT FROM conversation_history_ended)$$) AS nothing_left;
DELETE FROM session_namespaces;
