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
 * Nothing else raises check_at, and the row's trigger lowers it whenever the end
 * of a row falls below it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "rows/events.h"
#include "rows/expiry.h"
#include "rows/namespaces.h"
#include "rows/purge.h"
#include "rows/sessions.h"
#include "rows/touch_pending.h"
#include "shared.h"

static SsPlan due_plan = {
	"SELECT ctid, namespace, session_id, owner_id, expires_at, dead_until, check_at, ttl"
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

/* What is to become of the rows of one batch. */
typedef struct Batch
{
	int ndead;
	Datum *dead; /* ctids */
	/* of these, the ones to be told of in session_events */
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

static bool
audits(Datum ns)
{
	SsPolicy policy;
	text *name = DatumGetTextPP(ns);

	return ss_ns_find(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name), &policy) && policy.audit;
}

/* Judge one due row: remember it as dead, or raise its check_at. */
static void
look_at(Batch *batch, HeapTuple tuple, TupleDesc desc, TimestampTz now)
{
	bool null;
	bool owner_null;
	Datum ctid = SPI_getbinval(tuple, desc, 1, &null);
	Datum ns = SPI_getbinval(tuple, desc, 2, &null);
	Datum id = SPI_getbinval(tuple, desc, 3, &null);
	Datum owner = SPI_getbinval(tuple, desc, 4, &owner_null);
	TimestampTz expires_at = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 5, &null));
	Datum dead_datum = SPI_getbinval(tuple, desc, 6, &null);
	bool tombstone = !null;
	int64 ttl = ss_interval_usec(SPI_getbinval(tuple, desc, 8, &null));
	TimestampTz end;
	SsKey key;

	end = expires_at;
	if (tombstone)
		end = Max(DatumGetTimestampTz(dead_datum), expires_at);
	else if (ss_key_from_datums(&key, ns, id))
		end = ss_touch_effective(&key, expires_at);

	if (end > now)
	{
		TimestampTz prolonged = tombstone ? expires_at : end;
		Datum values[3] = {ctid, TimestampTzGetDatum(end), TimestampTzGetDatum(prolonged)};

		ss_plan_run(&raise_plan, values, NULL, SS_PLAN_WRITE, 0);
		if (prolonged != expires_at)
			ss_pending_rebase(&key, expires_at, ttl, prolonged);
		return;
	}
	batch->dead[batch->ndead++] = ctid;
	/* the end of a tombstone is no event: its session's end was one */
	if (!tombstone && audits(ns))
	{
		batch->event_ns[batch->nevents] = ns;
		batch->event_id[batch->nevents] = id;
		batch->event_owner[batch->nevents] = owner;
		batch->event_owner_null[batch->nevents] = owner_null;
		batch->nevents++;
	}
}

static void
remove_dead(Batch *batch, Oid actor)
{
	Datum values[1];
	uint64 removed;
	bool *no_nulls = palloc0(sizeof(bool) * Max(batch->nevents, 1));

	values[0] = PointerGetDatum(construct_array(batch->dead, batch->ndead, TIDOID,
												sizeof(ItemPointerData), false, TYPALIGN_SHORT));
	ss_unfenced = true;
	removed = ss_plan_run(&remove_plan, values, NULL, SS_PLAN_WRITE, 0);
	ss_unfenced = false;
	if (removed != batch->ndead)
		elog(ERROR, "a locked session row was not removed");
	if (batch->nevents > 0)
		ss_events_expired(text_array(batch->event_ns, no_nulls, batch->nevents),
						  text_array(batch->event_id, no_nulls, batch->nevents),
						  text_array(batch->event_owner, batch->event_owner_null, batch->nevents),
						  batch->nevents, actor);
}

/* Look at the rows that are due, oldest first, up to a limit. */
void
ss_purge_batch(SsPurge *purge, Oid actor)
{
	Datum values[4];
	char nulls[4] = {' ', ' ', ' ', purge->ns == (Datum) 0 ? 'n' : ' '};
	TimestampTz now = GetCurrentTimestamp();
	SPITupleTable *due;
	Batch batch = {0};
	uint64 n;
	bool null;

	values[0] = TimestampTzGetDatum(purge->from);
	values[1] = TimestampTzGetDatum(now);
	values[2] = Int64GetDatum(purge->limit);
	values[3] = purge->ns;
	n = ss_plan_run(&due_plan, values, nulls, SS_PLAN_WRITE, 0);
	due = SPI_tuptable;

	purge->looked = n;
	purge->removed = 0;
	purge->up_to = purge->from;
	if (n == 0)
		return;
	purge->up_to = DatumGetTimestampTz(SPI_getbinval(due->vals[n - 1], due->tupdesc, 7, &null));

	batch.dead = palloc(sizeof(Datum) * n);
	batch.event_ns = palloc(sizeof(Datum) * n);
	batch.event_id = palloc(sizeof(Datum) * n);
	batch.event_owner = palloc(sizeof(Datum) * n);
	batch.event_owner_null = palloc(sizeof(bool) * n);
	now = GetCurrentTimestamp();
	for (uint64 i = 0; i < n; i++)
	{
		if (batch.ndead == purge->remove)
		{
			purge->looked = i;
			break;
		}
		look_at(&batch, due->vals[i], due->tupdesc, now);
	}
	if (batch.ndead > 0)
		remove_dead(&batch, actor);
	purge->removed = batch.ndead;
	SPI_freetuptable(due);
	ss_count(SS_PURGED, batch.ndead);
}

/* The check_at of the row that has waited longest; false when there is no row. */
bool
ss_purge_oldest(TimestampTz *check_at)
{
	bool null;

	if (ss_plan_run(&oldest_plan, NULL, NULL, SS_PLAN_READ, 1) == 0)
		return false;
	*check_at = DatumGetTimestampTz(
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
	return true;
}
