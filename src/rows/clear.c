/*
 * clear.c
 *		Ending all sessions of a namespace.
 *
 * That locks the rows of many owners, and one of them may be in use by a transaction that idles.
 * The other owners must not wait for that transaction because of us.  So the rows are ended in a
 * subtransaction that waits at most a second for a row that somebody else has locked.  If that is not
 * enough it is rolled back, the row is waited for with no other row locked, and all is tried again.
 * Callers that take turns to lock a row must not keep us from an end: after MAX_ROLLBACKS times what is
 * locked is kept, each row that is left is waited for without a limit, and a cycle is for the
 * deadlock detector.
 *
 * Order of locks: first the namespace's SS_LOCK_CLEAR, held by one clear at a time.  Rows are taken
 * without waiting.  Before a row is waited for, its owner's SS_LOCK_DELETE is taken, without waiting:
 * whoever ends the sessions of that owner may have the row and wait for one of ours.  Other calls
 * that have a row wait for no other (pair.c, owners.c).  So nobody waits for us and is waited for,
 * but after MAX_ROLLBACKS.
 *
 * A transaction that was waited for may have made other sessions, by a fork say, and so may one that
 * was committed between the snapshot of a pass and its locks.  So passes are repeated with a new
 * snapshot until one finds nothing, at every isolation level.  Sessions that begin meanwhile are ended
 * as well, as if they had begun before; but after MAX_EXTENSIONS passes only those that existed by
 * then, or the call might never end.
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

#include "compat.h"
#include "rows/clear.h"
#include "rows/errors.h"
#include "rows/owner_lock.h"
#include "rows/sql.h"
#include "rows/subxact.h"

/* The longest wait for a row while others are locked. */
#define PATIENCE_MS 1000

/* Give up what is locked at most so often. */
#define MAX_ROLLBACKS 5

/* Maximum number of passes that include sessions which began meanwhile. */
#define MAX_EXTENSIONS 100

#define SELECTED                                                                                                \
	" FROM {sessions} WHERE namespace {=} $1 AND ($2 IS NULL OR session_id {~~} $2) AND " SS_SQL_CREATED_AFTER( \
		"$3") " AND created_at {<=} $4 AND " SS_SQL_ALIVE

static SsPlan end_plan = {"UPDATE {sessions} SET " SS_SQL_END(
							  "$5", "$6") " WHERE ctid {=} ANY (ARRAY(SELECT ctid" SELECTED
										  " FOR NO KEY UPDATE SKIP LOCKED)) RETURNING session_id",
						  6,
						  {TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INTERVALOID, BOOLOID}};

static SsPlan left_plan = {"SELECT session_id, owner_id" SELECTED " LIMIT 1",
						   4,
						   {TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}};

static SsPlan wait_plan = {
	"SELECT 1 FROM {sessions} WHERE namespace {=} $1 AND session_id {=} $2 FOR NO KEY UPDATE",
	2,
	{TEXTOID, TEXTOID}};

typedef struct Clear
{
	const SsTarget *target;
	const SsSelection *which;
	MemoryContext context; /* outlives an attempt */
	TimestampTz until;     /* sessions that began later need not be ended */
	int64 ended;
	ArrayBuildState *ids; /* of those */
	Datum busy;           /* the id of a row that is left; 0 for none */
	volatile bool waiting;
	bool keeps; /* it keeps what it has locked */
} Clear;

static void
bind(const Clear *call, Datum *values, char *nulls)
{
	values[0] = call->target->ns;
	values[1] = call->which->id_like;
	values[2] = ss_max_lifetime_cutoff(call->target);
	values[3] = TimestampTzGetDatum(call->until);
	values[4] = IntervalPGetDatum(ss_make_interval(call->target->policy.tombstone));
	values[5] = BoolGetDatum(call->target->policy.owner_isolation);
	memset(nulls, ' ', 6);
	nulls[1] = ss_null_if(call->which->id_like);
}

/* End what nobody has locked; returns how many. */
static uint64
end_free(Clear *call)
{
	Datum values[6];
	char nulls[6];
	uint64 n;

	bind(call, values, nulls);
	n = ss_plan_run_redacted(&end_plan, values, nulls, SS_PLAN_LATEST);
	for (uint64 i = 0; call->target->policy.audit && i < n; i++)
		call->ids = accumArrayResult(call->ids,
									 ss_sql_value(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1,
												  "conversation_sessions"),
									 false, TEXTOID, call->context);
	SPI_freetuptable(SPI_tuptable);
	call->ended += (int64) n;
	return n;
}

/* Is one left?  Its id is then call->busy. */
static bool
find_left(Clear *call, Datum *owner, bool *owner_null)
{
	Datum values[6];
	char nulls[6];
	MemoryContext old;

	bind(call, values, nulls);
	call->busy = (Datum) 0;
	if (ss_plan_run(&left_plan, values, nulls, SS_PLAN_LATEST, 1) == 0)
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
 * Lock the row that is left, waiting for it at most so long (0: as long as the caller's settings
 * allow).  False when its id has no row any more.
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

/* Take the turn of an owner without waiting, and remember it. */
static bool
take_turn_if_free(Clear *call, Datum owner, List **turns)
{
	LOCKTAG *turn = palloc(sizeof(LOCKTAG));

	ss_owner_lock_tag(turn, call->target, owner, SS_LOCK_DELETE);
	if (LockAcquire(turn, ExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	*turns = lappend(*turns, turn);
	return true;
}

/* In a subtransaction: lock the row that is left. */
static bool
wait_and_keep(void *arg)
{
	return lock_left(arg, 0);
}

/* The same with all others kept; false when it has to be looked for again. */
static bool
lock_left_too(Clear *call)
{
	ErrorData *error;
	bool locked = ss_subxact_run(wait_and_keep, call, &error);

	if (error != NULL && error->sqlerrcode != ERRCODE_T_R_SERIALIZATION_FAILURE)
		ReThrowError(error);
	call->waiting = false;
	return locked;
}

/* In a subtransaction: end all of them.  False when one stays busy for too long. */
static bool
attempt(void *arg)
{
	Clear *call = arg;
	int extensions = 0;
	List *turns = NIL;
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
			ss_error_rows_skipped("conversation_sessions"); /* it is ours to end, and does not */
		if (!owner_null && !take_turn_if_free(call, owner, &turns) && !call->keeps)
			return false;
		locked = call->keeps ? lock_left_too(call) : lock_left(call, PATIENCE_MS);
	}
	foreach (cell, turns)
		(void) LockRelease(lfirst(cell), ExclusiveLock, false);
	return true;
}

/* In a subtransaction that is rolled back: wait until the row that was left is free. */
static bool
wait_alone(void *arg)
{
	(void) lock_left(arg, 0);
	return false;
}

/*
 * Run one of the two.  Errors are raised, but for those of lock_left that say that the row was not
 * free in time, or was changed meanwhile.
 */
static bool
run(SsSubxactWork work, Clear *call)
{
	ErrorData *error;
	bool done;

	call->waiting = false;
	done = ss_subxact_run(work, call, &error);
	if (error != NULL && (call->keeps || !call->waiting ||
						  (error->sqlerrcode != ERRCODE_T_R_SERIALIZATION_FAILURE &&
						   (work != attempt || error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE))))
		ReThrowError(error);
	return done;
}

/*
 * End all sessions of the namespace that the selection means; returns how many, and lists an array
 * of their ids if the namespace audits.
 */
int64
ss_clear(const SsTarget *target, const SsSelection *which, List **ids)
{
	Clear call = {.target = target, .which = which, .context = CurrentMemoryContext};
	LOCKTAG turn;

	ss_owner_lock_tag(&turn, target, (Datum) 0, SS_LOCK_CLEAR);
	(void) LockAcquire(&turn, ExclusiveLock, false, false);
	for (int rollbacks = 0;; rollbacks++)
	{
		call.keeps = rollbacks >= MAX_ROLLBACKS;
		call.until = DT_NOEND;
		call.ended = 0;
		call.busy = (Datum) 0;
		call.ids = NULL;
		if (run(attempt, &call))
			break;
		(void) run(wait_alone, &call);
	}
	(void) LockRelease(&turn, ExclusiveLock, false);
	if (call.ids != NULL)
		*ids = list_make1(DatumGetPointer(makeArrayResult(call.ids, call.context)));
	return call.ended;
}
