/*
 * operation_purge.c
 *		Removes operations that are no longer kept.
 *
 * An operation is removed after its keep_until, in batches, in the order of the index on that column.
 * Operations of ended sessions are removed with the messages, before that (history_purge.c).  What a
 * subscription fills is left to the publisher.
 *
 * If a row of a batch cannot be removed, the batch is repeated row by row, and the row is set aside.
 *
 * Locking: operations locked by other transactions are skipped, and found by a later batch that begins
 * at the first operation.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "row/errors.h"
#include "table/sql.h"
#include "table/subscription.h"
#include "upkeep/operation_purge.h"

/*
 * The key by which an operation is set aside.  An operation_id may be as long as an id of a key, so a
 * hash stands for it; if two are the same, both are set aside.
 */
#define ASIDE_ID                            \
	"pg_catalog.concat(o.history_id, ':', " \
	" pg_catalog.hashtextextended(o.operation_id, 0::pg_catalog.int8))"

/* Operations whose keep_until is over, oldest first, without those that are set aside. */
#define OLD_OPERATIONS                                                                  \
	" FROM {operations} o WHERE o.keep_until {>=} $1"                                   \
	" AND o.keep_until {<=} $2 AND ($3 IS NULL OR o.namespace {=} $3)"                  \
	" AND o.namespace {<>} ALL ($5) AND (pg_catalog.cardinality($6) {=} 0 OR " ASIDE_ID \
	" {<>} ALL ($6)) ORDER BY o.keep_until LIMIT $4"
#define OLD_OPERATIONS_ARGS                                                          \
	6,                                                                               \
	{                                                                                \
		TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, INT8OID, TEXTARRAYOID, TEXTARRAYOID \
	}

/* The columns of purge_plan. */
enum
{
	PURGED_COUNT = 1,
	PURGED_LAST
};

/* A child table may have a row with the same ctid, which must not go unless it is no longer kept as well. */
static SsPlan purge_plan = {
	"WITH gone AS (DELETE FROM {operations} WHERE ctid {=} ANY (ARRAY(SELECT o.ctid" OLD_OPERATIONS
	" FOR UPDATE OF o SKIP LOCKED)) AND keep_until {<=} $2 RETURNING keep_until)"
	" SELECT pg_catalog.count(*), pg_catalog.max(keep_until) FROM gone",
	OLD_OPERATIONS_ARGS};

/* The columns of old_plan. */
enum
{
	OLD_NAMESPACE = 1,
	OLD_HISTORY_ID,
	OLD_OPERATION_ID,
	OLD_KEEP_UNTIL,
	OLD_ASIDE_ID
};

/* The same operations without locks, to remove them one by one. */
static SsPlan old_plan = {
	"SELECT o.namespace, o.history_id, o.operation_id, o.keep_until, " ASIDE_ID OLD_OPERATIONS,
	OLD_OPERATIONS_ARGS};

#define ONE \
	"FROM {operations} WHERE history_id {=} $1 AND operation_id {=} $2 AND keep_until {=} $3"
#define ONE_ARGS                         \
	3,                                   \
	{                                    \
		UUIDOID, TEXTOID, TIMESTAMPTZOID \
	}

static SsPlan lock_plan = {"SELECT 1 " ONE " FOR UPDATE SKIP LOCKED", ONE_ARGS};
static SsPlan remove_plan = {"DELETE " ONE, ONE_ARGS};

static SsPlan oldest_plan = {"SELECT keep_until FROM {operations} ORDER BY keep_until LIMIT 1",
							 0,
							 {InvalidOid}};

/* A batch of operations in removal. */
typedef struct Batch
{
	Datum values[6]; /* of OLD_OPERATIONS */
	char nulls[6];
	int64 removed;
	TimestampTz last; /* the highest keep_until that was removed */
	Datum one[3];     /* of lock_plan and remove_plan */
} Batch;

/* In a subtransaction: removes the batch. */
static bool
remove_together(void *arg)
{
	Batch *batch = arg;
	Datum last;
	bool null;

	ss_plan_run(&purge_plan, batch->values, batch->nulls, SS_PLAN_WRITE, 0);
	batch->removed = DatumGetInt64(
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, PURGED_COUNT, &null));
	last = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, PURGED_LAST, &null);
	if (!null)
		batch->last = DatumGetTimestampTz(last);
	return true;
}

/* In a subtransaction: removes one operation.  False when it is gone or locked by another transaction. */
static bool
remove_alone(void *arg)
{
	Batch *batch = arg;

	if (ss_plan_run(&lock_plan, batch->one, NULL, SS_PLAN_WRITE, 1) == 0)
		return false;
	if (ss_plan_run(&remove_plan, batch->one, NULL, SS_PLAN_WRITE, 0) != 1)
		ss_error_rows_skipped("session_operations");
	return true;
}

/*
 * After the batch was rolled back: removes its operations one by one, up to the limits.  True if one
 * was removed or set aside.
 */
static bool
remove_one_by_one(Batch *batch, SsAside *aside)
{
	uint64 n = ss_plan_run(&old_plan, batch->values, batch->nulls, SS_PLAN_WRITE, 0);
	SPITupleTable *table = SPI_tuptable;
	SsAsidePass pass;

	ss_aside_pass_begin(&pass, aside);
	for (uint64 i = 0; i < n && !ss_aside_pass_is_over(&pass); i++)
	{
		HeapTuple tuple = table->vals[i];
		TupleDesc desc = table->tupdesc;
		SsKey key;

		CHECK_FOR_INTERRUPTS();
		if (!ss_key_from_datums(&key,
								ss_sql_value(tuple, desc, OLD_NAMESPACE, "session_operations"),
								ss_sql_value(tuple, desc, OLD_ASIDE_ID, "session_operations")))
			continue;
		batch->one[0] = ss_sql_value(tuple, desc, OLD_HISTORY_ID, "session_operations");
		batch->one[1] = ss_sql_value(tuple, desc, OLD_OPERATION_ID, "session_operations");
		batch->one[2] = ss_sql_value(tuple, desc, OLD_KEEP_UNTIL, "session_operations");
		(void) ss_aside_pass_visit(&pass, &key, remove_alone, batch);
	}
	batch->removed = pass.done;
	return pass.progressed;
}

/*
 * Removes at most `limit` operations that are no longer kept, of one namespace or of all (ns is 0),
 * beginning with those of keep_until *from, which is set for the next batch: DT_NOBEGIN, unless this
 * one was full.  *removed is their number.  True when there may be more: the batch was full, or it
 * failed and was repeated row by row with some effect.  Without one, a trigger FOR EACH STATEMENT
 * refuses even a batch without rows.
 */
bool
ss_operations_purge(Datum ns, int64 limit, TimestampTz *from, SsAside *aside, int64 *removed)
{
	Batch batch = {.nulls = {' ', ' ', ns == (Datum) 0 ? 'n' : ' ', ' ', ' ', ' '}};
	ErrorData *error;
	Datum held[3];
	bool progressed;

	*removed = 0;
	if (ss_subscribed(SS_TABLE_OPERATIONS))
		return false;
	ss_aside_arrays(aside, GetCurrentTimestamp(), held);
	batch.values[0] = TimestampTzGetDatum(*from);
	batch.values[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	batch.values[2] = ns;
	batch.values[3] = Int64GetDatum(limit);
	batch.values[4] = held[0];
	batch.values[5] = held[2];
	*from = DT_NOBEGIN;
	(void) ss_aside_try(remove_together, &batch, &error);
	if (error != NULL)
	{
		FreeErrorData(error);
		batch.removed = 0;
		progressed = remove_one_by_one(&batch, aside);
		*removed = batch.removed;
		return progressed;
	}
	*removed = batch.removed;
	if (batch.removed < limit)
		return false;
	*from = batch.last;
	return true;
}

/* The lowest keep_until of an operation; DT_NOEND if there is none. */
TimestampTz
ss_operations_oldest(void)
{
	if (ss_plan_run(&oldest_plan, NULL, NULL, SS_PLAN_LATEST, 1) == 0)
		return DT_NOEND;
	return DatumGetTimestampTz(
		ss_sql_value(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, "session_operations"));
}
