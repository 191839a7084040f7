/*
 * history_read.c
 *		Reads windows of the messages of a session.
 *
 * A window is read in the order of the primary key: it costs the messages that it has, whatever the
 * length of the history.  Reads take no lock.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"

#include "sessions/history_read.h"
#include "table/sql.h"

/* Maximum number of messages held in memory at once by a read. */
#define PAGE 1000

/* Maximum size of the first page of a walk, which may end at any message. */
#define FIRST_PAGE 32

/* The columns of oldest_plan and newest_plan. */
enum
{
	READ_SEQ = 1,
	READ_MESSAGE,
	READ_CREATED_AT
};

/*
 * The parameters of these statements: the history, the seqs with which the window begins and ends, and
 * the maximum number of messages.
 */
#define IN_WINDOW " FROM {history} WHERE history_id {=} $1 AND seq {>=} $2 AND seq {<=} $3"
#define OLDEST IN_WINDOW " ORDER BY seq LIMIT $4"
#define NEWEST IN_WINDOW " ORDER BY seq DESC LIMIT $4"
#define WINDOW_ARGS                        \
	4,                                     \
	{                                      \
		UUIDOID, INT8OID, INT8OID, INT8OID \
	}

static SsPlan oldest_plan = {"SELECT seq, message, created_at" OLDEST, WINDOW_ARGS};
static SsPlan newest_plan = {"SELECT seq, message, created_at" NEWEST, WINDOW_ARGS};

/* The columns of find_oldest_plan and find_newest_plan. */
enum
{
	FIND_FIRST_SEQ = 1,
	FIND_LAST_SEQ,
	FIND_COUNT
};

#define FIND(messages)                                                         \
	"SELECT pg_catalog.min(m.seq), pg_catalog.max(m.seq), pg_catalog.count(*)" \
	" FROM (SELECT seq" messages ") m"

static SsPlan find_oldest_plan = {FIND(OLDEST), WINDOW_ARGS};
static SsPlan find_newest_plan = {FIND(NEWEST), WINDOW_ARGS};

/*
 * Finds the messages of a window that has `last` or `first`; returns their number, and sets *first_seq
 * and *last_seq if there are any.
 */
int64
ss_history_find(const SsRow *row, const SsWindow *window, SsPlanMode mode, int64 *first_seq,
				int64 *last_seq)
{
	bool newest = window->last >= 0;
	Datum values[4] = {row->history, Int64GetDatum(window->from), Int64GetDatum(window->up_to),
					   Int64GetDatum(newest ? window->last : window->first)};
	HeapTuple found;
	bool null;

	Assert((window->last >= 0) != (window->first >= 0));
	ss_plan_run(newest ? &find_newest_plan : &find_oldest_plan, values, NULL, mode, 0);
	found = SPI_tuptable->vals[0];
	*first_seq = DatumGetInt64(SPI_getbinval(found, SPI_tuptable->tupdesc, FIND_FIRST_SEQ, &null));
	*last_seq = DatumGetInt64(SPI_getbinval(found, SPI_tuptable->tupdesc, FIND_LAST_SEQ, &null));
	return DatumGetInt64(SPI_getbinval(found, SPI_tuptable->tupdesc, FIND_COUNT, &null));
}

/* Passes the rows of SPI's result (seq, message, created_at) to the sink, and frees the result. */
static void
pass_to_sink(uint64 n, bool backwards, SsMessageSink sink, void *arg)
{
	SPITupleTable *rows = SPI_tuptable;

	for (uint64 i = 0; i < n; i++)
	{
		HeapTuple tuple = rows->vals[backwards ? n - 1 - i : i];

		sink(arg, ss_sql_value(tuple, rows->tupdesc, READ_SEQ, "conversation_history"),
			 ss_sql_value(tuple, rows->tupdesc, READ_MESSAGE, "conversation_history"),
			 ss_sql_value(tuple, rows->tupdesc, READ_CREATED_AT, "conversation_history"));
	}
	SPI_freetuptable(rows);
}

/*
 * Reads a window in the caller's snapshot and passes its messages to the sink.  The newest messages of
 * a range are read backwards and reversed in memory if they are few.  Everything else is read forwards,
 * a page at a time.
 */
void
ss_history_read(const SsRow *row, const SsWindow *window, SsMessageSink sink, void *arg)
{
	Datum values[4] = {row->history, Int64GetDatum(window->from), Int64GetDatum(window->up_to),
					   Int64GetDatum(window->last)};
	int64 left = window->first >= 0 ? window->first : PG_INT64_MAX;

	Assert(window->last < 0 || window->first < 0);
	if (row->history_null || window->last == 0)
		return;
	if (window->last > PAGE)
	{
		int64 first_seq;
		int64 last_seq;

		if (ss_history_find(row, window, SS_PLAN_READ, &first_seq, &last_seq) == 0)
			return;
		values[1] = Int64GetDatum(first_seq);
	}
	else if (window->last > 0)
	{
		uint64 n = ss_plan_run(&newest_plan, values, NULL, SS_PLAN_READ, 0);

		pass_to_sink(n, true, sink, arg);
		return;
	}
	while (left > 0)
	{
		int64 page = Min(left, PAGE);
		int64 seq = 0;
		int64 n;

		CHECK_FOR_INTERRUPTS();
		values[3] = Int64GetDatum(page);
		n = (int64) ss_plan_run(&oldest_plan, values, NULL, SS_PLAN_READ, 0);
		if (n > 0)
			seq = DatumGetInt64(ss_sql_value(SPI_tuptable->vals[n - 1], SPI_tuptable->tupdesc,
											 READ_SEQ, "conversation_history"));
		pass_to_sink((uint64) n, false, sink, arg);
		if (n < page || seq >= window->up_to)
			break;
		values[1] = Int64GetDatum(seq + 1);
		left -= n;
	}
}

/*
 * Visits the messages in the caller's snapshot, newest first, until the visitor returns false.  Pages
 * grow, so that the cost is that of the messages visited.  `expected` is the number of messages that
 * the caller expects to visit, or more.
 */
void
ss_history_walk_back(const SsRow *row, int64 expected, SsMessageVisitor visit, void *arg)
{
	Datum values[4] = {row->history, Int64GetDatum(PG_INT64_MIN), Int64GetDatum(PG_INT64_MAX),
					   (Datum) 0};
	int64 page = expected < FIRST_PAGE ? expected + 1 : FIRST_PAGE;
	bool more = !row->history_null;

	while (more)
	{
		SPITupleTable *rows;
		uint64 n;

		CHECK_FOR_INTERRUPTS();
		values[3] = Int64GetDatum(page);
		n = ss_plan_run(&newest_plan, values, NULL, SS_PLAN_READ, 0);
		rows = SPI_tuptable;
		more = n == (uint64) page;
		for (uint64 i = 0; i < n; i++)
		{
			Datum seq = ss_sql_value(rows->vals[i], rows->tupdesc, READ_SEQ,
									 "conversation_history");

			if (DatumGetInt64(seq) == PG_INT64_MIN)
				more = false; /* there is none before */
			else
				values[2] = Int64GetDatum(DatumGetInt64(seq) - 1);
			if (!visit(arg, DatumGetInt64(seq),
					   ss_sql_value(rows->vals[i], rows->tupdesc, READ_MESSAGE,
									"conversation_history")))
			{
				more = false;
				break;
			}
		}
		SPI_freetuptable(rows);
		page = Min(page * 2, PAGE);
	}
}
