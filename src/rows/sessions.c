/*
 * sessions.c
 *		Single rows of conversation_sessions: read, lock, write.
 *
 * These functions convert between table rows and SsRow and set SsRow.state.  What a call does with a
 * session is decided by their callers (rows/change.c).  Rows are accessed directly where possible
 * (rows/direct.c), otherwise through SPI.
 *
 * Unless a function says otherwise, the caller is between ss_sql_enter and ss_sql_leave.
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
#include "rows/liveness.h"
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

/* Returns '{}'::jsonb, the document of a new session and of a tombstone. */
Datum
ss_empty_document(void)
{
	return DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));
}

/* Returns the version that follows.  Raises an error rather than wrap: versions never decrease. */
int64
ss_next_version(int64 version)
{
	if (version == PG_INT64_MAX)
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						errmsg("version numbers of this session are exhausted"),
						errhint("Delete the row and create the session again.")));
	return version + 1;
}

/* Returns an interval without days or months, so that adding it is independent of the calendar. */
Interval *
ss_make_interval(int64 usec)
{
	Interval *result = palloc0(sizeof(Interval));

	result->time = usec;
	return result;
}

/*
 * Converts a stored ttl to microseconds.  The trigger on conversation_sessions admits only values
 * that can be converted; rows written while it was disabled get the default.
 */
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

/* Fills *row from the first row of SPI's result, whose columns are READ_COLUMNS. */
static void
row_from_result(SsRow *row)
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

/*
 * Sets row->state and row->ends_at for the time `now`.  Reads expires_at, dead_until and created_at
 * of the row, the key and max_lifetime of the target; runs no SQL.
 */
void
ss_row_set_state(SsRow *row, const SsTarget *target, TimestampTz now)
{
	TimestampTz expiry = ss_liveness_expiry(&target->key, row->expires_at, row->dead_until);

	/* a max_lifetime that was lowered applies to existing sessions */
	row->ends_at = ss_expiry_cap(expiry, row->created_at, target->policy.max_lifetime);
	row->state = ss_liveness_state(row->ends_at, row->dead_until, now);
}

static bool
fetch_row(SsPlan *plan, const SsTarget *target, SsPlanMode mode, SsRow *row)
{
	Datum values[2] = {target->ns, target->id};

	row->state = SS_ABSENT;
	row->has_tid = false;
	if (ss_plan_run(plan, values, NULL, mode, 1) == 0)
		return false;
	row_from_result(row);
	/* the clock is read after the row lock was granted, which may have taken long */
	ss_row_set_state(row, target, GetCurrentTimestamp());
	return true;
}

/* Reads the row as the snapshot of `mode` shows it, without a lock.  False when there is none. */
bool
ss_row_read(const SsTarget *target, SsPlanMode mode, SsRow *row)
{
	return fetch_row(&read_plan, target, mode, row);
}

/*
 * Updates expiry and ttl of a row that was read with an old snapshot from its latest version, and
 * keeps the document.  False, and nothing is updated, when the latest version is not alive or
 * belongs to another session (created_at differs).
 *
 * A read extends the session as it is now, whose expiry may have been rewritten since the snapshot.
 * May be called outside ss_sql_enter.
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

/*
 * Reads the current version of the row, directly or by a statement.  False when there is none, and
 * with SS_HOLD_NONE also when direct access is not possible.
 */
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

/*
 * Reads the current version of the row and locks it FOR NO KEY UPDATE until the transaction ends.
 * False when there is no row.
 */
bool
ss_row_lock(const SsTarget *target, SsRow *row)
{
	return hold_row(target, row, SS_HOLD_WAIT);
}

/* As ss_row_lock without waiting: a row that another transaction has locked counts as absent. */
bool
ss_row_try_lock(const SsTarget *target, SsRow *row)
{
	return hold_row(target, row, SS_HOLD_SKIP_LOCKED);
}

/*
 * As ss_row_lock without the lock.  ss_row_write then writes only if the row was neither changed nor
 * locked since.  False also when rows cannot be accessed directly.
 */
bool
ss_row_read_unlocked(const SsTarget *target, SsRow *row)
{
	return hold_row(target, row, SS_HOLD_NONE);
}

/* Sets the parameters of insert_plan and write_plan. */
static void
bind_row(const SsTarget *target, const SsRow *row, Datum *values, char *nulls)
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

/* Inserts the row; false when the id has a row already. */
bool
ss_row_insert(const SsTarget *target, const SsRow *row)
{
	Datum values[14];
	char nulls[14];

	bind_row(target, row, values, nulls);
	return ss_plan_run(&insert_plan, values, nulls, SS_PLAN_WRITE, 0) == 1;
}

/*
 * Writes all columns of an existing row.  False, and nothing is written, when the row was read by
 * ss_row_read_unlocked and another transaction has changed or locked it since.
 */
bool
ss_row_write(const SsTarget *target, const SsRow *row)
{
	Datum values[14];
	char nulls[14];

	if (ss_direct_write(target, row, SS_ALL_COLUMNS))
		return true;
	if (row->has_tid && !row->locked)
		return false;
	bind_row(target, row, values, nulls);
	if (ss_plan_run(&write_plan, values, nulls, SS_PLAN_WRITE, 0) != 1)
		ss_error_rows_skipped("conversation_sessions");
	return true;
}

/* Writes the columns of a locked row that a change of its history changes. */
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

/* Writes expires_at and ttl of a locked row. */
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
 * Gives a locked row another id and writes expires_at.  The update keeps the tuple chain, so that a
 * transaction that waits for the row (to log out everywhere, for instance) follows it to its new id.
 */
void
ss_row_rename(const SsTarget *target, Datum new_id, const SsRow *row)
{
	Datum values[4] = {target->ns, target->id, new_id, TimestampTzGetDatum(row->expires_at)};

	if (ss_plan_run(&rename_plan, values, NULL, SS_PLAN_WRITE, 0) != 1)
		ss_error_rows_skipped("conversation_sessions");
}
