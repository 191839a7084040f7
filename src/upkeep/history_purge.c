/*
 * history_purge.c
 *		Removes messages, members and operations after the end of their session.
 *
 * When a session ends, its history_id is set to NULL.  From then on no reader reaches its messages,
 * members and operations.  The trigger on conversation_sessions queues the history_id in
 * conversation_history_ended (triggers/history_queue.c).  The purge works through the queue and
 * removes a limited number of messages per transaction, however long a history is.
 *
 * Operations are removed in the same way, once no message is left.
 *
 * from_seq of a queue entry records how far the history has been removed.  Without it each
 * transaction would scan the dead index entries of the messages that were just deleted.
 *
 * On a subscriber of logical replication the publisher's deletions arrive for every table that is
 * subscribed.  If messages are subscribed but the queue is not, the entries made by the local trigger
 * stay until their messages are gone.  Should the subscription end first, they tell which messages
 * remain to be removed here.
 *
 * Locking: queue entries, messages and members are locked without waiting; locked ones are left for a
 * later pass, and so is the entry of a history of which any are left.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "row/errors.h"
#include "shared/counters.h"
#include "table/sql.h"
#include "table/subscription.h"
#include "upkeep/history_purge.h"

/* Number of queue entries read by one statement. */
#define QUEUE_BATCH 200

/*
 * Queue entries, and whether a session has the history after all.  A trigger that reverted a DELETE,
 * or plain SQL, may have put it back; then its messages stay.
 */
enum
{
	QUEUE_ENTRY_ID = 1,
	QUEUE_HISTORY_ID,
	QUEUE_FROM_SEQ,
	QUEUE_IN_USE,
	QUEUE_NAMESPACE,
	SUBSCRIBED_LEFT = QUEUE_NAMESPACE /* in subscribed_plan instead */
};

#define QUEUE_COLUMNS                                                      \
	"SELECT e.entry_id, e.history_id, e.from_seq, EXISTS (SELECT FROM"     \
	" {sessions} s WHERE s.history_id {=} e.history_id), e.namespace FROM" \
	" {ended} e WHERE"

/* Entries that are not set aside. */
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

/* The same without locks, to visit the entries one by one. */
static SsPlan names_plan = {QUEUE, QUEUE_ARGS};

static SsPlan one_plan = {QUEUE_COLUMNS " e.entry_id {=} $1 FOR UPDATE OF e SKIP LOCKED",
						  1,
						  {UUIDOID}};

/* The columns of remove_plan. */
enum
{
	REMOVED_COUNT = 1,
	REMOVED_LAST_SEQ
};

/*
 * A child table may have a row with the same ctid, so the history_id is compared again.  By a function:
 * with the operator a generic plan would read the whole history by its index, for each batch.
 */
#define OF_HISTORY " AND pg_catalog.uuid_cmp(history_id, $1) {=} 0"

/* Messages locked by other transactions are skipped; rest_plan finds them. */
static SsPlan remove_plan = {
	"WITH gone AS (DELETE FROM {history} WHERE ctid {=} ANY (ARRAY("
	" SELECT h.ctid FROM {history} h WHERE h.history_id {=} $1 AND h.seq {>=} $2"
	" ORDER BY h.seq LIMIT $3 FOR UPDATE SKIP LOCKED))" OF_HISTORY " RETURNING seq)"
	" SELECT pg_catalog.count(*), pg_catalog.max(seq) FROM gone",
	3,
	{UUIDOID, INT8OID, INT8OID},
	.flags = SS_PLAN_PURGES_MESSAGES};

/* The lowest seq that is left. */
static SsPlan rest_plan = {"SELECT seq FROM {history} WHERE history_id {=} $1 ORDER BY seq LIMIT 1",
						   1,
						   {UUIDOID}};

/* Operations locked by other transactions are skipped; rest_operations_plan finds them. */
static SsPlan remove_operations_plan = {
	"DELETE FROM {operations} WHERE ctid {=} ANY (ARRAY("
	" SELECT o.ctid FROM {operations} o WHERE o.history_id {=} $1"
	" ORDER BY o.operation_id LIMIT $2 FOR UPDATE SKIP LOCKED))" OF_HISTORY,
	2,
	{UUIDOID, INT8OID}};

static SsPlan rest_operations_plan = {"SELECT 1 FROM {operations} WHERE history_id {=} $1 LIMIT 1",
									  1,
									  {UUIDOID}};

/* Members locked by other transactions are skipped; members_left_plan and emptied_plan find them. */
static SsPlan remove_members_plan = {
	"DELETE FROM {members} WHERE history_id {=} ANY ($1) AND ctid {=} ANY (ARRAY("
	" SELECT m.ctid FROM {members} m WHERE m.history_id {=} ANY ($1) FOR UPDATE SKIP LOCKED))",
	1,
	{UUIDARRAYOID}};

static SsPlan members_left_plan = {"SELECT 1 FROM {members} WHERE history_id {=} $1 LIMIT 1",
								   1,
								   {UUIDOID}};

/* Removes entries whose messages are gone, unless members are left that are not the publisher's ($2). */
static SsPlan emptied_plan = {
	"DELETE FROM {ended} e WHERE e.entry_id {=} ANY ($1) AND (NOT $2 OR"
	" (SELECT 1 FROM {members} m WHERE m.history_id {=} e.history_id LIMIT 1) IS NULL)",
	2,
	{UUIDARRAYOID, BOOLOID}};

static SsPlan done_plan = {"DELETE FROM {ended} WHERE entry_id {=} $1", 1, {UUIDOID}};

static SsPlan from_seq_plan = {"UPDATE {ended} SET from_seq = $2 WHERE entry_id {=} $1",
							   2,
							   {UUIDOID, INT8OID}};

/* As queue_plan, and whether messages are left. */
static SsPlan subscribed_plan = {
	"SELECT e.entry_id, e.history_id, e.from_seq, EXISTS (SELECT FROM {sessions} s"
	" WHERE s.history_id {=} e.history_id), EXISTS (SELECT FROM {history} h"
	" WHERE h.history_id {=} e.history_id) FROM {ended} e"
	" WHERE e.history_id {>} $1 AND ($2 IS NULL OR e.namespace {=} $2)"
	" ORDER BY e.history_id LIMIT $3 FOR UPDATE OF e SKIP LOCKED",
	3,
	{UUIDOID, TEXTOID, INT8OID}};

/* An entry of the queue. */
typedef struct Ended
{
	Datum entry;
	Datum history;
	int64 from;  /* from_seq */
	bool in_use; /* a session has the history */
} Ended;

/* Returns entry i of a result with the columns QUEUE_COLUMNS. */
static Ended
ended_at(SPITupleTable *queue, uint64 i)
{
	Ended ended;
	bool null;

	ended.entry = ss_sql_value(queue->vals[i], queue->tupdesc, QUEUE_ENTRY_ID,
							   "conversation_history_ended");
	ended.history = ss_sql_value(queue->vals[i], queue->tupdesc, QUEUE_HISTORY_ID,
								 "conversation_history_ended");
	ended.from = DatumGetInt64(
		ss_sql_value(queue->vals[i], queue->tupdesc, QUEUE_FROM_SEQ, "conversation_history_ended"));
	ended.in_use = DatumGetBool(SPI_getbinval(queue->vals[i], queue->tupdesc, QUEUE_IN_USE, &null));
	return ended;
}

/* Progress of a purge. */
typedef struct Progress
{
	int64 limit;      /* maximum of `done` */
	int64 done;       /* work done: messages and operations removed plus entries visited */
	int64 finished;   /* entries removed */
	int64 removed;    /* messages removed */
	int64 operations; /* operations removed */
} Progress;

/* Removes the entry of a history that is in use. */
static void
remove_entry(const Ended *ended, Progress *progress)
{
	Datum values[1] = {ended->entry};

	progress->finished += (int64) ss_plan_run(&done_plan, values, NULL, SS_PLAN_WRITE, 0);
}

/*
 * Removes at most `limit` operations of a history; *removed is their number.  False when operations
 * are left, because they exceed the limit or are locked.
 */
static bool
remove_operations(Datum history, int64 limit, int64 *removed)
{
	Datum values[2] = {history, Int64GetDatum(limit)};

	*removed = 0;
	/* those of a publisher are removed by it */
	if (ss_subscribed(SS_TABLE_OPERATIONS))
		return true;
	if (limit > 0)
		*removed = (int64) ss_plan_run_redacted(&remove_operations_plan, values, NULL,
												SS_PLAN_WRITE);
	return ss_plan_run(&rest_operations_plan, values, NULL, SS_PLAN_LATEST, 1) == 0;
}

/* Histories whose members are removed, and the entries of those that have no messages and operations left. */
typedef struct Emptied
{
	Datum *histories;
	int nhistories;
	Datum *entries;
	int nentries;
} Emptied;

static Emptied
new_emptied(uint64 room)
{
	return (Emptied){palloc(sizeof(Datum) * Max(room, 1)), 0, palloc(sizeof(Datum) * Max(room, 1)),
					 0};
}

static Datum
uuid_array(Datum *elems, int n)
{
	return PointerGetDatum(construct_array(elems, n, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
}

/* Removes members and entries.  A subscription to session_members leaves the members to the publisher. */
static void
remove_emptied(Emptied *emptied, Progress *progress)
{
	bool members = !ss_subscribed(SS_TABLE_MEMBERS);
	Datum values[2] = {uuid_array(emptied->histories, emptied->nhistories)};

	if (members && emptied->nhistories > 0)
		ss_plan_run_redacted(&remove_members_plan, values, NULL, SS_PLAN_WRITE);
	if (emptied->nentries == 0)
		return;
	values[0] = uuid_array(emptied->entries, emptied->nentries);
	values[1] = BoolGetDatum(members);
	progress->finished += (int64) ss_plan_run(&emptied_plan, values, NULL, SS_PLAN_WRITE, 0);
}

/*
 * Removes messages of one history up to the limit, then its operations.  False when some of either are
 * left.
 */
static bool
remove_messages(const Ended *ended, Progress *progress)
{
	int64 limit = progress->limit - progress->done;
	Datum values[3] = {ended->history, Int64GetDatum(ended->from), Int64GetDatum(limit)};
	Datum entry[2] = {ended->entry};
	int64 removed;
	bool null;

	ss_plan_run_redacted(&remove_plan, values, NULL, SS_PLAN_WRITE);
	removed = DatumGetInt64(
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, REMOVED_COUNT, &null));
	entry[1] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, REMOVED_LAST_SEQ, &null);
	SPI_freetuptable(SPI_tuptable);
	progress->removed += removed;
	progress->done += removed + 1;
	if (removed < limit)
	{
		/* the end was reached; messages that are left were locked */
		if (ss_plan_run(&rest_plan, values, NULL, SS_PLAN_LATEST, 1) == 0)
		{
			int64 operations;
			bool all = remove_operations(ended->history, progress->limit - progress->done,
										 &operations);

			progress->operations += operations;
			progress->done += operations;
			if (all)
				return true;
			if (removed == 0)
				return false;
		}
		else
			entry[1] = ss_sql_value(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
									"conversation_history");
	}
	if (DatumGetInt64(entry[1]) != ended->from)
		ss_plan_run(&from_seq_plan, entry, NULL, SS_PLAN_WRITE, 0);
	return false;
}

/* A part of the queue in progress. */
typedef struct Piece
{
	Progress *progress;
	const SsAside *aside;
	Datum ns;       /* of one namespace, or 0 for all */
	pg_uuid_t from; /* the history to begin with; afterwards where the next piece begins */
	int64 asked;    /* entries asked for .. */
	int64 found;    /* .. and found */
	bool cut_off;   /* the limits of a pass ended it before all that were found had been visited */
	bool set_aside; /* an entry was set aside */
	List *retried;  /* keys of visited entries that had been set aside */
	Datum entry;    /* the entry that remove_alone visits */
} Piece;

/* Processes queue entries that a statement has locked, up to the limit. */
static void
remove_from(SPITupleTable *queue, uint64 n, Progress *progress)
{
	Emptied emptied = new_emptied(n);

	for (uint64 i = 0; i < n && progress->done < progress->limit; i++)
	{
		Ended ended = ended_at(queue, i);

		if (ended.in_use)
		{
			remove_entry(&ended, progress);
			progress->done++;
			continue;
		}
		emptied.histories[emptied.nhistories++] = ended.history;
		if (remove_messages(&ended, progress))
			emptied.entries[emptied.nentries++] = ended.entry;
	}
	remove_emptied(&emptied, progress);
}

/* Reads a part of the queue, from piece->from on.  The caller frees the result. */
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

/* Sets where the next piece begins: at the history of entry i, or of the last one if i is beyond. */
static void
advance(Piece *piece, SPITupleTable *queue, int64 i)
{
	if (piece->found > 0)
		piece->from = *DatumGetUUIDP(ended_at(queue, Min(i, piece->found - 1)).history);
}

/* Makes the key by which an entry is set aside; false if its namespace is invalid. */
static bool
key_of(SPITupleTable *queue, uint64 i, SsKey *key)
{
	Datum entry = ss_sql_value(queue->vals[i], queue->tupdesc, QUEUE_ENTRY_ID,
							   "conversation_history_ended");
	Datum ns = ss_sql_value(queue->vals[i], queue->tupdesc, QUEUE_NAMESPACE,
							"conversation_history_ended");
	char *id = DatumGetCString(DirectFunctionCall1(uuid_out, entry));

	return ss_key_from_datums(key, ns, CStringGetTextDatum(id));
}

/* Collects the entries that had been set aside; they no longer are, if the piece is kept. */
static void
collect_retried(Piece *piece, SPITupleTable *queue)
{
	for (int64 i = 0; i < piece->found && !ss_aside_is_empty(piece->aside); i++)
	{
		SsKey *key = palloc(sizeof(SsKey));

		if (key_of(queue, i, key) && ss_aside_until(piece->aside, key) != 0)
			piece->retried = lappend(piece->retried, key);
	}
}

/* In a subtransaction: processes a whole piece. */
static bool
remove_together(void *arg)
{
	Piece *piece = arg;
	SPITupleTable *queue = read_queue(&queue_plan, piece);

	remove_from(queue, piece->found, piece->progress);
	collect_retried(piece, queue);
	advance(piece, queue, piece->found);
	SPI_freetuptable(queue);
	return true;
}

/* In a subtransaction: processes one entry.  False when it is locked or gone. */
static bool
remove_alone(void *arg)
{
	Piece *piece = arg;
	uint64 n = ss_plan_run(&one_plan, &piece->entry, NULL, SS_PLAN_WRITE, 0);

	remove_from(SPI_tuptable, n, piece->progress);
	return n > 0;
}

/* After the piece was rolled back: visits its entries one by one, up to the limits. */
static void
remove_one_by_one(Piece *piece, SsAside *aside)
{
	Progress *progress = piece->progress;
	SPITupleTable *queue = read_queue(&names_plan, piece);
	TimestampTz began = GetCurrentTimestamp();
	int64 done = 0; /* entries of which something was removed */
	int64 i;

	for (i = 0; i < piece->found && progress->done < progress->limit; i++)
	{
		Progress before = *progress;
		ErrorData *error;
		SsKey key;
		bool has_key = key_of(queue, i, &key);

		CHECK_FOR_INTERRUPTS();
		piece->cut_off = done >= SS_ASIDE_PASS_ROWS ||
						 GetCurrentTimestamp() - began > SS_ASIDE_PASS_US;
		if (piece->cut_off)
			break;
		piece->entry = ended_at(queue, i).entry;
		if (ss_aside_try(remove_alone, piece, &error) &&
			progress->removed + progress->operations + progress->finished >
				before.removed + before.operations + before.finished)
			done++;
		if (error == NULL)
		{
			if (has_key)
				ss_aside_done(aside, &key);
			continue;
		}
		*progress = before;
		progress->done++;
		if (has_key)
			ss_aside_add(aside, &key, error);
		piece->set_aside = piece->set_aside || has_key;
		FreeErrorData(error);
	}
	advance(piece, queue, i);
	SPI_freetuptable(queue);
}

/* Processes a part of the queue. */
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
 * Returns the history at which a pass over the queue begins.  While entries fail, every other pass of
 * the keeper on average begins at a random history, so that the entries behind those that fail are
 * reached too.  A call tries no entry twice, so it begins at the first that it has not tried.
 */
static pg_uuid_t
first_of(const SsAside *aside)
{
	pg_uuid_t from = {{0}};
	uint8 coin;

	if (MyBgworkerEntry != NULL && !ss_aside_is_empty(aside) && pg_strong_random(&coin, 1) &&
		coin % 2 == 0 && !pg_strong_random(&from, sizeof(from)))
		memset(&from, 0, sizeof(from));
	return from;
}

/*
 * Removes messages and operations of a history that has no session, and its members once none is
 * left; *removed is the number of both.  False when any of the three are left, because they exceed the
 * limit or are locked.
 */
bool
ss_history_remove(const pg_uuid_t *history, int64 limit, int64 *removed)
{
	Datum id = UUIDPGetDatum(history);
	Datum values[3] = {id, Int64GetDatum(PG_INT64_MIN), Int64GetDatum(limit)};
	Datum gone[1];
	int64 operations;
	bool all;
	bool null;

	ss_plan_run_redacted(&remove_plan, values, NULL, SS_PLAN_WRITE);
	*removed = DatumGetInt64(
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, REMOVED_COUNT, &null));
	ss_counter_add(SS_MESSAGES_PURGED, *removed);
	if (ss_plan_run(&rest_plan, values, NULL, SS_PLAN_LATEST, 1) > 0)
		return false;
	all = remove_operations(id, limit - *removed, &operations);
	*removed += operations;
	if (!all)
		return false;
	gone[0] = uuid_array(&id, 1);
	ss_plan_run_redacted(&remove_members_plan, gone, NULL, SS_PLAN_WRITE);
	return ss_plan_run(&members_left_plan, values, NULL, SS_PLAN_LATEST, 1) == 0;
}

/* The history at which remove_finished_entries stopped last in this backend; 0: it begins at the first. */
static pg_uuid_t finished_up_to;

/*
 * On a subscriber whose messages the publisher removes: removes the entries whose messages are gone,
 * and their members.  Each call continues where the last one stopped, so that entries whose
 * messages stay for long do not hide those behind them.
 */
static void
remove_finished_entries(Datum ns, int64 limit)
{
	Datum values[3] = {UUIDPGetDatum(&finished_up_to), ns, Int64GetDatum(limit)};
	char nulls[3] = {' ', ns == (Datum) 0 ? 'n' : ' ', ' '};
	uint64 n = ss_plan_run(&subscribed_plan, values, nulls, SS_PLAN_WRITE, 0);
	SPITupleTable *queue = SPI_tuptable;
	Progress progress = {0};
	Emptied emptied = new_emptied(n);

	for (uint64 i = 0; i < n; i++)
	{
		Ended ended = ended_at(queue, i);
		bool null;
		bool left = DatumGetBool(
			SPI_getbinval(queue->vals[i], queue->tupdesc, SUBSCRIBED_LEFT, &null));
		int64 operations;

		finished_up_to = *DatumGetUUIDP(ended.history);
		if (ended.in_use)
			remove_entry(&ended, &progress);
		else if (!left && remove_operations(ended.history, limit, &operations))
		{
			emptied.histories[emptied.nhistories++] = ended.history;
			emptied.entries[emptied.nentries++] = ended.entry;
		}
	}
	remove_emptied(&emptied, &progress);
	if (n < (uint64) limit)
		memset(&finished_up_to, 0, sizeof(finished_up_to));
}

/*
 * Removes messages and operations of ended sessions, of one namespace or of all (ns is 0), until
 * `limit` of them and of entries were processed.  *removed is the number of both.  An entry that cannot
 * be processed is set aside.  False when nothing is left to do, or only what is locked.
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
		remove_finished_entries(ns, limit);
		return false;
	}
	do
	{
		pg_uuid_t before = piece.from;
		int64 finished = progress.finished;

		piece.asked = Min(QUEUE_BATCH, limit - progress.done);
		remove_piece(&piece, aside);
		/* no progress: the entries that are left are visited by the next call */
		if (memcmp(&piece.from, &before, UUID_LEN) == 0 && progress.finished == finished)
			break;
	} while (piece.found > 0 && piece.found == piece.asked && progress.done < limit &&
			 !piece.cut_off);
	ss_counter_add(SS_MESSAGES_PURGED, progress.removed);
	*removed = progress.removed + progress.operations;
	return (progress.done >= limit || piece.cut_off) &&
		   (*removed > 0 || progress.finished > 0 || piece.set_aside);
}
