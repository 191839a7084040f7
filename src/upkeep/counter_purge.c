/*
 * counter_purge.c
 *		Removes counters whose period has ended.
 *
 * A batch is read by the index on resets_at, lowest first, and removed in a subtransaction.  Rows that
 * others have locked are skipped: a hit that holds the lock is starting a new period.  If a foreign
 * key, trigger or rule refuses a row, the batch is rolled back and its rows are visited one by one,
 * each in a subtransaction; those that fail are set aside (sessions/aside.c).
 *
 * A counter is removed by what its row says, never by the policy of its namespace, which may be gone.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/timestamp.h"

#include "row/errors.h"
#include "shared/counters.h"
#include "table/sql.h"
#include "upkeep/counter_purge.h"

/* The columns of due_plan, names_plan and one_plan. */
enum
{
	DUE_CTID = 1,
	DUE_RESETS_AT,
	DUE_NAMESPACE,
	DUE_COUNTER_ID
};

#define COLUMNS                                                                   \
	"SELECT ctid, resets_at::pg_catalog.timestamptz, namespace::pg_catalog.text," \
	" counter_id::pg_catalog.text FROM {counters} WHERE"

/* The rows that are due and not set aside. */
#define DUE                                                                              \
	COLUMNS " resets_at {>=} $1 AND resets_at {<=} $2"                                   \
			" AND ($4 IS NULL OR namespace {=} $4) AND namespace {<>} ALL ($5)"          \
			" AND NOT ((namespace, counter_id) {=} ANY (SELECT n, i FROM"                \
			" ROWS FROM (pg_catalog.unnest($6), pg_catalog.unnest($7)) AS held (n, i)))" \
			" ORDER BY resets_at LIMIT $3"
#define DUE_ARGS                                                                                   \
	7,                                                                                             \
	{                                                                                              \
		TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, TEXTOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID \
	}

static SsPlan due_plan = {DUE " FOR UPDATE SKIP LOCKED", DUE_ARGS};

/* The same without locks, to visit the rows one by one. */
static SsPlan names_plan = {DUE, DUE_ARGS};

static SsPlan one_plan = {COLUMNS " namespace {=} $1 AND counter_id {=} $2 AND resets_at {<=} $3"
								  " FOR UPDATE SKIP LOCKED",
						  3,
						  {TEXTOID, TEXTOID, TIMESTAMPTZOID}};

/* A child table may have a row with the same ctid, which must not go unless it is over as well. */
static SsPlan remove_plan = {"DELETE FROM {counters} WHERE ctid {=} ANY ($1) AND resets_at {<=} $2",
							 2,
							 {TIDARRAYOID, TIMESTAMPTZOID}};

static SsPlan oldest_plan = {
	"SELECT resets_at::pg_catalog.timestamptz FROM {counters} ORDER BY resets_at LIMIT 1",
	0,
	{InvalidOid}};

/* A batch in progress. */
typedef struct Batch
{
	SsCounterPurge *purge;
	TimestampTz now; /* the time that decides whether a period has ended */
	List *retried;   /* keys of removed rows that had been set aside */
	Datum one[2];    /* namespace and id of the row that remove_alone visits */
} Batch;

static Datum
value_at(SPITupleTable *table, uint64 i, int column)
{
	return ss_sql_value(table->vals[i], table->tupdesc, column, "session_counters");
}

/* Makes the key by which a row is set aside; false if its namespace or id is invalid. */
static bool
key_at(SPITupleTable *table, uint64 i, SsKey *key)
{
	return ss_key_from_datums(key, value_at(table, i, DUE_NAMESPACE),
							  value_at(table, i, DUE_COUNTER_ID));
}

/* Removes rows that a statement has locked. */
static void
remove_locked(Batch *batch, SPITupleTable *locked, uint64 n)
{
	Datum *ctids = palloc(sizeof(Datum) * Max(n, 1));
	Datum values[2];

	if (n == 0)
		return;
	for (uint64 i = 0; i < n; i++)
		ctids[i] = value_at(locked, i, DUE_CTID);
	values[0] = PointerGetDatum(
		construct_array(ctids, (int) n, TIDOID, sizeof(ItemPointerData), false, TYPALIGN_SHORT));
	values[1] = TimestampTzGetDatum(batch->now);
	if (ss_plan_run_redacted(&remove_plan, values, NULL, SS_PLAN_WRITE) < n)
		ss_error_rows_skipped("session_counters");
	batch->purge->removed += (int64) n;
}

/* Runs due_plan or names_plan.  Returns the number of rows. */
static uint64
read_due(Batch *batch, SsPlan *plan)
{
	SsCounterPurge *purge = batch->purge;
	Datum values[7] = {TimestampTzGetDatum(purge->from), TimestampTzGetDatum(batch->now),
					   Int64GetDatum(purge->limit), purge->ns};
	char nulls[7] = {' ', ' ', ' ', purge->ns == (Datum) 0 ? 'n' : ' ', ' ', ' ', ' '};

	purge->visited = purge->removed = 0;
	purge->up_to = purge->from;
	ss_aside_arrays(purge->aside, batch->now, &values[4]);
	return ss_plan_run(plan, values, nulls, SS_PLAN_WRITE, 0);
}

/* In a subtransaction: removes a whole batch. */
static bool
remove_together(void *arg)
{
	Batch *batch = arg;
	uint64 n = read_due(batch, &due_plan);
	SPITupleTable *locked = SPI_tuptable;

	remove_locked(batch, locked, n);
	batch->purge->visited = (int64) n;
	if (n > 0)
		batch->purge->up_to = DatumGetTimestampTz(value_at(locked, n - 1, DUE_RESETS_AT));
	for (uint64 i = 0; i < n && !ss_aside_is_empty(batch->purge->aside); i++)
	{
		SsKey *key = palloc(sizeof(SsKey));

		if (key_at(locked, i, key) && ss_aside_until(batch->purge->aside, key) != 0)
			batch->retried = lappend(batch->retried, key);
	}
	SPI_freetuptable(locked);
	return true;
}

/* In a subtransaction: removes one row.  False when it is locked, or counts again. */
static bool
remove_alone(void *arg)
{
	Batch *batch = arg;
	Datum values[3] = {batch->one[0], batch->one[1], TimestampTzGetDatum(batch->now)};
	uint64 n = ss_plan_run(&one_plan, values, NULL, SS_PLAN_WRITE, 0);

	remove_locked(batch, SPI_tuptable, n);
	return n > 0;
}

/* After the batch was rolled back: visits its rows one by one, up to the limits of a pass. */
static void
remove_one_by_one(Batch *batch)
{
	SsCounterPurge *purge = batch->purge;
	uint64 n = read_due(batch, &names_plan);
	SPITupleTable *table = SPI_tuptable;
	SsAsidePass pass;

	ss_aside_pass_begin(&pass, purge->aside);
	for (uint64 i = 0; i < n && !ss_aside_pass_is_over(&pass); i++)
	{
		int64 removed = purge->removed;
		SsKey key;

		CHECK_FOR_INTERRUPTS();
		purge->up_to = DatumGetTimestampTz(value_at(table, i, DUE_RESETS_AT));
		batch->one[0] = value_at(table, i, DUE_NAMESPACE);
		batch->one[1] = value_at(table, i, DUE_COUNTER_ID);
		if (!ss_aside_pass_visit(&pass, key_at(table, i, &key) ? &key : NULL, remove_alone, batch))
			purge->removed = removed;
	}
	SPI_freetuptable(table);
	/* more rows may be due, after these or among them */
	purge->visited = pass.progressed ? purge->limit : 0;
}

/*
 * Removes counters whose period has ended, lowest resets_at first, up to the limit in *purge.  A row
 * that cannot be removed is set aside; other errors are raised.  Between ss_sql_enter and
 * ss_sql_leave.
 */
void
ss_counter_purge(SsCounterPurge *purge)
{
	Batch batch = {.purge = purge, .now = GetCurrentTimestamp()};
	ErrorData *error;
	ListCell *cell;

	(void) ss_aside_try(remove_together, &batch, &error);
	if (error != NULL)
	{
		FreeErrorData(error);
		remove_one_by_one(&batch);
	}
	else
		foreach (cell, batch.retried)
			ss_aside_done(purge->aside, lfirst(cell));
	ss_counter_add(SS_COUNTERS_PURGED, purge->removed);
}

/* Reads the lowest resets_at of all counters; false when there is none.  As ss_counter_purge. */
bool
ss_counter_oldest(TimestampTz *resets_at)
{
	if (ss_plan_run(&oldest_plan, NULL, NULL, SS_PLAN_READ, 1) == 0)
		return false;
	*resets_at = DatumGetTimestampTz(
		ss_sql_value(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, "session_counters"));
	return true;
}
