--
-- session_window(): the newest messages that fit into a number of tokens or messages. It begins at a
-- message of a user, never parts a result from its call nor reasoning from what it belongs to, in the
-- formats of OpenAI chat, OpenAI Responses, Anthropic and the AI SDK.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, sliding) VALUES ('win', false);
SET session_store.namespace = 'win';
-- The seqs of a window.
CREATE FUNCTION pg_temp.seqs(id text, max_tokens int = NULL, max_messages int = NULL, align text = 'user', namespace text = NULL)
RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN coalesce((SELECT string_agg(w.seq::text, ' ' ORDER BY w.ordinality) FROM session_window(id, max_tokens, max_messages, align, namespace) WITH ORDINALITY w), '-');
END
$$;
-- The windows of 1, 2, .. messages.
CREATE FUNCTION pg_temp.by_messages(id text, align text = 'user') RETURNS TABLE (max_messages bigint, seqs text) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY SELECT n, pg_temp.seqs(id, NULL, n::int, align) FROM generate_series(1, (SELECT s.message_count FROM conversation_sessions s WHERE s.session_id = id)) n;
END
$$;
-- The number of tokens of a message.
CREATE FUNCTION pg_temp.tokens(message jsonb) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	PERFORM session_append('counted', message), session_trim('counted', 1);
	RETURN (SELECT w.tokens FROM session_window('counted', max_messages => 1) w);
END
$$;

-- OpenAI chat completions: parallel calls with results in another order, and one that is not answered yet.
SELECT session_append('chat', '[{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"},
	{"role": "user", "content": "weather?"}, {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "w", "arguments": "{}"}}, {"id": "c2", "type": "function", "function": {"name": "w", "arguments": "{}"}}]},
	{"role": "tool", "tool_call_id": "c2", "content": "sun"}, {"role": "tool", "tool_call_id": "c1", "content": "rain"}, {"role": "assistant", "content": "sun and rain"}, {"role": "assistant", "tool_calls": [{"id": "c3", "type": "function", "function": {"name": "w", "arguments": "{}"}}]}]');
SELECT max_messages, u.seqs, s.seqs AS strict FROM pg_temp.by_messages('chat') u JOIN pg_temp.by_messages('chat', 'strict') s USING (max_messages);
-- Ids that are used again, and a second result of one call: a result belongs to the nearest call before
-- it.
SELECT session_append('again', '[{"role": "user", "content": "1"}, {"role": "assistant", "tool_calls": [{"id": "c"}]}, {"role": "tool", "tool_call_id": "c"},
	{"role": "user", "content": "2"}, {"role": "assistant", "tool_calls": [{"id": "c"}]}, {"role": "tool", "tool_call_id": "c"}, {"role": "tool", "tool_call_id": "c"}]');
SELECT * FROM pg_temp.by_messages('again');
-- A late result keeps its call, and all messages between, in the window.
SELECT session_append('late', '[{"role": "user", "content": "1"}, {"role": "assistant", "tool_calls": [{"id": "c"}]}, {"role": "user", "content": "and?"}, {"role": "assistant", "content": "wait"}, {"role": "tool", "tool_call_id": "c"}, {"role": "assistant", "content": "done"}]');
SELECT * FROM pg_temp.by_messages('late');
-- Function calls of earlier API versions, and a tool result without an id, belong to the message before.
SELECT session_append('old', '[{"role": "user", "content": "1"}, {"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{}"}}, {"role": "function", "name": "f", "content": "r"}, {"role": "tool", "content": "s"}]');
SELECT * FROM pg_temp.by_messages('old');

-- OpenAI Responses: reasoning belongs to the messages of the model after it, up to its next reasoning.
SELECT session_append('items', '[{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}, {"type": "reasoning", "id": "r1", "summary": []}, {"type": "function_call", "id": "f1", "call_id": "c1", "name": "f", "arguments": "{}"},
	{"type": "function_call", "id": "f2", "call_id": "c2", "name": "f", "arguments": "{}"}, {"type": "function_call_output", "call_id": "c2", "output": "2"}, {"type": "function_call_output", "call_id": "c1", "output": "1"},
	{"type": "reasoning", "id": "r2", "summary": []}, {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "both"}]}, {"type": "web_search_call", "id": "w", "status": "completed"},
	{"type": "reasoning", "id": "r3", "summary": []}, {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "found"}]}]');
SELECT * FROM pg_temp.by_messages('items');
SELECT session_append('kinds', '[{"role": "user", "content": "hi"}, {"type": "custom_tool_call", "call_id": "c1", "name": "f", "input": ""}, {"type": "custom_tool_call_output", "call_id": "c1", "output": ""}, {"type": "local_shell_call", "id": "s1", "call_id": "c2"}, {"type": "local_shell_call_output", "id": "s1", "output": ""},
	{"type": "computer_call", "id": "x", "call_id": "c3"}, {"type": "computer_call_output", "call_id": "c3", "output": {"type": "computer_screenshot"}}, {"type": "mcp_approval_request", "id": "a1"}, {"type": "mcp_approval_response", "approval_request_id": "a1", "approve": true}]');
SELECT * FROM pg_temp.by_messages('kinds');

-- Anthropic: results are in a message of the user, at which no window begins, even if it has text, too.
SELECT session_append('blocks', '[{"role": "user", "content": "hi"}, {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "tool_use", "id": "t1", "name": "f", "input": {}}, {"type": "tool_use", "id": "t2", "name": "f", "input": {}}]},
	{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t2", "content": "2"}, {"type": "tool_result", "tool_use_id": "t1", "content": "1"}, {"type": "text", "text": "go on"}]}, {"role": "assistant", "content": [{"type": "text", "text": "done"}]},
	{"role": "user", "content": [{"type": "text", "text": "search"}]}, {"role": "assistant", "content": [{"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}, {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}, {"type": "text", "text": "found"}]},
	{"role": "assistant", "content": [{"type": "thinking", "thinking": "alone", "signature": "s"}]}, {"role": "assistant", "content": [{"type": "text", "text": "thought"}]}]');
SELECT * FROM pg_temp.by_messages('blocks');

-- AI SDK: a part of a UI message contains call and result; a model message has one of them.
SELECT session_append('ui', '[{"id": "1", "role": "user", "parts": [{"type": "text", "text": "hi"}]}, {"id": "2", "role": "assistant", "parts": [{"type": "step-start"}, {"type": "reasoning", "text": "hm"}, {"type": "tool-f", "toolCallId": "c1", "state": "output-available", "input": {}, "output": 1}, {"type": "text", "text": "one"}]}, {"id": "3", "role": "user", "parts": [{"type": "text", "text": "more"}]}, {"id": "4", "role": "assistant", "parts": [{"type": "dynamic-tool", "toolCallId": "c2", "state": "input-available", "input": {}}]}]');
SELECT * FROM pg_temp.by_messages('ui');
SELECT session_append('model', '[{"role": "user", "content": "hi"}, {"role": "assistant", "content": [{"type": "reasoning", "text": "hm"}, {"type": "tool-call", "toolCallId": "c1", "toolName": "f", "input": {}}, {"type": "tool-call", "toolCallId": "c2", "toolName": "f", "input": {}}, {"type": "tool-approval-request", "approvalId": "a1", "toolCallId": "c2"}]},
	{"role": "tool", "content": [{"type": "tool-result", "toolCallId": "c1", "output": {"type": "text", "value": "1"}}, {"type": "tool-approval-response", "approvalId": "a1", "approved": true}]}, {"role": "tool", "content": [{"type": "tool-result", "toolCallId": "c2", "output": {"type": "text", "value": "2"}}]}, {"role": "assistant", "content": [{"type": "text", "text": "done"}]},
	{"role": "user", "content": [{"type": "text", "text": "more"}]}, {"role": "assistant", "content": "fine"}]');
SELECT * FROM pg_temp.by_messages('model');

-- A result whose call was trimmed is in no window; all windows begin after it.
SELECT session_append('orphan', '[{"role": "assistant", "tool_calls": [{"id": "c"}]}, {"role": "tool", "tool_call_id": "c"}, {"role": "assistant", "content": "done"}, {"role": "user", "content": "next"}, {"role": "assistant", "content": "fine"}]'), session_trim('orphan', 4);
SELECT pg_temp.seqs('orphan', NULL, 10) AS at_the_start, pg_temp.seqs('orphan', NULL, 1) AS one;
SELECT session_trim('orphan', 4), session_pop('orphan', 2) IS NOT NULL AS popped;
SELECT pg_temp.seqs('orphan', NULL, 10) AS no_user, pg_temp.seqs('orphan', NULL, 10, 'strict') AS strict;
SELECT session_pop('orphan') IS NOT NULL AS popped;
SELECT pg_temp.seqs('orphan', NULL, 10) AS only_an_orphan;

-- The tokens of the messages are added up; the first message that does not fit ends the window.
SELECT session_append('sum', '[{"role": "user", "content": "1"}, {"role": "assistant", "content": "0123456789abcdef"}, {"role": "user", "content": "3"}, {"role": "assistant", "content": "0123456789abcdef"}]');
SELECT seq, tokens FROM session_window('sum', max_messages => 10);
SELECT n AS max_tokens, pg_temp.seqs('sum', n) FROM unnest(ARRAY[1, 7, 8, 12, 13, 25, 26, 2147483647]) n;
SELECT pg_temp.seqs('sum', 26, 3) AS both, pg_temp.seqs('sum', 13, 4) AS tokens_first;
-- The estimate: 4, and 1 for 4 bytes of text, and 1000 for a file; ids, types and names of the format are no text.
SELECT pg_temp.tokens('{}') AS empty, pg_temp.tokens('{"role": "user", "content": ""}') AS nothing, pg_temp.tokens(jsonb_build_object('role', 'user', 'content', repeat('x', 400))) AS text, pg_temp.tokens(jsonb_build_object('id', repeat('x', 400), 'role', 'user', 'content', 'abcd')) AS id,
	pg_temp.tokens('{"role": "user", "content": [{"type": "text", "text": "abcd"}, {"type": "text", "text": "efgh"}]}') AS parts, pg_temp.tokens('{"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {"city": "Rome", "days": 3}}]}') AS input;
SELECT n, pg_temp.tokens(jsonb_build_object('role', 'user', 'content', jsonb_build_array(part))) AS tokens FROM (VALUES (1, jsonb '{"type": "image_url", "image_url": {"url": "https://x.example/i.png"}}'), (2, '{"type": "input_image", "image_url": "https://x.example/i.png"}'), (3, '{"type": "input_file", "file_id": "f"}'),
	(4, '{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}'), (5, '{"type": "document", "source": {"type": "url", "url": "https://x.example/d.pdf"}}'), (6, '{"type": "file", "mediaType": "application/pdf", "url": "data:application/pdf;base64,AAAA"}'),
	(7, '{"type": "text", "content": [{"type": "image", "source": {}}, {"type": "image", "source": {}}]}'), (8, '{"type": "text", "text": "data:image/png;base64,AAAA"}'), (9, '{"type": "text", "text": "the file"}')) p(n, part) ORDER BY n;
-- The message's own number of tokens, at the path of the namespace; if there is no valid number, it is
-- estimated.
UPDATE session_namespaces SET token_path = '{usage,tokens}' WHERE name = 'win';
SELECT usage, pg_temp.tokens(jsonb_build_object('role', 'user', 'content', '', 'usage', usage)) AS tokens FROM unnest(ARRAY['{"tokens": 12}', '{"tokens": 0}', '{"tokens": 2.1}', '{"tokens": 1e30}', '{"tokens": 9223372036854775807}', '{"tokens": -1}', '{"tokens": "12"}', '{"tokens": null}', '{"tokens": [12]}', '12', '[]']::jsonb[]) usage;
SELECT session_append('own', '[{"role": "user", "content": "1", "usage": {"tokens": 100}}, {"role": "assistant", "content": "2", "usage": {"tokens": 50}}, {"role": "user", "content": "3", "usage": {"tokens": 0}}, {"role": "assistant", "content": "4", "usage": {"tokens": 1e30}}, {"role": "user", "content": "5", "usage": {"tokens": 7}}]');
SELECT pg_temp.seqs('own', 2147483647) AS huge, pg_temp.seqs('own', 7) AS just, pg_temp.seqs('own', 6) AS none, pg_temp.seqs('own', NULL, 5) AS messages;
SELECT session_pop('own', 2) IS NOT NULL AS popped;
SELECT n AS max_tokens, pg_temp.seqs('own', n) FROM unnest(ARRAY[1, 50, 149, 150]) n;
UPDATE session_namespaces SET token_path = '{tokens,1}' WHERE name = 'win';
SELECT pg_temp.tokens('{"tokens": [3, 4]}') AS element, pg_temp.tokens('{"tokens": [3]}') AS too_short;
SELECT path, pg_temp.says(format('UPDATE session_namespaces SET token_path = %L WHERE name = %L', path, 'win')) FROM unnest(ARRAY['{}', '{NULL}', '{a,NULL}', '{{a},{b}}', '{a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q}', NULL, '{""}']) path;
SELECT pg_temp.err(format('UPDATE session_namespaces SET token_path = ARRAY[repeat(%L, %s)] WHERE name = %L', 'x', n, 'win')) AS length, n FROM unnest(ARRAY[200, 201]) n;
UPDATE session_namespaces SET token_path = NULL WHERE name = 'win';

-- The declaration of the function, and its arguments.
SELECT pg_get_function_arguments(oid) AS arguments, pg_get_function_result(oid) AS result, provolatile, proparallel, prorows FROM pg_proc WHERE proname = 'session_window';
SELECT call, pg_temp.says('SELECT ' || call) FROM (VALUES (1, $$session_window('chat')$$), (2, $$session_window('absent')$$), (3, $$session_window('chat', 0)$$), (4, $$session_window('chat', -1)$$), (5, $$session_window('chat', max_messages => 0)$$), (6, $$session_window('chat', 5, -2147483648)$$),
	(7, $$session_window('chat', 5, align => 'none')$$), (8, $$session_window('chat', 5, align => 'User')$$), (9, $$session_window('chat', 5, align => '')$$), (10, $$session_window('chat', 5, align => NULL)$$), (11, $$session_window('chat', 5, namespace => 'no such')$$),
	(12, $$session_window('', 5)$$), (13, $$session_window(NULL, 5)$$), (14, $$session_window(NULL, 5, namespace => 'no such')$$), (15, $$session_window(NULL)$$), (16, $$session_window('chat', 2147483647, 2147483647, 'strict', 'win')$$)) c(n, call) ORDER BY n;
SELECT pg_temp.seqs(NULL, 5) AS null_id, pg_temp.seqs('absent', 5) AS absent, pg_temp.seqs(session_create(), 5) AS no_messages, pg_temp.seqs('chat', 2147483647, 2147483647, 'strict', 'win') AS all_of_it;
SELECT session_save('no history', '{}') AS version, pg_temp.seqs('no history', 5) AS no_history;

-- It works in READ ONLY transactions, sees messages of its own transaction and none of an ended session,
-- and writes nothing.
BEGIN;
SELECT session_append('late', '{"role": "user", "content": "new"}');
SELECT pg_temp.seqs('late', NULL, 1) AS own_message;
SAVEPOINT s;
SELECT session_pop('late') IS NOT NULL AS popped, session_delete('chat') AS deleted;
SELECT pg_temp.seqs('late', NULL, 1) AS popped, pg_temp.seqs('chat', NULL, 9) AS deleted;
ROLLBACK TO s;
SELECT pg_temp.seqs('late', NULL, 1) AS again, pg_temp.seqs('chat', NULL, 9) AS again;
ROLLBACK;
BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY;
SELECT pg_temp.seqs('late', NULL, 1) AS read_only;
COMMIT;
-- The messages, with seq and created_at, are those of session_history().
SELECT count(*) AS messages, bool_and(w.message = h.message AND w.created_at = h.created_at) AS same FROM session_window('items', 1000) w JOIN session_history('items') h USING (seq);
-- The same windows by SPI, which reads use while the table has an additional column.
CREATE TEMP TABLE direct AS SELECT s.session_id, n, pg_temp.seqs(s.session_id, NULL, n) FROM conversation_sessions s, generate_series(1, 9) n WHERE s.namespace = 'win';
BEGIN;
ALTER TABLE conversation_sessions ADD COLUMN extra int;
SELECT count(*) > 50 AS compared, count(*) FILTER (WHERE seqs IS DISTINCT FROM pg_temp.seqs(session_id, NULL, n)) AS different FROM direct;
ROLLBACK;

-- Messages in no known format: other JSON, other types, and rows that plain SQL may insert.
SELECT session_append('odd', '[{}, {"role": 5}, {"role": "user", "content": {"a": 1}}, {"role": ["user"]}, {"type": {"x": 1}}, {"role": "assistant", "tool_calls": {"id": "c"}, "content": [1, "x", null, [], {"type": null}, {"type": "tool_use"}, {"type": "tool_use", "id": 7}]}, {"role": "assistant", "tool_calls": [1, {"id": null}, {}]}, {"type": "function_call_output"}, {"type": "_call"}]');
INSERT INTO conversation_history (history_id, seq, message) SELECT s.history_id, 100 + n, m FROM conversation_sessions s, (VALUES (1, jsonb '5'), (2, 'null'), (3, '[]'), (4, '"user"'), (5, '[{"role": "user"}]')) p(n, m) WHERE s.session_id = 'odd';
SELECT pg_temp.seqs('odd', NULL, 100) AS all_of_it, pg_temp.seqs('odd', NULL, 100, 'strict') AS strict, (SELECT min(tokens) FROM session_window('odd', max_messages => 100)) AS fewest;
SELECT string_agg(seqs, ' / ' ORDER BY max_messages) FROM pg_temp.by_messages('odd');
-- Deep nesting, thousands of calls, and messages that are toasted.
SELECT session_append('deep', jsonb_build_object('role', 'user', 'content', (repeat('[', 3000) || '1' || repeat(']', 3000))::jsonb));
SELECT pg_temp.seqs('deep', NULL, 1) AS deep, (SELECT tokens BETWEEN 1 AND 50000 FROM session_window('deep', max_messages => 1)) AS counted;
SELECT session_append('many', jsonb_build_array('{"role": "user", "content": "go"}'::jsonb, (SELECT jsonb_build_object('role', 'assistant', 'tool_calls', jsonb_agg(jsonb_build_object('id', 'call ' || i))) FROM generate_series(1, 10000) i),
	(SELECT jsonb_build_object('role', 'user', 'content', jsonb_agg(jsonb_build_object('type', 'tool_result', 'tool_use_id', 'call ' || i, 'content', md5(i::text)))) FROM generate_series(1, 9999) i), '{"role": "tool", "tool_call_id": "call 10000"}'::jsonb));
SELECT * FROM pg_temp.by_messages('many');
-- More results without a call than are remembered end the window; newer messages are not affected.
SELECT session_append('open', (SELECT jsonb_build_object('role', 'user', 'content', jsonb_agg(jsonb_build_object('type', 'tool_result', 'tool_use_id', i::text))) FROM generate_series(1, 100001) i)), session_append('open', '{"role": "user", "content": "next"}');
SELECT pg_temp.seqs('open', NULL, 5) AS newer;

-- Roles that may not use the namespace are refused; owners see their own sessions and those shared with
-- them.
CREATE ROLE regress_ss_window;
GRANT EXECUTE ON FUNCTION session_window(text, int, int, text, text) TO regress_ss_window;
INSERT INTO session_namespaces (name, allowed_roles) VALUES ('closed', '{}');
INSERT INTO session_namespaces (name, owner_isolation) VALUES ('iso', true);
SELECT session_save('mine', '{}', owner => 'ann', namespace => 'iso'), session_save('shared', '{}', owner => 'bob', namespace => 'iso'), session_save('theirs', '{}', owner => 'bob', namespace => 'iso');
SELECT count(session_append(id, '{"role": "user", "content": "hi"}', namespace => 'iso')) FROM unnest(ARRAY['mine', 'shared', 'theirs']) id;
SELECT session_share('shared', 'ann', 'viewer', 'iso');
SET ROLE regress_ss_window;
SET request.jwt.claims = '{"sub": "ann"}';
SELECT pg_temp.err($$SELECT session_window('x', 5, namespace => 'closed')$$) AS closed, pg_temp.err($$SELECT session_window(NULL, 5, namespace => 'closed')$$) AS closed_null;
SELECT id, (SELECT count(*) FROM session_window(id, max_messages => 5, namespace => 'iso')) FROM unnest(ARRAY['mine', 'shared', 'theirs', 'absent']) id;
RESET request.jwt.claims;
RESET ROLE;
REVOKE ALL ON FUNCTION session_window(text, int, int, text, text) FROM regress_ss_window;
DROP ROLE regress_ss_window;
DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
