/*
 * history.c
 *		Removes messages of a session: pop, trim; and what all changes of a history have in common.
 *
 * Locking and order: every change locks the session's row first, which serializes the changes of one
 * history.  The row is written before the messages, so that the change of the tail in Redis is
 * recorded before the trigger on conversation_history fires.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "compat.h"
#include "row/access.h"
#include "row/errors.h"
#include "sessions/change.h"
#include "sessions/history.h"
#include "sessions/history_read.h"
#include "shared/counters.h"
#include "table/sql.h"

/* The seq of the newest message that is not among the last $2. */
static SsPlan boundary_plan = {"SELECT seq FROM {history} WHERE history_id {=} $1"
							   " ORDER BY seq DESC OFFSET $2 LIMIT 1",
							   2,
							   {UUIDOID, INT8OID}};

static SsPlan count_plan = {
	"SELECT pg_catalog.count(*) FROM {history} WHERE history_id {=} $1 AND seq {<=} $2",
	2,
	{UUIDOID, INT8OID}};

/* Not fenced: readers may see the removed messages for the push lag. */
static SsPlan pop_plan = {
	"WITH gone AS (DELETE FROM {history} WHERE history_id {=} $1 AND seq {>=} $2 AND seq {<=} $3"
	" RETURNING seq, message)"
	" SELECT pg_catalog.jsonb_agg(message ORDER BY seq) FROM gone",
	3,
	{UUIDOID, INT8OID, INT8OID},
	.flags = SS_PLAN_POPS_MESSAGES};

static SsPlan trim_plan = {"DELETE FROM {history} WHERE history_id {=} $1 AND seq {<=} $2",
						   2,
						   {UUIDOID, INT8OID}};

/* FOR KEY SHARE prevents that the session is renamed or deleted, and nothing else. */
static SsPlan session_plan = {
	"SELECT namespace, session_id FROM {sessions} WHERE history_id {=} $1 FOR KEY SHARE",
	1,
	{UUIDOID}};

/* Returns a column of the first row of SPI's result. */
static Datum
result_column(int column, bool *null)
{
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, null);
}

/* The same for a column that must not be null; raises an error if it is. */
static Datum
result_value(int column, const char *table)
{
	return ss_sql_value(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, table);
}

/*
 * Assigns a history_id in *row if the session has none.  It is a UUID of version 7, which begins with
 * the time, so that the messages of new sessions are close together in the index.
 */
void
ss_history_assign_id(SsRow *row)
{
	pg_uuid_t *id = palloc(sizeof(pg_uuid_t));
	uint64 ms = (uint64) (GetCurrentTimestamp() / 1000) +
				(uint64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY * 1000;

	if (!row->history_null)
		return;
	if (!pg_strong_random(id->data, UUID_LEN))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
						errmsg("could not generate a random conversation id")));
	for (int i = 0; i < 6; i++)
		id->data[i] = (uint8) (ms >> (40 - 8 * i));
	id->data[6] = (id->data[6] & 0x0f) | 0x70;
	id->data[8] = (id->data[8] & 0x3f) | 0x80;
	row->history = UUIDPGetDatum(id);
	row->history_null = false;
}

/*
 * Returns last_seq after n more messages.  Raises an error rather than wrap, since a seq is never
 * reused.
 */
int64
ss_history_next_seq(const SsRow *row, int64 n)
{
	Assert(n >= 0);
	if (row->last_seq > PG_INT64_MAX - 1 - n)
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						errmsg("sequence numbers of the messages of this session are exhausted"),
						errhint("Use a new session.")));
	return row->last_seq + n;
}

/* Adds to a message_count; saturates, as plain SQL may have written any value. */
int64
ss_history_add_count(int64 count, int64 more)
{
	Assert(more >= 0);
	return count > PG_INT64_MAX - more ? PG_INT64_MAX : count + more;
}

/*
 * Finds the session of a history; false when there is none.  Locks its row FOR KEY SHARE.  Called by
 * triggers, outside ss_sql_enter.
 */
bool
ss_history_find_session(const pg_uuid_t *history, SsKey *key)
{
	Datum values[1] = {UUIDPGetDatum(history)};
	SsCaller caller;
	bool found;

	ss_sql_enter(&caller);
	found = ss_plan_run(&session_plan, values, NULL, SS_PLAN_LATEST, 1) > 0 &&
			ss_key_from_datums(key, result_value(1, "conversation_sessions"),
							   result_value(2, "conversation_sessions"));
	ss_sql_leave(&caller);
	return found;
}

/* Counts the messages of a session up to a seq. */
int64
ss_history_count(const SsRow *row, int64 up_to)
{
	Datum values[2] = {row->history, Int64GetDatum(up_to)};
	bool null;

	if (row->history_null)
		return 0;
	ss_plan_run(&count_plan, values, NULL, SS_PLAN_WRITE, 0);
	return DatumGetInt64(result_column(1, &null));
}

/* Writes the row of a session before some of its messages are removed. */
static void
write_count(SsChange *change, int64 removed)
{
	change->row.message_count = Max(change->row.message_count - removed, 0);
	if (!ss_change_end(change))
		ss_error_rows_skipped("conversation_sessions");
	ss_counter_add(SS_MESSAGES_REMOVED, removed);
}

/* Locks a session to remove messages from it; false when the caller sees none. */
static bool
begin_removal(SsChange *change, SsTarget *target, int64 turn)
{
	*change = (SsChange){.history_only = true, .takes_turn = true, .turn = turn};
	return ss_change_begin_existing(change, target, SS_EDIT);
}

/*
 * Removes the last n messages, or the first n, and returns them as a jsonb array, oldest first, in
 * *popped (0: there were none).  False when the caller sees no such session.
 */
bool
ss_history_pop(SsTarget *target, int64 n, bool from_start, int64 turn, Datum *popped)
{
	SsWindow window = SS_WINDOW_ALL;
	SsChange change;
	Datum values[3];
	int64 first_seq;
	int64 last_seq;
	int64 count;
	bool null;

	*popped = (Datum) 0;
	if (!begin_removal(&change, target, turn))
		return false;
	if (change.row.history_null || n == 0)
		return true;
	if (from_start)
		window.first = n;
	else
		window.last = n;
	count = ss_history_find(&change.row, &window, SS_PLAN_WRITE, &first_seq, &last_seq);
	if (count == 0)
		return true;
	values[0] = change.row.history;
	values[1] = Int64GetDatum(first_seq);
	values[2] = Int64GetDatum(last_seq);
	ss_change_drop_summary(&change, first_seq);
	write_count(&change, count);
	ss_plan_run(&pop_plan, values, NULL, SS_PLAN_WRITE, 0);
	*popped = result_column(1, &null);
	if (null)
		ss_error_rows_skipped("conversation_history");
	return true;
}

/*
 * Finds the messages that are not among the last `keep`; returns their number, and sets *up_to to their
 * highest seq if there are any.
 */
int64
ss_history_find_beyond(const SsRow *row, int64 keep, int64 *up_to)
{
	Datum values[2] = {row->history, Int64GetDatum(keep)};

	if (row->history_null || ss_plan_run(&boundary_plan, values, NULL, SS_PLAN_WRITE, 0) == 0)
		return 0;
	*up_to = DatumGetInt64(result_value(1, "conversation_history"));
	return ss_history_count(row, *up_to);
}

/* Removes the messages up to a seq, which are `count`.  The session's row was written. */
void
ss_history_remove_up_to(const SsRow *row, int64 up_to, int64 count)
{
	Datum values[2] = {row->history, Int64GetDatum(up_to)};

	if (ss_plan_run(&trim_plan, values, NULL, SS_PLAN_WRITE, 0) != count)
		ss_error_rows_skipped("conversation_history");
}

/* Removes all messages but the last `keep`; false when the caller sees no such session. */
bool
ss_history_trim(SsTarget *target, int64 keep, int64 turn, int64 *removed)
{
	SsChange change;
	int64 up_to = 0;

	*removed = 0;
	if (!begin_removal(&change, target, turn))
		return false;
	*removed = ss_history_find_beyond(&change.row, keep, &up_to);
	if (*removed == 0)
		return true;
	write_count(&change, *removed);
	ss_history_remove_up_to(&change.row, up_to, *removed);
	return true;
}
