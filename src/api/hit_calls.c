/*
 * hit_calls.c
 *		SQL functions about counters.
 *
 * Each function checks its arguments and its caller, enters the security context of the owner of
 * the tables and calls the code in sessions/hits.c.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "api/args.h"
#include "function.h"
#include "sessions/hits.h"
#include "table/sql.h"

SS_ROWS_FUNCTION(session_hit, 1_0, false, SS_COLUMNS(INT8OID, INT8OID, TIMESTAMPTZOID), TEXTOID,
				 INTERVALOID, INT8OID, INT8OID, TEXTOID);
SS_FUNCTION(session_hit_reset, 1_0, BOOLOID, TEXTOID, TEXTOID);

/* Return the counter id, and fill in the namespace and the calling role. */
static Datum
arg_counter(FunctionCallInfo fcinfo, int id_arg, int ns_arg, SsTarget *target)
{
	Datum counter;

	ss_arg_require(fcinfo, id_arg, "counter_id");
	counter = ss_arg_name(fcinfo, id_arg, "counter_id");
	ss_arg_namespace(fcinfo, ns_arg, target);
	ss_hits_require_access(target);
	return counter;
}

/* Return the largest number of hits that is permitted, or -1 if the argument is null. */
static int64
arg_max(FunctionCallInfo fcinfo, int arg)
{
	if (PG_ARGISNULL(arg))
		return -1;
	if (PG_GETARG_INT64(arg) < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid max"),
						errdetail("It must not be negative.")));
	return PG_GETARG_INT64(arg);
}

/* Return the row of session_hit(): hits, remaining (null without max) and resets_at. */
static Datum
make_row(const SsHits *counter, int64 max)
{
	/* made once per backend, because looking up the result type costs a part of the call */
	static TupleDesc desc = NULL;
	Datum values[3];
	bool nulls[3];

	if (desc == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
		TupleDesc fresh = CreateTemplateTupleDesc(3);

		TupleDescInitEntry(fresh, 1, "hits", INT8OID, -1, 0);
		TupleDescInitEntry(fresh, 2, "remaining", INT8OID, -1, 0);
		TupleDescInitEntry(fresh, 3, "resets_at", TIMESTAMPTZOID, -1, 0);
		desc = BlessTupleDesc(fresh);
		MemoryContextSwitchTo(old);
	}
	values[0] = Int64GetDatum(counter->hits);
	nulls[0] = false;
	values[1] = Int64GetDatum(Max(max - counter->hits, 0));
	nulls[1] = max < 0;
	values[2] = TimestampTzGetDatum(counter->resets_at);
	nulls[2] = !counter->running;
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

static Datum
session_hit(PG_FUNCTION_ARGS)
{
	int64 period_us = ss_arg_period(fcinfo, 1);
	int64 max = arg_max(fcinfo, 3);
	SsTarget target;
	SsCaller caller;
	SsHits counter;
	Datum id;
	int64 by;

	ss_arg_require(fcinfo, 2, "by");
	by = PG_GETARG_INT64(2);
	if (by > 0)
		ss_arg_require(fcinfo, 1, "period");
	id = arg_counter(fcinfo, 0, 4, &target);
	if (by != 0)
		PreventCommandIfReadOnly("session_hit()");

	ss_sql_enter(&caller);
	if (by > 0)
		ss_hits_count(&target, id, by, period_us, &counter);
	else if (by < 0)
		ss_hits_take_back(&target, id, by == PG_INT64_MIN ? PG_INT64_MAX : -by, &counter);
	else
		ss_hits_read(&target, id, &counter);
	ss_sql_leave(&caller);
	PG_RETURN_DATUM(make_row(&counter, max));
}

static Datum
session_hit_reset(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsCaller caller;
	Datum id = arg_counter(fcinfo, 0, 1, &target);
	bool running;

	PreventCommandIfReadOnly("session_hit_reset()");
	ss_sql_enter(&caller);
	running = ss_hits_reset(&target, id);
	ss_sql_leave(&caller);
	PG_RETURN_BOOL(running);
}
