--
-- session_json_encode() and session_json_decode(): JSON with NUL and lone surrogates, which jsonb
-- refuses, survives as a value; everything else is as jsonb has it.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
SET standard_conforming_strings = on;
CREATE FUNCTION pg_temp.there_and_back(value text) RETURNS text LANGUAGE sql AS $$SELECT session_json_decode(session_json_encode(value))$$;

-- Strings that jsonb refuses, and the escape character U+0010 itself; in values, elements and names.
SELECT json, pg_temp.err(format('SELECT %L::jsonb', json)) AS jsonb, session_json_encode(json) AS encoded, pg_temp.there_and_back(json) AS decoded, pg_temp.there_and_back(json) = json AS same
FROM unnest(ARRAY['"\u0000"', '"a\u0000b\u0000"', '"\ud800"', '"\udc00"', '"\udbff\udbff"', '"\udfff\ud800"', '"\u0010"', '"\u00100000"', '"\u0010\u0000"', '"\u0010d800"', '"\\u0000"', '"\\\u0000"',
	'["\u0000", {"\u0000": "\ud800"}]', '{"\u0000": 1, "\u0010": 2, "\ud800": 3, "0000": 4}', '"\u0001\u000f\u0011\u001f\b\f\n\r\t\"\\"']) WITH ORDINALITY j (json, n) ORDER BY n;
-- Names that differ still differ; of members with the same name the last one is kept, as in jsonb.
SELECT pg_temp.there_and_back('{"\u0000": 1, "\u00100000": 2, "\u0010\u0000": 3, "\u0010": 4, "\u0000": 5}') AS names;
-- Surrogate pairs are characters, also in upper case. (In a database of another encoding they are an
-- error, as for jsonb.)
SELECT json, CASE WHEN getdatabaseencoding() = 'UTF8' THEN session_json_encode(json) = json::jsonb ELSE pg_temp.err(format('SELECT session_json_encode(%L)', json)) = pg_temp.err(format('SELECT %L::jsonb', json)) END AS as_jsonb
FROM unnest(ARRAY['"\ud83d\ude00"', '"\uD83D\uDE00x\u00e9\u20AC"']) json;
SELECT CASE WHEN getdatabaseencoding() = 'UTF8' THEN pg_temp.there_and_back('"\ud83d\uD83D\uDE00\ude00"') = '"\ud83d' || U&'\+01F600' || '\ude00"' ELSE true END AS only_those_alone;

-- Without such strings both give the same as jsonb's own conversions.
SELECT json, session_json_encode(json) = json::jsonb AS encoded, session_json_decode(json::jsonb) = json::jsonb::text AS decoded
FROM unnest(ARRAY['{}', '[]', 'null', 'true', '0', '-0', '-12.50', '1e3', '1E400', '""', '"\u0041\/"', ' { "b" : [1, 2 , {"a": null}], "aa": "x", "b": 2 } ', '"\\ud800"', '[[[[[[[[[[]]]]]]]]]]']) json;
SELECT session_json_encode(NULL) AS encoded, session_json_decode(NULL) AS decoded;

-- Invalid JSON is refused as by jsonb.
SELECT json, pg_temp.err(format('SELECT session_json_encode(%L)', json)) AS error, pg_temp.err(format('SELECT %L::jsonb', json)) AS jsonb
FROM unnest(ARRAY['', ' ', '"\u0000', '"\u000', '"\u00g0"', '"\U0000"', '\u0000', '{"\u0000"}', '["\u0000",]', '"\', '"\x"', E'"\x10"', E'"\n"', 'NaN', '"\u0000" "\u0000"', '''\u0000''']) WITH ORDINALITY j (json, n) ORDER BY n;

-- Decode refuses documents that encode cannot return, also because of names.
SELECT document, pg_temp.says(format('SELECT session_json_decode(%L)', document)) AS error
FROM unnest(ARRAY['"\u0010"', '"\u0010000"', '"\u00100001"', '"\u00100041"', '"\u0010D800"', '"\u0010d7ff"', '"\u0010e000"', '"\u0010d800\u0010dc00"', '"\u0010\u0010"', '{"\u0010": 1}', '[1, {"a": {"\u0010d800\u0010dfff": 1}}]']) WITH ORDINALITY d (document, n) ORDER BY n;
-- For all strings of three pieces: an encoded string is decoded to itself, and a string that encode cannot
-- return is refused.
CREATE TEMP TABLE piece (json text);
INSERT INTO piece VALUES ('\u0000'), ('\u0010'), ('\ud800'), ('\udbff'), ('\udc00'), ('\udfff'), ('0'), ('0000'), ('0010'), ('d800'), ('dc00'), ('D800'), ('\\'), ('\\u'), ('\"'), ('x'), ('');
SELECT count(*) AS strings, count(*) FILTER (WHERE pg_temp.there_and_back(json) <> json) AS other_strings, count(*) FILTER (WHERE pg_temp.there_and_back(format('{%s: [%s]}', json, json)) <> format('{%s: [%s]}', json, json)) AS other_names
FROM (SELECT '"' || a.json || b.json || c.json || '"' FROM piece a, piece b, piece c WHERE a.json || b.json || c.json !~ '\\ud[8b].{2}\\ud[cf]') s (json);
CREATE FUNCTION pg_temp.decoded(document jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN session_json_decode(document);
EXCEPTION WHEN invalid_parameter_value THEN
	RETURN NULL;
END
$$;
SELECT count(*) AS documents, count(decoded) > 0 AS some_are_decoded, count(decoded) < count(*) AS some_are_refused, count(*) FILTER (WHERE session_json_encode(decoded) <> document) AS wrong
FROM (SELECT document, pg_temp.decoded(document) AS decoded FROM (SELECT ('"' || a.json || b.json || c.json || '"')::jsonb
	FROM piece a, piece b, piece c WHERE a.json || b.json || c.json !~ '\\u(0000|d)') d (document)) d;

-- Nesting is limited as in jsonb, and size is not limited.
SELECT pg_temp.err($$SELECT session_json_encode(repeat('[', 100000) || '"\u0000"' || repeat(']', 100000))$$) AS too_deep;
SELECT length(session_json_encode('["' || repeat('\u0000', 200000) || '"]') ->> 0) AS escaped, pg_temp.there_and_back('["' || repeat('\u0000', 200000) || '"]') = '["' || repeat('\u0000', 200000) || '"]' AS same;

-- Sessions and messages can hold the encoded documents.
SELECT session_save('coded', session_json_encode('{"input": "\u0000\ud800"}')), session_append('coded', session_json_encode('{"m": "\u0000"}')), session_merge('coded', session_json_encode('{"\u0000": "\udc00"}'));
SELECT session_json_decode(session_get('coded')) AS document, (SELECT session_json_decode(message) FROM session_history('coded')) AS message;
SELECT session_delete('coded');
-- Toasted.
CREATE TEMP TABLE stored (json text, document jsonb);
INSERT INTO stored SELECT '{"a": "' || string_agg(md5(n::text), '\u0000') || '"}' FROM generate_series(1, 5000) n;
UPDATE stored SET document = session_json_encode(json);
SELECT pg_column_size(document) > 100000 AS large, session_json_decode(document) = json AS same FROM stored;

-- Both functions are immutable and read no table: they can be used in an index, and in a READ ONLY
-- transaction of a role without other rights.
CREATE INDEX stored_length ON stored (length(session_json_decode(document)));
CREATE ROLE regress_ss_coder;
SET ROLE regress_ss_coder;
SELECT pg_temp.err($$SELECT session_json_encode('1')$$) AS without_grant, pg_temp.err($$SELECT session_json_decode('1')$$) AS without_grant;
RESET ROLE;
GRANT EXECUTE ON FUNCTION session_json_encode, session_json_decode TO regress_ss_coder;
SET session_store.namespace = 'no such';
SET ROLE regress_ss_coder;
BEGIN READ ONLY;
SELECT session_json_encode('"\u0000"') AS encoded, session_json_decode('"\u00100000"') AS decoded;
COMMIT;
RESET ROLE;
DROP OWNED BY regress_ss_coder;
DROP ROLE regress_ss_coder;
