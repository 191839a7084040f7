/*
 * keeper.c
 *		The worker of one database: writes pending touches, purges, notifies of events, takes
 *		samples.
 *
 * This file has the process and the schedule of the tasks; keeper_state.h says where the tasks are.
 *
 * Each task runs in short transactions of its own and has its own back-off: an error in one (a table
 * that was altered, for example) is logged, shown by session_health(), and the task is tried again
 * with increasing delays, while the others continue.
 *
 * The keeper is connected to a database, and would block DROP DATABASE, RENAME and CREATE DATABASE ..
 * TEMPLATE.  These hold a lock on the database while they wait for others to leave.  So twice a
 * second the keeper tries to take a conflicting lock without waiting, and exits if it is refused.
 * It does not wait for our tables either if another session holds them exclusively.
 *
 * Where nothing changes, nothing is done: after a run that found nothing to do a task rests, without
 * transactions, until a row is due or something has changed (upkeep/rest.c).
 *
 * Rows that arrive by a subscription (table/subscription.c) are purged by the publisher only.
 *
 * When asked to stop, the keeper writes the pending touches first (workers/stop.c).  At a fast or
 * smart stop of the server that precedes the shutdown checkpoint, so that standbys and subscribers
 * receive them.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "base/clock.h"
#include "compat.h"
#include "keys/fence.h"
#include "pusher/claim_table.h"
#include "settings.h"
#include "shared/databases.h"
#include "shared/identity.h"
#include "worker.h"
#include "workers/keeper.h"
#include "workers/keeper_purge.h"
#include "workers/keeper_state.h"
#include "workers/keeper_tasks.h"
#include "workers/keeper_touches.h"
#include "workers/stop.h"

#define SLOT_TIME_US (INT64CONST(3) * USECS_PER_SEC) /* of a keeper, when worker slots are short */
#define TOUCH_GAP_US (INT64CONST(100) * 1000) /* the minimum time between writes of touches */
#define STOP_TIME_US (USECS_PER_SEC)          /* for pending touches, before a stop */

/* At the end of the process: clears the keeper's entry. */
static void
on_exit_keeper(int code, Datum arg)
{
	SsKeeper *keeper = (SsKeeper *) DatumGetPointer(arg);
	TimestampTz now = GetCurrentTimestamp();

	ss_databases_lock(true);
	if (keeper->db->keeper_pid == MyProcPid)
	{
		keeper->db->keeper_pid = 0;
		for (int i = 0; i < SS_TASKS; i++)
			keeper->db->tasks[i].skipped = 0;
		keeper->db->last_served = now;
		/* not by ss_keeper_leave(): it was killed, so the launcher starts another, but not at once */
		if (keeper->db->state == SS_DB_RUNNING)
		{
			keeper->db->state = SS_DB_WAITING;
			keeper->db->retry_at = now + USECS_PER_SEC;
		}
	}
	ss_databases_unlock();
	ss_databases_wake_launcher();
}

/* Registers this process as the keeper of its database; exits if there is one already. */
static void
register_keeper(SsKeeper *keeper)
{
	bool taken = true;

	ss_databases_lock(true);
	keeper->db = ss_database_add(MyDatabaseId);
	if (keeper->db != NULL && keeper->db->keeper_pid == 0)
	{
		taken = false;
		keeper->db->keeper_pid = MyProcPid;
		keeper->db->keeper_proc = SsMyProcNumber();
		keeper->db->state = SS_DB_RUNNING;
		keeper->db->since = GetCurrentTimestamp();
	}
	ss_databases_unlock();
	if (taken)
		proc_exit(0);
	before_shmem_exit(on_exit_keeper, PointerGetDatum(keeper));
}

static const struct
{
	const char *name;
	TimestampTz (*run)(SsKeeper *keeper, TimestampTz now); /* returns when it is due again */
} tasks[SS_TASKS] = {
	[SS_TASK_TOUCH] = {"writing noted reads", ss_keeper_write_touches},
	[SS_TASK_PURGE] = {"purging expired sessions", ss_keeper_purge},
	[SS_TASK_HISTORY] = {"purging messages", ss_keeper_purge_history},
	[SS_TASK_NOTIFY] = {"notifying of events", ss_keeper_notify},
	[SS_TASK_EVENTS] = {"purging old events", ss_keeper_purge_events},
	[SS_TASK_SAMPLE] = {"sampling sessions", ss_keeper_sample},
	[SS_TASK_ORPHANS] = {"looking for messages without a session", ss_keeper_remove_orphans},
	[SS_TASK_OPERATIONS] = {"purging old operations", ss_keeper_purge_operations},
	[SS_TASK_COUNTERS] = {"purging counters", ss_keeper_purge_counters},
};

/* Counts for health that a task was prevented by a lock. */
static void
skip(SsKeeper *keeper, SsTask task)
{
	ss_databases_lock(true);
	if (keeper->db->tasks[task].skipped < PG_INT32_MAX)
		keeper->db->tasks[task].skipped++;
	keeper->db->keeper_skips++;
	ss_databases_unlock();
}

/*
 * A task raised an error: logs it, aborts the transaction, and schedules another attempt.  A
 * lock held by another session does not count as an error: lock_timeout is shorter than
 * deadlock_timeout, so that it is always the keeper that gives way.
 */
static void
failed(SsKeeper *keeper, SsTask task, TimestampTz now)
{
	ErrorData *error;
	SsTaskState *state = &keeper->db->tasks[task];
	bool locked;
	bool lock_timeout;

	MemoryContextSwitchTo(keeper->cycle_context);
	error = CopyErrorData();
	lock_timeout = error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
	locked = lock_timeout || ss_stop_requested();
	if (!locked)
		EmitErrorReport();
	AbortOutOfAnyTransaction();
	ss_stop_defer();
	FlushErrorState();
	MemoryContextSwitchTo(keeper->cycle_context);
	if (locked)
	{
		keeper->next_run[task] = now + USECS_PER_SEC;
		if (lock_timeout)
			skip(keeper, task);
		return;
	}

	ss_databases_lock(true);
	state->failures++;
	state->last_error_at = now;
	strlcpy(state->last_error, error->message ? error->message : "unknown error", SS_MESSAGE_LEN);
	state->last_error[pg_mbcliplen(state->last_error, strlen(state->last_error),
								   SS_MESSAGE_LEN - 1)] = '\0';
	state->retry_at = now +
					  Min(USECS_PER_SEC << Min(state->failures - 1, 10), SS_KEEPER_RETRY_MAX_US);
	keeper->next_run[task] = state->retry_at;
	ss_databases_unlock();
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * How much earlier a task may run than it is due.  Tasks whose time is not critical run
 * together with others, so that an idle keeper wakes up twice a second and not twice for each
 * task.
 */
static int64
slack_of(SsKeeper *keeper, SsTask task)
{
	bool exact = (task == SS_TASK_PURGE || task == SS_TASK_HISTORY) && !keeper->rests[task].resting;

	return exact ? 0 : SS_KEEPER_CHECK_US / 2;
}

/* The minimum time between two runs of a task, even on request. */
static int64
gap_of(SsTask task)
{
	return task == SS_TASK_TOUCH    ? TOUCH_GAP_US
		   : task == SS_TASK_NOTIFY ? SS_KEEPER_NOTIFY_GAP_US
									: 0;
}

/* Runs a task if it is due. */
static void
run_task(SsKeeper *keeper, SsTask task)
{
	TimestampTz now = GetCurrentTimestamp();

	if (keeper->next_run[task] > now + slack_of(keeper, task) ||
		now < keeper->db->tasks[task].last_run + gap_of(task))
		return;
	keeper->activity = tasks[task].name;
	keeper->skipped = false;
	PG_TRY();
	{
		TimestampTz next = tasks[task].run(keeper, now);

		keeper->next_run[task] = next;
		if (keeper->skipped)
			skip(keeper, task);
		ss_databases_lock(true);
		keeper->db->tasks[task].last_run = now;
		keeper->db->tasks[task].failures = 0;
		if (!keeper->skipped)
			keeper->db->tasks[task].skipped = 0;
		keeper->db->purge_batch = keeper->batch_size;
		keeper->db->purge_low = keeper->low_water;
		ss_databases_unlock();
		pgstat_report_activity(STATE_IDLE, NULL);
	}
	PG_CATCH();
	{
		failed(keeper, task, now);
	}
	PG_END_TRY();
	ss_stop_unwatch();
}

/* SIGTERM was received: writes what is pending, and exits. */
static void
stop(SsKeeper *keeper)
{
	TimestampTz deadline = GetCurrentTimestamp() + STOP_TIME_US;
	volatile bool done = false;

	/* do not act on SIGTERM before that */
	ProcDiePending = false;
	QueryCancelPending = false;
	keeper->stopping = true;
	keeper->activity = "writing noted reads before the end";
	ss_stop_watch(deadline);
	PG_TRY();
	{
		done = ss_keeper_flush_touches(keeper, deadline);
	}
	PG_CATCH();
	{
		if (geterrcode() != ERRCODE_QUERY_CANCELED)
			EmitErrorReport();
		AbortOutOfAnyTransaction();
		FlushErrorState();
	}
	PG_END_TRY();
	ss_stop_unwatch();
	if (!done)
		ereport(LOG, (errcode(ERRCODE_QUERY_CANCELED),
					  errmsg("session_store stopped before all pending touches were written"),
					  errdetail("A session whose last reads were lost expires early, by at "
								"most the slack of its ttl.")));
	QueryCancelPending = false;
	ProcDiePending = true;
	InterruptPending = true;
	CHECK_FOR_INTERRUPTS();
}

/*
 * Starts a pusher if there is none and a Redis is configured.  Health reports when no worker
 * slot is free.
 */
static void
ensure_pusher(SsKeeper *keeper, TimestampTz now)
{
	SsCache *cache = &keeper->db->cache;
	bool wanted;
	bool started;
	pid_t pid;

	ss_databases_lock(false);
	wanted = cache->pusher_pid == 0 && cache->retry_at <= now;
	ss_databases_unlock();
	if (!wanted || ss_redis_url[0] == '\0')
		return;
	if (keeper->pusher != NULL &&
		GetBackgroundWorkerPid(keeper->pusher, &pid) == BGWH_NOT_YET_STARTED)
		return;
	started = ss_worker_start("pusher", MyDatabaseId, &keeper->pusher);
	ss_databases_lock(true);
	cache->retry_at = now + USECS_PER_SEC;
	cache->no_slot = !started;
	ss_databases_unlock();
}

/*
 * Did this database ever claim a Redis?  If not, logouts need not wait for a lease from before
 * the start of the server, which they otherwise do in its first seconds.  On a promoted
 * standby the last row that its primary wrote may be missing; there, the absence of a
 * redis_url must confirm it.
 */
static void
read_claims(SsKeeper *keeper)
{
	SsControl *control = &keeper->db->cache.control;
	SsClaim claims[SS_CLAIMS_MAX];
	SsClaim me;
	SsCaller caller;

	ss_fence_apply_promotion(keeper->db);
	if ((ss_databases->began_in_recovery && ss_redis_url[0] != '\0') ||
		!ss_control_may_be_leased(control, ss_monotonic()))
		return;
	PG_TRY();
	{
		ss_identity_read(&me);
		if (ss_keeper_begin(keeper, &caller))
		{
			if (ss_claims_read(claims, &me) == 0)
				ss_control_never_leased(control, ss_databases->promoted);
			ss_keeper_finish(keeper, &caller);
			ConditionVariableBroadcast(&keeper->db->cache.changed);
		}
	}
	PG_CATCH();
	{
		/* then the wait ends by itself */
		MemoryContextSwitchTo(keeper->cycle_context);
		EmitErrorReport();
		AbortOutOfAnyTransaction();
		FlushErrorState();
		MemoryContextSwitchTo(keeper->cycle_context);
	}
	PG_END_TRY();
	ss_stop_unwatch();
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* Other databases have waited for a worker slot while we had one: exits to make room. */
static void
yield_slot(SsKeeper *keeper, TimestampTz now)
{
	int waiting;

	ss_databases_lock(false);
	waiting = ss_databases->launcher.waiting;
	ss_databases_unlock();
	if (waiting > 0 && now - keeper->started_at > SLOT_TIME_US)
		ss_keeper_leave(keeper, SS_DB_WAITING, 0);
}

/* A backend requests a task before it is due. */
static void
run_early(SsKeeper *keeper, SsTask task)
{
	if (keeper->db->tasks[task].failures == 0)
		keeper->next_run[task] = Min(keeper->next_run[task],
									 keeper->db->tasks[task].last_run + gap_of(task));
}

/* Sleeps until a task is due or the latch is set, but not beyond the next check of the database. */
static void
sleep_until_due(SsKeeper *keeper)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until = now + SS_KEEPER_CHECK_US;
	long ms;

	for (int i = 0; i < SS_TASKS; i++)
		until = Min(until, keeper->next_run[i]);
	ms = TimestampDifferenceMilliseconds(now, until);
	ss_stop_allow();
	/* even without time to sleep, because the postmaster may have died */
	if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, PG_WAIT_EXTENSION) &
		WL_LATCH_SET)
	{
		ResetLatch(MyLatch);
		/* a reader added a touch worth writing, or found the slots full; or there are events */
		run_early(keeper, SS_TASK_TOUCH);
		run_early(keeper, SS_TASK_NOTIFY);
	}
	ss_stop_defer();
}

/* The wall clock was set back: what was scheduled by it would come late by as much. */
static void
clock_was_set_back(SsKeeper *keeper)
{
	memset(keeper->next_run, 0, sizeof(keeper->next_run));
	memset(keeper->rests, 0, sizeof(keeper->rests));
	ss_keeper_purge_init(keeper);
	keeper->started_at = GetCurrentTimestamp();
}

/* Entry point of the worker; the argument is the OID of the database. */
void
ss_keeper_main(Datum arg)
{
	SsKeeper *keeper = MemoryContextAllocZero(TopMemoryContext, sizeof(SsKeeper));
	TimestampTz checked_at = 0;
	TimestampTz now = 0;

	ss_worker_begin(DatumGetObjectId(arg));
	register_keeper(keeper);
	ss_worker_set("synchronous_commit", "off");
	ss_worker_set("default_transaction_read_only", "off");
	ss_worker_set("lock_timeout", SS_KEEPER_LOCK_TIMEOUT);
	keeper->started_at = GetCurrentTimestamp();
	keeper->activity = "starting";
	keeper->orphan_changes = -1;
	keeper->orphans_recorded = true; /* an earlier keeper may have recorded some */
	ss_keeper_purge_init(keeper);
	keeper->cycle_context = AllocSetContextCreate(TopMemoryContext, "session_store keeper cycle",
												  ALLOCSET_DEFAULT_SIZES);
	ss_stop_init();
	ss_aside_rolled_back = ss_stop_defer_again; /* called by ss_aside_try */
	keeper->purge_aside = ss_aside_of_worker(SS_WORK_PURGE, true);
	keeper->touch_aside = ss_aside_of_worker(SS_WORK_TOUCH, false);
	keeper->history_aside = ss_aside_of_worker(SS_WORK_HISTORY, false);
	keeper->operations_aside = ss_aside_of_worker(SS_WORK_OPERATIONS, false);
	keeper->events_aside = ss_aside_of_worker(SS_WORK_EVENTS, false);
	keeper->sample_aside = ss_aside_of_worker(SS_WORK_SAMPLE, false);
	keeper->counters_aside = ss_aside_of_worker(SS_WORK_COUNTERS, false);
	for (;;)
	{
		if (ProcDiePending)
			stop(keeper);
		CHECK_FOR_INTERRUPTS();
		if (ss_worker_reload())
		{
			keeper->next_run[SS_TASK_ORPHANS] = 0; /* the retention time decides when to look */
			memset(keeper->rests, 0, sizeof(keeper->rests));
		}
		MemoryContextReset(keeper->cycle_context);
		MemoryContextSwitchTo(keeper->cycle_context);

		if (now == 0)
			read_claims(keeper);
		if (GetCurrentTimestamp() < now)
			clock_was_set_back(keeper);
		now = GetCurrentTimestamp();
		if (now - checked_at >= SS_KEEPER_CHECK_US - SS_KEEPER_CHECK_US / 4 || now < checked_at)
		{
			checked_at = now;
			if (!ss_database_is_free(MyDatabaseId))
				ss_keeper_leave(keeper, SS_DB_WAITING, now + 2 * USECS_PER_SEC);
			yield_slot(keeper, now);
			ensure_pusher(keeper, now);
		}
		for (int i = 0; i < SS_TASKS && !ss_stop_requested(); i++)
			run_task(keeper, i);
		sleep_until_due(keeper);
	}
}
