--
-- Lengths of names are in bytes, not characters, and control characters are those of Unicode.
-- Only where the encoding of the database is UTF8.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
SELECT getdatabaseencoding() <> 'UTF8' AS skip \gset
\if :skip
	\quit
\endif

-- A multibyte character at the limit of 200 bytes counts with all of its bytes; U+0080 to U+009F are
-- control characters, U+00A0 is none.
SELECT label, octet_length(id) AS bytes,
	pg_temp.err(format('SELECT session_save(%L, ''{}'')', id)) AS session_id,
	pg_temp.err(format('SELECT session_save(''utf8'', ''{}'', owner => %L)', id)) AS owner
FROM (VALUES
	(1, '100 of two bytes', repeat(U&'\00e9', 100)),
	(2, 'one more byte', repeat(U&'\00e9', 100) || 'a'),
	(3, '199 and one of two', repeat('a', 199) || U&'\00e9'),
	(4, '197 and one of three', repeat('a', 197) || U&'\20ac'),
	(5, '198 and one of three', repeat('a', 198) || U&'\20ac'),
	(6, '50 of four bytes', repeat(U&'\+01f642', 50)),
	(7, '51 of four bytes', repeat(U&'\+01f642', 51)),
	(8, 'U+0080', 'a' || U&'\0080'),
	(9, 'U+0085', U&'\0085'),
	(10, 'U+009F', 'a' || U&'\009f' || 'b'),
	(11, 'U+00A0', 'a' || U&'\00a0' || 'b'),
	(12, 'U+00C2 U+0100', U&'\00c2\0100')) i(n, label, id)
ORDER BY n;

-- Ids are compared bytewise: no case folding, no normalization.
SELECT session_save(U&'\00e9', '"composed"') AS composed, session_save(U&'e\0301', '"decomposed"') AS decomposed,
	session_save(U&'\00c9', '"capital"') AS capital;
SELECT session_get(U&'\00e9') AS composed, session_get(U&'e\0301') AS decomposed, session_get(U&'\00c9') AS capital;

-- Namespaces: 63 bytes, not 63 characters.
SELECT pg_temp.refused(format('INSERT INTO session_namespaces (name, key_prefix) VALUES (%L, ''utf8:'')', repeat(U&'\00e9', 32))) AS bytes_64,
	pg_temp.refused(format('INSERT INTO session_namespaces (name, key_prefix) VALUES (%L, ''utf8:'')', repeat(U&'\00e9', 31) || 'a')) AS bytes_63;
SELECT session_save('a', '1', namespace => repeat(U&'\00e9', 31) || 'a');
SELECT pg_temp.err(format('SELECT session_get(''a'', %L)', repeat(U&'\00e9', 32))) AS bytes_64;

-- id_like and its underscore match characters, not bytes.
SELECT session_count(id_like => '_') AS one_character, session_count(id_like => U&'%\0301') AS combining;

-- The server does not check settings in the startup packet: claims that are not valid text have no
-- subject, and such a namespace does not exist.
INSERT INTO session_namespaces (name, owner_isolation, audit) VALUES ('iso', true, true), ('told', false, true);
CREATE ROLE regress_ss_web;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO regress_ss_web;
SELECT 'dbname=' || current_database() AS database \gset
\getenv before PGOPTIONS
\set invalid `printf -- '-c request.jwt.claims={"sub":"a\377\376b"} -c session_store.namespace=n\377'`
\setenv PGOPTIONS :invalid
\c :database
\i :helpers
SELECT octet_length(current_setting('request.jwt.claims')) AS claims;
SET ROLE regress_ss_web;
SELECT pg_temp.err($$SELECT session_save('invalid', '{}', namespace => 'iso')$$) AS isolated, session_save('invalid', '{}', namespace => 'told') AS told,
	pg_temp.err($$SELECT session_save('invalid', '{}')$$) AS namespace, pg_temp.err($$SELECT session_get('invalid')$$) AS get;
RESET ROLE;
\setenv PGOPTIONS :before
\c :database
SELECT convert_to(namespace, 'UTF8') AS namespace, convert_to(owner_id, 'UTF8') AS owner FROM conversation_sessions WHERE session_id = 'invalid';
SELECT event, detail FROM session_events;

DROP OWNED BY regress_ss_web;
DROP ROLE regress_ss_web;
DELETE FROM conversation_sessions;
DELETE FROM session_events;
DELETE FROM session_namespaces;
