/*
 * sessions.c
 *		Single rows of conversation_sessions: read, lock, write.
 *
 * Nothing here decides what a call means (rows/change.c does); it only brings a
 * row to C and back.  All of it runs between ss_sql_enter and ss_sql_leave.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "rows/direct.h"
#include "rows/errors.h"
#include "rows/expiry.h"
#include "rows/sessions.h"
#include "rows/sql.h"

#define ROW_COLUMNS                                                                        \
	"session_data, owner_id, version, created_at, updated_at, expires_at, ttl, last_seq, " \
	"message_count, check_at, dead_until, history_id"
#define READ_COLUMNS ROW_COLUMNS ", xmin"
#define THE_ROW " FROM {sessions} WHERE namespace {=} $1 AND session_id {=} $2"

static SsPlan read_plan = {"SELECT " READ_COLUMNS THE_ROW, 2, {TEXTOID, TEXTOID}};

static SsPlan lock_plan = {"SELECT " READ_COLUMNS THE_ROW " FOR NO KEY UPDATE",
						   2,
						   {TEXTOID, TEXTOID}};

static SsPlan try_lock_plan = {"SELECT " READ_COLUMNS THE_ROW " FOR NO KEY UPDATE SKIP LOCKED",
							   2,
							   {TEXTOID, TEXTOID}};

static SsPlan insert_plan = {"INSERT INTO {sessions} (namespace, session_id, " ROW_COLUMNS ")"
							 " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
							 " ON CONFLICT (namespace, session_id) DO NOTHING",
							 14,
							 {TEXTOID, TEXTOID, JSONBOID, TEXTOID, INT8OID, TIMESTAMPTZOID,
							  TIMESTAMPTZOID, TIMESTAMPTZOID, INTERVALOID, INT8OID, INT8OID,
							  TIMESTAMPTZOID, TIMESTAMPTZOID, UUIDOID}};

static SsPlan write_plan = {
	"UPDATE {sessions} SET session_data = $3, owner_id = $4, version = $5, created_at = $6,"
	" updated_at = $7, expires_at = $8, ttl = $9, last_seq = $10, message_count = $11,"
	" check_at = $12, dead_until = $13, history_id = $14"
	" WHERE namespace {=} $1 AND session_id {=} $2",
	14,
	{TEXTOID, TEXTOID, JSONBOID, TEXTOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
	 INTERVALOID, INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, UUIDOID}};

static SsPlan count_plan = {
	"UPDATE {sessions} SET last_seq = $3, message_count = $4, history_id = $5, updated_at = $6,"
	" expires_at = $7 WHERE namespace {=} $1 AND session_id {=} $2",
	7,
	{TEXTOID, TEXTOID, INT8OID, INT8OID, UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID}};

static SsPlan extend_plan = {"UPDATE {sessions} SET expires_at = $3, ttl = $4"
							 " WHERE namespace {=} $1 AND session_id {=} $2",
							 4,
							 {TEXTOID, TEXTOID, TIMESTAMPTZOID, INTERVALOID}};

static SsPlan rename_plan = {"UPDATE {sessions} SET session_id = $3, expires_at = $4"
							 " WHERE namespace {=} $1 AND session_id {=} $2",
							 4,
							 {TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}};

/* '{}'::jsonb, what a tombstone holds. */
Datum
ss_empty_document(void)
{
	return DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));
}

/* The version after this one; it must not run backwards, so it must not wrap. */
int64
ss_next_version(int64 version)
{
	if (version == PG_INT64_MAX)
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						errmsg("the version of this session cannot be counted any further"),
						errhint("Delete the row and begin the session anew.")));
	return version + 1;
}

/*
 * The version of a session that ends.  No counter may make a logout fail, so the last one is kept
 * where there is no next.
 */
int64
ss_final_version(int64 version)
{
	return version == PG_INT64_MAX ? version : version + 1;
}

/* Elapsed time as an interval without days, so that no calendar can stretch it. */
Interval *
ss_make_interval(int64 usec)
{
	Interval *result = palloc0(sizeof(Interval));

	result->time = usec;
	return result;
}

/* A ttl out of the table: its trigger saw to it that it converts, unless it was off. */
int64
ss_interval_usec(Datum interval)
{
	Interval *span = DatumGetIntervalP(interval);
	int64 usec;

	if (ss_duration(span->month, span->day, span->time, SS_TTL_MIN, SS_TTL_MAX, &usec) !=
		SS_DURATION_OK)
		return SS_DEFAULT_TTL;
	return usec;
}

static int64
get_int64(HeapTuple tuple, TupleDesc desc, int column, int64 if_null)
{
	bool null;
	Datum value = SPI_getbinval(tuple, desc, column, &null);

	return null ? if_null : DatumGetInt64(value);
}

/* Fill *row from the first row of SPI's result, in the order of ROW_COLUMNS. */
static void
from_result(SsRow *row)
{
	HeapTuple tuple = SPI_tuptable->vals[0];
	TupleDesc desc = SPI_tuptable->tupdesc;
	bool null;

	row->data = ss_sql_value(tuple, desc, 1, "conversation_sessions");
	row->owner = SPI_getbinval(tuple, desc, 2, &row->owner_null);
	row->version = get_int64(tuple, desc, 3, 0);
	row->created_at = get_int64(tuple, desc, 4, 0);
	row->updated_at = get_int64(tuple, desc, 5, 0);
	row->expires_at = get_int64(tuple, desc, 6, 0);
	row->ttl = ss_interval_usec(ss_sql_value(tuple, desc, 7, "conversation_sessions"));
	row->last_seq = get_int64(tuple, desc, 8, 0);
	row->message_count = get_int64(tuple, desc, 9, 0);
	row->check_at = get_int64(tuple, desc, 10, 0);
	row->dead_until = get_int64(tuple, desc, 11, SS_NEVER);
	row->history = SPI_getbinval(tuple, desc, 12, &row->history_null);
	row->own_xact = TransactionIdIsCurrentTransactionId(
		DatumGetTransactionId(SPI_getbinval(tuple, desc, 13, &null)));
}

/* Is the row a session at this time, and until when? */
void
ss_row_set_state(SsRow *row, const SsTarget *target, TimestampTz now)
{
	/* a tombstone, or one that is over, is nobody's to keep alive */
	row->ends_at = row->expires_at;
	if (row->dead_until == SS_NEVER)
		row->ends_at = ss_touch_effective(&target->key, row->expires_at);
	/* a policy that was tightened holds for what is there already */
	if (target->policy.max_lifetime != SS_NO_LIMIT)
		row->ends_at = Min(row->ends_at, ss_expiry(row->created_at, target->policy.max_lifetime,
												   row->created_at, SS_NO_LIMIT));
	if (row->dead_until > now)
		row->state = SS_DEAD;
	else if (row->ends_at > now)
		row->state = SS_ALIVE;
	else
		row->state = SS_EXPIRED;
}

static bool
fetch_row(SsPlan *plan, const SsTarget *target, SsPlanMode mode, SsRow *row)
{
	Datum values[2] = {target->ns, target->id};

	row->state = SS_ABSENT;
	row->has_tid = false;
	if (ss_plan_run(plan, values, NULL, mode, 1) == 0)
		return false;
	from_result(row);
	/* only now: waiting for a lock takes time, and the clock is read after it */
	ss_row_set_state(row, target, GetCurrentTimestamp());
	return true;
}

/* The row as a snapshot shows it. */
bool
ss_row_read(const SsTarget *target, SsPlanMode mode, SsRow *row)
{
	return fetch_row(&read_plan, target, mode, row);
}

/*
 * A reader with an old snapshot reads the document as it was then, but its reads keep
 * the session as it is now alive, and by now its expiry may have been written anew.
 * If it is still the same session, take over its end.
 */
bool
ss_row_refresh(const SsTarget *target, SsRow *row)
{
	SsRow latest;

	SsCaller caller;
	bool alive;

	if (row->own_xact || IsInParallelMode())
		return false;
	ss_sql_enter(&caller);
	alive = fetch_row(&read_plan, target, SS_PLAN_READ_LATEST, &latest) && latest.state == SS_ALIVE;
	ss_sql_leave(&caller);
	if (!alive || latest.created_at != row->created_at)
		return false;
	row->state = SS_ALIVE;
	row->expires_at = latest.expires_at;
	row->ends_at = latest.ends_at;
	row->ttl = latest.ttl;
	row->own_xact = latest.own_xact;
	return true;
}

static bool
hold_row(const SsTarget *target, SsRow *row, SsHold hold)
{
	bool found;

	row->state = SS_ABSENT;
	if (!ss_direct_hold(target, hold, row, &found))
		return hold != SS_HOLD_NONE && fetch_row(hold == SS_HOLD_WAIT ? &lock_plan : &try_lock_plan,
												 target, SS_PLAN_WRITE, row);
	if (found)
		ss_row_set_state(row, target, GetCurrentTimestamp());
	return found;
}

/* The row as it is, locked against change until the transaction ends. */
bool
ss_row_lock(const SsTarget *target, SsRow *row)
{
	return hold_row(target, row, SS_HOLD_WAIT);
}

/* As ss_row_lock, but not waiting: a row that somebody has locked counts as absent. */
bool
ss_row_try_lock(const SsTarget *target, SsRow *row)
{
	return hold_row(target, row, SS_HOLD_SKIP_LOCKED);
}

/*
 * As ss_row_lock, but without a lock: what is then written is written only if the row is still
 * the same and free.  False also where that cannot be.
 */
bool
ss_row_read_unlocked(const SsTarget *target, SsRow *row)
{
	return hold_row(target, row, SS_HOLD_NONE);
}

/* Bind a row to the parameters that the insert and the write share. */
static void
bind(const SsTarget *target, const SsRow *row, Datum *values, char *nulls)
{
	memset(nulls, ' ', 14);
	values[0] = target->ns;
	values[1] = target->id;
	values[2] = row->data;
	values[3] = row->owner;
	if (row->owner_null)
		nulls[3] = 'n';
	values[4] = Int64GetDatum(row->version);
	values[5] = TimestampTzGetDatum(row->created_at);
	values[6] = TimestampTzGetDatum(row->updated_at);
	values[7] = TimestampTzGetDatum(row->expires_at);
	values[8] = IntervalPGetDatum(ss_make_interval(row->ttl));
	values[9] = Int64GetDatum(row->last_seq);
	values[10] = Int64GetDatum(row->message_count);
	values[11] = TimestampTzGetDatum(row->check_at);
	values[12] = TimestampTzGetDatum(row->dead_until);
	if (row->dead_until == SS_NEVER)
		nulls[12] = 'n';
	values[13] = row->history;
	if (row->history_null)
		nulls[13] = 'n';
}

/* Insert; false when somebody else did so first. */
bool
ss_row_insert(const SsTarget *target, const SsRow *row)
{
	Datum values[14];
	char nulls[14];

	bind(target, row, values, nulls);
	return ss_plan_run(&insert_plan, values, nulls, SS_PLAN_WRITE, 0) == 1;
}

/* Write the whole of a row; false when it was not locked, and somebody was quicker. */
bool
ss_row_write(const SsTarget *target, const SsRow *row)
{
	Datum values[14];
	char nulls[14];

	if (ss_direct_write(target, row, SS_ALL_COLUMNS))
		return true;
	if (row->has_tid && !row->locked)
		return false;
	bind(target, row, values, nulls);
	if (ss_plan_run(&write_plan, values, nulls, SS_PLAN_WRITE, 0) != 1)
		ss_error_rows_skipped("conversation_sessions");
	return true;
}

/* Write what a change of its history changes in a row. */
void
ss_row_write_history(const SsTarget *target, const SsRow *row)
{
	Datum values[7] = {target->ns,
					   target->id,
					   Int64GetDatum(row->last_seq),
					   Int64GetDatum(row->message_count),
					   row->history,
					   TimestampTzGetDatum(row->updated_at),
					   TimestampTzGetDatum(row->expires_at)};
	char nulls[7] = {' ', ' ', ' ', ' ', row->history_null ? 'n' : ' ', ' ', ' '};

	if (ss_direct_write(target, row, SS_HISTORY_COLUMNS))
		return;
	if (ss_plan_run(&count_plan, values, nulls, SS_PLAN_WRITE, 0) != 1)
		ss_error_rows_skipped("conversation_sessions");
}

/* Write expires_at and ttl alone. */
void
ss_row_write_expiry(const SsTarget *target, const SsRow *row)
{
	Datum values[4] = {target->ns, target->id, TimestampTzGetDatum(row->expires_at),
					   IntervalPGetDatum(ss_make_interval(row->ttl))};

	if (ss_direct_write(target, row, SS_EXPIRY_COLUMNS))
		return;
	if (ss_plan_run(&extend_plan, values, NULL, SS_PLAN_WRITE, 0) != 1)
		ss_error_rows_skipped("conversation_sessions");
}

/*
 * Give a locked row another id.  The row stays the same tuple chain, so that
 * whoever waits for it (a log-out everywhere, say) follows it to its new name.
 */
void
ss_row_rename(const SsTarget *target, Datum new_id, const SsRow *row)
{
	Datum values[4] = {target->ns, target->id, new_id, TimestampTzGetDatum(row->expires_at)};

	if (ss_plan_run(&rename_plan, values, NULL, SS_PLAN_WRITE, 0) != 1)
		ss_error_rows_skipped("conversation_sessions");
}
