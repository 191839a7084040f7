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
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "rows/errors.h"
#include "rows/history.h"
#include "rows/schema.h"
#include "rows/sql.h"
#include "rows/subscription.h"
#include "shared.h"

/* Histories that are looked at at once. */
#define AT_ONCE 200

/* When entries of the queue are visited one by one: at most so many, for so long. */
#define ALONE_MOST 50
#define ALONE_TIME (INT64CONST(300) * 1000)

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
#define QUEUE_COLUMNS                                                      \
	"SELECT e.entry_id, e.history_id, e.from_seq, EXISTS (SELECT FROM"     \
	" {sessions} s WHERE s.history_id {=} e.history_id), e.namespace FROM" \
	" {ended} e WHERE"

/* Not those that are set aside. */
#define QUEUE                                                              \
	QUEUE_COLUMNS                                                          \
	" e.history_id {>=} $1 AND ($2 IS NULL OR e.namespace {=} $2)"         \
	" AND e.namespace {<>} ALL ($4) AND NOT (e.entry_id {=} ANY"           \
	" (SELECT i::pg_catalog.uuid FROM pg_catalog.unnest($5) AS held (i)))" \
	" ORDER BY e.history_id LIMIT $3"
#define QUEUE_ARGS                                            \
	5,                                                        \
	{                                                         \
		UUIDOID, TEXTOID, INT8OID, TEXTARRAYOID, TEXTARRAYOID \
	}

static SsPlan queue_plan = {QUEUE " FOR UPDATE OF e SKIP LOCKED", QUEUE_ARGS};

/* The same without locks, to visit them one by one. */
static SsPlan names_plan = {QUEUE, QUEUE_ARGS};

static SsPlan one_plan = {QUEUE_COLUMNS " e.entry_id {=} $1 FOR UPDATE OF e SKIP LOCKED",
						  1,
						  {UUIDOID}};

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
ss_history_detach(const SsDeformedRow *old, const SsDeformedRow *new)
{
	Datum values[2] = {old->values[SS_ROW_NAMESPACE], old->values[SS_ROW_HISTORY_ID]};
	SsCaller caller;

	if (old->nulls[SS_ROW_HISTORY_ID] ||
		(new != NULL && !ss_row_differs(old, new, SS_ROW_HISTORY_ID)) || arrives_by_itself())
		return;
	ss_sql_enter(&caller);
	ss_plan_run(&end_plan, values, NULL, SS_PLAN_WRITE, 0);
	ss_sql_leave(&caller);
}

/* All sessions do: the table is about to be truncated. */
void
ss_history_detach_all(void)
{
	SsCaller caller;

	if (arrives_by_itself())
		return;
	ss_sql_enter(&caller);
	/* what others have committed is truncated as well, also what our snapshot does not show */
	ss_plan_run(&end_all_plan, NULL, NULL, SS_PLAN_LATEST, 0);
	ss_sql_leave(&caller);
}

/* There are no messages any more: they were truncated. */
void
ss_history_clear_queue(void)
{
	SsCaller caller;

	ss_sql_enter(&caller);
	ss_plan_run(&forget_all_plan, NULL, NULL, SS_PLAN_LATEST, 0);
	ss_sql_leave(&caller);
}

/* Is it known to be nobody's any more? */
bool
ss_history_is_queued(const pg_uuid_t *history)
{
	Datum values[1] = {UUIDPGetDatum(history)};
	SsCaller caller;
	bool ended;

	ss_sql_enter(&caller);
	ended = ss_plan_run(&has_ended_plan, values, NULL, SS_PLAN_LATEST, 1) > 0;
	ss_sql_leave(&caller);
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

	ended.entry = ss_sql_value(queue->vals[i], queue->tupdesc, 1, "conversation_history_ended");
	ended.history = ss_sql_value(queue->vals[i], queue->tupdesc, 2, "conversation_history_ended");
	ended.from = DatumGetInt64(
		ss_sql_value(queue->vals[i], queue->tupdesc, 3, "conversation_history_ended"));
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

	ss_plan_run_redacted(&remove_plan, values, NULL, SS_PLAN_WRITE);
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
		entry[1] = ss_sql_value(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
								"conversation_history");
	}
	if (DatumGetInt64(entry[1]) != ended->from)
		ss_plan_run(&so_far_plan, entry, NULL, SS_PLAN_WRITE, 0);
}

/* A piece of the queue that is to be worked off. */
typedef struct Piece
{
	Progress *progress;
	const SsAside *aside;
	Datum ns;       /* of one namespace, or 0 for all */
	pg_uuid_t from; /* the history to begin with; afterwards the last one visited */
	int64 asked;
	int64 found;
	List *retried; /* keys of entries that were set aside */
	Datum entry;   /* one_by_one: the one to visit */
} Piece;

/* Work off entries that a statement has locked. */
static void
remove_from(SPITupleTable *queue, uint64 n, Progress *progress)
{
	Datum *gone = palloc(sizeof(Datum) * Max(n, 1));
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
		ss_plan_run_redacted(&leave_members_plan, values, NULL, SS_PLAN_WRITE);
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

/* Read a piece of the queue; its last history is where the next begins. */
static SPITupleTable *
read_queue(SsPlan *plan, Piece *piece)
{
	Datum values[5] = {UUIDPGetDatum(&piece->from), piece->ns, Int64GetDatum(piece->asked)};
	char nulls[5] = {' ', piece->ns == (Datum) 0 ? 'n' : ' ', ' ', ' ', ' '};
	Datum held[3];

	ss_aside_arrays(piece->aside, GetCurrentTimestamp(), held);
	values[3] = held[0];
	values[4] = held[2];
	piece->found = (int64) ss_plan_run(plan, values, nulls, SS_PLAN_WRITE, 0);
	return SPI_tuptable;
}

static void
note_last(Piece *piece, SPITupleTable *queue)
{
	if (piece->found > 0)
		piece->from = *DatumGetUUIDP(ended_at(queue, piece->found - 1).history);
}

/* What an entry of the queue is set aside by. */
static bool
key_of(SPITupleTable *queue, uint64 i, SsKey *key)
{
	Datum entry = ss_sql_value(queue->vals[i], queue->tupdesc, 1, "conversation_history_ended");
	Datum ns = ss_sql_value(queue->vals[i], queue->tupdesc, 5, "conversation_history_ended");
	char *id = DatumGetCString(DirectFunctionCall1(uuid_out, entry));

	return ss_key_from_datums(key, ns, CStringGetTextDatum(id));
}

/* Remember which entries were set aside: they are not any more, if the piece is kept. */
static void
note_retried(Piece *piece, SPITupleTable *queue)
{
	for (int64 i = 0; i < piece->found && !ss_aside_is_empty(piece->aside); i++)
	{
		SsKey *key = palloc(sizeof(SsKey));

		if (key_of(queue, i, key) && ss_aside_until(piece->aside, key) != 0)
			piece->retried = lappend(piece->retried, key);
	}
}

/* In a subtransaction: a whole piece. */
static bool
remove_together(void *arg)
{
	Piece *piece = arg;
	SPITupleTable *queue = read_queue(&queue_plan, piece);

	remove_unnoted(queue, piece->found, piece->progress);
	note_retried(piece, queue);
	note_last(piece, queue);
	SPI_freetuptable(queue);
	return true;
}

/* In a subtransaction: one entry. */
static bool
remove_alone(void *arg)
{
	Piece *piece = arg;
	uint64 n = ss_plan_run(&one_plan, &piece->entry, NULL, SS_PLAN_WRITE, 0);

	remove_unnoted(SPI_tuptable, n, piece->progress);
	return n > 0;
}

/* The piece was undone: visit its entries one by one.  Those not reached are left for the next time. */
static void
remove_one_by_one(Piece *piece, SsAside *aside)
{
	TimestampTz began = GetCurrentTimestamp();
	Progress *progress = piece->progress;
	SPITupleTable *queue = read_queue(&names_plan, piece);
	int64 done = 0;

	for (int64 i = 0; i < piece->found && progress->done < progress->limit; i++)
	{
		Progress before = *progress;
		ErrorData *error;
		SsKey key;
		bool sound = key_of(queue, i, &key);

		CHECK_FOR_INTERRUPTS();
		if (done >= ALONE_MOST || GetCurrentTimestamp() - began > ALONE_TIME)
			break;
		piece->entry = ended_at(queue, i).entry;
		if (ss_aside_try(remove_alone, piece, &error))
			done++;
		if (error == NULL)
		{
			if (sound)
				ss_aside_done(aside, &key);
			continue;
		}
		*progress = before;
		progress->done++;
		if (sound)
			ss_aside_add(aside, &key, error);
		FreeErrorData(error);
	}
	note_last(piece, queue);
	SPI_freetuptable(queue);
}

/* Work off a piece of the queue. */
static void
remove_piece(Piece *piece, SsAside *aside)
{
	Progress before = *piece->progress;
	pg_uuid_t from = piece->from;
	ErrorData *error;
	ListCell *cell;

	piece->retried = NIL;
	(void) ss_aside_try(remove_together, piece, &error);
	if (error == NULL)
	{
		foreach (cell, piece->retried)
			ss_aside_done(aside, lfirst(cell));
		return;
	}
	FreeErrorData(error);
	*piece->progress = before;
	piece->from = from;
	remove_one_by_one(piece, aside);
}

/*
 * Where the walk along the queue begins: while entries fail, at a random place half of the time, so
 * that they keep none behind them from their turn.
 */
static pg_uuid_t
first_of(const SsAside *aside)
{
	pg_uuid_t from = {{0}};
	uint8 coin;

	if (!ss_aside_is_empty(aside) && pg_strong_random(&coin, 1) && coin % 2 == 0 &&
		!pg_strong_random(&from, sizeof(from)))
		memset(&from, 0, sizeof(from));
	return from;
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
		ss_plan_run_redacted(&remove_plan, values, NULL, SS_PLAN_WRITE);
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
	ss_plan_run_redacted(&leave_members_plan, gone, NULL, SS_PLAN_WRITE);
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
			ss_plan_run_redacted(&leave_members_plan, gone, NULL, SS_PLAN_WRITE);
	}
	if (n < (uint64) limit)
		memset(&from, 0, sizeof(from));
}

/*
 * Remove messages that no session has any more, until so much is done.  False when nothing is
 * left to do, or nothing that is not locked.  ns is 0 for all namespaces.
 */
bool
ss_history_purge(Datum ns, int64 limit, SsAside *aside, int64 *removed)
{
	Progress progress = {limit};
	Piece piece = {&progress, aside, ns, first_of(aside)};

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
		pg_uuid_t before = piece.from;

		piece.asked = Min(AT_ONCE, limit - progress.done);
		remove_piece(&piece, aside);
		/* what could not be done yet is looked at the next time */
		if (memcmp(&piece.from, &before, UUID_LEN) == 0 && progress.finished == 0)
			break;
	} while (piece.found > 0 && piece.found == piece.asked && progress.done < limit);
	ss_count(SS_MESSAGES_PURGED, progress.removed);
	*removed = progress.removed;
	return progress.done >= limit && (progress.removed > 0 || progress.finished > 0);
}
