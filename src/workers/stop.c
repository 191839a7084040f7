/*
 * stop.c
 *		When a keeper that is asked to stop does so.
 *
 * A keeper that gets SIGTERM has something left to do: to write the pending touches, so that a
 * switch-over after a clean stop ends no session early.  That needs a transaction, which is not
 * to be had once die() was acted upon in the middle of another one.  So SIGTERM is blocked but
 * for the time in which the keeper sleeps; its handler stays die(), and the main loop sees
 * ProcDiePending.
 *
 * Work must not hold up a stop for that: while a task runs, a timer looks whether SIGTERM is
 * pending, and if so cancels the task as pg_cancel_backend() would, which ends waits for locks
 * and code of others that runs in a trigger, too.  (The abort of a transaction unblocks all signals;
 * should somebody's trigger catch an error at that moment, the keeper dies in the middle of the
 * task and the touches that are pending then are lost, as in a crash.)  The same timer ends the last task, the writing
 * of pending touches, at its deadline.
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "workers/stop.h"

#define WATCH_MS 50

static TimeoutId watch;
static TimestampTz watched_until; /* 0: until SIGTERM is pending */

/* Has SIGTERM arrived? */
bool
ss_stop_requested(void)
{
	sigset_t pending;

	if (ProcDiePending)
		return true;
	return sigpending(&pending) == 0 && sigismember(&pending, SIGTERM);
}

/* In a signal handler. */
static void
on_watch(void)
{
	if (watched_until == 0 ? ss_stop_requested() : GetCurrentTimestamp() >= watched_until)
		kill(MyProcPid, SIGINT);
}

static void
block(int how)
{
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	(void) sigprocmask(how, &mask, NULL);
}

void
ss_stop_init(void)
{
	watch = RegisterTimeout(USER_TIMEOUT, on_watch);
	ss_stop_defer();
}

/* SIGTERM is kept for later. */
void
ss_stop_defer(void)
{
	block(SIG_BLOCK);
}

/*
 * The same in the middle of a task, after the abort of a subtransaction: also one that arrived
 * while it was unblocked.
 */
void
ss_stop_defer_again(void)
{
	block(SIG_BLOCK);
	if (ProcDiePending)
	{
		ProcDiePending = false;
		kill(MyProcPid, SIGTERM);
	}
}

/* SIGTERM is received: one that was kept, at once. */
void
ss_stop_allow(void)
{
	block(SIG_UNBLOCK);
}

/* Cancel what follows at a deadline, or (0) when SIGTERM is pending. */
void
ss_stop_watch(TimestampTz deadline)
{
	watched_until = deadline;
	enable_timeout_every(watch, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), WATCH_MS),
						 WATCH_MS);
}

void
ss_stop_unwatch(void)
{
	disable_timeout(watch, false);
}
