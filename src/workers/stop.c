/*
 * stop.c
 *		Delays SIGTERM until the keeper can act on it.
 *
 * On SIGTERM a keeper still has to write the pending touches, so that a switchover after a clean
 * stop ends no session early.  That needs a transaction, which is impossible once die() has taken
 * effect in the middle of another one.  So SIGTERM is blocked except while the keeper sleeps; its
 * handler stays die(), and the main loop sees ProcDiePending.
 *
 * Tasks must not delay a stop for that.  While a task runs, a timer checks whether SIGTERM is
 * pending, and if so cancels the task as pg_cancel_backend() would, which also ends waits for locks
 * and foreign code in triggers.  (Aborting a transaction unblocks all signals.  If a trigger of the
 * user's catches an error at that moment, the keeper dies in the middle of the task, and the pending
 * touches are lost as in a crash.)  The same timer limits the time for writing pending touches at the
 * end.
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

/* Has SIGTERM arrived, blocked or not? */
bool
ss_stop_requested(void)
{
	sigset_t pending;

	if (ProcDiePending)
		return true;
	return sigpending(&pending) == 0 && sigismember(&pending, SIGTERM);
}

/* Timeout handler; runs in a signal handler. */
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

/* Called once at the start of the keeper: registers the timer and blocks SIGTERM. */
void
ss_stop_init(void)
{
	watch = RegisterTimeout(USER_TIMEOUT, on_watch);
	ss_stop_defer();
}

/* Blocks SIGTERM. */
void
ss_stop_defer(void)
{
	block(SIG_BLOCK);
}

/*
 * Blocks SIGTERM in the middle of a task, after the abort of a subtransaction, and defers one
 * that arrived while it was unblocked.
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

/* Unblocks SIGTERM; a pending one is received immediately. */
void
ss_stop_allow(void)
{
	block(SIG_UNBLOCK);
}

/* Cancels what follows at a deadline, or, if that is 0, when SIGTERM is pending. */
void
ss_stop_watch(TimestampTz deadline)
{
	watched_until = deadline;
	enable_timeout_every(watch, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), WATCH_MS),
						 WATCH_MS);
}

/* Ends that. */
void
ss_stop_unwatch(void)
{
	disable_timeout(watch, false);
}
