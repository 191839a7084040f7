/*
 * purge.c
 *		Removing what is dead, at the cost of what is dead.
 *
 * The purge walks the index on check_at from its low end.  Each row that it meets
 * there is due for a look, and is one of:
 *
 *	- dead: removed
 *	- a tombstone whose time is not over: check_at is raised to when it is
 *	- alive, because it was saved, touched or read since: check_at is raised to
 *	  its present end (and what reads noted is written along)
 *
 * So a living session costs one update each time its ttl passes, however often it
 * was used meanwhile.  Rows that somebody has locked are passed over.
 *
 * Where there is a way (due.c) rows are removed or locked as they are met; else one statement locks
 * all that are due, and another removes the dead.
 *
 * Nothing else raises check_at, and the row's trigger lowers it whenever the end
 * of a row falls below it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "rows/due.h"
#include "rows/errors.h"
#include "rows/events.h"
#include "rows/expiry.h"
#include "rows/namespaces.h"
#include "rows/purge.h"
#include "rows/row.h"
#include "rows/sessions.h"
#include "rows/touch_pending.h"
#include "shared.h"

/* Of a row that is locked; as many columns as there are in `judged`. */
#define COLUMNS "ctid, namespace, session_id, owner_id, expires_at, dead_until, check_at, ttl"

static const int judged[] = {SS_ROW_NAMESPACE,  SS_ROW_SESSION_ID, SS_ROW_OWNER_ID,
							 SS_ROW_EXPIRES_AT, SS_ROW_DEAD_UNTIL, SS_ROW_CHECK_AT,
							 SS_ROW_TTL};

static SsPlan due_plan = {"SELECT " COLUMNS
						  " FROM {sessions} WHERE check_at {>=} $1 AND check_at {<=} $2"
						  " AND ($4 IS NULL OR namespace {=} $4)"
						  " ORDER BY check_at LIMIT $3 FOR UPDATE SKIP LOCKED",
						  4,
						  {TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, TEXTOID}};

static SsPlan remove_plan = {"DELETE FROM {sessions} WHERE ctid {=} ANY ($1)", 1, {TIDARRAYOID}};

static SsPlan raise_plan = {
	"UPDATE {sessions} SET check_at = $2, expires_at = $3 WHERE ctid {=} $1",
	3,
	{TIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID}};

static SsPlan oldest_plan = {"SELECT check_at FROM {sessions} ORDER BY check_at LIMIT 1",
							 0,
							 {InvalidOid}};

/* A batch at work. */
typedef struct Batch
{
	TimestampTz now; /* rows are judged by */
	/* to be told of in session_events */
	int nevents;
	Datum *event_ns;
	Datum *event_id;
	Datum *event_owner;
	bool *event_owner_null;
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
time_of(const SsRowView *row, int column)
{
	return DatumGetTimestampTz(row->values[column]);
}

static bool
is_tombstone(const SsRowView *row)
{
	return !row->nulls[SS_ROW_DEAD_UNTIL];
}

/* When is a row to be removed?  With what reads have noted. */
static TimestampTz
end_of(const SsRowView *row, SsKey *key)
{
	TimestampTz expires_at = time_of(row, SS_ROW_EXPIRES_AT);

	if (is_tombstone(row))
		return Max(time_of(row, SS_ROW_DEAD_UNTIL), expires_at);
	if (ss_key_from_datums(key, row->values[SS_ROW_NAMESPACE], row->values[SS_ROW_SESSION_ID]))
		return ss_touch_effective(key, expires_at);
	return expires_at;
}

static bool
audits(Datum ns)
{
	SsPolicy policy;
	text *name = DatumGetTextPP(ns);

	return ss_ns_find(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name), &policy) && policy.audit;
}

/* A row is removed: remember what is to be told of it. */
static void
remember_event(Batch *batch, const SsRowView *row)
{
	int n = batch->nevents;

	/* the end of a tombstone is no event: its session's end was one */
	if (is_tombstone(row) || !audits(row->values[SS_ROW_NAMESPACE]))
		return;
	batch->event_ns[n] = datumCopy(row->values[SS_ROW_NAMESPACE], false, -1);
	batch->event_id[n] = datumCopy(row->values[SS_ROW_SESSION_ID], false, -1);
	batch->event_owner_null[n] = row->nulls[SS_ROW_OWNER_ID];
	if (!batch->event_owner_null[n])
		batch->event_owner[n] = datumCopy(row->values[SS_ROW_OWNER_ID], false, -1);
	batch->nevents++;
}

static void
tell_of_events(const Batch *batch, Oid actor)
{
	if (batch->nevents > 0)
		ss_events_expired(text_array(batch->event_ns, NULL, batch->nevents),
						  text_array(batch->event_id, NULL, batch->nevents),
						  text_array(batch->event_owner, batch->event_owner_null, batch->nevents),
						  batch->nevents, actor);
}

/* A living row, which is locked, is due again when its life ends. */
static void
raise_row(Datum ctid, const SsRowView *row, SsKey *key, TimestampTz end)
{
	TimestampTz expires_at = time_of(row, SS_ROW_EXPIRES_AT);
	TimestampTz prolonged = is_tombstone(row) ? expires_at : end;
	Datum values[3] = {ctid, TimestampTzGetDatum(end), TimestampTzGetDatum(prolonged)};

	ss_plan_run_on_others(&raise_plan, values, NULL, SS_PLAN_WRITE);
	if (prolonged != expires_at)
		ss_pending_rebase(key, expires_at, ss_interval_usec(row->values[SS_ROW_TTL]), prolonged);
}

/* Remove or raise the row that was come by, as it was seen or not at all. */
static bool
settle(SsPurge *purge, Batch *batch, SsDue *due)
{
	SsKey key;
	TimestampTz end = end_of(&due->row, &key);
	bool removed;

	if (end > batch->now)
	{
		if (!ss_due_lock(due))
			return false;
		raise_row(PointerGetDatum(&due->slot->tts_tid), &due->row, &key, end);
		return true;
	}
	ss_unfenced = true;
	removed = ss_due_remove(due);
	ss_unfenced = false;
	if (!removed)
		return false;
	purge->removed++;
	remember_event(batch, &due->row);
	return true;
}

static void
settle_on_the_way(SsPurge *purge, Batch *batch, SsDue *due)
{
	while (purge->looked < purge->limit && purge->removed < purge->remove && ss_due_next(due))
	{
		if (!settle(purge, batch, due))
			continue; /* it is locked, or not what it was */
		purge->looked++;
		purge->up_to = time_of(&due->row, SS_ROW_CHECK_AT);
	}
}

static void
open_row(SsRowView *row, HeapTuple tuple, TupleDesc desc)
{
	for (int i = 0; i < (int) lengthof(judged); i++)
	{
		Datum *value = &row->values[judged[i]];
		bool *null = &row->nulls[judged[i]];

		*null = false;
		if (judged[i] == SS_ROW_OWNER_ID || judged[i] == SS_ROW_DEAD_UNTIL)
			*value = SPI_getbinval(tuple, desc, i + 2, null);
		else
			*value = ss_value(tuple, desc, i + 2, "conversation_sessions");
	}
}

/* Remove or raise rows that a statement has locked. */
static void
settle_locked(SsPurge *purge, Batch *batch, SPITupleTable *locked, uint64 n)
{
	Datum *dead = palloc(sizeof(Datum) * n);
	int ndead = 0;
	Datum values[1];
	SsRowView row;
	SsKey key;

	for (uint64 i = 0; i < n && purge->removed + ndead < purge->remove; i++)
	{
		bool null;
		Datum ctid = SPI_getbinval(locked->vals[i], locked->tupdesc, 1, &null);
		TimestampTz end;

		open_row(&row, locked->vals[i], locked->tupdesc);
		end = end_of(&row, &key);
		if (end > batch->now)
			raise_row(ctid, &row, &key, end);
		else
		{
			dead[ndead++] = ctid;
			remember_event(batch, &row);
		}
		purge->looked++;
		purge->up_to = time_of(&row, SS_ROW_CHECK_AT);
	}
	if (ndead == 0)
		return;
	values[0] = PointerGetDatum(
		construct_array(dead, ndead, TIDOID, sizeof(ItemPointerData), false, TYPALIGN_SHORT));
	ss_unfenced = true;
	if (ss_plan_run_on_others(&remove_plan, values, NULL, SS_PLAN_WRITE) != (uint64) ndead)
		ss_error_rows_skipped("conversation_sessions");
	ss_unfenced = false;
	purge->removed += ndead;
}

/* Look at the rows that are due, oldest first, up to a limit. */
void
ss_purge_batch(SsPurge *purge, Oid actor)
{
	Batch batch = {.now = GetCurrentTimestamp()};
	SsDue due;

	purge->looked = 0;
	purge->removed = 0;
	purge->up_to = purge->from;
	batch.event_ns = palloc(sizeof(Datum) * purge->limit);
	batch.event_id = palloc(sizeof(Datum) * purge->limit);
	batch.event_owner = palloc(sizeof(Datum) * purge->limit);
	batch.event_owner_null = palloc(sizeof(bool) * purge->limit);

	/* what it has locked itself is locked to who does not wait */
	if (purge->alone && purge->ns == (Datum) 0 && ss_due_open(&due, purge->from, batch.now))
	{
		settle_on_the_way(purge, &batch, &due);
		ss_due_close(&due);
	}
	else
	{
		Datum values[4] = {TimestampTzGetDatum(purge->from), TimestampTzGetDatum(batch.now),
						   Int64GetDatum(purge->limit), purge->ns};
		char nulls[4] = {' ', ' ', ' ', purge->ns == (Datum) 0 ? 'n' : ' '};
		uint64 n = ss_plan_run(&due_plan, values, nulls, SS_PLAN_WRITE, 0);

		settle_locked(purge, &batch, SPI_tuptable, n);
	}
	tell_of_events(&batch, actor);
	ss_count(SS_PURGED, purge->removed);
}

/* The check_at of the row that has waited longest; false when there is no row. */
bool
ss_purge_oldest(TimestampTz *check_at)
{
	if (ss_plan_run(&oldest_plan, NULL, NULL, SS_PLAN_READ, 1) == 0)
		return false;
	*check_at = DatumGetTimestampTz(
		ss_value(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, "conversation_sessions"));
	return true;
}
