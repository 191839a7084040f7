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

/* The columns of last_plan and range_plan. */
enum
{
	READ_SEQ = 1,
	READ_MESSAGE,
	READ_CREATED_AT
};

/* The last messages before a seq, newest first; and the messages of a range of seqs, oldest first. */
static SsPlan last_plan = {"SELECT seq, message, created_at FROM {history}"
						   " WHERE history_id {=} $1 AND seq {<} $2 ORDER BY seq DESC LIMIT $3",
						   3,
						   {UUIDOID, INT8OID, INT8OID}};

static SsPlan range_plan = {
	"SELECT seq, message, created_at FROM {history}"
	" WHERE history_id {=} $1 AND seq {>=} $2 AND seq {<} $3 ORDER BY seq LIMIT $4",
	4,
	{UUIDOID, INT8OID, INT8OID, INT8OID}};

/* The columns of window_plan. */
enum
{
	WINDOW_FIRST_SEQ = 1,
	WINDOW_COUNT
};

/* The first seq and the number of the last $3 messages before seq $2. */
static SsPlan window_plan = {
	"SELECT pg_catalog.min(l.seq), pg_catalog.count(*) FROM (SELECT seq FROM {history}"
	" WHERE history_id {=} $1 AND seq {<} $2 ORDER BY seq DESC LIMIT $3) l",
	3,
	{UUIDOID, INT8OID, INT8OID}};

/*
 * Finds the last n messages before a seq; returns their number, and sets *first to the seq of the
 * oldest of them if there are any.
 */
int64
ss_history_find_last(const SsRow *row, int64 n, int64 before, SsPlanMode mode, int64 *first)
{
	Datum values[3] = {row->history, Int64GetDatum(before), Int64GetDatum(n)};
	HeapTuple found;
	bool null;

	ss_plan_run(&window_plan, values, NULL, mode, 0);
	found = SPI_tuptable->vals[0];
	*first = DatumGetInt64(SPI_getbinval(found, SPI_tuptable->tupdesc, WINDOW_FIRST_SEQ, &null));
	return DatumGetInt64(SPI_getbinval(found, SPI_tuptable->tupdesc, WINDOW_COUNT, &null));
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
 * Reads a window in the caller's snapshot and passes its messages to the sink.  A short window is read
 * backwards from its end and reversed in memory; a long one forwards, a page at a time.
 */
void
ss_history_read(const SsRow *row, const SsWindow *window, SsMessageSink sink, void *arg)
{
	int64 from = 0;
	uint64 n;

	if (row->history_null || window->last == 0)
		return;
	if (window->last > 0)
	{
		Datum values[3] = {row->history, Int64GetDatum(window->before),
						   Int64GetDatum(window->last)};

		if (window->last <= PAGE)
		{
			n = ss_plan_run(&last_plan, values, NULL, SS_PLAN_READ, 0);
			pass_to_sink(n, true, sink, arg);
			return;
		}
		if (ss_history_find_last(row, window->last, window->before, SS_PLAN_READ, &from) == 0)
			return;
	}
	else
		from = PG_INT64_MIN;
	do
	{
		Datum values[4] = {row->history, Int64GetDatum(from), Int64GetDatum(window->before),
						   Int64GetDatum(PAGE)};
		bool null;

		CHECK_FOR_INTERRUPTS();
		n = ss_plan_run(&range_plan, values, NULL, SS_PLAN_READ, 0);
		if (n > 0)
			from = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[n - 1], SPI_tuptable->tupdesc,
											   READ_SEQ, &null)) +
				   1;
		pass_to_sink(n, false, sink, arg);
	} while (n == PAGE);
}
