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
 *
 * On a subscriber the publisher removes what it published, table by table.  Where messages are
 * subscribed and the queue is not, the entries that the trigger here made are removed once their
 * messages are gone, and wait until then: should the subscription end first, the queue tells
 * which messages are left to be removed here.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

#include "rows/errors.h"
#include "rows/history.h"
#include "rows/row.h"
#include "rows/subscription.h"
#include "shared.h"

/* Histories that are looked at at once. */
#define AT_ONCE 200

bool ss_history_purging = false;

static SsPlan end_plan = {"INSERT INTO {ended} (namespace, history_id) VALUES ($1, $2)",
						  2,
						  {TEXTOID, UUIDOID}};

static SsPlan end_all_plan = {
	"INSERT INTO {ended} (namespace, history_id)"
	" SELECT namespace, history_id FROM {sessions} WHERE history_id IS NOT NULL",
	0,
	{InvalidOid}};

/*
 * Some of the queue.  Not those that a session has all the same: whoever put it back (by a
 * trigger that took a delete back, or by hand) keeps its messages.
 */
static SsPlan queue_plan = {
	"SELECT e.entry_id, e.history_id, e.from_seq, EXISTS (SELECT FROM {sessions} s"
	" WHERE s.history_id {=} e.history_id) FROM {ended} e"
	" WHERE e.history_id {>=} $1 AND ($2 IS NULL OR e.namespace {=} $2)"
	" ORDER BY e.history_id LIMIT $3 FOR UPDATE OF e SKIP LOCKED",
	3,
	{UUIDOID, TEXTOID, INT8OID}};

/* What somebody has locked is passed over, as by any purge, and found again. */
static SsPlan remove_plan = {
	"WITH gone AS (DELETE FROM {history} WHERE ctid {=} ANY (ARRAY("
	" SELECT h.ctid FROM {history} h WHERE h.history_id {=} $1 AND h.seq {>=} $2"
	" ORDER BY h.seq LIMIT $3 FOR UPDATE SKIP LOCKED)) RETURNING seq)"
	" SELECT pg_catalog.count(*), pg_catalog.max(seq) FROM gone",
	3,
	{UUIDOID, INT8OID, INT8OID}};

/* Where what is left begins. */
static SsPlan rest_plan = {"SELECT seq FROM {history} WHERE history_id {=} $1 ORDER BY seq LIMIT 1",
						   1,
						   {UUIDOID}};

static SsPlan leave_members_plan = {"DELETE FROM {members} WHERE history_id {=} ANY ($1)",
									1,
									{UUIDARRAYOID}};

static SsPlan done_plan = {"DELETE FROM {ended} WHERE entry_id {=} $1", 1, {UUIDOID}};

static SsPlan so_far_plan = {"UPDATE {ended} SET from_seq = $2 WHERE entry_id {=} $1",
							 2,
							 {UUIDOID, INT8OID}};

static SsPlan has_ended_plan = {"SELECT 1 FROM {ended} WHERE history_id {=} $1", 1, {UUIDOID}};

/* As queue_plan, and whether messages are left. */
static SsPlan settle_plan = {
	"SELECT e.entry_id, e.history_id, e.from_seq, EXISTS (SELECT FROM {sessions} s"
	" WHERE s.history_id {=} e.history_id), EXISTS (SELECT FROM {history} h"
	" WHERE h.history_id {=} e.history_id) FROM {ended} e"
	" WHERE e.history_id {>} $1 AND ($2 IS NULL OR e.namespace {=} $2)"
	" ORDER BY e.history_id LIMIT $3 FOR UPDATE OF e SKIP LOCKED",
	3,
	{UUIDOID, TEXTOID, INT8OID}};

static SsPlan forget_all_plan = {"DELETE FROM {ended}", 0, {InvalidOid}};

/* Does the publisher's own entry arrive for what logical replication applies just now? */
static bool
arrives_by_itself(void)
{
	return SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA &&
		   ss_subscribed(SS_TABLE_ENDED);
}

/*
 * A session's row changes, or goes (new is NULL): does it lose its history?  Called by the
 * trigger on sessions, whoever fired it.
 */
void
ss_history_mind(const SsRowView *old, const SsRowView *new)
{
	Datum values[2] = {old->values[SS_ROW_NAMESPACE], old->values[SS_ROW_HISTORY_ID]};
	SsActing acting;

	if (old->nulls[SS_ROW_HISTORY_ID] ||
		(new != NULL && !ss_row_differs(old, new, SS_ROW_HISTORY_ID)) || arrives_by_itself())
		return;
	ss_home_enter(&acting);
	ss_plan_run(&end_plan, values, NULL, SS_PLAN_WRITE, 0);
	ss_home_leave(&acting);
}

/* All sessions do: the table is about to be truncated. */
void
ss_history_end_all(void)
{
	SsActing acting;

	if (arrives_by_itself())
		return;
	ss_home_enter(&acting);
	/* what others have committed is truncated as well, also what our snapshot does not show */
	ss_plan_run(&end_all_plan, NULL, NULL, SS_PLAN_LATEST, 0);
	ss_home_leave(&acting);
}

/* There are no messages any more: they were truncated. */
void
ss_history_forget_all(void)
{
	SsActing acting;

	ss_home_enter(&acting);
	ss_plan_run(&forget_all_plan, NULL, NULL, SS_PLAN_LATEST, 0);
	ss_home_leave(&acting);
}

/* Is it known to be nobody's any more? */
bool
ss_history_has_ended(const pg_uuid_t *history)
{
	Datum values[1] = {UUIDPGetDatum(history)};
	SsActing acting;
	bool ended;

	ss_home_enter(&acting);
	ended = ss_plan_run(&has_ended_plan, values, NULL, SS_PLAN_LATEST, 1) > 0;
	ss_home_leave(&acting);
	return ended;
}

/* One of the queue. */
typedef struct Ended
{
	Datum entry;
	Datum history;
	int64 from;
	bool in_use;
} Ended;

static Ended
ended_at(SPITupleTable *queue, uint64 i)
{
	Ended ended;
	bool null;

	ended.entry = ss_value(queue->vals[i], queue->tupdesc, 1, "conversation_history_ended");
	ended.history = ss_value(queue->vals[i], queue->tupdesc, 2, "conversation_history_ended");
	ended.from = DatumGetInt64(
		ss_value(queue->vals[i], queue->tupdesc, 3, "conversation_history_ended"));
	ended.in_use = DatumGetBool(SPI_getbinval(queue->vals[i], queue->tupdesc, 4, &null));
	return ended;
}

/* How far a purge has come. */
typedef struct Progress
{
	int64 limit;
	int64 done;     /* looked at: an entry is worth a message */
	int64 finished; /* entries that went */
	int64 removed;  /* messages */
} Progress;

static void
finish(const Ended *ended, Progress *progress)
{
	Datum values[1] = {ended->entry};

	ss_plan_run(&done_plan, values, NULL, SS_PLAN_WRITE, 0);
	progress->finished++;
}

/* Remove messages of one history, up to the limit; its entry goes with the last. */
static void
remove_some(const Ended *ended, Progress *progress)
{
	int64 limit = progress->limit - progress->done;
	Datum values[3] = {ended->history, Int64GetDatum(ended->from), Int64GetDatum(limit)};
	Datum entry[2] = {ended->entry};
	int64 removed;
	bool null;

	ss_plan_run_on_others(&remove_plan, values, NULL, SS_PLAN_WRITE);
	removed = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
	entry[1] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &null);
	SPI_freetuptable(SPI_tuptable);
	progress->removed += removed;
	progress->done += removed + 1;
	if (removed < limit)
	{
		/* the end was reached; somebody may have locked one on the way */
		if (ss_plan_run(&rest_plan, values, NULL, SS_PLAN_LATEST, 1) == 0)
		{
			finish(ended, progress);
			return;
		}
		entry[1] = ss_value(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
							"conversation_history");
	}
	if (DatumGetInt64(entry[1]) != ended->from)
		ss_plan_run(&so_far_plan, entry, NULL, SS_PLAN_WRITE, 0);
}

/* Work off a piece of the queue. */
static void
remove_from(SPITupleTable *queue, uint64 n, Progress *progress)
{
	Datum *gone = palloc(sizeof(Datum) * n);
	int ngone = 0;
	Datum values[1];

	for (uint64 i = 0; i < n && progress->done < progress->limit; i++)
	{
		Ended ended = ended_at(queue, i);

		if (ended.in_use)
		{
			finish(&ended, progress);
			progress->done++;
			continue;
		}
		remove_some(&ended, progress);
		gone[ngone++] = ended.history;
	}
	values[0] = PointerGetDatum(construct_array(gone, ngone, UUIDOID, 16, false, TYPALIGN_CHAR));
	if (ngone > 0 && !ss_subscribed(SS_TABLE_MEMBERS))
		ss_plan_run_on_others(&leave_members_plan, values, NULL, SS_PLAN_WRITE);
}

/* The same, while the trigger on messages knows that Redis holds none of them. */
static void
remove_unnoted(SPITupleTable *queue, uint64 n, Progress *progress)
{
	ss_history_purging = true;
	PG_TRY();
	{
		remove_from(queue, n, progress);
	}
	PG_FINALLY();
	{
		ss_history_purging = false;
	}
	PG_END_TRY();
}

/*
 * Remove messages of a conversation that has no session, and once none is left its members.
 * False when some are left: more than the limit, or locked by somebody.
 */
bool
ss_history_remove(const pg_uuid_t *history, int64 limit, int64 *removed)
{
	Datum id = UUIDPGetDatum(history);
	Datum values[3] = {id, Int64GetDatum(PG_INT64_MIN), Int64GetDatum(limit)};
	Datum gone[1];
	bool null;

	ss_history_purging = true;
	PG_TRY();
	{
		ss_plan_run_on_others(&remove_plan, values, NULL, SS_PLAN_WRITE);
	}
	PG_FINALLY();
	{
		ss_history_purging = false;
	}
	PG_END_TRY();
	*removed = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
	ss_count(SS_MESSAGES_PURGED, *removed);
	if (ss_plan_run(&rest_plan, values, NULL, SS_PLAN_LATEST, 1) > 0)
		return false;
	gone[0] = PointerGetDatum(construct_array(&id, 1, UUIDOID, 16, false, TYPALIGN_CHAR));
	ss_plan_run_on_others(&leave_members_plan, gone, NULL, SS_PLAN_WRITE);
	return true;
}

/*
 * Messages are left to the publisher: remove the entries whose messages are gone, and the
 * members with them.  A walk over the queue goes on where the last one stopped, so that entries
 * whose messages stay for long keep none from being looked at.
 */
static void
settle_queue(Datum ns, int64 limit)
{
	static pg_uuid_t from = {{0}};
	Datum values[3] = {UUIDPGetDatum(&from), ns, Int64GetDatum(limit)};
	char nulls[3] = {' ', ns == (Datum) 0 ? 'n' : ' ', ' '};
	bool members = !ss_subscribed(SS_TABLE_MEMBERS);
	uint64 n = ss_plan_run(&settle_plan, values, nulls, SS_PLAN_WRITE, 0);
	SPITupleTable *queue = SPI_tuptable;
	Progress progress = {0};

	for (uint64 i = 0; i < n; i++)
	{
		Ended ended = ended_at(queue, i);
		bool null;
		bool left = DatumGetBool(SPI_getbinval(queue->vals[i], queue->tupdesc, 5, &null));
		Datum gone[1];

		from = *DatumGetUUIDP(ended.history);
		if (left && !ended.in_use)
			continue;
		finish(&ended, &progress);
		gone[0] = PointerGetDatum(
			construct_array(&ended.history, 1, UUIDOID, 16, false, TYPALIGN_CHAR));
		if (members && !ended.in_use)
			ss_plan_run_on_others(&leave_members_plan, gone, NULL, SS_PLAN_WRITE);
	}
	if (n < (uint64) limit)
		memset(&from, 0, sizeof(from));
}

/*
 * Remove messages that no session has any more, until so much is done.  False when nothing is
 * left to do, or nothing that is not locked.  ns is 0 for all namespaces.
 */
bool
ss_history_purge(Datum ns, int64 limit, int64 *removed)
{
	Progress progress = {limit};
	pg_uuid_t from = {{0}};
	Datum values[3] = {UUIDPGetDatum(&from), ns};
	char nulls[3] = {' ', ns == (Datum) 0 ? 'n' : ' ', ' '};
	uint64 n;
	uint64 asked;

	*removed = 0;
	if (ss_subscribed(SS_TABLE_ENDED))
		return false;
	if (ss_subscribed(SS_TABLE_HISTORY))
	{
		settle_queue(ns, limit);
		return false;
	}
	do
	{
		SPITupleTable *queue;
		Ended last;

		asked = Min(AT_ONCE, limit - progress.done);
		values[2] = Int64GetDatum(asked);
		n = ss_plan_run(&queue_plan, values, nulls, SS_PLAN_WRITE, 0);
		if (n == 0)
			break;
		queue = SPI_tuptable;
		remove_unnoted(queue, n, &progress);
		last = ended_at(queue, n - 1);
		/* what could not be done yet is looked at the next time */
		if (memcmp(&from, DatumGetUUIDP(last.history), UUID_LEN) == 0 && progress.finished == 0)
			break;
		from = *DatumGetUUIDP(last.history);
		SPI_freetuptable(queue);
	} while (n == asked && progress.done < limit);
	ss_count(SS_MESSAGES_PURGED, progress.removed);
	*removed = progress.removed;
	return progress.done >= limit && (progress.removed > 0 || progress.finished > 0);
}
