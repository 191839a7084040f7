/*
 * clear.c
 *		Ends all sessions of a namespace.
 *
 * This locks the rows of many owners, one of which may be in use by an idle transaction.  The other
 * owners must not wait for that transaction because of us.  So the sessions are ended in a
 * subtransaction that waits at most PATIENCE_MS for a row that another transaction has locked.  If
 * that is not enough, it is rolled back, the row is waited for with no other row locked, and the
 * whole is tried again.  Transactions that lock a row in turn must not delay us for ever: after
 * MAX_ROLLBACKS attempts the locks are kept, each row that is left is waited for without a limit, and
 * a cycle is left to the deadlock detector.
 *
 * Order of locks: first the namespace's SS_LOCK_CLEAR, so that one clear runs at a time.  Rows are
 * locked without waiting.  Before a row is waited for, its owner's SS_LOCK_DELETE is taken without
 * waiting, because a call that ends the sessions of that owner may hold the row and wait for one of
 * ours.  Other calls that hold a row wait for no other row (pair.c, owners.c).  So until
 * MAX_ROLLBACKS attempts have failed, no transaction that we wait for can wait for us.
 *
 * A transaction that was waited for may have created other sessions, by a fork for instance; so may
 * one that committed between the snapshot of a pass and its locks.  Passes are therefore repeated
 * with a new snapshot until one finds no session, at every isolation level.  Sessions that begin
 * meanwhile are ended too, as if they had begun before; after MAX_EXTENSIONS passes only those that
 * existed by then, since otherwise the call might never end.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "row/errors.h"
#include "row/session.h"
#include "row/tombstone.h"
#include "sessions/clear.h"
#include "sessions/owner_lock.h"
#include "table/sql.h"
#include "table/subxact.h"

/* Maximum wait for a row while others are locked. */
#define PATIENCE_MS 1000

/* Maximum number of attempts whose locks are released by a rollback. */
#define MAX_ROLLBACKS 5

/* Maximum number of passes that include sessions begun since. */
#define MAX_EXTENSIONS 100

/* The parameters of the statements that select sessions; each uses those that it needs. */
#define PARAMS 8
#define TYPES                                                                                    \
	{                                                                                            \
		TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INTERVALOID, BOOLOID, TEXTOID, TEXTOID \
	}

#define SELECTED                                                                     \
	" FROM {sessions} WHERE namespace {=} $1 AND ($2 IS NULL OR session_id {~~} $2)" \
	" AND created_at {<=} $4 AND " SS_SQL_ALIVE("$3")

/* By a prefix: only the primary key has this order without a sort, so no other index is used. */
#define SELECTED_IN_RANGE \
	SELECTED " AND session_id {>=} $7 AND session_id {<=} $8 ORDER BY session_id"

#define END(selected)                                                                \
	{                                                                                \
		"WITH free AS MATERIALIZED (SELECT ctid AS at, tableoid AS part" selected    \
		" FOR NO KEY UPDATE SKIP LOCKED) UPDATE {sessions} SET " SS_SQL_TOMBSTONE(   \
			"$5", "$6") " WHERE " SS_SQL_AT_ROWS_OF("free") " RETURNING session_id", \
			PARAMS, TYPES                                                            \
	}
#define LEFT(selected)                                                   \
	{                                                                    \
		"SELECT session_id, owner_id" selected " LIMIT 1", PARAMS, TYPES \
	}

static SsPlan end_plan = END(SELECTED);
static SsPlan end_in_range_plan = END(SELECTED_IN_RANGE);
static SsPlan left_plan = LEFT(SELECTED);
static SsPlan left_in_range_plan = LEFT(SELECTED_IN_RANGE);

static SsPlan wait_plan = {
	"SELECT 1 FROM {sessions} WHERE namespace {=} $1 AND session_id {=} $2 FOR NO KEY UPDATE",
	2,
	{TEXTOID, TEXTOID}};

/* A clear in progress. */
typedef struct Clear
{
	const SsTarget *target;
	const SsSelection *which;
	Datum id_range_end;    /* of id_prefix of the selection, if it has one */
	MemoryContext context; /* survives the rollback of an attempt */
	TimestampTz until;     /* sessions created later need not be ended */
	int64 ended;           /* sessions ended by this attempt */
	ArrayBuildState *ids;  /* their ids, if the namespace audits */
	Datum busy;            /* the id of a session that is left; 0: none */
	volatile bool waiting; /* lock_left waits for a row lock */
	bool keeps_locks;      /* last resort: wait without a limit while holding locks */
} Clear;

static void
bind_params(const Clear *call, Datum *values, char *nulls)
{
	values[0] = call->target->ns;
	values[1] = call->which->id_like;
	values[2] = ss_alive_param(call->target);
	values[3] = TimestampTzGetDatum(call->until);
	values[4] = IntervalPGetDatum(ss_make_interval(call->target->policy.tombstone_us));
	values[5] = BoolGetDatum(call->target->policy.owner_isolation);
	values[6] = call->which->id_prefix;
	values[7] = call->id_range_end;
	memset(nulls, ' ', PARAMS);
	nulls[1] = ss_null_if(call->which->id_like);
	nulls[6] = nulls[7] = ss_null_if(call->which->id_prefix);
}

/* Ends the sessions whose rows are not locked by other transactions; returns their number. */
static uint64
end_free(Clear *call)
{
	Datum values[PARAMS];
	char nulls[PARAMS];
	SsPlan *plan = call->which->id_prefix != (Datum) 0 ? &end_in_range_plan : &end_plan;
	uint64 n;

	bind_params(call, values, nulls);
	n = ss_plan_run_redacted(plan, values, nulls, SS_PLAN_LATEST);
	for (uint64 i = 0; call->target->policy.audit && i < n; i++)
		call->ids = accumArrayResult(call->ids,
									 ss_sql_value(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1,
												  "conversation_sessions"),
									 false, TEXTOID, call->context);
	SPI_freetuptable(SPI_tuptable);
	call->ended += (int64) n;
	return n;
}

/* Finds a session that is left, sets call->busy to its id and *owner to its owner.  False: none. */
static bool
find_left(Clear *call, Datum *owner, bool *owner_null)
{
	Datum values[PARAMS];
	char nulls[PARAMS];
	SsPlan *plan = call->which->id_prefix != (Datum) 0 ? &left_in_range_plan : &left_plan;
	MemoryContext old;

	bind_params(call, values, nulls);
	call->busy = (Datum) 0;
	if (ss_plan_run(plan, values, nulls, SS_PLAN_LATEST, 1) == 0)
		return false;
	old = MemoryContextSwitchTo(call->context);
	call->busy = datumCopy(ss_sql_value(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
										"conversation_sessions"),
						   false, -1);
	MemoryContextSwitchTo(old);
	*owner = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, owner_null);
	return true;
}

/*
 * Locks the row of call->busy, waiting at most patience_ms (0: as long as lock_timeout of the caller
 * allows).  False when the id has no row any more.
 */
static bool
lock_left(Clear *call, int patience_ms)
{
	Datum values[2] = {call->target->ns, call->busy};
	int nest = NewGUCNestLevel();
	bool found;

	if (patience_ms > 0 && (LockTimeout == 0 || patience_ms < LockTimeout))
		(void) set_config_option("lock_timeout", psprintf("%d", patience_ms), PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	call->waiting = true;
	found = ss_plan_run(&wait_plan, values, NULL, SS_PLAN_LATEST, 0) > 0;
	call->waiting = false;
	AtEOXact_GUC(true, nest);
	return found;
}

/* Takes SS_LOCK_DELETE of an owner without waiting, and adds it to the list. */
static bool
try_owner_lock(Clear *call, Datum owner, List **owner_locks)
{
	LOCKTAG *tag = palloc(sizeof(LOCKTAG));

	ss_owner_lock_tag(tag, call->target, owner, SS_LOCK_DELETE);
	if (LockAcquire(tag, ExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	*owner_locks = lappend(*owner_locks, tag);
	return true;
}

/* In a subtransaction that is kept: locks the row of call->busy. */
static bool
wait_and_keep(void *arg)
{
	return lock_left(arg, 0);
}

/*
 * As lock_left, but a serialization failure does not undo the attempt.  False when the row could not
 * be locked and a new snapshot is needed.
 */
static bool
lock_left_keeping_others(Clear *call)
{
	ErrorData *error;
	bool locked = ss_subxact_run(wait_and_keep, call, &error);

	if (error != NULL && error->sqlerrcode != ERRCODE_T_R_SERIALIZATION_FAILURE)
		ReThrowError(error);
	call->waiting = false;
	return locked;
}

/* In a subtransaction: ends all sessions.  False when the owner of one is busy. */
static bool
attempt(void *arg)
{
	Clear *call = arg;
	int extensions = 0;
	List *owner_locks = NIL;
	ListCell *cell;
	bool locked = false;

	for (;;)
	{
		Datum before = call->busy;
		Datum owner;
		bool owner_null;
		uint64 n;

		CHECK_FOR_INTERRUPTS();
		n = end_free(call);
		if (extensions++ == MAX_EXTENSIONS)
			call->until = GetCurrentTimestamp();
		if (!find_left(call, &owner, &owner_null))
			break;
		if (n > 0)
		{
			locked = false;
			continue;
		}
		if (locked && datumIsEqual(call->busy, before, false, -1))
			ss_error_rows_skipped(
				"conversation_sessions"); /* we hold its lock, so a trigger keeps it */
		if (!owner_null && !try_owner_lock(call, owner, &owner_locks) && !call->keeps_locks)
			return false;
		locked = call->keeps_locks ? lock_left_keeping_others(call) : lock_left(call, PATIENCE_MS);
	}
	foreach (cell, owner_locks)
		(void) LockRelease(lfirst(cell), ExclusiveLock, false);
	return true;
}

/* In a subtransaction that is rolled back: waits until the row of call->busy is free. */
static bool
wait_alone(void *arg)
{
	(void) lock_left(arg, 0);
	return false;
}

/*
 * Runs attempt or wait_alone in a subtransaction.  Errors are raised again, except for those of
 * lock_left which say that the row was not free in time or was changed meanwhile; for these the
 * result is false.
 */
static bool
run_attempt(SsSubxactWork work, Clear *call)
{
	ErrorData *error;
	bool done;

	call->waiting = false;
	done = ss_subxact_run(work, call, &error);
	if (error != NULL && (call->keeps_locks || !call->waiting ||
						  (error->sqlerrcode != ERRCODE_T_R_SERIALIZATION_FAILURE &&
						   (work != attempt || error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE))))
		ReThrowError(error);
	return done;
}

/*
 * Ends all sessions of the namespace that match id_like and id_prefix of the selection.  Returns
 * their number and, if the namespace audits, sets *ids to a list with one array of their ids.
 */
int64
ss_clear(const SsTarget *target, const SsSelection *which, List **ids)
{
	Clear call = {.target = target, .which = which, .context = CurrentMemoryContext};
	LOCKTAG clear_lock;

	if (which->id_prefix != (Datum) 0)
		call.id_range_end = ss_id_range_end(which->id_prefix);
	ss_owner_lock_tag(&clear_lock, target, (Datum) 0, SS_LOCK_CLEAR);
	(void) LockAcquire(&clear_lock, ExclusiveLock, false, false);
	for (int rollbacks = 0;; rollbacks++)
	{
		call.keeps_locks = rollbacks >= MAX_ROLLBACKS;
		call.until = DT_NOEND;
		call.ended = 0;
		call.busy = (Datum) 0;
		call.ids = NULL;
		if (run_attempt(attempt, &call))
			break;
		(void) run_attempt(wait_alone, &call);
	}
	(void) LockRelease(&clear_lock, ExclusiveLock, false);
	if (call.ids != NULL)
		*ids = list_make1(DatumGetPointer(makeArrayResult(call.ids, call.context)));
	return call.ended;
}
