/*
 * hits.c
 *		Counters over a fixed period, for rate limits and quotas of attempts.
 *
 * A counter is a row of session_counters.  Its period begins with the first hit and is never
 * extended.  A hit after the end of the period starts a new one in the same row, whether or not the
 * purge has come (upkeep/counter_purge.c).  Within a period only the column hits changes, which no
 * index has, so the updates are HOT.
 *
 * Counters have no owner, tombstone, history, events or copy in Redis, and no triggers of ours.
 *
 * Locking: a hit within a running period that meets no other transaction is an update through the
 * table AM (direct_counter.c).  Otherwise it is one INSERT .. ON CONFLICT DO UPDATE.  The clock is read
 * once, after the row was locked, so a hit that waited for the row beyond the end of the period counts
 * in the new one.  The exception is a hit that waited for a transaction that was creating the counter
 * and rolled back: its period begins when the call did.  If that is over, the statement is repeated.
 *
 * A hit commits asynchronously if its transaction does nothing else (relaxed.c).  A reset does not,
 * because a foreign key to session_counters may delete other rows with it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "storage/lmgr.h"
#include "utils/timestamp.h"

#include "row/access.h"
#include "row/direct_counter.h"
#include "row/errors.h"
#include "sessions/aside.h"
#include "sessions/hits.h"
#include "sessions/relaxed.h"
#include "shared/counters.h"
#include "table/catalog.h"
#include "table/sql.h"
#include "table/subxact.h"

/* The columns that statements return.  The casts hold also if the table was altered. */
enum
{
	FOUND_RESETS_AT = 1,
	FOUND_HITS
};

#define FOUND "resets_at::pg_catalog.timestamptz, hits::pg_catalog.int8"
#define OF_COUNTER " WHERE namespace {=} $1 AND counter_id {=} $2"
#define RUNNING " AND resets_at {>} pg_catalog.clock_timestamp()"
#define MOST "9223372036854775807::pg_catalog.int8"

/* Maximum number of attempts of ss_hits_clear. */
#define MAX_CLEARS 5

/* OFFSET keeps the planner from evaluating the clock more than once. */
static SsPlan count_plan = {
	"INSERT INTO {counters} AS c (resets_at, hits, namespace, counter_id)"
	" VALUES (pg_catalog.clock_timestamp() {+} $4, $3, $1, $2)"
	" ON CONFLICT (namespace, counter_id) DO UPDATE SET (resets_at, hits) ="
	" (SELECT CASE WHEN c.resets_at {<=} t.now THEN t.now {+} $4 ELSE c.resets_at END,"
	"  CASE WHEN c.resets_at {<=} t.now THEN $3 WHEN c.hits {>} (" MOST " {-} $3) THEN " MOST
	"  ELSE c.hits {+} $3 END"
	"  FROM (SELECT pg_catalog.clock_timestamp() AS now OFFSET 0) AS t) RETURNING " FOUND,
	4,
	{TEXTOID, TEXTOID, INT8OID, INTERVALOID}};

static SsPlan take_back_plan = {
	"UPDATE {counters} SET hits = CASE WHEN hits {>} $3 THEN hits {-} $3 ELSE 0::pg_catalog.int8 END" OF_COUNTER
		RUNNING " RETURNING " FOUND,
	3,
	{TEXTOID, TEXTOID, INT8OID}};

static SsPlan read_plan = {"SELECT " FOUND " FROM {counters}" OF_COUNTER, 2, {TEXTOID, TEXTOID}};

static SsPlan reset_plan = {"DELETE FROM {counters}" OF_COUNTER " RETURNING " FOUND,
							2,
							{TEXTOID, TEXTOID}};

/* Counters that another transaction has locked stay: their hits come after the clear. */
static SsPlan clear_plan = {
	"DELETE FROM {counters} WHERE ctid {=} ANY (ARRAY(SELECT ctid FROM {counters}"
	" WHERE namespace {=} $1 FOR UPDATE SKIP LOCKED)) AND namespace {=} $1",
	1,
	{TEXTOID}};

/*
 * Raises an error unless the caller may use the counters of the namespace.  Counters have no owner, so
 * a caller that is subject to owner isolation could reset its own limits, and use up those of others.
 */
void
ss_hits_require_access(const SsTarget *target)
{
	if (!ss_access_isolates(&target->policy, target->role))
		return;
	ss_counter_add(SS_ERROR_DENIED, 1);
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for counters of namespace \"%s\"", target->policy.name),
			 errdetail("Counters have no owner, and the namespace has owner_isolation."),
			 errhint("Use a namespace without owner_isolation, or a role with BYPASSRLS.")));
}

/* Fills in the result from the first of n rows that a statement has returned. */
static void
get_result(uint64 n, SsHits *result)
{
	SPITupleTable *table = SPI_tuptable;

	memset(result, 0, sizeof(*result));
	if (n == 0)
		return;
	result->running = true;
	result->resets_at = DatumGetTimestampTz(
		ss_sql_value(table->vals[0], table->tupdesc, FOUND_RESETS_AT, "session_counters"));
	result->hits = DatumGetInt64(
		ss_sql_value(table->vals[0], table->tupdesc, FOUND_HITS, "session_counters"));
}

static bool
is_over(const SsHits *counter)
{
	return counter->resets_at <= GetCurrentTimestamp();
}

/* The same, but a counter whose period has ended is none. */
static void
get_running(uint64 n, SsHits *result)
{
	get_result(n, result);
	if (is_over(result))
		memset(result, 0, sizeof(*result));
}

/* Changes a counter through the table AM.  False if the statement has to be run. */
static bool
change_directly(const SsTarget *target, Datum counter, int64 by, SsHits *result)
{
	result->running = true;
	return ss_direct_count(target->ns, counter, by, &result->hits, &result->resets_at) &&
		   !is_over(result);
}

/*
 * Counts `by` hits (at least 1) and returns the counter.  At the largest bigint, hits stay as they
 * are.  Between ss_sql_enter and ss_sql_leave, as all that follows.
 */
void
ss_hits_count(const SsTarget *target, Datum counter, int64 by, int64 period_us, SsHits *result)
{
	Datum values[4] = {target->ns, counter, Int64GetDatum(by),
					   IntervalPGetDatum(ss_make_interval(period_us))};

	Assert(by > 0 && period_us > 0);
	ss_relaxed_begin_hit();
	for (int i = 0; i < 2 && !change_directly(target, counter, by, result); i++)
	{
		uint64 n = ss_plan_run_on_counter(&count_plan, values, SS_PLAN_WRITE);

		if (n == 0)
			ss_error_rows_skipped("session_counters");
		get_result(n, result);
		/* otherwise the time of a new row is from before a wait; now we have its lock */
		if (!is_over(result))
			break;
	}
	ss_relaxed_end_hit();
	ss_counter_add(SS_HITS, 1);
}

/*
 * Takes back `by` hits (at least 1), but not below 0, and returns the counter.  A counter that is not
 * running stays as it is.
 */
void
ss_hits_take_back(const SsTarget *target, Datum counter, int64 by, SsHits *result)
{
	Datum values[3] = {target->ns, counter, Int64GetDatum(by)};

	Assert(by > 0);
	ss_relaxed_begin_hit();
	if (!change_directly(target, counter, -by, result))
		get_running(ss_plan_run_on_counter(&take_back_plan, values, SS_PLAN_WRITE), result);
	/* a trigger may have skipped the row */
	if (!result->running)
		ss_hits_read(target, counter, result);
	ss_relaxed_end_hit();
	ss_counter_add(SS_HITS, 1);
}

/* Reads a counter.  Writes nothing, but sees hits of the statement that calls it. */
void
ss_hits_read(const SsTarget *target, Datum counter, SsHits *result)
{
	Datum values[2] = {target->ns, counter};

	get_running(ss_plan_run(&read_plan, values, NULL, SS_PLAN_WRITE, 1), result);
}

/* Removes a counter; true if it was running. */
bool
ss_hits_reset(const SsTarget *target, Datum counter)
{
	Datum values[2] = {target->ns, counter};
	SsHits before;

	get_running(ss_plan_run_on_counter(&reset_plan, values, SS_PLAN_WRITE), &before);
	return before.running;
}

/* A removal of the counters of a namespace in progress. */
typedef struct Clear
{
	const SsTarget *target;
	bool locked; /* another session has locked the table */
} Clear;

/* In a subtransaction: removes the counters. */
static bool
clear(void *arg)
{
	Clear *call = arg;
	Datum values[1] = {call->target->ns};
	SsCatalog catalog;

	ss_catalog_get(&catalog);
	call->locked = OidIsValid(catalog.counters) &&
				   !ConditionalLockRelationOid(catalog.counters, RowExclusiveLock);
	if (!call->locked)
		ss_plan_run_on_counter(&clear_plan, values, SS_PLAN_LATEST);
	return !call->locked;
}

/* Does an error of clear() concern the statement or the whole transaction, as a cancel does? */
static bool
is_serious(const ErrorData *error)
{
	return error->sqlerrcode != ERRCODE_T_R_SERIALIZATION_FAILURE &&
		   ss_aside_fault(error) == SS_FAULT_OTHER;
}

/*
 * Removes the counters of a namespace whose sessions have been ended.  Must not make a logout wait or
 * fail: rows that others have locked stay, and if the counters cannot be removed, there is a warning.
 */
void
ss_hits_clear(const SsTarget *target)
{
	Clear call = {target};
	ErrorData *error;

	/* a hit between the snapshot and the lock is a serialization failure above READ COMMITTED */
	for (int i = 0; i < MAX_CLEARS; i++)
	{
		if (ss_subxact_run(clear, &call, &error))
			return;
		if (error != NULL && is_serious(error))
			ReThrowError(error);
		if (error == NULL || error->sqlerrcode != ERRCODE_T_R_SERIALIZATION_FAILURE)
			break;
	}
	ereport(
		WARNING,
		(errcode(call.locked ? ERRCODE_LOCK_NOT_AVAILABLE : error->sqlerrcode),
		 errmsg("counters of namespace \"%s\" were not removed", target->policy.name),
		 call.locked ? errdetail("Another session has locked session_counters.")
					 : errdetail("The sessions have ended all the same."),
		 call.locked
			 ? 0
			 : errhint(
				   "Check session_counters for a foreign key, trigger or rule that prevents it.")));
}
