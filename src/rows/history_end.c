/*
 * history_end.c
 *		What becomes of messages and members when their session is gone.
 *
 * A session that ends has its history_id taken away, and with it goes, for every
 * reader and at once, all that hangs on it.  The trigger on conversation_sessions queues the
 * name in conversation_history_ended, in the same transaction; the purge works the
 * queue off, so many messages a transaction, however long a history was.
 *
 * from_seq remembers how far a long history has been removed: what was deleted just now
 * still lies at its beginning, and would be walked over again and again.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "rows/history.h"
#include "shared.h"

/* Histories that are looked at at once. */
#define AT_ONCE 200

bool ss_history_purging = false;

static SsPlan end_plan = {
	"INSERT INTO {ended} (namespace, history_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
	2,
	{TEXTOID, UUIDOID}};

static SsPlan end_all_plan = {
	"INSERT INTO {ended} (namespace, history_id)"
	" SELECT namespace, history_id FROM {sessions} WHERE history_id IS NOT NULL"
	" ON CONFLICT DO NOTHING",
	0,
	{InvalidOid}};

/*
 * Some of the queue.  Not those that a session has all the same: whoever put it back (by a
 * trigger that took a delete back, or by hand) keeps its messages.
 */
static SsPlan queue_plan = {
	"SELECT e.namespace, e.history_id, e.from_seq, EXISTS (SELECT FROM {sessions} s"
	" WHERE s.history_id {=} e.history_id) FROM {ended} e"
	" WHERE $1 IS NULL OR e.namespace {=} $1 ORDER BY e.namespace, e.history_id LIMIT $2"
	" FOR UPDATE OF e SKIP LOCKED",
	2,
	{TEXTOID, INT8OID}};

static SsPlan remove_plan = {
	"WITH gone AS (DELETE FROM {history} WHERE ctid {=} ANY (ARRAY("
	" SELECT h.ctid FROM {history} h WHERE h.history_id {=} $1 AND h.seq {>=} $2"
	" ORDER BY h.seq LIMIT $3)) RETURNING seq)"
	" SELECT pg_catalog.count(*), pg_catalog.max(seq) FROM gone",
	3,
	{UUIDOID, INT8OID, INT8OID}};

static SsPlan leave_members_plan = {"DELETE FROM {members} WHERE history_id {=} ANY ($1)",
									1,
									{UUIDARRAYOID}};

static SsPlan done_plan = {"DELETE FROM {ended} WHERE namespace {=} $1 AND history_id {=} $2",
						   2,
						   {TEXTOID, UUIDOID}};

static SsPlan so_far_plan = {
	"UPDATE {ended} SET from_seq = $3 WHERE namespace {=} $1 AND history_id {=} $2",
	3,
	{TEXTOID, UUIDOID, INT8OID}};

static SsPlan left_plan = {"SELECT 1 FROM {ended}", 0, {InvalidOid}};

/* A session ceases to have this history.  Called by the trigger, whoever fired it. */
void
ss_history_end(Datum ns, Datum history)
{
	Datum values[2] = {ns, history};
	SsActing acting;

	ss_home_enter(&acting);
	ss_plan_run(&end_plan, values, NULL, SS_PLAN_WRITE, 0);
	ss_home_leave(&acting);
}

/* All sessions do: the table is about to be truncated. */
void
ss_history_end_all(void)
{
	SsActing acting;

	ss_home_enter(&acting);
	ss_plan_run(&end_all_plan, NULL, NULL, SS_PLAN_WRITE, 0);
	ss_home_leave(&acting);
}

/* One of the queue. */
typedef struct Ended
{
	Datum ns;
	Datum history;
	int64 from;
	bool in_use;
} Ended;

static Ended
ended_at(SPITupleTable *queue, uint64 i)
{
	Ended ended;
	bool null;

	ended.ns = SPI_getbinval(queue->vals[i], queue->tupdesc, 1, &null);
	ended.history = SPI_getbinval(queue->vals[i], queue->tupdesc, 2, &null);
	ended.from = DatumGetInt64(SPI_getbinval(queue->vals[i], queue->tupdesc, 3, &null));
	ended.in_use = DatumGetBool(SPI_getbinval(queue->vals[i], queue->tupdesc, 4, &null));
	return ended;
}

/* Remove messages of one history, up to a limit; its entry goes with the last. */
static int64
remove_some(const Ended *ended, int64 limit)
{
	Datum values[3] = {ended->history, Int64GetDatum(ended->from), Int64GetDatum(limit)};
	Datum entry[3] = {ended->ns, ended->history};
	int64 removed = 0;
	bool null;

	if (!ended->in_use)
	{
		ss_plan_run(&remove_plan, values, NULL, SS_PLAN_WRITE, 0);
		removed = DatumGetInt64(
			SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
		entry[2] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &null);
		SPI_freetuptable(SPI_tuptable);
	}
	if (removed == limit)
		ss_plan_run(&so_far_plan, entry, NULL, SS_PLAN_WRITE, 0);
	else
		ss_plan_run(&done_plan, entry, NULL, SS_PLAN_WRITE, 0);
	return removed;
}

/* Work off a piece of the queue; returns how much was done: an entry is worth a message. */
static int64
remove_from(SPITupleTable *queue, uint64 n, int64 limit, int64 *removed)
{
	Datum *gone = palloc(sizeof(Datum) * n);
	int ngone = 0;
	int64 done = 0;
	Datum values[1];

	for (uint64 i = 0; i < n && done < limit; i++)
	{
		Ended ended = ended_at(queue, i);
		int64 some = remove_some(&ended, limit - done);

		*removed += some;
		done += some + 1;
		if (!ended.in_use)
			gone[ngone++] = ended.history;
	}
	values[0] = PointerGetDatum(construct_array(gone, ngone, UUIDOID, 16, false, TYPALIGN_CHAR));
	if (ngone > 0)
		ss_plan_run(&leave_members_plan, values, NULL, SS_PLAN_WRITE, 0);
	return done;
}

/* The same, while the trigger on messages knows that Redis holds none of them. */
static int64
remove_unnoted(SPITupleTable *queue, uint64 n, int64 limit, int64 *removed)
{
	volatile int64 done = 0;

	ss_history_purging = true;
	PG_TRY();
	{
		done = remove_from(queue, n, limit, removed);
	}
	PG_FINALLY();
	{
		ss_history_purging = false;
	}
	PG_END_TRY();
	return done;
}

/*
 * Remove messages that no session has any more, until so much is done; false when nothing is
 * left to do.  ns is 0 for all namespaces.
 */
bool
ss_history_purge(Datum ns, int64 limit, int64 *removed)
{
	Datum values[2] = {ns, Int64GetDatum(AT_ONCE)};
	char nulls[2] = {ns == (Datum) 0 ? 'n' : ' ', ' '};
	int64 done = 0;
	uint64 n;

	*removed = 0;
	while (done < limit)
	{
		SPITupleTable *queue;

		n = ss_plan_run(&queue_plan, values, nulls, SS_PLAN_WRITE, 0);
		if (n == 0)
			break;
		queue = SPI_tuptable;
		done += remove_unnoted(queue, n, limit - done, removed);
		SPI_freetuptable(queue);
	}
	ss_count(SS_MESSAGES_PURGED, *removed);
	return done >= limit;
}

/* Is anything queued? */
bool
ss_history_left(void)
{
	return ss_plan_run(&left_plan, NULL, NULL, SS_PLAN_READ, 1) > 0;
}
