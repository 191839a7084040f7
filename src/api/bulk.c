/*
 * bulk.c
 *		SQL functions about many sessions, and the functions that policies, views and queries of
 *		the extension call.
 */
#include "postgres.h"

#include "access/xact.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "api/args.h"
#include "base/key.h"
#include "compat.h"
#include "function.h"
#include "row/access.h"
#include "row/liveness.h"
#include "row/row.h"
#include "sessions/contains.h"
#include "sessions/listing.h"
#include "sessions/owners.h"
#include "sessions/page_cursor.h"
#include "shared/databases.h"
#include "table/sql.h"
#include "table/subscription.h"
#include "upkeep/counter_purge.h"
#include "upkeep/history_purge.h"
#include "upkeep/operation_purge.h"
#include "upkeep/purge.h"

SS_FUNCTION(session_delete_all, 1_0, INT8OID, TEXTOID, TEXTOID, TEXTOID);
SS_FUNCTION(session_clear, 1_0, INT8OID, TEXTOID, TEXTOID, TEXTOID);
SS_FUNCTION(session_count, 1_0, INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID);
SS_ROWS_FUNCTION(session_list, 1_0, true,
				 SS_COLUMNS(TEXTOID, TEXTOID, TEXTOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID,
							TIMESTAMPTZOID, INT8OID, TEXTOID, JSONBOID),
				 TEXTOID, TEXTOID, JSONBOID, TEXTOID, INT4OID, TEXTOID, TEXTOID, BOOLOID);
SS_FUNCTION(session_purge, 1_0, INT8OID, INT8OID, TEXTOID);
SS_FUNCTION(session_may, 1_0, BOOLOID, TEXTOID, TEXTOID, UUIDOID, TEXTOID);
SS_FUNCTION(session_effective_expiry, 1_0, TIMESTAMPTZOID, TEXTOID, TEXTOID, TIMESTAMPTZOID);
SS_FUNCTION(session_contains, 1_0, BOOLOID, JSONBOID, JSONBOID);
SS_FUNCTION(session_alive, 1_0, BOOLOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
			TIMESTAMPTZOID, INTERVALOID);

#define PURGE_BATCH 10000

/* Rows that session_purge() examines between two checks for interrupts. */
#define PURGE_STEP 1000

static Datum
arg_or_zero(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? (Datum) 0 : PG_GETARG_DATUM(arg);
}

static int64
delete_selection(SsTarget *target, const SsSelection *which)
{
	SsCaller caller;
	int64 n;

	ss_sql_enter(&caller);
	n = ss_sessions_delete(target, which);
	ss_sql_leave(&caller);
	return n;
}

static Datum
session_delete_all(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsSelection which = {0};

	ss_arg_require(fcinfo, 0, "owner");
	which.owner = ss_arg_name(fcinfo, 0, "owner");
	which.except_id = ss_arg_name(fcinfo, 1, "except_session_id");
	ss_arg_namespace(fcinfo, 2, &target);
	PG_RETURN_INT64(delete_selection(&target, &which));
}

static Datum
session_clear(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsSelection which = {0};

	/* the namespace must be named: a wrong default would end the sessions of another service */
	ss_arg_require(fcinfo, 0, "namespace");
	ss_arg_namespace(fcinfo, 0, &target);
	which.id_like = arg_or_zero(fcinfo, 1);
	which.id_prefix = ss_arg_prefix(fcinfo, 2, "id_prefix");
	PG_RETURN_INT64(delete_selection(&target, &which));
}

static Datum
session_count(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsCaller caller;
	SsSelection which = {0};
	int64 n;

	which.owner = ss_arg_name(fcinfo, 0, "owner");
	which.id_like = arg_or_zero(fcinfo, 1);
	which.id_prefix = ss_arg_prefix(fcinfo, 3, "id_prefix");
	ss_arg_namespace(fcinfo, 2, &target);
	ss_sql_enter(&caller);
	n = ss_sessions_count(&target, &which);
	ss_sql_leave(&caller);
	PG_RETURN_INT64(n);
}

/* Destination of the rows of a listing. */
typedef struct Listing
{
	ReturnSetInfo *rsinfo;
	Datum ns;
	SsListOrder order;
	Datum id_prefix;
} Listing;

static void
put_summary(void *arg, HeapTuple row, TupleDesc desc)
{
	Listing *listing = arg;
	/* session_summary: the namespace, the columns of a page up to the count, cursor, document */
	Datum values[SS_PAGE_COLUMNS + 2];
	bool nulls[SS_PAGE_COLUMNS + 2] = {false};
	int column;

	values[0] = listing->ns;
	for (column = 1; column < SS_PAGE_SESSION_DATA; column++)
		values[column] = SPI_getbinval(row, desc, column, &nulls[column]);
	values[SS_PAGE_SESSION_ID] = ss_sql_value(row, desc, SS_PAGE_SESSION_ID,
											  "conversation_sessions");
	values[column++] = ss_page_cursor_make(listing->order, listing->id_prefix,
										   DatumGetTimestampTz(values[SS_PAGE_CREATED_AT]),
										   values[SS_PAGE_SESSION_ID]);
	/* one that is stored out of line is fetched when the caller reads it */
	values[column] = SPI_getbinval(row, desc, SS_PAGE_SESSION_DATA, &nulls[column]);
	tuplestore_putvalues(listing->rsinfo->setResult, listing->rsinfo->setDesc, values, nulls);
}

/* Limit the size of the filter, because it bounds the cost of a row: see sessions/contains.c. */
static void
require_short_filter(const Jsonb *filter)
{
	if (VARSIZE(filter) > SS_FILTER_MAX_BYTES)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("filter is too large"),
						errdetail("It has %u bytes as jsonb; the maximum is %d.", VARSIZE(filter),
								  SS_FILTER_MAX_BYTES)));
}

static Datum
session_list(PG_FUNCTION_ARGS)
{
	Listing listing = {(ReturnSetInfo *) fcinfo->resultinfo};
	SsTarget target;
	SsCaller caller;
	SsSelection which = {0};
	SsPage page;

	which.owner = ss_arg_name(fcinfo, 0, "owner");
	which.id_like = arg_or_zero(fcinfo, 1);
	which.filter = arg_or_zero(fcinfo, 2);
	if (!PG_ARGISNULL(2))
		require_short_filter(PG_GETARG_JSONB_P(2));
	which.id_prefix = ss_arg_prefix(fcinfo, 6, "id_prefix");
	page.order = which.id_prefix != (Datum) 0 ? SS_BY_ID : SS_NEWEST_FIRST;
	page.created_at = DT_NOEND;
	page.session_id = CStringGetTextDatum("");
	if (!PG_ARGISNULL(3))
		ss_page_cursor_read(PG_GETARG_DATUM(3), which.id_prefix, &page);
	page.size = ss_arg_page_size(fcinfo, 4);
	ss_arg_require(fcinfo, 7, "with_data");
	page.with_data = PG_GETARG_BOOL(7);
	ss_arg_namespace(fcinfo, 5, &target);
	listing.ns = target.ns;
	listing.order = page.order;
	listing.id_prefix = which.id_prefix;

	ss_sql_enter(&caller);
	ss_sessions_page(&target, &which, &page, put_summary, &listing);
	ss_sql_leave(&caller);
	return (Datum) 0;
}

/*
 * Warn about tables that a subscription replicates, which are not purged here.  Returns true if
 * conversation_sessions is one of them.
 */
static bool
warn_of_publisher(void)
{
	static const SsTable tables[] = {SS_TABLE_SESSIONS, SS_TABLE_HISTORY, SS_TABLE_COUNTERS,
									 SS_TABLE_OPERATIONS};
	bool subscribed[lengthof(tables)];

	for (int i = 0; i < (int) lengthof(tables); i++)
	{
		subscribed[i] = ss_subscribed(tables[i]);
		if (subscribed[i])
			ereport(WARNING,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("table \"%s\" is not purged because a subscription replicates it",
							ss_table_name(tables[i])),
					 errdetail(
						 "The publisher removes expired rows, and the removal is replicated."),
					 errhint("Drop the subscription to purge the table on this server.")));
	}
	return subscribed[0];
}

/* Remove up to max_rows operations that are no longer kept, of a namespace or of all (ns is 0). */
static int64
purge_operations(Datum ns, int64 max_rows)
{
	SsAside *aside = ss_aside_of_call(SS_WORK_OPERATIONS, CurrentMemoryContext);
	TimestampTz from = DT_NOBEGIN;
	SsCaller caller;
	int64 removed = 0;

	for (bool more = true; more && removed < max_rows;)
	{
		int64 batch;

		CHECK_FOR_INTERRUPTS();
		ss_sql_enter(&caller);
		more = ss_operations_purge(ns, Min(max_rows - removed, PURGE_STEP), &from, aside, &batch);
		ss_sql_leave(&caller);
		removed += batch;
	}
	ss_aside_warn(aside, "operations");
	return removed;
}

/* Remove up to max_rows counters whose period has ended, likewise. */
static int64
purge_counters(Datum ns, int64 max_rows)
{
	SsCounterPurge purge = {.ns = ns, .from = DT_NOBEGIN};
	SsCaller caller;
	int64 removed = 0;

	purge.aside = ss_aside_of_call(SS_WORK_COUNTERS, CurrentMemoryContext);
	for (bool more = !ss_subscribed(SS_TABLE_COUNTERS); more && removed < max_rows;)
	{
		CHECK_FOR_INTERRUPTS();
		purge.limit = Min(max_rows - removed, PURGE_STEP);
		ss_sql_enter(&caller);
		ss_counter_purge(&purge);
		ss_sql_leave(&caller);
		removed += purge.removed;
		purge.from = purge.up_to;
		more = purge.visited >= purge.limit;
	}
	ss_aside_warn(purge.aside, "counters");
	return removed;
}

/*
 * Remove up to max_rows rows: expired sessions first, then messages and operations of ended
 * sessions, then operations that are no longer kept, then counters whose period has ended.
 * Examines as many rows as that takes.
 */
static Datum
session_purge(PG_FUNCTION_ARGS)
{
	int64 max_rows = PG_ARGISNULL(0) ? PURGE_BATCH : PG_GETARG_INT64(0);
	Oid role = GetUserId();
	SsPurge purge = {0};
	SsCaller caller;
	SsAside *messages_aside;
	int64 removed = 0;
	bool left; /* the publisher purges conversation_sessions */

	if (max_rows < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid max_rows"),
						errdetail("It must not be negative.")));
	PreventCommandIfReadOnly("session_purge()");
	purge.from = DT_NOBEGIN;
	purge.no_locks = !TransactionIdIsValid(GetTopTransactionIdIfAny());
	purge.aside = ss_aside_of_call(SS_WORK_PURGE, CurrentMemoryContext);
	if (!PG_ARGISNULL(1))
	{
		SsTarget target;

		ss_arg_namespace(fcinfo, 1, &target);
		purge.ns = target.ns;
	}

	left = warn_of_publisher();
	while (removed < max_rows && !left)
	{
		CHECK_FOR_INTERRUPTS();
		purge.limit = PURGE_STEP;
		purge.remove = max_rows - removed;
		ss_sql_enter(&caller);
		ss_purge_batch(&purge, role);
		ss_sql_leave(&caller);
		removed += purge.removed;
		if (purge.visited < purge.limit)
			break;
		purge.from = purge.up_to;
	}
	ss_aside_warn(purge.aside, "sessions");
	/* messages of ended sessions count as rows, too */
	messages_aside = ss_aside_of_call(SS_WORK_HISTORY, CurrentMemoryContext);
	for (bool more = true; more && removed < max_rows;)
	{
		int64 messages;

		CHECK_FOR_INTERRUPTS();
		ss_sql_enter(&caller);
		more = ss_history_purge(purge.ns, Min(max_rows - removed, PURGE_STEP), messages_aside,
								&messages);
		ss_sql_leave(&caller);
		removed += messages;
	}
	ss_aside_warn(messages_aside, "conversations");
	removed += purge_operations(purge.ns, max_rows - removed);
	removed += purge_counters(purge.ns, max_rows - removed);
	PG_RETURN_INT64(removed);
}

/*
 * For policies: may the current role use sessions of this namespace, owner and conversation, as a
 * viewer, an editor or an owner?
 */
static Datum
session_may(PG_FUNCTION_ARGS)
{
	Oid role = GetUserId();
	SsRow row = {0};
	SsPolicy policy;
	SsPlanMode mode;
	SsNeed need;
	text *ns;

	if (PG_ARGISNULL(0))
		PG_RETURN_BOOL(false);
	ss_arg_require(fcinfo, 3, "role");
	if (!ss_access_need_of_role(TextDatumGetCString(PG_GETARG_DATUM(3)), &need))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid role"),
						errdetail("It must be viewer, editor or owner.")));
	ns = PG_GETARG_TEXT_PP(0);
	if (!ss_ns_find(VARDATA_ANY(ns), VARSIZE_ANY_EXHDR(ns), &policy) ||
		!ss_ns_allows(&policy, role))
		PG_RETURN_BOOL(false);
	if (!ss_access_isolates(&policy, role))
		PG_RETURN_BOOL(true);
	row.owner_null = PG_ARGISNULL(1);
	row.owner = arg_or_zero(fcinfo, 1);
	row.history_null = PG_ARGISNULL(2);
	row.history = arg_or_zero(fcinfo, 2);
	/*
	 * A statement that waited for a row lock must not change the row because of a membership that
	 * has ended meanwhile, so the latest snapshot is used.  A parallel worker cannot take a new
	 * snapshot, nor does a parallel plan lock rows.
	 */
	mode = need == SS_VIEW || IsInParallelMode() ? SS_PLAN_READ : SS_PLAN_READ_LATEST;
	PG_RETURN_BOOL(ss_access_allows(&policy, role, &row, need, mode));
}

/*
 * For the view conversation_messages: is the session of this row alive, by the rules of the
 * functions?
 */
static Datum
session_alive(PG_FUNCTION_ARGS)
{
	SsTarget target = {0};
	SsRow row = {0};
	text *ns;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2) || PG_ARGISNULL(3))
		PG_RETURN_BOOL(false);
	ns = PG_GETARG_TEXT_PP(0);
	/* do not reveal whether a namespace does not exist or the caller may not use it */
	if (!ss_key_from_datums(&target.key, PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)) ||
		!ss_ns_find(VARDATA_ANY(ns), VARSIZE_ANY_EXHDR(ns), &target.policy) ||
		!ss_ns_allows(&target.policy, GetUserId()))
		PG_RETURN_BOOL(false);
	row.created_at = PG_GETARG_TIMESTAMPTZ(2);
	row.expires_at = PG_GETARG_TIMESTAMPTZ(3);
	row.dead_until = PG_ARGISNULL(4) ? SS_NEVER : PG_GETARG_TIMESTAMPTZ(4);
	row.ttl_us = PG_ARGISNULL(5) ? SS_FIXED : ss_interval_usec(PG_GETARG_DATUM(5));
	ss_row_set_state(&row, &target, GetCurrentTimestamp());
	PG_RETURN_BOOL(row.state == SS_ALIVE);
}

/*
 * The expiry of the row of a session, whose ttl is not null: expires_at, or a later one that a pending
 * touch gives it.
 */
static Datum
session_effective_expiry(PG_FUNCTION_ARGS)
{
	SsKey key;
	bool valid;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		PG_RETURN_NULL(); /* declared STRICT, but ALTER FUNCTION can change that */
	valid = ss_key_from_datums(&key, PG_GETARG_DATUM(0), PG_GETARG_DATUM(1));
	PG_RETURN_TIMESTAMPTZ(
		ss_liveness_expiry(valid ? &key : NULL, PG_GETARG_TIMESTAMPTZ(2), false, SS_NEVER));
}

/* The filter of session_list(): document @> filter, but interruptible. */
static Datum
session_contains(PG_FUNCTION_ARGS)
{
	Jsonb *document;
	Jsonb *filter;
	bool result;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	document = PG_GETARG_JSONB_P(0);
	filter = PG_GETARG_JSONB_P(1);
	result = ss_contains(&document->root, &filter->root);
	PG_FREE_IF_COPY(document, 0);
	PG_FREE_IF_COPY(filter, 1);
	PG_RETURN_BOOL(result);
}
