\set ECHO none
--
-- What the regression tests share. Everything is temporary, so that a test
-- leaves nothing behind; a test that reconnects includes this file again.
--
\pset null '(null)'
SET client_min_messages = warning;

-- Runs a statement and says how it ended: 'ok', or the SQLSTATE. Messages are
-- lower-case in the server's style, so any other one is shown.
CREATE FUNCTION pg_temp.err(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	IF SQLERRM ~ '^[[:upper:]][[:lower:]]' THEN
		RETURN SQLSTATE || ' ' || SQLERRM;
	END IF;
	RETURN SQLSTATE;
END
$$;

-- The same with all that the error says: SQLSTATE, message and detail.
CREATE FUNCTION pg_temp.says(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	EXECUTE statement;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN concat_ws(': ', SQLSTATE, SQLERRM, nullif(detail, ''));
END
$$;

-- The answer of a statement, or the SQLSTATE of its error.
CREATE FUNCTION pg_temp.answer(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	EXECUTE statement INTO answer;
	RETURN coalesce(answer, 'NULL');
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END
$$;

-- Runs the calls of the table step (n, call, direct, by_statements) in their order, with an id for each $,
-- and puts the answers into the column of the id: direct for 'd', by_statements for 's'. `answer` is
-- the function that runs a statement and returns its answer.
CREATE FUNCTION pg_temp.run_steps(id text, answer text DEFAULT 'answer') RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	s record;
	said text;
BEGIN
	FOR s IN SELECT n, call FROM step ORDER BY n LOOP
		EXECUTE format('SELECT pg_temp.%I($1)', answer) INTO said USING 'SELECT ' || replace(s.call, '$', quote_literal(id));
		IF id = 'd' THEN
			UPDATE step SET direct = said WHERE n = s.n;
		ELSE
			UPDATE step SET by_statements = said WHERE n = s.n;
		END IF;
	END LOOP;
END
$$;

-- Pages that a query touches; the buffers of planning are not the query's.
CREATE FUNCTION pg_temp.pages(query text, OUT pages bigint, OUT rows bigint) LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) ' || query INTO plan;
	pages = (plan #>> '{0,Plan,Shared Hit Blocks}')::bigint + (plan #>> '{0,Plan,Shared Read Blocks}')::bigint;
	rows = (plan #>> '{0,Plan,Actual Rows}')::numeric;
END
$$;

-- Was the statement refused for what it says (a bad value, a broken constraint,
-- a missing value), rather than by an accident?
CREATE FUNCTION pg_temp.refused(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'accepted';
EXCEPTION
	WHEN data_exception OR integrity_constraint_violation THEN
		RETURN 'refused';
	WHEN OTHERS THEN
		RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;

-- Waits until a condition holds. Each try is a statement of its own, with statistics of its own.
CREATE FUNCTION pg_temp.wait_until(condition text, deadline interval = '60 seconds')
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	give_up timestamptz = clock_timestamp() + deadline;
	holds boolean;
BEGIN
	LOOP
		EXECUTE 'SELECT ' || condition INTO holds;
		IF holds THEN
			RETURN true;
		END IF;
		IF clock_timestamp() > give_up THEN
			RETURN false;
		END IF;
		PERFORM pg_sleep(0.01), pg_stat_clear_snapshot();
	END LOOP;
END
$$;

-- A history, or a window of it, in one line: seq and member m of each message, in the
-- order in which they came.
CREATE FUNCTION pg_temp.line(id text, last int = NULL, before bigint = NULL, namespace text = NULL)
RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN (SELECT string_agg(h.seq || ':' || coalesce(h.message ->> 'm', h.message::text), ' ' ORDER BY h.ordinality)
		FROM session_history(id, last, before, namespace) WITH ORDINALITY h);
END
$$;
\set ECHO all
