--
-- session_window() on generated conversations, in each format: never more than asked, never a result
-- without its call, never reasoning apart from what it belongs to, and always the newest messages that
-- fit, after the summary, if there is one. What must hold is computed from what the generator meant, not
-- from the messages.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
\getenv given SESSION_STORE_SEED
\if :{?given}
\else
\set given 8087
\endif
INSERT INTO session_namespaces (name, sliding, token_path) VALUES ('gen', false, '{tokens}');
SET session_store.namespace = 'gen';
SELECT setseed((abs(hashtext(:'given')) % 1000000) / 1000000.0) IS NOT NULL AS seeded;

-- What the generator meant each message to be.
CREATE TEMP TABLE meant (format text, conversation text, seq bigint, kind text, makes text[] NOT NULL DEFAULT '{}', answers text[] NOT NULL DEFAULT '{}', tokens int, PRIMARY KEY (conversation, seq));

-- Messages in a format: one with text, one with calls, one with results, and one with reasoning only.
CREATE FUNCTION pg_temp.said(format text, role text, said text) RETURNS jsonb LANGUAGE sql AS $$
	SELECT CASE format WHEN 'items' THEN jsonb_build_object('type', 'message', 'role', role, 'content', jsonb_build_array(jsonb_build_object('type', 'input_text', 'text', said)))
		WHEN 'blocks' THEN jsonb_build_object('role', role, 'content', jsonb_build_array(jsonb_build_object('type', 'text', 'text', said)))
		WHEN 'ui' THEN jsonb_build_object('role', role, 'parts', jsonb_build_array(jsonb_build_object('type', 'text', 'text', said)))
		ELSE jsonb_build_object('role', role, 'content', said) END
$$;
CREATE FUNCTION pg_temp.calls(format text, ids text[]) RETURNS jsonb LANGUAGE sql AS $$
	SELECT CASE format WHEN 'items' THEN jsonb_build_object('type', 'function_call', 'id', 'fc ' || ids[1], 'call_id', ids[1], 'name', 'f', 'arguments', '{}')
		WHEN 'chat' THEN jsonb_build_object('role', 'assistant', 'content', NULL, 'tool_calls', jsonb_agg(jsonb_build_object('id', id, 'type', 'function')))
		WHEN 'blocks' THEN jsonb_build_object('role', 'assistant', 'content', jsonb_build_array('{"type": "thinking", "thinking": "hm"}'::jsonb) || jsonb_agg(jsonb_build_object('type', 'tool_use', 'id', id, 'input', '{}'::jsonb)))
		ELSE jsonb_build_object('role', 'assistant', 'content', jsonb_build_array('{"type": "text", "text": "hm"}'::jsonb) || jsonb_agg(jsonb_build_object('type', 'tool-call', 'toolCallId', id, 'input', '{}'::jsonb))) END FROM unnest(ids) id
$$;
CREATE FUNCTION pg_temp.results(format text, ids text[]) RETURNS jsonb LANGUAGE sql AS $$
	SELECT CASE format WHEN 'items' THEN jsonb_build_object('type', 'function_call_output', 'call_id', ids[1], 'output', 'x')
		WHEN 'chat' THEN jsonb_build_object('role', 'tool', 'tool_call_id', ids[1], 'content', 'x')
		WHEN 'blocks' THEN jsonb_build_object('role', 'user', 'content', jsonb_agg(jsonb_build_object('type', 'tool_result', 'tool_use_id', id, 'content', 'x')))
		ELSE jsonb_build_object('role', 'tool', 'content', jsonb_agg(jsonb_build_object('type', 'tool-result', 'toolCallId', id))) END FROM unnest(ids) id
$$;
CREATE FUNCTION pg_temp.reasoning(format text) RETURNS jsonb LANGUAGE sql AS $$
	SELECT CASE format WHEN 'items' THEN '{"type": "reasoning", "summary": []}'::jsonb WHEN 'blocks' THEN '{"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}]}'
		WHEN 'ui' THEN '{"role": "assistant", "parts": [{"type": "step-start"}, {"type": "reasoning", "text": "hm"}]}' ELSE '{"role": "assistant", "content": [{"type": "reasoning", "text": "hm"}]}' END
$$;

-- Generates a conversation of n messages. Calls are answered in any order, late or never, and ids are used
-- again.
CREATE FUNCTION pg_temp.generate(f text, c text, n int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	open text[] = '{}';
	ids text[];
	m jsonb;
	kind text;
	made text[];
	answered text[];
	used int = 0;
	dice float8;
	counts int;
	few_users boolean = random() < 0.5;
BEGIN
	FOR s IN 1..n LOOP
		dice = random();
		made = '{}';
		answered = '{}';
		IF dice < 0.35 AND open <> '{}' AND f <> 'ui' THEN
			SELECT array_agg(id) INTO answered FROM (SELECT id FROM unnest(open) id ORDER BY random() LIMIT CASE WHEN f IN ('blocks', 'model') THEN 1 + floor(random() * 3)::int ELSE 1 END) x;
			-- rarely, a call is answered twice
			IF random() < 0.95 THEN
				open = ARRAY(SELECT id FROM unnest(open) id WHERE id <> ALL (answered));
			END IF;
			kind = 'other';
			m = pg_temp.results(f, answered);
		ELSIF dice < 0.55 AND f <> 'ui' THEN
			used = used + 1;
			-- a few ids, which are used again once they were answered, so that they are ambiguous
			-- within the history
			SELECT array_agg(id) INTO made FROM (SELECT 'c' || i AS id FROM generate_series(1, 8) i WHERE 'c' || i <> ALL (open) ORDER BY random() LIMIT CASE WHEN f = 'items' THEN 1 ELSE 1 + floor(random() * 3)::int END) x;
			CONTINUE WHEN made IS NULL;
			open = open || made;
			kind = 'model';
			m = pg_temp.calls(f, made);
		ELSIF dice < 0.66 AND f <> 'chat' THEN
			kind = 'reasoning';
			m = pg_temp.reasoning(f);
		ELSIF dice < 0.69 AND f <> 'blocks' THEN
			kind = 'other';
			m = pg_temp.said(f, 'system', 'be brief');
		ELSIF dice < (CASE WHEN few_users THEN 0.97 ELSE 0.85 END) THEN
			kind = 'model';
			m = pg_temp.said(f, 'assistant', 'fine');
		ELSE
			kind = 'user';
			m = pg_temp.said(f, 'user', 'go on');
		END IF;
		counts = floor(random() * 20);
		INSERT INTO meant VALUES (f, c, session_append(c, m || jsonb_build_object('tokens', counts)), kind, made, answered, counts);
	END LOOP;
	-- some conversations lose their beginning
	IF random() < 0.5 THEN
		PERFORM session_trim(c, 1 + floor(random() * n)::int);
		DELETE FROM meant WHERE conversation = c AND seq <= (SELECT max(seq) FROM meant WHERE conversation = c) - (SELECT message_count FROM conversation_sessions WHERE session_id = c);
	END IF;
END
$$;
SELECT count(pg_temp.generate(f, f || ' ' || i, 5 + floor(random() * 25)::int)) AS conversations FROM unnest(ARRAY['chat', 'items', 'blocks', 'model', 'ui']) f, generate_series(1, 12) i;

-- Each message at which a window may begin, and what that would separate.
CREATE TEMP TABLE begins AS
SELECT b.conversation, b.seq, b.kind = 'user' AS is_user,
	(SELECT count(*) FROM meant m WHERE m.conversation = b.conversation AND m.seq >= b.seq) AS messages,
	(SELECT sum(m.tokens) FROM meant m WHERE m.conversation = b.conversation AND m.seq >= b.seq) AS tokens
FROM meant b
WHERE NOT EXISTS (
	-- a result whose call is before the beginning, or missing
	SELECT FROM meant r, unnest(r.answers) id WHERE r.conversation = b.conversation AND r.seq >= b.seq
		AND coalesce((SELECT max(c.seq) FROM meant c WHERE c.conversation = r.conversation AND c.seq < r.seq AND id = ANY (c.makes)), -1) < b.seq)
AND NOT (b.kind = 'model' AND EXISTS (
	-- reasoning, followed by messages of the model only
	SELECT FROM meant r WHERE r.conversation = b.conversation AND r.kind = 'reasoning' AND r.seq < b.seq
		AND NOT EXISTS (SELECT FROM meant o WHERE o.conversation = b.conversation AND o.seq > r.seq AND o.seq < b.seq AND o.kind <> 'model')))
AND NOT (b.kind = 'reasoning' AND EXISTS (SELECT FROM meant r WHERE r.conversation = b.conversation AND r.seq = b.seq - 1 AND r.kind = 'reasoning'));
CREATE FUNCTION pg_temp.model(c text, max_tokens int, max_messages int, align text) RETURNS bigint LANGUAGE sql AS $$
	SELECT coalesce(min(seq) FILTER (WHERE is_user), CASE WHEN align = 'user' THEN min(seq) END) FROM begins
	WHERE conversation = c AND (max_tokens IS NULL OR tokens <= max_tokens) AND (max_messages IS NULL OR messages <= max_messages)
$$;
-- Each number of messages and many numbers of tokens, alone and together.
CREATE TEMP TABLE windows AS
SELECT c.format, c.conversation, a.align, l.max_tokens, l.max_messages, w.seqs, w.tokens, pg_temp.model(c.conversation, l.max_tokens, l.max_messages, a.align) AS begin, c.last
FROM (SELECT format, conversation, count(*) AS n, max(seq) AS last FROM meant GROUP BY format, conversation) c, unnest(ARRAY['user', 'strict']) a(align),
	LATERAL (SELECT NULL::int AS max_tokens, i AS max_messages FROM generate_series(1, c.n::int + 1) i UNION ALL SELECT 1 + i * 9, NULL FROM generate_series(0, c.n::int) i UNION ALL SELECT 1 + i * 10, i FROM generate_series(1, c.n::int, 3) i) l,
	LATERAL (SELECT array_agg(x.seq ORDER BY x.ordinality) AS seqs, sum(x.tokens) AS tokens FROM session_window(c.conversation, l.max_tokens, l.max_messages, a.align) WITH ORDINALITY x) w;
SELECT format, count(*) > 300 AS many, count(*) FILTER (WHERE begin IS NULL) > 0 AS some_without, count(*) FILTER (WHERE tokens > max_tokens OR cardinality(seqs) > max_messages) AS more_than_asked,
	count(*) FILTER (WHERE seqs IS DISTINCT FROM CASE WHEN begin IS NOT NULL THEN ARRAY(SELECT generate_series(begin, last)) END) AS wrong
FROM windows GROUP BY format ORDER BY format COLLATE "C";
-- The seeds of the windows that are wrong.
SELECT :'given' AS seed, * FROM windows WHERE seqs IS DISTINCT FROM CASE WHEN begin IS NOT NULL THEN ARRAY(SELECT generate_series(begin, last)) END ORDER BY conversation, max_messages, max_tokens LIMIT 5;

-- The same with a summary up to any message: it comes first if it fits, the messages after it get what it leaves of
-- the limits, and the others are in no window.
CREATE TEMP TABLE summary AS
SELECT conversation, min(seq) + floor(random() * (max(seq) - min(seq) + 1))::bigint AS up_to, floor(random() * 60)::int AS tokens FROM meant GROUP BY conversation;
SELECT count(session_compact(conversation, up_to, jsonb_build_object('tokens', tokens))) AS compacted FROM summary;
DELETE FROM begins b USING summary s WHERE s.conversation = b.conversation AND b.seq <= s.up_to;
CREATE TEMP TABLE with_summary AS
SELECT c.format, c.conversation, s.up_to, s.tokens AS summary_tokens, a.align, l.max_tokens, l.max_messages, w.seqs, w.tokens,
	CASE WHEN f.fits THEN ARRAY[NULL::bigint] ELSE '{}' END || ARRAY(SELECT generate_series(pg_temp.model(c.conversation, l.max_tokens - CASE WHEN f.fits THEN s.tokens ELSE 0 END, l.max_messages - f.fits::int, a.align), c.last)) AS expected
FROM (SELECT format, conversation, count(*) AS n, max(seq) AS last FROM meant GROUP BY format, conversation) c JOIN summary s USING (conversation), unnest(ARRAY['user', 'strict']) a(align),
	LATERAL (SELECT NULL::int AS max_tokens, i AS max_messages FROM generate_series(1, c.n::int + 2, 2) i UNION ALL SELECT 1 + i * 14, NULL FROM generate_series(0, c.n::int) i UNION ALL SELECT 1 + i * 13, i FROM generate_series(1, c.n::int, 3) i) l,
	LATERAL (SELECT l.max_tokens IS NULL OR s.tokens <= l.max_tokens AS fits) f,
	LATERAL (SELECT coalesce(array_agg(x.seq ORDER BY x.ordinality), '{}') AS seqs, sum(x.tokens) AS tokens FROM session_window(c.conversation, l.max_tokens, l.max_messages, a.align) WITH ORDINALITY x) w;
SELECT format, count(*) > 300 AS many, count(*) FILTER (WHERE expected[1] IS NOT NULL) > 0 AS some_left_out, count(*) FILTER (WHERE cardinality(expected) > 1 AND expected[1] IS NULL) > 0 AS some_with_messages,
	count(*) FILTER (WHERE tokens > max_tokens OR cardinality(seqs) > max_messages) AS more_than_asked, count(*) FILTER (WHERE seqs <> expected) AS wrong
FROM with_summary GROUP BY format ORDER BY format COLLATE "C";
SELECT :'given' AS seed, * FROM with_summary WHERE seqs <> expected ORDER BY conversation, max_messages, max_tokens LIMIT 5;
DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
