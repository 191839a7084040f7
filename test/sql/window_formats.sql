--
-- Kinds of messages, items, blocks and parts as OpenAI, Anthropic and the AI SDK publish them (the
-- versions are in docs/reference.md), and where a window of session_window() may begin: never between a
-- call and its result, a program and what it calls, or reasoning and what it belongs to.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, sliding) VALUES ('kinds', false);
SET session_store.namespace = 'kinds';
-- The seqs at which windows begin in a conversation of a user's message (1), these messages, and a last one of the model.
CREATE FUNCTION pg_temp.begins(messages jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	id text = session_create();
BEGIN
	PERFORM session_append(id, '[{"role": "user", "content": "go"}]'::jsonb || messages || '[{"role": "assistant", "content": "done"}]');
	RETURN (SELECT string_agg(b.seq::text, ' ' ORDER BY b.seq) FROM (SELECT DISTINCT min(w.seq) AS seq FROM generate_series(1, jsonb_array_length(messages) + 2) n, session_window(id, max_messages => n) w GROUP BY n) b);
END
$$;

-- OpenAI Responses: a call (2) and its result (3).
SELECT call ->> 'type' AS call, result ->> 'type' AS result, pg_temp.begins(jsonb_build_array(call, result)) AS begins
FROM (VALUES (jsonb '{"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}"}', jsonb '{"type": "function_call_output", "call_id": "c1", "output": ""}'), ('{"type": "function_call", "call_id": "c1"}', '{"type": "function_call_output", "id": "fco_1", "call_id": "c1"}'),
	('{"type": "custom_tool_call", "id": "ctc_1", "call_id": "c1"}', '{"type": "custom_tool_call_output", "id": "ctco_1", "call_id": "c1"}'), ('{"type": "computer_call", "id": "cu_1", "call_id": "c1"}', '{"type": "computer_call_output", "id": "cuo_1", "call_id": "c1", "output": {"type": "computer_screenshot"}}'),
	('{"type": "local_shell_call", "id": "lsh_1", "call_id": "c1"}', '{"type": "local_shell_call_output", "id": "lsh_1", "output": ""}'), ('{"type": "local_shell_call", "id": "lsh_1", "call_id": "c1"}', '{"type": "local_shell_call_output", "id": "c1", "output": ""}'),
	('{"type": "shell_call", "id": "sh_1", "call_id": "c1", "environment": null}', '{"type": "shell_call_output", "id": "sho_1", "call_id": "c1", "output": []}'), ('{"type": "apply_patch_call", "id": "ap_1", "call_id": "c1"}', '{"type": "apply_patch_call_output", "id": "apo_1", "call_id": "c1", "status": "completed"}'),
	('{"type": "program", "id": "p_1", "call_id": "c1", "code": ""}', '{"type": "program_output", "id": "po_1", "call_id": "c1", "result": ""}'), ('{"type": "tool_search_call", "id": "ts_1", "call_id": "c1", "execution": "client"}', '{"type": "tool_search_output", "id": "tso_1", "call_id": "c1", "execution": "client"}'),
	('{"type": "tool_search_call", "id": "ts_1", "call_id": null, "execution": "server"}', '{"type": "tool_search_output", "id": "tso_1", "call_id": null, "execution": "server"}')) k(call, result);
-- A request for approval (2), the answer (3), and the call (4), which may be the request itself.
SELECT pg_temp.begins('[{"type": "mcp_approval_request", "id": "mcpr_1"}, {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": true}, {"type": "mcp_call", "id": "mcp_1", "approval_request_id": "mcpr_1", "output": ""}]') AS request,
	pg_temp.begins('[{"type": "mcp_call", "id": "mcp_1", "approval_request_id": "mcpr_1", "status": "calling"}, {"type": "mcp_approval_response", "id": "x", "approval_request_id": "mcpr_1", "approve": true}]') AS call;
-- Calls that hold their result, and items without one: a window may begin there (2).
SELECT type, pg_temp.begins(jsonb_build_array(jsonb_build_object('type', type, 'id', 'x_1', 'status', 'completed'))) AS begins
FROM unnest(ARRAY['file_search_call', 'web_search_call', 'image_generation_call', 'code_interpreter_call', 'mcp_call', 'mcp_list_tools', 'compaction', 'compaction_trigger', 'item_reference', 'unknown']) type;
SELECT pg_temp.begins(jsonb_build_array(jsonb_build_object('type', 'message', 'role', role, 'content', '[{"type": "input_text", "text": "x"}]'::jsonb))) AS message, role, pg_temp.begins(jsonb_build_array(jsonb_build_object('type', 'additional_tools', 'role', role, 'tools', '[]'::jsonb))) AS additional_tools FROM unnest(ARRAY['user', 'assistant', 'system', 'developer', 'tool']) role;
SELECT pg_temp.begins('[{"id": "msg_1"}]') AS reference_without_a_type;
-- Reasoning (2) belongs to what the model says next (3), and to what the API has run for it (4), up to its next reasoning.
SELECT type, pg_temp.begins(jsonb_build_array('{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}'::jsonb, jsonb_build_object('type', type, 'id', 'x_1', 'call_id', 'c1'))) AS begins
FROM unnest(ARRAY['function_call', 'custom_tool_call', 'computer_call', 'local_shell_call', 'shell_call', 'apply_patch_call', 'tool_search_call', 'program', 'web_search_call', 'file_search_call', 'code_interpreter_call', 'image_generation_call', 'mcp_call', 'mcp_list_tools', 'mcp_approval_request', 'compaction', 'reasoning']) type;
SELECT type, pg_temp.begins(jsonb_build_array('{"type": "reasoning", "id": "rs_1", "summary": []}'::jsonb, jsonb_build_object('type', call, 'id', 'x_1', 'call_id', 'c1'), jsonb_build_object('type', type, 'id', 'y_1', 'call_id', 'c1'))) AS begins
FROM (VALUES ('shell_call', 'shell_call_output'), ('tool_search_call', 'tool_search_output'), ('program', 'program_output'), ('function_call', 'function_call_output')) k(call, type);
SELECT pg_temp.begins('[{"type": "reasoning", "id": "rs_1", "summary": []}, {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x"}]}]') AS message;
-- What a program (2) calls (3, 4) stays with it, and what its calls return, before the program has ended.
SELECT type, pg_temp.begins(jsonb_build_array('{"type": "program", "id": "p_1", "call_id": "p", "code": ""}'::jsonb, jsonb_build_object('type', type || '_call', 'call_id', 'c1', 'caller', caller), jsonb_build_object('type', type || '_call_output', 'call_id', 'c1', 'caller', caller))) AS begins
FROM unnest(ARRAY['function', 'custom_tool', 'shell', 'apply_patch']) type, (VALUES (jsonb '{"type": "program", "caller_id": "p"}')) c(caller);
SELECT pg_temp.begins('[{"type": "function_call", "call_id": "c1", "caller": {"type": "direct"}}, {"type": "function_call", "call_id": "c2", "caller": null}, {"type": "function_call", "call_id": "c3", "caller": "program"}]') AS direct,
	pg_temp.begins('[{"type": "function_call", "call_id": "c1", "caller": {"type": "program", "caller_id": "c1"}}]') AS its_own_caller;

-- OpenAI chat completions: a call (2) and its result (3).
SELECT pg_temp.begins(jsonb_build_array(jsonb_build_object('role', 'assistant', 'content', content, 'tool_calls', calls), '{"role": "tool", "tool_call_id": "c1", "content": ""}'::jsonb)) AS begins, content, calls
FROM (VALUES (jsonb 'null', jsonb '[{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]'), ('"text"', '[{"id": "c1", "type": "custom", "custom": {"name": "f", "input": ""}}]'), ('[{"type": "text", "text": "x"}, {"type": "refusal", "refusal": "x"}]', '[{"id": "c1", "type": "function"}]')) k(content, calls);
SELECT pg_temp.begins('[{"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{}"}}, {"role": "function", "name": "f", "content": ""}]') AS function_call, pg_temp.begins('[{"role": "developer", "content": "x"}, {"role": "system", "content": "x"}, {"role": "assistant", "audio": {"id": "a"}}]') AS others;

-- Anthropic: a block that calls (2), and its result (3).
SELECT call, result, pg_temp.begins(jsonb_build_array(jsonb_build_object('role', 'assistant', 'content', jsonb_build_array(jsonb_build_object('type', call, 'id', 't1', 'name', 'n', 'input', '{}'::jsonb))), jsonb_build_object('role', role, 'content', jsonb_build_array(jsonb_build_object('type', result, 'tool_use_id', 't1', 'content', '[]'::jsonb))))) AS begins
FROM (VALUES ('tool_use', 'tool_result', 'user'), ('server_tool_use', 'web_search_tool_result', 'assistant'), ('server_tool_use', 'web_fetch_tool_result', 'assistant'), ('server_tool_use', 'code_execution_tool_result', 'assistant'), ('server_tool_use', 'bash_code_execution_tool_result', 'assistant'),
	('server_tool_use', 'text_editor_code_execution_tool_result', 'assistant'), ('server_tool_use', 'tool_search_tool_result', 'assistant'), ('server_tool_use', 'advisor_tool_result', 'assistant'), ('mcp_tool_use', 'mcp_tool_result', 'assistant')) k(call, result, role);
-- Blocks without a result; a message (2) that is reasoning and nothing else stays with the next (3).
SELECT type, pg_temp.begins(jsonb_build_array(jsonb_build_object('role', 'assistant', 'content', jsonb_build_array(jsonb_build_object('type', type))))) AS begins
FROM unnest(ARRAY['text', 'thinking', 'redacted_thinking', 'compaction', 'fallback', 'container_upload', 'mcp_tool_listing']) type;
SELECT type, pg_temp.begins(jsonb_build_array(jsonb_build_object('role', 'user', 'content', jsonb_build_array(jsonb_build_object('type', type))))) AS begins FROM unnest(ARRAY['image', 'document', 'search_result', 'browser_state']) type;
SELECT pg_temp.begins('[{"role": "system", "content": [{"type": "tool_addition", "tool": {}}]}, {"role": "system", "content": [{"type": "tool_removal", "tool": {}}]}]') AS system;
-- A tool that a program calls (3) stays with the program (2), and its result (4) with both.
SELECT pg_temp.begins(jsonb_build_array('{"role": "assistant", "content": [{"type": "server_tool_use", "id": "s1", "name": "code_execution", "input": {}}]}'::jsonb, jsonb_build_object('role', 'assistant', 'content', jsonb_build_array('{"type": "tool_use", "id": "t1", "name": "f", "input": {}}'::jsonb || jsonb_build_object('caller', caller))), '{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1"}]}'::jsonb)) AS begins, caller
FROM unnest(ARRAY['{"type": "code_execution_20250825", "tool_id": "s1"}', '{"type": "code_execution_20260120", "tool_id": "s1"}', '{"type": "direct"}', 'null']::jsonb[]) caller;
SELECT pg_temp.begins('[{"role": "assistant", "content": [{"type": "server_tool_use", "id": "s1"}, {"type": "tool_use", "id": "t1", "caller": {"type": "code_execution_20250825", "tool_id": "s1"}}]}, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1"}]}, {"role": "assistant", "content": [{"type": "code_execution_tool_result", "tool_use_id": "s1"}, {"type": "text", "text": "x"}]}]') AS one_message;

-- AI SDK UI messages: each is complete, whatever its parts and the names of its tools; reasoning alone (2) stays with the next.
SELECT type, pg_temp.begins(jsonb_build_array(jsonb_build_object('id', 'm', 'role', 'assistant', 'parts', jsonb_build_array(jsonb_build_object('type', type, 'toolCallId', 'c1', 'approvalId', 'a1', 'id', 'd1', 'tool_use_id', 'c1', 'state', 'output-available'))))) AS begins
FROM unnest(ARRAY['text', 'tool-weather', 'dynamic-tool', 'tool-invocation', 'tool-result', 'tool-error', 'tool-call', 'tool-approval-request', 'tool-approval-response', 'tool-x_tool_use', 'tool-x_tool_result', 'data-x_tool_result', 'source-url', 'source-document', 'file', 'custom', 'steering-message', 'reasoning', 'reasoning-file', 'step-start']) type;
-- AI SDK model messages: a call (2) and its result (3), also if the provider has run it.
SELECT type, role, pg_temp.begins(jsonb_build_array('{"role": "assistant", "content": [{"type": "tool-call", "toolCallId": "c1", "toolName": "f", "input": {}}]}'::jsonb, jsonb_build_object('role', role, 'content', jsonb_build_array(jsonb_build_object('type', type, 'toolCallId', 'c1'))))) AS begins FROM (VALUES ('tool-result', 'tool'), ('tool-error', 'tool'), ('tool-result', 'assistant'), ('tool-error', 'assistant')) k(type, role);
SELECT pg_temp.begins('[{"role": "assistant", "content": [{"type": "tool-call", "toolCallId": "c1"}, {"type": "tool-approval-request", "approvalId": "a1", "toolCallId": "c1"}]}, {"role": "tool", "content": [{"type": "tool-approval-response", "approvalId": "a1", "approved": true}]}, {"role": "tool", "content": [{"type": "tool-result", "toolCallId": "c1"}]}]') AS approval;
SELECT type, pg_temp.begins(jsonb_build_array(jsonb_build_object('role', 'assistant', 'content', jsonb_build_array(jsonb_build_object('type', type))))) AS begins FROM unnest(ARRAY['text', 'file', 'image', 'custom', 'reasoning', 'reasoning-file']) type;
-- Files count 1000 tokens.
CREATE FUNCTION pg_temp.tokens(type text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	PERFORM session_append('files', jsonb_build_object('role', 'user', 'content', jsonb_build_array(jsonb_build_object('type', type))));
	RETURN (SELECT w.tokens FROM session_window('files', max_messages => 1) w);
END
$$;
SELECT pg_temp.tokens(type) AS tokens, string_agg(type, ' ' ORDER BY type COLLATE "C") AS types
FROM unnest(ARRAY['input_image', 'input_file', 'input_audio', 'image_url', 'file', 'image', 'document', 'container_upload', 'computer_screenshot', 'reasoning-file', 'file-data', 'file-url', 'file-id', 'file-reference', 'image-data', 'image-url', 'image-file-id', 'image-file-reference', 'text', 'reasoning']) type GROUP BY 1 ORDER BY 1;
DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
