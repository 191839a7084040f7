/*
 * turn_wait.c
 *		The wait for the turn of a session.
 *
 * A call that waits attempts to begin the turn, sleeps while it is busy, and attempts again.  While
 * it sleeps, it holds no row lock, no table lock, no snapshot and no transaction id, so it delays
 * neither those who use the session, nor VACUUM, nor DDL.
 *
 *	- Snapshot: it is that of the statement, which statement_snapshot.c releases.  That is possible
 *	  only for some statements.  All others are refused before the first attempt, and not only if the
 *	  turn is busy, so that an application does not fail for the first time under load.
 *	- Locks: each attempt is a subtransaction, which is rolled back unless it begins the turn.
 *	- Transaction id: an attempt gets one only when it locks the row, and it locks only a row whose
 *	  turn is free (turns.c).  Rolling back would release the lock, but not the id.
 *	- A transaction that has written before keeps its locks and its id, so it may not wait at all.
 *
 * The sleep ends when a transaction commits that ends the turn (turn_wakes.c), and when the turn ends
 * by itself.  Some ends wake nobody; for those the call looks every HEARTBEAT_MS.  If it cannot be
 * woken, because the library was not preloaded, or if it does not know what it waits for, because the
 * row is locked, it looks every LOOK_AGAIN_MS.
 *
 * Those who wait for the same turn are woken together, and the first to lock the row begins the turn.
 * There is no order among them.  Those who wait for another turn of the same bucket are woken as well.
 * A call that was woken and found its turn busy therefore sleeps for REST_MS before it can be woken
 * again: however often turns end, also in other databases, it does not look more often.
 *
 * A call whose client has gone must not begin a turn, which would be held by nobody until it ends by
 * itself.  So the connection is checked before each attempt.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "base/clock.h"
#include "compat.h"
#include "sessions/turn_wait.h"
#include "shared/counters.h"
#include "shared/turn_wakes.h"
#include "table/statement_snapshot.h"

#define HEARTBEAT_MS 250
#define LOOK_AGAIN_MS 20
#define REST_MS 5

/* Raises an error if this call cannot wait without holding anything meanwhile. */
static void
check_may_wait(const FmgrInfo *call)
{
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		ereport(ERROR, (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
						errmsg("cannot wait for a turn in a transaction that has written"),
						errhint("Begin the turn in a transaction of its own, or without wait.")));
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot wait for a turn at this isolation level"),
				 errdetail("REPEATABLE READ and SERIALIZABLE transactions keep their snapshot."),
				 errhint("Use READ COMMITTED, or begin the turn without wait.")));
	if (!ss_statement_snapshot_is_releasable(call))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("cannot wait for a turn inside a function or another statement"),
						errhint("Send \"SELECT session_turn_begin(..)\" as a statement of its own, "
								"or begin the turn without wait.")));
}

/* How long to sleep after an attempt, in milliseconds; left_us is what is left of the wait. */
static long
time_to_sleep(const SsTurnBegin *begin, int64 left_us)
{
	int64 us = Min(left_us, (ss_turn_wakes_exist() ? HEARTBEAT_MS : LOOK_AGAIN_MS) * 1000);

	if (begin->outcome == SS_TURN_LOCKED)
		us = Min(us, LOOK_AGAIN_MS * 1000);
	else
		us = Min(us, begin->busy_until - GetCurrentTimestamp());
	return us <= 0 ? 0 : (long) ((us + 999) / 1000);
}

/* Ends this process if its client has closed the connection, where the system can tell. */
static void
check_client(void)
{
	if (MyProcPort == NULL || whereToSendOutput != DestRemote || !WaitEventSetCanReportClosed() ||
		pq_check_connection())
		return;
	ClientConnectionLost = true;
	InterruptPending = true;
	CHECK_FOR_INTERRUPTS();
}

/* Sleeps for a time in which nobody wakes this process. */
static void
sleep_on_latch(long ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * Sleeps until another attempt may find the turn free, at most left_us.  Returns true if it was woken.
 * woken says whether it was before the attempt.
 */
static bool
sleep_after(const SsTurnBegin *begin, const SsKey *key, int64 left_us, bool woken)
{
	long ms = time_to_sleep(begin, left_us);

	CHECK_FOR_INTERRUPTS();
	ss_statement_snapshot_release();
	if (!ss_turn_wakes_exist())
	{
		sleep_on_latch(ms);
		woken = false;
	}
	else
	{
		long rest_ms = woken ? Min(ms, REST_MS) : 0;

		if (rest_ms > 0)
			sleep_on_latch(rest_ms);
		/* it is woken at once by what was committed since the attempt */
		woken = ss_turn_wakes_wait(key, begin->wakes, ms - rest_ms);
	}
	ss_statement_snapshot_renew();
	check_client();
	return woken;
}

/*
 * Begins a turn, for which the call may wait.  attempt(arg) attempts it once: it calls ss_turn_begin with
 * `begin`, returns its result and has set *key by then.  False when the attempt has found no session, or
 * when the time of the call is over.  Raises an error if the call may not wait.
 */
bool
ss_turn_wait(const FmgrInfo *call, const SsKey *key, SsTurnBegin *begin, SsSubxactWork attempt,
			 void *arg)
{
	SsMonotonic deadline = ss_monotonic() + begin->wait_us;
	MemoryContext scratch;
	MemoryContext old;
	bool slept = false;
	bool woken = false;
	int64 left_us;
	bool begun;

	check_may_wait(call);
	scratch = AllocSetContextCreate(CurrentMemoryContext, "session_turn_begin",
									ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		old = MemoryContextSwitchTo(scratch);
		begun = ss_subxact_run(attempt, arg, NULL);
		MemoryContextSwitchTo(old);
		MemoryContextReset(scratch);
		left_us = deadline - ss_monotonic();
		if (begun || begin->outcome == SS_TURN_NO_SESSION || left_us <= 0)
			break;
		if (!slept)
			ss_counter_add(SS_TURN_WAITS, 1);
		slept = true;
		woken = sleep_after(begin, key, left_us, woken);
	}
	MemoryContextDelete(scratch);
	if (begun && woken)
		ss_counter_add(SS_TURN_WAKES, 1);
	return begun;
}
