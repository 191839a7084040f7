--
-- session_incr(): adds to numbers in the document.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers

-- Reads do not slide here, so only changes move an expiry.
INSERT INTO session_namespaces (name, sliding) VALUES ('incr', false);
SET session_store.namespace = 'incr';

-- It creates the session and the path to the number.
SELECT session_incr('n', '{attempts}');
SELECT session_incr('n', '{attempts}');
SELECT session_incr('n', '{by,page,home}', by => 5);
SELECT session_incr('n', '{by,page,home}', -7);
SELECT session_incr('n', '{by,0}');
SELECT session_get('n');

-- Elements of arrays are named by their index.
SELECT session_save('a', '{"list": [10, {"n": 20}, [30]], "0": 1}');
SELECT session_incr('a', '{list,0}'), session_incr('a', '{list,1,n}'), session_incr('a', '{list,2,0}'), session_incr('a', '{0}');
SELECT session_get('a');
SELECT session_save('root', '[1, 2]');
SELECT session_incr('root', '{1}', by => 40);
SELECT session_get('root');

-- max: the sum may reach it and not exceed it. Otherwise the result is NULL and nothing changes, neither
-- version nor expiry.
SELECT session_incr('retry', '{attempts}', max => 3), session_incr('retry', '{attempts}', max => 3),
	session_incr('retry', '{attempts}', max => 3);
UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '1 minute' WHERE session_id = 'retry';
CREATE TEMP TABLE before AS SELECT * FROM session_fetch('retry');
SELECT session_incr('retry', '{attempts}', max => 3) IS NULL AS fourth,
	session_incr('retry', '{attempts}', by => 0.001, max => 3) IS NULL AS a_bit_more,
	session_incr('retry', '{other}', by => 4, max => 3) IS NULL AS another_path;
SELECT count(*) AS unchanged FROM before b JOIN session_fetch('retry') f ON b = f;
SELECT session_incr('retry', '{attempts}', by => 0, max => 3) AS to_the_ceiling;
SELECT session_incr('retry', '{attempts}', by => -1, max => 3) AS down, session_incr('retry', '{attempts}', max => 3) AS up_again;

-- Above max, no session is created under an absent id, nor over an expired session.
SELECT session_incr('absent', '{n}', by => 2, max => 1) IS NULL AS refused, session_exists('absent');
SELECT count(*) AS rows FROM conversation_sessions WHERE session_id = 'absent';
BEGIN;
SELECT session_save('expired', '{"n": 100}', ttl => '30 ms');
SELECT pg_temp.wait_until($$NOT session_exists('expired')$$);
SELECT session_incr('expired', '{n}', by => 2, max => 1) IS NULL AS refused, session_exists('expired');
SELECT session_incr('expired', '{n}', by => 2, max => 2);
COMMIT;

-- A change restarts the ttl and counts as one version.
SELECT session_save('t', '{}', ttl => '2 hours', owner => 'alice');
UPDATE conversation_sessions SET expires_at = clock_timestamp() + interval '1 minute' WHERE session_id = 't';
SELECT session_incr('t', '{n}');
SELECT version, owner_id, session_ttl('t') > interval '1 hour 59 minutes' AS restarted FROM session_fetch('t');

-- Numbers are exact, of any size and scale.
SELECT session_incr('x', '{a}', 0.1), session_incr('x', '{a}', 0.1), session_incr('x', '{a}', 0.1);
SELECT session_incr('x', '{b}', 12345678901234567890123456789012345678.000000000000000001);
SELECT session_incr('x', '{b}', 0.000000000000000001);
SELECT session_incr('x', '{c}', 1e200) = 1e200 AS large, session_incr('x', '{c}', 1) = 1e200 + 1 AS exact;
SELECT session_get('x') -> 'a' AS a, session_get('x') -> 'b' AS b;

-- Errors: the value at the end of the path is not a number, the path leads through such a value or is
-- empty, and numbers that JSON does not have. Nothing changes.
SELECT session_save('bad', '{"text": "1", "bool": true, "null": null, "object": {"k": 1}, "array": [1], "n": 1}');
SELECT call, pg_temp.err('SELECT ' || call)
FROM (VALUES
	($$session_incr('bad', '{text}')$$),
	($$session_incr('bad', '{bool}')$$),
	($$session_incr('bad', '{"null"}')$$),
	($$session_incr('bad', '{object}')$$),
	($$session_incr('bad', '{array}')$$),
	($$session_incr('bad', '{text,deeper}')$$),
	($$session_incr('bad', '{n,deeper}')$$),
	($$session_incr('bad', '{array,x}')$$),
	($$session_incr('bad', '{array,0x0}')$$),
	($$session_incr('bad', '{array,99999999999999999999}')$$),
	($$session_incr('bad', '{array,""}')$$),
	($$session_incr('bad', '{}')$$),
	($$session_incr('bad', '{{n,k},{k,n}}')$$),
	($$session_incr('bad', '{n}', 'NaN')$$),
	($$session_incr('bad', '{n}', 'Infinity')$$),
	($$session_incr('bad', '{n}', '-Infinity')$$),
	($$session_incr('bad', '{n}', 1, 'NaN')$$),
	($$session_incr('bad', '{NULL}')$$),
	($$session_incr('bad', '{object,NULL}')$$),
	($$session_incr('bad', '{NULL,k}')$$)) c(call);
SELECT version, session_data FROM session_fetch('bad');

-- A path into a document that is neither object nor array is an error.
SELECT session_save('scalar', '5'), session_save('string', '"5"'), session_save('null', 'null');
SELECT id, pg_temp.err(format('SELECT session_incr(%L, ''{n}'')', id)) FROM unnest(ARRAY['scalar', 'string', 'null']) id;
-- A bad path does not create a session under an absent id.
SELECT pg_temp.err($$SELECT session_incr('none', '{}')$$), session_exists('none');

-- Any text can be a key.
SELECT session_incr('keys', ARRAY['a b', '', 'NULL', '"', '{,}']);
SELECT session_get('keys') #>> ARRAY['a b', '', 'NULL', '"', '{,}'] AS value;

-- A thousand increments add up to a thousand.
SELECT max(session_incr('thousand', '{n}')) FROM generate_series(1, 1000);

DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
