--
-- What nobody shall learn about sessions and namespaces that are not theirs.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name, cache, max_sessions_per_owner) VALUES ('quota', 'off', 5);

-- pg_locks shows advisory locks to everybody: their keys are no plain hash of namespace and owner.
BEGIN;
SELECT session_save('l', '{}', owner => 'alice', namespace => 'quota');
SELECT count(*) AS held, count(*) FILTER (WHERE (classid::int8 << 32 | objid::int8) IN (hashtextextended('alice', hashtextextended('quota', 0)), hashtextextended('quotaalice', 0))) AS plain
FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND objsubid = x'5353'::int;
COMMIT;

DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
