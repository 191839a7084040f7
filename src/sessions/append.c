/*
 * append.c
 *		Adds messages to the history of a session, also in place of its last ones.
 *
 * Locking and order: as history.c describes.  The lock on the session's row serializes the appends to
 * one session and assigns their seqs.
 *
 * An append costs one message, one index entry and a few bytes of the session's row, however long
 * the history is; with an operation_id also a row in session_operations.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/timestamp.h"

#include "row/errors.h"
#include "sessions/append.h"
#include "sessions/change.h"
#include "sessions/document.h"
#include "sessions/history.h"
#include "sessions/history_read.h"
#include "sessions/operations.h"
#include "sessions/relaxed.h"
#include "shared/counters.h"
#include "table/sql.h"

/* Maximum number of messages held in memory at once to compare them. */
#define COMPARED_AT_ONCE 100

static SsPlan insert_plan = {
	"INSERT INTO {history} (history_id, seq, created_at, message) VALUES ($1, $2, $3, $4)",
	4,
	{UUIDOID, INT8OID, TIMESTAMPTZOID, JSONBOID}};

static SsPlan insert_many_plan = {"INSERT INTO {history} (history_id, seq, created_at, message)"
								  " SELECT $1, $2 {+} m.n {-} 1::pg_catalog.int8, $3, m.message"
								  " FROM pg_catalog.unnest($4) WITH ORDINALITY AS m (message, n)",
								  4,
								  {UUIDOID, INT8OID, TIMESTAMPTZOID, JSONBARRAYOID}};

/* Not fenced: readers may see the removed messages for the push lag. */
static SsPlan remove_plan = {
	"DELETE FROM {history} WHERE history_id {=} $1 AND seq {>=} $2 AND seq {<=} $3",
	3,
	{UUIDOID, INT8OID, INT8OID},
	.flags = SS_PLAN_POPS_MESSAGES};

/* The columns of compare_plan. */
enum
{
	COMPARE_SEQ = 1,
	COMPARE_MESSAGE
};

static SsPlan compare_plan = {"SELECT seq, message FROM {history} WHERE history_id {=} $1"
							  " AND seq {>=} $2 ORDER BY seq LIMIT $3",
							  3,
							  {UUIDOID, INT8OID, INT8OID}};

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

/*
 * Begins the hash over the arguments of a call.  session_append() without optional arguments is hashed
 * by its messages alone.
 */
static SsArgumentHash *
begin_hash(const SsMessages *messages)
{
	SsArgumentHash *hash = ss_argument_hash_begin();

	for (int i = 0; i < messages->count; i++)
		ss_argument_hash_value(hash, messages->message[i]);
	return hash;
}

/* Returns the operation of a session_append(). */
static SsOperation
operation_of_append(const SsAppend *append)
{
	SsOperation operation = {append->operation_id};
	SsArgumentHash *hash;

	if (operation.id == (Datum) 0)
		return operation;
	hash = begin_hash(&append->messages);
	ss_argument_hash_named(hash, "owner", append->owner);
	ss_argument_hash_named(hash, "patch", PointerGetDatum(append->patch));
	if (append->keep >= 0)
		ss_argument_hash_number(hash, "keep", append->keep);
	operation.hash = ss_argument_hash_end(hash);
	return operation;
}

/* Merges the patch of an append into the document. */
static void
apply_patch(SsChange *change, const SsAppend *append)
{
	SsRow *row = &change->row;

	if (append->patch == NULL)
		return;
	row->data = JsonbPGetDatum(ss_document_merge(DatumGetJsonbP(row->data), append->patch, false));
	ss_document_check(&change->target->policy, row->data, "session document");
}

/*
 * Appends messages and returns the seq of the last one.  Creates the session if there is none.  A
 * repeated operation changes nothing and returns the first result, whatever its turn.
 *
 * With `keep`, only the newest messages stay: those that a trim after the append would remove are
 * removed, or not inserted at all.
 */
int64
ss_history_append(SsTarget *target, const SsAppend *append)
{
	SsChange change = {.history_only = append->patch == NULL,
					   .owner_if_new = true,
					   .takes_turn = true,
					   .turn = append->turn,
					   .turn_later = true};
	SsOperation operation = operation_of_append(append);
	int64 count = append->messages.count;
	int64 dropped = append->keep >= 0 ? Max(count - append->keep, 0) : 0;
	SsMessages rest = {count - dropped, append->messages.message + dropped};
	int64 removed = 0;
	int64 up_to = 0;
	int64 first_result;

	do
	{
		ss_change_begin(&change, target, SS_ANY_VERSION, append->owner);
		if (ss_operation_was_done(&change, &operation, &first_result))
		{
			ss_relaxed_end(&target->policy);
			return first_result;
		}
		ss_change_check_turn(&change);
		if (append->keep >= 0)
			removed = ss_history_find_beyond(&change.row, append->keep - rest.count, &up_to);
		change.row.last_seq = ss_history_next_seq(&change.row, count);
		change.row.message_count = ss_history_add_count(Max(change.row.message_count - removed, 0),
														rest.count);
		ss_history_assign_id(&change.row);
		apply_patch(&change, append);
	} while (!ss_change_end(&change));
	if (removed > 0)
		ss_history_remove_up_to(&change.row, up_to, removed);
	insert_messages(&change, &rest);
	ss_operation_record(&change, &operation, change.row.last_seq);
	ss_relaxed_end(&target->policy);
	ss_counter_add(SS_APPENDED, count);
	ss_counter_add(SS_MESSAGES_REMOVED, removed + dropped);
	if (append->patch != NULL)
		ss_counter_add(SS_SAVED, 1);
	return change.row.last_seq;
}

/* Returns the operation of a session_replace_tail(). */
static SsOperation
operation_of_replacement(const SsReplacement *replacement)
{
	SsOperation operation = {replacement->operation_id};
	SsArgumentHash *hash;

	if (operation.id == (Datum) 0)
		return operation;
	hash = begin_hash(&replacement->messages);
	ss_argument_hash_number(hash, "replace", replacement->n);
	ss_argument_hash_named(hash, "expected", PointerGetDatum(replacement->expected));
	operation.hash = ss_argument_hash_end(hash);
	return operation;
}

/* Raises an error unless the `count` messages from a seq on are the elements of an array. */
static void
check_expected(const SsRow *row, int64 from, int64 count, Jsonb *expected)
{
	JsonbIterator *it = JsonbIteratorInit(&expected->root);
	JsonbValue element;

	if (count != JB_ROOT_COUNT(expected))
		ss_error_tail_conflict(JB_ROOT_COUNT(expected), count, 0);
	(void) JsonbIteratorNext(&it, &element, true);
	for (int64 done = 0; done < count;)
	{
		Datum values[3] = {row->history, Int64GetDatum(from),
						   Int64GetDatum(Min(count - done, COMPARED_AT_ONCE))};
		uint64 n = ss_plan_run(&compare_plan, values, NULL, SS_PLAN_WRITE, 0);
		SPITupleTable *table = SPI_tuptable;

		if (n == 0)
			ss_error_tail_conflict(count, done, 0);
		for (uint64 i = 0; i < n; i++)
		{
			Datum message = ss_sql_value(table->vals[i], table->tupdesc, COMPARE_MESSAGE,
										 "conversation_history");
			Jsonb *found = DatumGetJsonbP(message);

			CHECK_FOR_INTERRUPTS();
			from = DatumGetInt64(
				ss_sql_value(table->vals[i], table->tupdesc, COMPARE_SEQ, "conversation_history"));
			(void) JsonbIteratorNext(&it, &element, true);
			if (element.type != jbvBinary ||
				compareJsonbContainers(element.val.binary.data, &found->root) != 0)
				ss_error_tail_conflict(count, count, from);
			if (PointerGetDatum(found) != message)
				pfree(found);
		}
		SPI_freetuptable(table);
		done += (int64) n;
		from++;
	}
}

/*
 * Replaces the last n messages, or as many as there are, by others under new seqs, and returns
 * last_seq in *last_seq.  Raises an error, and nothing changes, if they are not the expected ones.  A
 * repeated operation changes nothing and returns the first result.  False when the caller sees no such
 * session.
 */
bool
ss_history_replace_tail(SsTarget *target, const SsReplacement *replacement, int64 *last_seq)
{
	SsChange change = {.history_only = true,
					   .takes_turn = true,
					   .turn = replacement->turn,
					   .turn_later = true};
	SsOperation operation = operation_of_replacement(replacement);
	SsWindow window = SS_WINDOW_ALL;
	SsRow *row = &change.row;
	int64 count = replacement->messages.count;
	int64 removed = 0;
	int64 first = 0;
	int64 last = 0;

	Assert(replacement->n >= 0);
	if (!ss_change_begin_existing(&change, target, SS_EDIT))
		return false;
	if (ss_operation_was_done(&change, &operation, last_seq))
		return true;
	ss_change_check_turn(&change);
	window.last = replacement->n;
	if (replacement->n > 0 && !row->history_null)
		removed = ss_history_find(row, &window, SS_PLAN_WRITE, &first, &last);
	if (replacement->expected != NULL)
		check_expected(row, first, removed, replacement->expected);
	*last_seq = row->last_seq;
	if (removed == 0 && count == 0 && operation.id == (Datum) 0)
		return true;
	row->last_seq = *last_seq = ss_history_next_seq(row, count);
	row->message_count = ss_history_add_count(Max(row->message_count - removed, 0), count);
	ss_history_assign_id(row);
	if (removed > 0)
		ss_change_drop_summary(&change, first);
	if (!ss_change_end(&change))
		ss_error_rows_skipped("conversation_sessions");
	if (removed > 0)
	{
		Datum values[3] = {row->history, Int64GetDatum(first), Int64GetDatum(last)};

		if (ss_plan_run(&remove_plan, values, NULL, SS_PLAN_WRITE, 0) != removed)
			ss_error_rows_skipped("conversation_history");
	}
	insert_messages(&change, &replacement->messages);
	ss_operation_record(&change, &operation, *last_seq);
	ss_counter_add(SS_APPENDED, count);
	ss_counter_add(SS_MESSAGES_REMOVED, removed);
	return true;
}
