--
-- Direct access: changes use the table access method while the table has its original definition,
-- and SPI if triggers or constraints of others must be considered, with the same results.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
SET client_min_messages = notice;
INSERT INTO session_namespaces (name, cache, key_prefix, audit) VALUES ('direct', 'off', 'direct:', true);
CREATE FUNCTION pg_temp.way() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before bigint := pg_stat_get_xact_numscans('conversation_sessions_pkey'::regclass);
BEGIN
	PERFORM session_save('a', '"looked"', namespace => 'direct');
	RETURN CASE pg_stat_get_xact_numscans('conversation_sessions_pkey'::regclass) - before WHEN 1 THEN 'direct' ELSE 'by statement' END;
END $$;
-- The contents of the tables, without times.
CREATE FUNCTION pg_temp.rows() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s %s %s v%s %s %s/%s %s%s', session_id, session_data, coalesce(owner_id, '-'), version, ttl, message_count, last_seq,
		CASE WHEN dead_until IS NULL THEN '' ELSE 'dead ' END, CASE WHEN check_at <= expires_at OR dead_until IS NOT NULL THEN 'checked' ELSE 'late' END), E'\n' ORDER BY session_id)
	FROM conversation_sessions WHERE namespace = 'direct'$$;
CREATE PROCEDURE pg_temp.begin_with() LANGUAGE sql AS $$
	DELETE FROM conversation_sessions WHERE namespace = 'direct';
	SELECT session_save('a', '{"n": 1}', ttl => '2 hours', namespace => 'direct'), session_save('b', '{}', owner => 'ada', namespace => 'direct'),
		session_save('c', '[1]', namespace => 'direct'), session_save('d', '{}', namespace => 'direct');
$$;
-- All calls that change a session.
CREATE FUNCTION pg_temp.work() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	was text;
BEGIN
	PERFORM session_save('a', '{"n": 5}', namespace => 'direct');
	PERFORM session_merge('a', '{"m": null, "o": [1]}', namespace => 'direct');
	PERFORM session_incr('a', '{n}', namespace => 'direct');
	PERFORM session_save('a', session_get('a', 'direct'), ttl => '1 minute', namespace => 'direct');
	PERFORM session_touch('b', '3 hours', 'direct'), session_append('b', '[{"x": 1}, {"x": 2}]', namespace => 'direct');
	PERFORM session_append('b', '{"x": 3}', 'once', 'direct'), session_pop('b', namespace => 'direct');
	PERFORM session_save('c', '"new"', owner => 'bob', if_version => 1, namespace => 'direct');
	PERFORM session_share('c', 'eve', namespace => 'direct');
	PERFORM session_delete('d', 'direct');
	BEGIN
		PERFORM session_save('c', '"lost"', namespace => 'direct'), 1 / 0;
	EXCEPTION WHEN division_by_zero THEN
		NULL;
	END;
	was := pg_temp.way();
	RETURN was || E'\n' || pg_temp.rows();
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
-- Compares the results of direct access with those of statements.
CREATE PROCEDURE pg_temp.compare(what text) LANGUAGE plpgsql AS $$
DECLARE
	direct text;
	plain text;
BEGIN
	CALL pg_temp.begin_with();
	COMMIT;
	direct := pg_temp.work();
	COMMIT;
	CALL pg_temp.begin_with();
	COMMIT;
	PERFORM set_config('session_store.direct_rows', 'off', false);
	plain := pg_temp.work();
	COMMIT;
	PERFORM set_config('session_store.direct_rows', 'on', false);
	RAISE NOTICE '%: %', what, CASE WHEN substr(plain, strpos(plain, E'\n')) = substr(direct, strpos(direct, E'\n')) THEN 'the same, ' || split_part(direct, E'\n', 1)
		ELSE E'they differ\n' || direct || E'\n' || plain END;
END $$;

CALL pg_temp.begin_with();
SELECT pg_temp.work();
CALL pg_temp.compare('as it was made');

-- ---- triggers, rules and constraints of users are respected

CREATE TABLE seen (what text, id text, data jsonb);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
	INSERT INTO seen VALUES (TG_NAME, NEW.session_id, NEW.session_data);
	RETURN NEW;
END $$;
CREATE FUNCTION see_all() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
	INSERT INTO seen SELECT TG_NAME, session_id, session_data FROM new_rows;
	RETURN NULL;
END $$;
CREATE FUNCTION pg_temp.seen() RETURNS text LANGUAGE sql AS
	$$WITH gone AS (DELETE FROM seen RETURNING *) SELECT string_agg(what || ' ' || id || ' ' || n, ', ' ORDER BY what, id) FROM (SELECT what, id, count(*) AS n FROM gone GROUP BY 1, 2) g$$;
CREATE TRIGGER a_before BEFORE UPDATE OF session_data ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION see();
CALL pg_temp.compare('a trigger before a row');
SELECT pg_temp.seen();
ALTER TABLE conversation_sessions DISABLE TRIGGER a_before;
CALL pg_temp.compare('a disabled one');
SELECT pg_temp.seen();
DROP TRIGGER a_before ON conversation_sessions;
CREATE TRIGGER an_after AFTER UPDATE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION see();
CALL pg_temp.compare('a trigger after a row');
SELECT pg_temp.seen();
DROP TRIGGER an_after ON conversation_sessions;
CREATE TRIGGER of_all AFTER UPDATE ON conversation_sessions REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION see_all();
CALL pg_temp.compare('a trigger after a statement');
SELECT pg_temp.seen();
DROP TRIGGER of_all ON conversation_sessions;
CREATE TRIGGER inserts AFTER INSERT ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION see();
CALL pg_temp.compare('a trigger that is for inserts alone');
SELECT pg_temp.seen();
DROP TRIGGER inserts ON conversation_sessions;
CALL pg_temp.begin_with();
CREATE RULE a_rule AS ON UPDATE TO conversation_sessions DO ALSO INSERT INTO seen VALUES ('rule', NEW.session_id, NEW.session_data);
SELECT pg_temp.work() AS with_a_rule;
SELECT pg_temp.seen();
DROP RULE a_rule ON conversation_sessions;
CALL pg_temp.begin_with();
ALTER TABLE conversation_sessions ADD CONSTRAINT small CHECK (session_data <> '"new"');
CALL pg_temp.compare('a constraint that refuses');
ALTER TABLE conversation_sessions DROP CONSTRAINT small;
ALTER TABLE conversation_sessions ADD COLUMN n text GENERATED ALWAYS AS (session_data ->> 'n') STORED;
CALL pg_temp.compare('a generated column');
SELECT session_id, n FROM conversation_sessions WHERE namespace = 'direct' ORDER BY 1;
ALTER TABLE conversation_sessions DROP COLUMN n;
\set VERBOSITY terse
DELETE FROM conversation_sessions;
ALTER TABLE conversation_sessions ALTER owner_id SET NOT NULL;
SELECT session_save('owned', '{}', owner => 'ada', namespace => 'direct');
SELECT session_delete('owned', 'direct');
ALTER TABLE conversation_sessions ALTER owner_id DROP NOT NULL;
CREATE TABLE everything (LIKE conversation_sessions) PARTITION BY LIST (owner_id);
ALTER TABLE everything ATTACH PARTITION conversation_sessions FOR VALUES IN ('ada');
SELECT session_save('owned', '{}', owner => 'bob', namespace => 'direct');
ALTER TABLE everything DETACH PARTITION conversation_sessions;
DROP TABLE everything;
SELECT session_save('owned', '{}', owner => 'bob', namespace => 'direct');
\set VERBOSITY default
CREATE TABLE refers (namespace text COLLATE "C", session_id text COLLATE "C", FOREIGN KEY (namespace, session_id) REFERENCES conversation_sessions);
CALL pg_temp.compare('a foreign key to it');
DROP TABLE refers;

-- ---- our own triggers: their work is done while they are enabled, and not while they are disabled

ALTER TABLE conversation_sessions DISABLE TRIGGER session_row_guard;
CALL pg_temp.compare('without the guard');
ALTER TABLE conversation_sessions ENABLE ALWAYS TRIGGER session_row_guard;
ALTER TABLE conversation_sessions ENABLE TRIGGER zz_session_change;
CALL pg_temp.compare('the second does not fire always');
ALTER TABLE conversation_sessions ENABLE ALWAYS TRIGGER zz_session_change;
CALL pg_temp.compare('as they were');

-- ---- additional columns keep their values, and additional indexes are updated

ALTER TABLE conversation_sessions ADD COLUMN mine text DEFAULT 'x', ADD COLUMN gone int;
ALTER TABLE conversation_sessions DROP COLUMN gone;
CALL pg_temp.compare('columns more');
CALL pg_temp.begin_with();
UPDATE conversation_sessions SET mine = 'kept' WHERE session_id = 'a';
SELECT session_save('a', '{"n": 2}', namespace => 'direct');
SELECT session_id, mine FROM conversation_sessions WHERE namespace = 'direct' ORDER BY 1;
ALTER TABLE conversation_sessions DROP COLUMN mine;
CREATE INDEX by_n ON conversation_sessions ((session_data ->> 'n'));
CALL pg_temp.compare('an index on the document');
SET enable_seqscan = off;
SELECT session_id FROM conversation_sessions WHERE session_data ->> 'n' = '6';
RESET enable_seqscan;
DROP INDEX by_n;
CREATE UNIQUE INDEX one_n ON conversation_sessions ((session_data ->> 'n'));
CALL pg_temp.compare('a unique one');
CALL pg_temp.begin_with();
SELECT session_save('b', '{"n": 1}', namespace => 'direct');
DROP INDEX one_n;
SELECT pg_temp.rows();

-- ---- callers without the right are refused

CALL pg_temp.begin_with();
BEGIN READ ONLY;
SELECT session_save('a', '{}', namespace => 'direct');
ROLLBACK;

-- ---- within a statement and a transaction each call sees the changes before it

SELECT session_save('a', '{"k": 0}', namespace => 'direct') AS one, session_incr('a', '{k}', namespace => 'direct') AS two, session_incr('a', '{k}', namespace => 'direct') AS three;
BEGIN;
SELECT session_save('a', '{"k": 1}', namespace => 'direct');
UPDATE conversation_sessions SET session_data = session_data || '{"by": "hand"}' WHERE session_id = 'a';
SAVEPOINT s;
SELECT session_merge('a', '{"k": 2}', namespace => 'direct');
ROLLBACK TO s;
SELECT session_merge('a', '{"m": 3}', namespace => 'direct');
COMMIT;
-- a change of the row by a trigger on another table, between its lock and its update, is kept
ALTER TABLE conversation_sessions ADD COLUMN members int DEFAULT 0;
CREATE FUNCTION count_members() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
	UPDATE conversation_sessions SET members = members + CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END WHERE history_id = (coalesce(NEW, OLD)).history_id;
	RETURN NULL;
END $$;
CREATE TRIGGER counts AFTER INSERT OR DELETE ON session_members FOR EACH ROW EXECUTE FUNCTION count_members();
SELECT session_share('b', 'ada', namespace => 'direct'), session_share('b', 'eve', namespace => 'direct');
SELECT session_unshare('b', 'eve', 'direct');
SELECT session_id, members FROM conversation_sessions WHERE namespace = 'direct' AND session_id = 'b';
DROP TRIGGER counts ON session_members;
DROP FUNCTION count_members();
ALTER TABLE conversation_sessions DROP COLUMN members;
-- a row that the same statement has changed is not changed again, by direct access or by a statement
WITH changed AS (UPDATE conversation_sessions SET session_data = '{"by": "statement"}' WHERE session_id = 'a' RETURNING session_data)
	SELECT session_data, session_save('b', '{"after": 1}', namespace => 'direct') > 0 AS saved FROM changed;
SELECT pg_temp.rows();
-- a touch does not rewrite a document that is stored out of line
SELECT session_save('a', jsonb_build_object('long', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 3000) i)), namespace => 'direct') > 0 AS long;
SELECT pg_relation_size(reltoastrelid) AS size FROM pg_class WHERE oid = 'conversation_sessions'::regclass \gset
SELECT count(session_touch('a', '1 hour' + i * interval '1 minute', 'direct')), count(session_append('a', '{}', namespace => 'direct')) FROM generate_series(1, 20) i;
SELECT pg_relation_size(reltoastrelid) = :size AS toast_stays FROM pg_class WHERE oid = 'conversation_sessions'::regclass;
SELECT length(session_get('a', 'direct') ->> 'long') AS length;

DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
DELETE FROM session_events;
DROP TABLE seen;
DROP FUNCTION see(), see_all();
ANALYZE conversation_sessions;
