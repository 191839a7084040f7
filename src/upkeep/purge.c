/*
 * purge.c
 *		Removes expired sessions and tombstones that have run out.
 *
 * The purge scans the index on check_at from its low end.  A row found there is due for a visit:
 *
 *	- If it is an expired session or a tombstone that has run out, it is removed.
 *	- If it is a tombstone that has not run out, check_at is raised to its end.
 *	- If the session is alive, because it was saved, touched or read since, check_at is raised to its
 *	  present end, and its pending touch is written as well.
 *
 * So the cost is that of what is dead, and a session that stays alive costs one update each time its
 * ttl passes, however often it was used.  Nothing else raises check_at; the trigger on the row lowers
 * it when the row's end falls below it.  Rows locked by others are skipped.
 *
 * A row is removed by what it and its pending touch say, never by the policy of its namespace.
 *
 * Where direct access is possible (direct_purge.c), rows are deleted or locked as the scan reads them.
 * Otherwise one statement locks all rows that are due, and another one deletes the dead.
 *
 * A batch runs in a subtransaction.  If a foreign key, trigger or rule refuses one of its rows, the
 * batch is rolled back and its rows are visited one by one, each in a subtransaction; those that
 * fail are set aside (aside.c).  A namespace in which many rows fail is left out of the batches.  Its
 * rows are visited by walks of their own, in the order of check_at and, where that is equal, of
 * ctid, which is the order of a btree.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "row/direct_purge.h"
#include "row/errors.h"
#include "row/liveness.h"
#include "row/row_columns.h"
#include "row/session.h"
#include "sessions/aside.h"
#include "sessions/events.h"
#include "shared/counters.h"
#include "table/namespaces.h"
#include "table/schema.h"
#include "table/sql.h"
#include "touch/touch_xact.h"
#include "upkeep/purge.h"

/* The columns that are read of a locked row, before its ctid and tableoid. */
static const AttrNumber locked_columns[] = {SS_ROW_NAMESPACE,  SS_ROW_SESSION_ID, SS_ROW_OWNER_ID,
											SS_ROW_EXPIRES_AT, SS_ROW_DEAD_UNTIL, SS_ROW_CHECK_AT,
											SS_ROW_TTL,        SS_ROW_NONE};

#define LOCKED_CTID ((int) lengthof(locked_columns))
#define LOCKED_TABLE (LOCKED_CTID + 1)

/* The columns that are read without a lock, to visit the rows one by one, before the ctid. */
static const AttrNumber visit_columns[] = {SS_ROW_NAMESPACE, SS_ROW_SESSION_ID, SS_ROW_CHECK_AT,
										   SS_ROW_NONE};

#define VISIT_CTID ((int) lengthof(visit_columns))

#define COLUMNS "SELECT {columns}, ctid, tableoid"

/* The rows that are due and not set aside. */
#define DUE                                                                      \
	" FROM {sessions} WHERE check_at {>=} $1 AND check_at {<=} $2"               \
	" AND ($4 IS NULL OR namespace {=} $4) AND namespace {<>} ALL ($5)"          \
	" AND NOT ((namespace, session_id) {=} ANY (SELECT n, i FROM"                \
	" ROWS FROM (pg_catalog.unnest($6), pg_catalog.unnest($7)) AS held (n, i)))" \
	" ORDER BY check_at LIMIT $3"
#define DUE_ARGS                                                                                   \
	7,                                                                                             \
	{                                                                                              \
		TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, TEXTOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID \
	}

static SsPlan due_plan = {COLUMNS DUE " FOR UPDATE SKIP LOCKED", DUE_ARGS, locked_columns};

/* The same without locks. */
static SsPlan names_plan = {COLUMNS DUE, DUE_ARGS, visit_columns};

/* Rows of a namespace that is set aside, from a check_at and ctid on. */
static SsPlan walk_plan = {COLUMNS " FROM {sessions} WHERE check_at {>=} $1 AND check_at {<=} $2"
								   " AND namespace {=} $4 AND (check_at {>} $1 OR ctid {>} $5)"
								   " ORDER BY check_at LIMIT $3",
						   5,
						   {TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, TEXTOID, TIDOID},
						   visit_columns};

static SsPlan one_plan = {COLUMNS " FROM {sessions} WHERE namespace {=} $1 AND session_id {=} $2"
								  " AND check_at {<=} $3 FOR UPDATE SKIP LOCKED",
						  3,
						  {TEXTOID, TEXTOID, TIMESTAMPTZOID},
						  locked_columns};

static SsPlan remove_plan = {"DELETE FROM {sessions} WHERE " SS_SQL_AT("$1", "$2"),
							 2,
							 {TIDARRAYOID, OIDARRAYOID},
							 .flags = SS_PLAN_SKIPS_FENCE};

static SsPlan raise_plan = {
	"UPDATE {sessions} SET check_at = $3, expires_at = $4 WHERE ctid {=} $1 AND tableoid {=} $2",
	4,
	{TIDOID, OIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID}};

static SsPlan oldest_plan = {"SELECT check_at FROM {sessions} ORDER BY check_at LIMIT 1",
							 0,
							 {InvalidOid}};

/* Maximum number of failures of a pass that visits rows one by one; see also SS_ASIDE_PASS_ROWS. */
#define APART_FAILURES 20
/* Rows of a set-aside namespace that a walk reads at once. */
#define WALK_LIMIT 200

/* A batch in progress. */
typedef struct Batch
{
	SsPurge *purge;
	Oid actor;
	TimestampTz now; /* the time that decides whether a row is dead */
	/* events to be recorded, as parallel arrays */
	int nevents;
	int room; /* allocated length of the arrays */
	Datum *event_ns;
	Datum *event_id;
	Datum *event_owner;
	bool *event_owner_null;
	List *retried; /* keys of visited rows that had been set aside */
} Batch;

static Datum
text_array(Datum *elems, bool *nulls, int n)
{
	int dims[1] = {n};
	int lbs[1] = {1};

	return PointerGetDatum(
		construct_md_array(elems, nulls, 1, dims, lbs, TEXTOID, -1, false, TYPALIGN_INT));
}

static TimestampTz
time_of(const SsDeformedRow *row, int column)
{
	return DatumGetTimestampTz(row->values[column]);
}

static bool
is_tombstone(const SsDeformedRow *row)
{
	return !row->nulls[SS_ROW_DEAD_UNTIL];
}

/* Returns when the row may be removed, including its pending touch. */
static TimestampTz
end_of(const SsDeformedRow *row)
{
	return ss_liveness_purge_at(ss_row_expiry(row),
								is_tombstone(row) ? time_of(row, SS_ROW_DEAD_UNTIL) : SS_NEVER);
}

/* Does the namespace record events? */
static bool
audits(Datum ns)
{
	SsPolicy policy;
	text *name = DatumGetTextPP(ns);

	return ss_ns_find(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name), &policy) && policy.audit;
}

static void
enlarge_events(Batch *batch, int room)
{
	batch->room = room;
	batch->event_ns = repalloc(batch->event_ns, sizeof(Datum) * room);
	batch->event_id = repalloc(batch->event_id, sizeof(Datum) * room);
	batch->event_owner = repalloc(batch->event_owner, sizeof(Datum) * room);
	batch->event_owner_null = repalloc(batch->event_owner_null, sizeof(bool) * room);
}

/* Collects the event of a removed row. */
static void
collect_event(Batch *batch, const SsDeformedRow *row)
{
	int n = batch->nevents;

	/* a tombstone has none: the end of its session was the event */
	if (is_tombstone(row) || !audits(row->values[SS_ROW_NAMESPACE]))
		return;
	/* more rows than the limit are possible if tables inherit from ours */
	if (n == batch->room)
		enlarge_events(batch, n * 2 + 1);
	batch->event_ns[n] = datumCopy(row->values[SS_ROW_NAMESPACE], false, -1);
	batch->event_id[n] = datumCopy(row->values[SS_ROW_SESSION_ID], false, -1);
	batch->event_owner_null[n] = row->nulls[SS_ROW_OWNER_ID];
	if (!batch->event_owner_null[n])
		batch->event_owner[n] = datumCopy(row->values[SS_ROW_OWNER_ID], false, -1);
	batch->nevents++;
}

/* Writes the collected events. */
static void
record_events(Batch *batch)
{
	if (batch->nevents > 0)
		ss_events_expired(text_array(batch->event_ns, NULL, batch->nevents),
						  text_array(batch->event_id, NULL, batch->nevents),
						  text_array(batch->event_owner, batch->event_owner_null, batch->nevents),
						  batch->nevents, batch->actor);
	batch->nevents = 0;
}

/* Raises check_at of a locked row that is not dead to its end, and writes its pending touch. */
static void
raise_row(Datum ctid, Datum table, const SsDeformedRow *row, TimestampTz end)
{
	TimestampTz expires_at = time_of(row, SS_ROW_EXPIRES_AT);
	TimestampTz new_expires_at = is_tombstone(row) ? expires_at : end;
	Datum values[4] = {ctid, table, TimestampTzGetDatum(end), TimestampTzGetDatum(new_expires_at)};
	SsKey key;

	ss_plan_run_redacted(&raise_plan, values, NULL, SS_PLAN_WRITE);
	/* only a pending touch makes a difference, and a row with one has a ttl */
	if (new_expires_at != expires_at &&
		ss_key_from_datums(&key, row->values[SS_ROW_NAMESPACE], row->values[SS_ROW_SESSION_ID]))
	{
		SsTouch touch = {.base = expires_at,
						 .ttl_us = ss_interval_usec(row->values[SS_ROW_TTL]),
						 .expires_at = new_expires_at};

		ss_touch_xact_rebase(&key, &touch);
	}
}

/* Collects the key of a visited row if it had been set aside; it no longer is, if the batch is kept. */
static void
collect_retried(Batch *batch, const SsDeformedRow *row)
{
	SsKey key;
	SsKey *kept;

	if (ss_aside_is_empty(batch->purge->aside) ||
		!ss_key_from_datums(&key, row->values[SS_ROW_NAMESPACE], row->values[SS_ROW_SESSION_ID]) ||
		ss_aside_until(batch->purge->aside, &key) == 0)
		return;
	kept = palloc(sizeof(SsKey));
	ss_key_copy(kept, &key);
	batch->retried = lappend(batch->retried, kept);
}

/*
 * Removes the current row of the scan, or raises its check_at.  False when it was changed or locked
 * since the scan read it.
 */
static bool
purge_row(SsPurge *purge, Batch *batch, SsDirectPurge *due)
{
	TimestampTz end = end_of(&due->row);
	bool removed;

	if (!ss_liveness_has_ended(end, batch->now))
	{
		if (!ss_direct_purge_lock(due))
			return false;
		raise_row(PointerGetDatum(&due->slot->tts_tid), ObjectIdGetDatum(due->slot->tts_tableOid),
				  &due->row, end);
		return true;
	}
	removed = ss_direct_purge_remove(due);
	if (!removed)
		return false;
	purge->removed++;
	collect_event(batch, &due->row);
	return true;
}

static bool
is_set_aside(const SsPurge *purge, const Batch *batch, const SsDeformedRow *row)
{
	SsKey key;

	return !ss_aside_is_empty(purge->aside) &&
		   ss_key_from_datums(&key, row->values[SS_ROW_NAMESPACE],
							  row->values[SS_ROW_SESSION_ID]) &&
		   ss_aside_holds(purge->aside, &key, batch->now);
}

/* Purges rows by a scan, up to the limits of the batch. */
static void
purge_by_scan(SsPurge *purge, Batch *batch, SsDirectPurge *due)
{
	while (purge->visited < purge->limit && purge->removed < purge->remove &&
		   ss_direct_purge_next(due))
	{
		if (is_set_aside(purge, batch, &due->row) || !purge_row(purge, batch, due))
			continue; /* a later sweep visits it */
		collect_retried(batch, &due->row);
		purge->visited++;
		purge->up_to = time_of(&due->row, SS_ROW_CHECK_AT);
	}
}

/* Removes rows that a statement has locked, or raises their check_at. */
static void
purge_locked_rows(SsPurge *purge, Batch *batch, SPITupleTable *locked, uint64 n)
{
	Datum *dead = palloc(sizeof(Datum) * n);
	Datum *tables = palloc(sizeof(Datum) * n);
	int ndead = 0;
	Datum values[2];
	SsDeformedRow row;

	for (uint64 i = 0; i < n && purge->removed + ndead < purge->remove; i++)
	{
		bool null;
		Datum ctid = SPI_getbinval(locked->vals[i], locked->tupdesc, LOCKED_CTID, &null);
		Datum table = SPI_getbinval(locked->vals[i], locked->tupdesc, LOCKED_TABLE, &null);
		TimestampTz end;

		ss_row_deform_result(&row, locked->vals[i], locked->tupdesc, locked_columns);
		end = end_of(&row);
		if (!ss_liveness_has_ended(end, batch->now))
			raise_row(ctid, table, &row, end);
		else
		{
			tables[ndead] = table;
			dead[ndead++] = ctid;
			collect_event(batch, &row);
		}
		collect_retried(batch, &row);
		purge->visited++;
		purge->up_to = time_of(&row, SS_ROW_CHECK_AT);
	}
	if (ndead == 0)
		return;
	values[0] = PointerGetDatum(
		construct_array(dead, ndead, TIDOID, sizeof(ItemPointerData), false, TYPALIGN_SHORT));
	values[1] = PointerGetDatum(
		construct_array(tables, ndead, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
	if (ss_plan_run_redacted(&remove_plan, values, NULL, SS_PLAN_WRITE) != (uint64) ndead)
		ss_error_rows_skipped("conversation_sessions");
	purge->removed += ndead;
}

/* Sets the parameters of due_plan and names_plan. */
static void
bind_due(const SsPurge *purge, const Batch *batch, Datum *values, char *nulls)
{
	values[0] = TimestampTzGetDatum(purge->from);
	values[1] = TimestampTzGetDatum(batch->now);
	values[2] = Int64GetDatum(purge->limit);
	values[3] = purge->ns;
	ss_aside_arrays(purge->aside, batch->now, &values[4]);
	memset(nulls, ' ', 7);
	if (purge->ns == (Datum) 0)
		nulls[3] = 'n';
}

/* Resets the results before an attempt. */
static void
reset_results(SsPurge *purge, Batch *batch)
{
	purge->visited = 0;
	purge->removed = 0;
	purge->up_to = purge->from;
	batch->nevents = 0;
}

/* In a subtransaction: purges a whole batch. */
static bool
purge_together(void *arg)
{
	Batch *batch = arg;
	SsPurge *purge = batch->purge;
	SsDirectPurge due;

	/* a scan that does not wait would also skip rows that this transaction itself has locked */
	if (purge->no_locks && purge->ns == (Datum) 0 &&
		ss_direct_purge_open(&due, purge->from, batch->now))
	{
		purge_by_scan(purge, batch, &due);
		ss_direct_purge_close(&due);
	}
	else
	{
		Datum values[7];
		char nulls[7];
		uint64 n;

		bind_due(purge, batch, values, nulls);
		n = ss_plan_run(&due_plan, values, nulls, SS_PLAN_WRITE, 0);
		purge_locked_rows(purge, batch, SPI_tuptable, n);
	}
	record_events(batch);
	return true;
}

/* A row that is visited in a subtransaction of its own. */
typedef struct Visit
{
	Batch *batch;
	SsKey key;
	bool has_key; /* false: namespace or id is invalid */
	Datum ns;
	Datum id;
	TimestampTz check_at;
	uint64 place; /* ctid as a number */
} Visit;

/* In a subtransaction: purges one row.  False when it is locked or no longer due. */
static bool
purge_one(void *arg)
{
	Visit *name = arg;
	Datum values[3] = {name->ns, name->id, TimestampTzGetDatum(name->batch->now)};
	uint64 n = ss_plan_run(&one_plan, values, NULL, SS_PLAN_WRITE, 0);

	purge_locked_rows(name->batch->purge, name->batch, SPI_tuptable, n);
	record_events(name->batch);
	return n > 0;
}

/* Returns a ctid as a number that sorts like it. */
static uint64
place_of(Datum ctid)
{
	ItemPointer pointer = (ItemPointer) DatumGetPointer(ctid);

	return ((uint64) ItemPointerGetBlockNumberNoCheck(pointer) << 16) |
		   ItemPointerGetOffsetNumberNoCheck(pointer);
}

/* Copies the result of names_plan or walk_plan, and frees it. */
static Visit *
copy_visits(Batch *batch, uint64 n)
{
	Visit *names = palloc(sizeof(Visit) * Max(n, 1));

	for (uint64 i = 0; i < n; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		SsDeformedRow row;
		bool null;

		ss_row_deform_result(&row, tuple, desc, visit_columns);
		names[i].batch = batch;
		names[i].ns = datumCopy(row.values[SS_ROW_NAMESPACE], false, -1);
		names[i].id = datumCopy(row.values[SS_ROW_SESSION_ID], false, -1);
		names[i].check_at = time_of(&row, SS_ROW_CHECK_AT);
		names[i].place = place_of(SPI_getbinval(tuple, desc, VISIT_CTID, &null));
		names[i].has_key = ss_key_from_datums(&names[i].key, names[i].ns, names[i].id);
	}
	SPI_freetuptable(SPI_tuptable);
	return names;
}

/* Results of visiting rows one by one. */
typedef struct Apart
{
	int visited;
	int failed;
	int busy; /* of those that failed, how many waited for a lock in vain */
	int done;
	bool progressed; /* a row was purged or set aside, so the next batch visits others */
} Apart;

/*
 * Visits rows one by one, within the limits of a pass.  A row locked by another transaction is set aside
 * for a moment, like one that fails, so that the next batch gets past it.
 */
static Apart
purge_each(Batch *batch, Visit *names, uint64 n)
{
	SsPurge *purge = batch->purge;
	/* without the time of a batch that failed before, so that at least one row is visited */
	TimestampTz began = GetCurrentTimestamp();
	Apart apart = {0};

	for (uint64 i = 0; i < n && purge->removed < purge->remove; i++)
	{
		Visit *name = &names[i];
		ErrorData *error;
		bool purged;
		int64 removed = purge->removed;

		CHECK_FOR_INTERRUPTS();
		if (apart.done >= SS_ASIDE_PASS_ROWS || apart.failed >= APART_FAILURES ||
			GetCurrentTimestamp() - began > SS_ASIDE_PASS_US)
			break;
		purged = ss_aside_try(purge_one, name, &error);
		apart.visited++;
		purge->up_to = name->check_at;
		apart.progressed = apart.progressed || purged || name->has_key;
		if (purged)
		{
			apart.done++;
			if (name->has_key)
				ss_aside_done(purge->aside, &name->key);
			continue;
		}
		purge->removed = removed;
		batch->nevents = 0;
		if (error != NULL)
		{
			apart.failed++;
			if (ss_aside_fault(error) == SS_FAULT_BUSY)
				apart.busy++;
		}
		if (name->has_key)
			ss_aside_add(purge->aside, &name->key, error);
		if (error != NULL)
			FreeErrorData(error);
	}
	return apart;
}

/* After the batch was rolled back: visits its rows one by one. */
static void
purge_one_by_one(Batch *batch)
{
	SsPurge *purge = batch->purge;
	Datum values[7];
	char nulls[7];
	uint64 n;
	Visit *names;
	Apart apart;

	reset_results(purge, batch);
	bind_due(purge, batch, values, nulls);
	n = ss_plan_run(&names_plan, values, nulls, SS_PLAN_WRITE, 0);
	names = copy_visits(batch, n);
	apart = purge_each(batch, names, n);
	purge->failed = apart.failed - apart.busy;
	/* more rows may be due, after these or among them */
	purge->visited = apart.progressed ? purge->limit : 0;
}

static void
open_batch(SsPurge *purge, Batch *batch, Oid actor, int64 limit)
{
	memset(batch, 0, sizeof(*batch));
	batch->purge = purge;
	batch->actor = actor;
	batch->now = GetCurrentTimestamp();
	batch->room = limit;
	batch->event_ns = palloc(sizeof(Datum) * limit);
	batch->event_id = palloc(sizeof(Datum) * limit);
	batch->event_owner = palloc(sizeof(Datum) * limit);
	batch->event_owner_null = palloc(sizeof(bool) * limit);
	reset_results(purge, batch);
}

/*
 * Visits rows that are due, lowest check_at first, up to the limits in *purge.  Events are attributed
 * to the role `actor`.  A row that cannot be removed is set aside; other errors are raised.  Between
 * ss_sql_enter and ss_sql_leave.
 */
void
ss_purge_batch(SsPurge *purge, Oid actor)
{
	ErrorData *error;
	Batch batch;
	ListCell *cell;

	open_batch(purge, &batch, actor, purge->limit);
	purge->failed = 0;
	(void) ss_aside_try(purge_together, &batch, &error);
	if (error != NULL)
	{
		FreeErrorData(error);
		purge_one_by_one(&batch);
	}
	else
		foreach (cell, batch.retried)
			ss_aside_done(purge->aside, lfirst(cell));
	ss_counter_add(SS_PURGED, purge->removed);
}

/*
 * Visits some rows of a namespace that is set aside and due for a walk; false when there is none.
 * Only purge->aside is used as input.
 */
bool
ss_purge_walk(SsPurge *purge, Oid actor)
{
	TimestampTz began = GetCurrentTimestamp();
	SsAsideWalk walk;
	Datum values[5];
	ItemPointerData place;
	Apart apart;
	Batch batch;
	Visit *names;
	uint64 n;

	if (!ss_aside_next_walk(purge->aside, began, &walk))
		return false;
	purge->from = walk.check_at;
	purge->remove = PG_INT64_MAX;
	open_batch(purge, &batch, actor, 1);
	ItemPointerSet(&place, (BlockNumber) (walk.place >> 16), (OffsetNumber) (walk.place & 0xffff));
	values[0] = TimestampTzGetDatum(walk.check_at);
	values[1] = TimestampTzGetDatum(batch.now);
	values[2] = Int64GetDatum(WALK_LIMIT);
	values[3] = CStringGetTextDatum(walk.ns);
	values[4] = PointerGetDatum(&place);
	n = ss_plan_run(&walk_plan, values, NULL, SS_PLAN_WRITE, 0);
	names = copy_visits(&batch, n);
	apart = purge_each(&batch, names, n);
	if (apart.visited > 0)
	{
		walk.check_at = names[apart.visited - 1].check_at;
		walk.place = names[apart.visited - 1].place;
	}
	ss_aside_walked(purge->aside, &walk, apart.failed, apart.done,
					apart.visited == (int) n && n < WALK_LIMIT, GetCurrentTimestamp() - began);
	ss_counter_add(SS_PURGED, purge->removed);
	return true;
}

/* Reads the lowest check_at of all rows; false when the table is empty. */
bool
ss_purge_oldest(TimestampTz *check_at)
{
	if (ss_plan_run(&oldest_plan, NULL, NULL, SS_PLAN_READ, 1) == 0)
		return false;
	*check_at = DatumGetTimestampTz(
		ss_sql_value(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, "conversation_sessions"));
	return true;
}
