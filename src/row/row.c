/*
 * row.c
 *		Single rows of conversation_sessions: read, lock, write.
 *
 * These functions convert between table rows and SsRow and set SsRow.state.  What a call does with a
 * session is decided by their callers (sessions/change.c).  Rows are accessed directly where possible
 * (row/direct.c), otherwise through SPI.
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

#include "base/expiry.h"
#include "row/direct.h"
#include "row/errors.h"
#include "row/liveness.h"
#include "row/row.h"
#include "row/row_columns.h"
#include "table/sql.h"

/* Columns that every change of a session writes, and those that a change of its document or history does. */
#define LIFETIME_COLUMNS SS_ROW_EXPIRES_AT, SS_ROW_UPDATED_AT
#define DOCUMENT_COLUMNS SS_ROW_SESSION_DATA, SS_ROW_OWNER_ID, SS_ROW_VERSION, SS_ROW_TTL
#define HISTORY_COLUMNS SS_ROW_LAST_SEQ, SS_ROW_MESSAGE_COUNT, SS_ROW_HISTORY_ID
#define SUMMARY_COLUMNS SS_ROW_SUMMARY, SS_ROW_SUMMARY_UP_TO
/* Columns that a new session writes besides.  The token of the last turn is kept. */
#define NEW_COLUMNS                                                                               \
	SS_ROW_CREATED_AT, SS_ROW_CHECK_AT, SS_ROW_DEAD_UNTIL, SS_ROW_TURN_UNTIL, SS_ROW_TURN_HOLDER, \
		SUMMARY_COLUMNS

static const AttrNumber insert_columns[] = {LIFETIME_COLUMNS, DOCUMENT_COLUMNS, HISTORY_COLUMNS,
											NEW_COLUMNS,      SS_ROW_TURN,      SS_ROW_NONE};
static const AttrNumber new_columns[] = {LIFETIME_COLUMNS, DOCUMENT_COLUMNS, HISTORY_COLUMNS,
										 NEW_COLUMNS, SS_ROW_NONE};
static const AttrNumber document_columns[] = {LIFETIME_COLUMNS, DOCUMENT_COLUMNS, SS_ROW_NONE};
static const AttrNumber history_columns[] = {LIFETIME_COLUMNS, HISTORY_COLUMNS, SS_ROW_NONE};
static const AttrNumber summary_columns[] = {LIFETIME_COLUMNS, HISTORY_COLUMNS, SUMMARY_COLUMNS,
											 SS_ROW_NONE};
static const AttrNumber document_and_history_columns[] = {LIFETIME_COLUMNS, DOCUMENT_COLUMNS,
														  HISTORY_COLUMNS, SS_ROW_NONE};
static const AttrNumber end_columns[] = {LIFETIME_COLUMNS,     SS_ROW_SESSION_DATA,
										 SS_ROW_OWNER_ID,      SS_ROW_VERSION,
										 SS_ROW_MESSAGE_COUNT, SS_ROW_HISTORY_ID,
										 SS_ROW_DEAD_UNTIL,    SS_ROW_TURN_UNTIL,
										 SS_ROW_TURN_HOLDER,   SUMMARY_COLUMNS,
										 SS_ROW_NONE};
static const AttrNumber expiry_columns[] = {SS_ROW_EXPIRES_AT, SS_ROW_TTL, SS_ROW_NONE};
static const AttrNumber turn_columns[] = {SS_ROW_TURN, SS_ROW_TURN_UNTIL, SS_ROW_TURN_HOLDER,
										  SS_ROW_NONE};

#define FROM_ROW " FROM {sessions} WHERE namespace {=} $1 AND session_id {=} $2"

/* Statements that read a row, and their plans for each set of fields (see fetch_row). */
typedef struct Fetch
{
	const char *sql;
	SsPlan plans[SS_FIELDS_ALL + 1];
} Fetch;

static Fetch read_row = {"SELECT {columns}, xmin" FROM_ROW};
static Fetch lock_row = {"SELECT {columns}" FROM_ROW " FOR NO KEY UPDATE"};
static Fetch try_lock_row = {"SELECT {columns}" FROM_ROW " FOR NO KEY UPDATE SKIP LOCKED"};
static Fetch lock_free_turn = {
	"SELECT {columns}" FROM_ROW
	" AND (turn_until IS NULL OR turn_until {<=} pg_catalog.clock_timestamp())"
	" FOR NO KEY UPDATE SKIP LOCKED"};

/* The parameters of the statements that write a row are its columns: see run_for_row. */
#define ROW_ARGS                                 \
	SS_ROW_ATTRS,                                \
	{                                            \
		SS_CONVERSATION_SESSIONS(SS_COLUMN_TYPE) \
	}
#define UPDATE_ROW                                                                     \
	"UPDATE {sessions} SET {set} WHERE namespace {=} {$namespace} AND session_id {=} " \
	"{$session_id}",                                                                   \
		ROW_ARGS

static SsPlan insert_plan = {"INSERT INTO {sessions} (namespace, session_id, {columns})"
							 " VALUES ({$namespace}, {$session_id}, {values})"
							 " ON CONFLICT (namespace, session_id) DO NOTHING",
							 ROW_ARGS, insert_columns};

static SsPlan write_plans[] = {[SS_WRITE_NEW] = {UPDATE_ROW, new_columns},
							   [SS_WRITE_DOCUMENT] = {UPDATE_ROW, document_columns},
							   [SS_WRITE_HISTORY] = {UPDATE_ROW, history_columns},
							   [SS_WRITE_SUMMARY] = {UPDATE_ROW, summary_columns},
							   [SS_WRITE_DOCUMENT_AND_HISTORY] = {UPDATE_ROW,
																  document_and_history_columns},
							   [SS_WRITE_END] = {UPDATE_ROW, end_columns},
							   [SS_WRITE_EXPIRY] = {UPDATE_ROW, expiry_columns},
							   [SS_WRITE_TURN] = {UPDATE_ROW, turn_columns}};

static SsPlan rename_plan = {"UPDATE {sessions} SET session_id = $3, expires_at = $4, version = $5,"
							 " last_seq = $6 WHERE namespace {=} $1 AND session_id {=} $2",
							 6,
							 {TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, INT8OID, INT8OID}};

static SsPlan remove_plan = {"DELETE FROM {sessions} WHERE namespace {=} $1 AND session_id {=} $2",
							 2,
							 {TEXTOID, TEXTOID}};

/*
 * Sets row->state and row->ends_at for the time `now`.  Reads expires_at, ttl_us, dead_until and
 * created_at of the row, the key and max_lifetime of the target; runs no SQL.
 */
void
ss_row_set_state(SsRow *row, const SsTarget *target, TimestampTz now)
{
	TimestampTz expiry = ss_liveness_expiry(&target->key, row->expires_at, row->ttl_us == SS_FIXED,
											row->dead_until);

	/* a max_lifetime that was lowered applies to existing sessions */
	row->ends_at = ss_expiry_cap(expiry, row->created_at, target->policy.max_lifetime_us);
	row->state = ss_liveness_state(row->ends_at, row->dead_until, now);
}

/* Reads groups of fields (SsField) of a row by a statement, in the snapshot of `mode`. */
static bool
fetch_row(Fetch *fetch, const SsTarget *target, SsPlanMode mode, int fields, SsRow *row)
{
	SsPlan *plan = &fetch->plans[fields];
	Datum values[2] = {target->ns, target->id};
	SsDeformedRow columns;
	bool null;

	row->state = SS_ABSENT;
	row->has_tid = false;
	if (plan->sql == NULL)
		*plan = (SsPlan){fetch->sql, 2, {TEXTOID, TEXTOID}, ss_row_columns_of(fields)};
	if (ss_plan_run(plan, values, NULL, mode, 1) == 0)
		return false;
	ss_row_deform_result(&columns, SPI_tuptable->vals[0], SPI_tuptable->tupdesc, plan->columns);
	ss_row_from_columns(row, &columns);
	row->own_xact = fetch == &read_row &&
					TransactionIdIsCurrentTransactionId(DatumGetTransactionId(
						SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
									  SPI_tuptable->tupdesc->natts, &null)));
	/* the clock is read after the row lock was granted, which may have taken long */
	ss_row_set_state(row, target, GetCurrentTimestamp());
	return true;
}

/*
 * Reads groups of fields (SsField) of the row as the snapshot of `mode` shows it, without a lock.  False
 * when there is none.
 */
bool
ss_row_read(const SsTarget *target, SsPlanMode mode, int fields, SsRow *row)
{
	return fetch_row(&read_row, target, mode, fields, row);
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
	alive = fetch_row(&read_row, target, SS_PLAN_READ_LATEST, 0, &latest) &&
			latest.state == SS_ALIVE;
	ss_sql_leave(&caller);
	if (!alive || latest.created_at != row->created_at)
		return false;
	row->state = SS_ALIVE;
	row->expires_at = latest.expires_at;
	row->ends_at = latest.ends_at;
	row->ttl_us = latest.ttl_us;
	row->own_xact = latest.own_xact;
	return true;
}

/*
 * Reads the current version of the row, directly or by a statement.  False when there is none, and
 * with SS_HOLD_NONE also when direct access is not possible.
 */
static bool
hold_row(const SsTarget *target, SsHold hold, int fields, SsRow *row)
{
	bool found;

	row->state = SS_ABSENT;
	if (!ss_direct_hold(target, hold, (fields & SS_FIELD_DOCUMENT) != 0, row, &found))
		return hold != SS_HOLD_NONE && fetch_row(hold == SS_HOLD_WAIT ? &lock_row : &try_lock_row,
												 target, SS_PLAN_WRITE, fields, row);
	if (found)
		ss_row_set_state(row, target, GetCurrentTimestamp());
	return found;
}

/*
 * Reads groups of fields (SsField) of the current version of the row, except row->own_xact, and locks
 * it FOR NO KEY UPDATE until the transaction ends.  False when there is no row.
 */
bool
ss_row_lock(const SsTarget *target, int fields, SsRow *row)
{
	return hold_row(target, SS_HOLD_WAIT, fields, row);
}

/* As ss_row_lock without waiting: a row that another transaction has locked counts as absent. */
bool
ss_row_try_lock(const SsTarget *target, int fields, SsRow *row)
{
	return hold_row(target, SS_HOLD_SKIP_LOCKED, fields, row);
}

/*
 * After ss_row_read_unlocked or ss_row_read has read a row whose turn is free: locks it without
 * waiting.  False if it is locked by another transaction, or if its turn was given meanwhile; then the
 * row is not locked, and the transaction has not got an id for the attempt.
 *
 * By a statement there is a gap: if the turn is given after its snapshot was taken and before it locks
 * the row, the transaction gets an id.
 */
bool
ss_row_lock_free_turn(const SsTarget *target, int fields, SsRow *row)
{
	if (!row->has_tid)
		return fetch_row(&lock_free_turn, target, SS_PLAN_WRITE, fields, row);
	if (!ss_direct_lock_unchanged(target, row))
		return false;
	ss_row_set_state(row, target, GetCurrentTimestamp());
	return true;
}

/*
 * As ss_row_lock without the lock.  ss_row_write then writes only if the row was neither changed nor
 * locked since.  False also when rows cannot be accessed directly.
 */
bool
ss_row_read_unlocked(const SsTarget *target, int fields, SsRow *row)
{
	return hold_row(target, SS_HOLD_NONE, fields, row);
}

/*
 * Runs a statement that writes columns of the row; returns the number of rows.  Its parameter n is
 * column n of the table.  Parameters that it does not use are null.
 */
static uint64
run_for_row(SsPlan *plan, const SsTarget *target, const SsRow *row)
{
	Datum values[SS_ROW_ATTRS] = {0};
	char nulls[SS_ROW_ATTRS];

	memset(nulls, 'n', sizeof(nulls));
	values[SS_ROW_NAMESPACE - 1] = target->ns;
	values[SS_ROW_SESSION_ID - 1] = target->id;
	nulls[SS_ROW_NAMESPACE - 1] = nulls[SS_ROW_SESSION_ID - 1] = ' ';
	for (const AttrNumber *column = plan->columns; *column != SS_ROW_NONE; column++)
	{
		bool null;

		values[*column - 1] = ss_row_column(row, *column, &null);
		nulls[*column - 1] = null ? 'n' : ' ';
	}
	return ss_plan_run(plan, values, nulls, SS_PLAN_WRITE, 0);
}

/* Inserts the row; false when the id has a row already. */
bool
ss_row_insert(const SsTarget *target, const SsRow *row)
{
	return run_for_row(&insert_plan, target, row) == 1;
}

/*
 * Writes the columns of an existing row that a change of this kind changes.  False, and nothing is
 * written, when the row was read by ss_row_read_unlocked and another transaction has changed or locked
 * it since.
 */
bool
ss_row_write(const SsTarget *target, const SsRow *row, SsWrite what)
{
	SsPlan *plan = &write_plans[what];

	if (ss_direct_write(target, row, plan->columns))
		return true;
	if (row->has_tid && !row->locked)
		return false;
	if (run_for_row(plan, target, row) != 1)
		ss_error_rows_skipped("conversation_sessions");
	return true;
}

/*
 * Gives a locked row another id and writes expires_at, version and last_seq.  The update keeps the
 * tuple chain, so that a transaction that waits for the row (to log out everywhere, for instance)
 * follows it to its new id.
 */
void
ss_row_rename(const SsTarget *target, Datum new_id, const SsRow *row)
{
	Datum values[6] = {target->ns,
					   target->id,
					   new_id,
					   TimestampTzGetDatum(row->expires_at),
					   Int64GetDatum(row->version),
					   Int64GetDatum(row->last_seq)};

	if (ss_plan_run(&rename_plan, values, NULL, SS_PLAN_WRITE, 0) != 1)
		ss_error_rows_skipped("conversation_sessions");
}

/* Removes a locked row of a session that has ended.  The trigger queues its history for the purge. */
void
ss_row_remove(const SsTarget *target)
{
	Datum values[2] = {target->ns, target->id};

	if (ss_plan_run(&remove_plan, values, NULL, SS_PLAN_WRITE, 0) != 1)
		ss_error_rows_skipped("conversation_sessions");
}
