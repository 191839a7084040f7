/*
 * append.c
 *		Adds messages to the history of a session.
 *
 * Locking and order: as history.c describes.  The lock on the session's row serializes the appends to
 * one session and assigns their seqs.
 *
 * An append costs one message, one index entry and a few bytes of the session's row, however long
 * the history is; with an operation_id also a row in session_operations.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/timestamp.h"

#include "row/errors.h"
#include "sessions/append.h"
#include "sessions/change.h"
#include "sessions/history.h"
#include "sessions/operations.h"
#include "sessions/relaxed.h"
#include "shared/counters.h"
#include "table/sql.h"

static SsPlan insert_plan = {
	"INSERT INTO {history} (history_id, seq, created_at, message) VALUES ($1, $2, $3, $4)",
	4,
	{UUIDOID, INT8OID, TIMESTAMPTZOID, JSONBOID}};

static SsPlan insert_many_plan = {"INSERT INTO {history} (history_id, seq, created_at, message)"
								  " SELECT $1, $2 {+} m.n {-} 1::pg_catalog.int8, $3, m.message"
								  " FROM pg_catalog.unnest($4) WITH ORDINALITY AS m (message, n)",
								  4,
								  {UUIDOID, INT8OID, TIMESTAMPTZOID, JSONBARRAYOID}};

/* Inserts messages; their last seq is the row's last_seq. */
static void
insert_messages(const SsChange *change, const SsMessages *messages)
{
	const SsRow *row = &change->row;
	bool many = messages->count > 1;
	Datum values[4];

	if (messages->count == 0)
		return;
	values[0] = row->history;
	values[1] = Int64GetDatum(row->last_seq - messages->count + 1);
	values[2] = TimestampTzGetDatum(change->now);
	values[3] = many ? PointerGetDatum(construct_array(messages->message, messages->count, JSONBOID,
													   -1, false, TYPALIGN_INT))
					 : messages->message[0];
	if (ss_plan_run(many ? &insert_many_plan : &insert_plan, values, NULL, SS_PLAN_WRITE, 0) !=
		messages->count)
		ss_error_rows_skipped("conversation_history");
}

/* Returns the operation of an append.  One without optional arguments is hashed by its messages alone. */
static SsOperation
operation_of(const SsAppend *append)
{
	SsOperation operation = {append->operation_id};
	SsArgumentHash *hash;

	if (operation.id == (Datum) 0)
		return operation;
	hash = ss_argument_hash_begin();
	for (int i = 0; i < append->messages.count; i++)
		ss_argument_hash_value(hash, append->messages.message[i]);
	operation.hash = ss_argument_hash_end(hash);
	return operation;
}

/*
 * Appends messages and returns the seq of the last one.  Creates the session if there is none.  A
 * repeated operation changes nothing and returns the first result.
 */
int64
ss_history_append(SsTarget *target, const SsAppend *append)
{
	SsChange change = {.history_only = true};
	SsOperation operation = operation_of(append);
	int64 count = append->messages.count;
	int64 first_result;

	do
	{
		ss_change_begin(&change, target, SS_ANY_VERSION, (Datum) 0);
		if (ss_operation_was_done(&change, &operation, &first_result))
		{
			ss_relaxed_end(&target->policy);
			return first_result;
		}
		change.row.last_seq = ss_history_next_seq(&change.row, count);
		change.row.message_count = ss_history_add_count(change.row.message_count, count);
		ss_history_assign_id(&change.row);
	} while (!ss_change_end(&change));
	insert_messages(&change, &append->messages);
	ss_operation_record(&change, &operation, change.row.last_seq);
	ss_relaxed_end(&target->policy);
	ss_counter_add(SS_APPENDED, count);
	return change.row.last_seq;
}
