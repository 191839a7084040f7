--
-- session_list(): newest first, page by page, without duplicates or gaps.
--
\getenv test_dir PG_ABS_SRCDIR
\set helpers :test_dir '/helpers.sql'
\i :helpers
INSERT INTO session_namespaces (name) VALUES ('list'), ('other');
SET session_store.namespace = 'list';

-- Visits all pages and returns the ids in their order.
CREATE FUNCTION pg_temp.walk(page_size int, owner text = NULL, id_like text = NULL, filter jsonb = NULL)
RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
	ids text[] = '{}';
	page text[];
	cursor text;
BEGIN
	LOOP
		SELECT array_agg(l.session_id ORDER BY l.n), (array_agg(l.page_cursor ORDER BY l.n DESC))[1] INTO page, cursor
		FROM session_list(owner, id_like, filter, cursor, page_size) WITH ORDINALITY
			AS l(namespace, session_id, owner_id, version, created_at, updated_at, expires_at, message_count, page_cursor, session_data, n);
		EXIT WHEN page IS NULL;
		IF cardinality(page) > page_size THEN
			RAISE EXCEPTION 'a page of % rows', cardinality(page);
		END IF;
		ids = ids || page;
		EXIT WHEN cardinality(page) < page_size;
	END LOOP;
	RETURN ids;
END
$$;

-- One row for each living session, with all columns but the document; newest first.
SELECT session_save('first', '{"kind": "a"}', owner => 'alice');
SELECT session_save('second', '{"kind": "b"}');
SELECT session_save('third', '{"kind": "a", "deep": {"x": [1, 2]}}', owner => 'alice');
SELECT session_save('first', '{"kind": "a", "saved": "again"}');
SELECT namespace, session_id, owner_id, version, created_at <= updated_at AS updated_later,
	expires_at > clock_timestamp() AS alive, message_count, page_cursor IS NOT NULL AS has_cursor
FROM session_list();
SELECT session_id FROM session_list(owner => 'alice');
SELECT session_id FROM session_list(id_like => '%ir%');
SELECT session_id FROM session_list(filter => '{"kind": "a"}');
SELECT session_id FROM session_list(filter => '{"deep": {"x": [2]}}', owner => 'alice', id_like => 't%');
SELECT session_id FROM session_list(page_size => 1);
SELECT session_id FROM session_list(after => (SELECT page_cursor FROM session_list(page_size => 1)));
SELECT count(*) AS elsewhere FROM session_list(namespace => 'other');
SELECT count(*) AS nobodys FROM session_list(owner => 'nobody');
DELETE FROM conversation_sessions;

-- Many rows, many with the same created_at: no page omits or repeats any.
INSERT INTO conversation_sessions (namespace, session_id, session_data, owner_id, created_at)
SELECT 'list', 's' || (n * 7919) % 2003, jsonb_build_object('n', n, 'odd', n % 2 = 1), CASE n % 3 WHEN 0 THEN 'alice' WHEN 1 THEN 'bob' END,
	date_trunc('hour', clock_timestamp()) - (n / 400) * interval '1 microsecond'
FROM generate_series(1, 2000) n;
-- Sessions of other namespaces, which must not be listed.
INSERT INTO conversation_sessions (namespace, session_id, session_data, owner_id)
SELECT ns, 's' || n, '{}', 'alice' FROM unnest(ARRAY['default', 'other']) ns, generate_series(1, 20) n;
CREATE TEMP TABLE expected AS
SELECT session_id, owner_id, session_data, row_number() OVER (ORDER BY created_at DESC, session_id COLLATE "C" DESC) AS n
FROM conversation_sessions WHERE namespace = 'list';
SELECT p AS page_size, pg_temp.walk(p) = (SELECT array_agg(session_id ORDER BY n) FROM expected) AS all_rows
FROM unnest(ARRAY[7, 50, 400, 1000]) p;
SELECT pg_temp.walk(50, owner => 'alice') = (SELECT array_agg(session_id ORDER BY n) FROM expected WHERE owner_id = 'alice') AS owner,
	pg_temp.walk(50, id_like => '%7_') = (SELECT array_agg(session_id ORDER BY n) FROM expected WHERE session_id LIKE '%7_') AS id_like,
	pg_temp.walk(50, filter => '{"odd": true}') = (SELECT array_agg(session_id ORDER BY n) FROM expected WHERE session_data @> '{"odd": true}') AS filter,
	pg_temp.walk(3, 'bob', '%1%', '{"odd": true}') = (SELECT array_agg(session_id ORDER BY n) FROM expected
		WHERE owner_id = 'bob' AND session_id LIKE '%1%' AND session_data @> '{"odd": true}') AS all_of_them;
SELECT count(*) AS default_page FROM session_list();

-- Sessions that are deleted or created between two pages do not matter, even if it is that of the cursor.
SELECT session_id AS last, page_cursor AS cursor FROM session_list(page_size => 10) OFFSET 9 \gset
SELECT session_delete(:'last') AS deleted, session_save('newest', '{}') AS created;
SELECT array_agg(session_id) = (SELECT array_agg(session_id ORDER BY n) FROM expected WHERE n BETWEEN 11 AND 20) AS goes_on
FROM session_list(after => :'cursor', page_size => 10);
DELETE FROM conversation_sessions WHERE session_id = :'last';
SELECT array_agg(session_id) = (SELECT array_agg(session_id ORDER BY n) FROM expected WHERE n BETWEEN 11 AND 20) AS goes_on
FROM session_list(after => :'cursor', page_size => 10);
DELETE FROM conversation_sessions;

-- Every valid id can be in a cursor.
INSERT INTO conversation_sessions (namespace, session_id, session_data, created_at)
SELECT 'list', id, '{}', clock_timestamp()
FROM unnest(ARRAY['a b', 'a.b', '.', '%', '\', '''', '"', '{}', repeat('x', 200), 'A', 'a', '-1', '0']) id;
SELECT cardinality(pg_temp.walk(1)) AS walked, (SELECT count(DISTINCT id) FROM unnest(pg_temp.walk(2)) id) AS different;

-- Invalid cursors and page sizes are errors.
SELECT page_cursor AS cursor FROM session_list(page_size => 1) \gset
SELECT label, pg_temp.err(format('SELECT session_list(after => %L)', after)) AS error
FROM (VALUES ('empty', ''), ('nonsense', 'nonsense'), ('a number', '17'), ('cut', left(:'cursor', 3)), ('headless', substr(:'cursor', 4)),
	('too long', :'cursor' || repeat('x', 300)), ('control', :'cursor' || E'\n')) c(label, after);
SELECT size, pg_temp.err(format('SELECT session_list(page_size => %s)', size)) FROM unnest(ARRAY[0, -1, -2147483648]) size;

-- Expired and dead rows are not listed, and do not make a page shorter.
DELETE FROM conversation_sessions;
BEGIN;
SELECT count(session_save('alive' || n, '{}', owner => 'alice')) FROM generate_series(1, 5) n;
SELECT count(session_save('gone' || n, '{}', owner => 'alice', ttl => '30 ms')) FROM generate_series(1, 50) n;
SELECT count(session_save('dead' || n, '{}', owner => 'alice')) FROM generate_series(1, 50) n;
SELECT session_clear('list', 'dead%');
SELECT pg_temp.wait_until($$session_count() = 5$$);
SELECT session_id FROM session_list(page_size => 3);
SELECT count(*) AS owned FROM session_list(owner => 'alice', page_size => 5);
SELECT pg_temp.walk(2), pg_temp.walk(2, owner => 'alice') = pg_temp.walk(50) AS same;
COMMIT;

DELETE FROM conversation_sessions;
DELETE FROM session_namespaces;
