/*
 * keeper.c
 *		The worker of one database: writes pending touches, purges, notifies of events, takes
 *		samples.
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
 * transactions, until a row is due or something has changed (rows/rest.c).
 *
 * Rows that arrive by a subscription (rows/subscription.c) are purged by the publisher only.
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
#include "storage/lmgr.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "cache/identity.h"
#include "cache/xact_keys.h"
#include "clock.h"
#include "compat.h"
#include "databases.h"
#include "rows/aside.h"
#include "rows/catalog.h"
#include "rows/claim_table.h"
#include "rows/events.h"
#include "rows/history_purge.h"
#include "rows/orphans.h"
#include "rows/purge.h"
#include "rows/rest.h"
#include "rows/sample.h"
#include "rows/sql.h"
#include "rows/subscription.h"
#include "rows/touch_slots.h"
#include "rows/touch_writer.h"
#include "settings.h"
#include "worker.h"
#include "workers/stop.h"
#include "workers/workers.h"

#define CHECK_EVERY (INT64CONST(500) * 1000)      /* is the database to be dropped or copied? */
#define SLOT_TIME (INT64CONST(3) * USECS_PER_SEC) /* of a keeper, when worker slots are short */
#define TOUCH_EVERY (USECS_PER_SEC)               /* or when a backend requests it, but */
#define TOUCH_GAP (INT64CONST(100) * 1000)        /* .. not more often than this */
#define NOTIFY_EVERY (USECS_PER_SEC)              /* likewise, */
#define NOTIFY_GAP (INT64CONST(100) * 1000)       /* .. to combine notifications */
#define EVENTS_BATCH 1000
#define EVENTS_EVERY (INT64CONST(60) * USECS_PER_SEC)
#define SAMPLE_EVERY (INT64CONST(30) * USECS_PER_SEC)
#define LOCK_TIMEOUT "300ms"      /* less than deadlock_timeout; see failed() */
#define STOP_TIME (USECS_PER_SEC) /* for pending touches, before a stop */
#define STOP_RETRY_MS 10          /* before the next attempt */
#define ORPHANS_STEP (USECS_PER_SEC)
#define ORPHANS_BATCH 500
#define ORPHANS_PAUSE_MAX (INT64CONST(3600) * USECS_PER_SEC)
#define ORPHANS_BUSY (INT64CONST(10) * USECS_PER_SEC) /* before the lock is tried again */
#define ORPHANS_PATIENCE 6 /* after this many refusals, wait for it briefly */
#define RETRY_MAX (INT64CONST(300) * USECS_PER_SEC)

/* A batch of the purge should take between these times; its size adapts. */
#define BATCH_SHORT (INT64CONST(15) * 1000)
#define BATCH_LONG (INT64CONST(45) * 1000)
#define BATCH_MIN 50
#define BATCH_FIRST 200
#define HISTORY_BATCH 1000

/*
 * With purge_rate set, batches are so short that there are this many per second.  The next
 * client that commits flushes what a batch logs: many small portions delay nobody, few large
 * ones would dominate the 99th percentile.
 */
#define BATCHES_A_SECOND 500
/* The rate is kept on average over this time. */
#define CATCH_UP (INT64CONST(20) * 1000)

/*
 * Everything below the low-water mark was visited.  A sweep from the very start finds what was
 * skipped (locked, or committed late).  It costs what vacuum has not removed yet, so the
 * longer it takes the less often it is made.
 */
#define SWEEP_EVERY (INT64CONST(3) * USECS_PER_SEC)
#define SWEEP_SHARE 100
#define SWEEP_MAX RETRY_MAX /* maximum time between sweeps */
#define LOW_MARGIN (INT64CONST(10) * USECS_PER_SEC)

static SsDb *entry; /* of our database */
static MemoryContext cycle_context;
static TimestampTz next_run[SS_TASKS];
static TimestampTz started_at;
static TimestampTz low_water = DT_NOBEGIN;
static TimestampTz next_sweep = DT_NOBEGIN;
static TimestampTz purge_clock = DT_NOBEGIN; /* see next_at_the_rate */
static TimestampTz history_clock = DT_NOBEGIN;
static int64 batch_size = BATCH_FIRST;
static const char *activity = "starting"; /* reported to pg_stat_activity for each transaction */
static bool stopping = false;
static SsRest rests[SS_TASKS];
static TimestampTz next_due; /* the lowest check_at, while the purge rests */
static bool skipped;         /* this task was prevented by a lock of another session */
static SsAside *purge_aside;
static SsAside *touch_aside;
static SsAside *history_aside;
static SsAside *events_aside;
static SsAside *sample_aside;

/* Exits, after setting the state of the database for the launcher. */
static void
leave(SsDbState state, TimestampTz retry_at)
{
	ss_databases_lock(true);
	entry->state = state;
	entry->retry_at = retry_at;
	entry->failures = 0;
	ss_databases_unlock();
	proc_exit(0);
}

/* At the end of the process: clears the keeper's entry. */
static void
on_exit_keeper(int code, Datum arg)
{
	TimestampTz now = GetCurrentTimestamp();

	ss_databases_lock(true);
	if (entry->keeper_pid == MyProcPid)
	{
		entry->keeper_pid = 0;
		for (int i = 0; i < SS_TASKS; i++)
			entry->tasks[i].skipped = 0;
		entry->last_served = now;
		/* not by leave(): it was killed, so the launcher starts another, but not at once */
		if (entry->state == SS_DB_RUNNING)
		{
			entry->state = SS_DB_WAITING;
			entry->retry_at = now + USECS_PER_SEC;
		}
	}
	ss_databases_unlock();
	ss_databases_wake_launcher();
}

/* Registers this process as the keeper of its database; exits if there is one already. */
static void
register_keeper(void)
{
	bool taken = true;

	ss_databases_lock(true);
	entry = ss_database_add(MyDatabaseId);
	if (entry != NULL && entry->keeper_pid == 0)
	{
		taken = false;
		entry->keeper_pid = MyProcPid;
		entry->keeper_proc = SsMyProcNumber();
		entry->state = SS_DB_RUNNING;
		entry->since = GetCurrentTimestamp();
	}
	ss_databases_unlock();
	if (taken)
		proc_exit(0);
	before_shmem_exit(on_exit_keeper, (Datum) 0);
}

/*
 * Begins a transaction with our tables locked.  False if another session has them locked;
 * exits if the extension was dropped.
 */
static bool
begin(SsCaller *caller)
{
	static bool has_share = false; /* of the touch slots, as long as the extension exists */
	SsCatalog catalog;

	/* only during transactions, because the timer would wake an idle keeper */
	if (!stopping)
		ss_stop_watch(0);
	pgstat_report_activity(STATE_RUNNING, activity);
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (!ss_catalog_find(&catalog))
	{
		PopActiveSnapshot();
		CommitTransactionCommand();
		ss_touch_remove_database(MyDatabaseId);
		ss_touch_share(ss_database_number(entry), false);
		leave(SS_DB_ABSENT, 0);
	}
	if (!has_share)
		ss_touch_share(ss_database_number(entry), true);
	has_share = true;
	if (!ss_catalog_try_lock(&catalog) ||
		!ConditionalLockRelationOid(catalog.sessions, RowExclusiveLock) ||
		!ConditionalLockRelationOid(catalog.history, RowExclusiveLock))
	{
		PopActiveSnapshot();
		CommitTransactionCommand();
		skipped = true;
		return false;
	}
	ss_sql_enter(caller);
	return true;
}

/* Commits it. */
static void
finish(SsCaller *caller)
{
	ss_sql_leave(caller);
	PopActiveSnapshot();
	CommitTransactionCommand();
	/* otherwise autovacuum would not see our changes */
	pgstat_report_stat(false);
	MemoryContextSwitchTo(cycle_context);
}

/* Writes the pending touches that are due. */
static TimestampTz
write_touches(TimestampTz now)
{
	static int partition = 0; /* where the last run ran out of time */
	SsTouchBatch *batch;
	SsCaller caller;

	ss_aside_tidy(touch_aside, now);
	while ((batch = ss_touches_take(GetCurrentTimestamp(), false, &partition)) != NULL)
	{
		if (!begin(&caller))
			return now + CHECK_EVERY;
		ss_touches_write(batch, touch_aside);
		finish(&caller);
		ss_touches_finish(batch, touch_aside);
		CHECK_FOR_INTERRUPTS();
		/* even if the disk is full, DROP DATABASE must not be blocked */
		if (GetCurrentTimestamp() - now > CHECK_EVERY)
			return now + CHECK_EVERY;
	}
	partition = 0;
	return now + TOUCH_EVERY;
}

/* Makes batches longer or shorter, towards the intended duration. */
static void
adapt(int64 looked, int64 took)
{
	if (took > BATCH_LONG)
		batch_size = Max(batch_size / 2, BATCH_MIN);
	else if (took < BATCH_SHORT && looked >= batch_size)
		batch_size = batch_size * 2;
	batch_size = Min(batch_size, ss_purge_batch_max);
}

/* Number of rows in a batch, given the limit on the rate. */
static int64
at_the_rate(int64 rows)
{
	rows = Min(rows, ss_purge_batch_max);
	return ss_purge_rate > 0 ? Min(rows, Max(ss_purge_rate / BATCHES_A_SECOND, 1)) : rows;
}

/*
 * When the next batch is due, given the limit on the rate.  Counted from when this one was
 * due, because a sleep always takes a little longer than intended.
 */
static TimestampTz
next_at_the_rate(TimestampTz *clock, TimestampTz began, int64 rows)
{
	if (ss_purge_rate == 0)
		return began;
	*clock = Max(*clock, began - CATCH_UP) + rows * USECS_PER_SEC / ss_purge_rate;
	return *clock;
}

/* Visits some rows of a namespace that is set aside, if one is due. */
static void
walk_namespace(TimestampTz now)
{
	SsPurge work = {.aside = purge_aside};
	SsAsideWalk walk;
	SsCaller caller;

	if (!ss_aside_next_walk(purge_aside, now, &walk) || !begin(&caller))
		return;
	if (!ss_subscribed(SS_TABLE_SESSIONS))
		(void) ss_purge_walk(&work, GetUserId());
	finish(&caller);
}

/* Purges one batch of sessions.  Like all tasks it returns when it is due again. */
static TimestampTz
purge(TimestampTz now)
{
	SsPurge work = {0};
	SsCaller caller;
	bool sweep = now >= next_sweep;
	bool left; /* to the publisher */
	TimestampTz done;
	SsRest mark;

	if (ss_purge_interval == 0)
		return now + USECS_PER_SEC;
	if (ss_rest_holds(&rests[SS_TASK_PURGE]) && now < next_due)
		return Min(next_due, now + CHECK_EVERY);
	rests[SS_TASK_PURGE].resting = false;
	mark = ss_rest_mark();
	work.from = sweep ? DT_NOBEGIN : low_water;
	work.limit = at_the_rate(batch_size);
	work.remove = PG_INT64_MAX;
	work.no_locks = true;
	work.aside = purge_aside;
	ss_aside_tidy(purge_aside, now);
	walk_namespace(now);
	if (!begin(&caller))
		return now + CHECK_EVERY;
	left = ss_subscribed(SS_TABLE_SESSIONS);
	if (!left)
		ss_purge_batch(&work, GetUserId());
	/* locked rows and rows set aside are due, so there is no rest then */
	if (!left && sweep && work.visited == 0)
	{
		if (!ss_purge_oldest(&next_due))
			next_due = DT_NOEND;
		ss_rest_begin(&mark, next_due > GetCurrentTimestamp());
	}
	finish(&caller);
	rests[SS_TASK_PURGE] = mark;
	done = GetCurrentTimestamp();
	if (left)
	{
		/* what has become due meanwhile is found when the subscription is dropped */
		low_water = DT_NOBEGIN;
		return done + ss_purge_interval * INT64CONST(1000);
	}

	adapt(work.visited, done - now);
	if (sweep)
		next_sweep = done + Min(Max(SWEEP_EVERY, (done - now) * SWEEP_SHARE), SWEEP_MAX);
	else if (work.failed > 0)
		next_sweep = Min(Max(next_sweep, done) + (done - now) * SWEEP_SHARE, done + SWEEP_MAX);
	if (work.visited >= work.limit)
	{
		low_water = work.up_to;
		/* more rows are due: continue */
		return next_at_the_rate(&purge_clock, now, work.visited);
	}
	low_water = now - LOW_MARGIN;
	return done + ss_purge_interval * INT64CONST(1000);
}

/* Purges one batch of messages whose session is gone. */
static TimestampTz
purge_history(TimestampTz now)
{
	SsCaller caller;
	int64 limit = at_the_rate(HISTORY_BATCH);
	int64 removed;
	bool more;
	SsRest mark;

	if (ss_purge_interval == 0)
		return now + USECS_PER_SEC;
	if (ss_rest_holds(&rests[SS_TASK_HISTORY]))
		return now + CHECK_EVERY;
	rests[SS_TASK_HISTORY].resting = false;
	mark = ss_rest_mark();
	if (!begin(&caller))
		return now + CHECK_EVERY;
	ss_aside_tidy(history_aside, now);
	more = ss_history_purge((Datum) 0, limit, history_aside, &removed);
	ss_rest_begin(&mark, !more && removed == 0 && ss_rest_no_ended());
	finish(&caller);
	rests[SS_TASK_HISTORY] = mark;
	if (!more)
		return GetCurrentTimestamp() + ss_purge_interval * INT64CONST(1000);
	return next_at_the_rate(&history_clock, now, limit);
}

/* Sends notifications of events that were committed. */
static TimestampTz
notify(TimestampTz now)
{
	SsCaller caller;
	SsNotice notice;

	if (!ss_events_pending(&notice))
		return now + NOTIFY_EVERY;
	if (!begin(&caller))
		return now + CHECK_EVERY;
	ss_events_notify(&notice);
	finish(&caller);
	ss_events_notified(&notice);
	return now + NOTIFY_GAP;
}

/* Purges one batch of old events. */
static TimestampTz
purge_events(TimestampTz now)
{
	SsCaller caller;
	bool more = false;
	SsRest mark;

	ss_aside_tidy(events_aside, now);
	if (ss_rest_holds(&rests[SS_TASK_EVENTS]))
		return now + EVENTS_EVERY;
	rests[SS_TASK_EVENTS].resting = false;
	mark = ss_rest_mark();
	if (!begin(&caller))
		return now + CHECK_EVERY;
	if (!ss_subscribed(SS_TABLE_EVENTS))
		more = ss_events_purge(EVENTS_BATCH, events_aside);
	ss_rest_begin(&mark, !more && ss_rest_no_events());
	finish(&caller);
	rests[SS_TASK_EVENTS] = mark;
	return more ? now + USECS_PER_SEC : now + EVENTS_EVERY;
}

/* Takes a sample of the sessions, for session_stats. */
static TimestampTz
take_sample(TimestampTz now)
{
	SsCaller caller;
	SsRest mark;

	ss_aside_tidy(sample_aside, now);
	if (ss_rest_holds(&rests[SS_TASK_SAMPLE]))
		return now + CHECK_EVERY;
	rests[SS_TASK_SAMPLE].resting = false;
	mark = ss_rest_mark();
	if (!begin(&caller))
		return now + CHECK_EVERY;
	if (!ss_subscribed(SS_TABLE_SAMPLES))
		ss_sample_take(sample_aside);
	ss_rest_begin(&mark, ss_aside_is_empty(sample_aside));
	finish(&caller);
	rests[SS_TASK_SAMPLE] = mark;
	return now + SAMPLE_EVERY;
}

/*
 * The time between two passes over the histories.  A removal is late by at most this time and
 * the duration of a pass.
 */
static TimestampTz
orphans_pause(void)
{
	int64 pause = ss_orphan_keep * USECS_PER_SEC / 24;

	return pause == 0 ? ORPHANS_PAUSE_MAX : Min(Max(pause, ORPHANS_STEP), ORPHANS_PAUSE_MAX);
}

/* One step of a pass that finds messages and members without a session. */
static TimestampTz
remove_orphans(TimestampTz now)
{
	static SsOrphanPass pass;
	static bool recorded = true; /* an earlier keeper may have recorded some */
	static int refused = 0;
	SsCaller caller;
	TimestampTz oldest;
	bool begins = pass.stage == SS_ORPHANS_RECORDED && !pass.begun;

	if (ss_purge_interval == 0)
		return now + USECS_PER_SEC;
	if (begins)
	{
		bool changed = ss_orphans_changed();

		if (!changed && !recorded)
			return now + orphans_pause();
		pass.only_old = !changed;
	}
	/* writers of sessions queue behind us while we wait */
	pass.wait = refused >= ORPHANS_PATIENCE;
	if (pass.wait)
	{
		refused = 0;
		ss_worker_set("lock_timeout", "50ms");
	}
	else
		ss_worker_set("lock_timeout", LOCK_TIMEOUT);
	if (!begin(&caller))
		return now + CHECK_EVERY;
	if (begins)
		ss_orphans_begun();
	pass.begun = true;
	ss_orphans_step(&pass, ORPHANS_BATCH);
	recorded = pass.stage == SS_ORPHANS_DONE && ss_orphans_count(&oldest) > 0;
	finish(&caller);
	if (pass.refused)
	{
		refused++;
		return now + ORPHANS_BUSY;
	}
	refused = 0;
	if (pass.stage != SS_ORPHANS_DONE)
		return now + (pass.locked ? ORPHANS_STEP / 5 : ORPHANS_STEP);
	memset(&pass, 0, sizeof(pass));
	return now + orphans_pause();
}

static const struct
{
	const char *name;
	TimestampTz (*run)(TimestampTz now); /* returns when it is due again */
} tasks[SS_TASKS] = {
	[SS_TASK_TOUCH] = {"writing noted reads", write_touches},
	[SS_TASK_PURGE] = {"purging expired sessions", purge},
	[SS_TASK_HISTORY] = {"purging messages", purge_history},
	[SS_TASK_NOTIFY] = {"notifying of events", notify},
	[SS_TASK_EVENTS] = {"purging old events", purge_events},
	[SS_TASK_SAMPLE] = {"sampling sessions", take_sample},
	[SS_TASK_ORPHANS] = {"looking for messages without a session", remove_orphans},
};

/* Counts for health that a task was prevented by a lock. */
static void
skip(SsTask task)
{
	ss_databases_lock(true);
	if (entry->tasks[task].skipped < PG_INT32_MAX)
		entry->tasks[task].skipped++;
	entry->keeper_skips++;
	ss_databases_unlock();
}

/*
 * A task raised an error: logs it, aborts the transaction, and schedules another attempt.  A
 * lock held by another session does not count as an error: lock_timeout is shorter than
 * deadlock_timeout, so that it is always the keeper that gives way.
 */
static void
failed(SsTask task, TimestampTz now)
{
	ErrorData *error;
	SsTaskState *state = &entry->tasks[task];
	bool locked;
	bool lock_timeout;

	MemoryContextSwitchTo(cycle_context);
	error = CopyErrorData();
	lock_timeout = error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
	locked = lock_timeout || ss_stop_requested();
	if (!locked)
		EmitErrorReport();
	AbortCurrentTransaction();
	ss_stop_defer();
	FlushErrorState();
	MemoryContextSwitchTo(cycle_context);
	if (locked)
	{
		next_run[task] = now + USECS_PER_SEC;
		if (lock_timeout)
			skip(task);
		return;
	}

	ss_databases_lock(true);
	state->failures++;
	state->last_error_at = now;
	strlcpy(state->last_error, error->message ? error->message : "unknown error", SS_MESSAGE_LEN);
	state->last_error[pg_mbcliplen(state->last_error, strlen(state->last_error),
								   SS_MESSAGE_LEN - 1)] = '\0';
	state->retry_at = now + Min(USECS_PER_SEC << Min(state->failures - 1, 10), RETRY_MAX);
	next_run[task] = state->retry_at;
	ss_databases_unlock();
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * How much earlier a task may run than it is due.  Tasks whose time is not critical run
 * together with others, so that an idle keeper wakes up twice a second and not twice for each
 * task.
 */
static int64
slack_of(SsTask task)
{
	bool exact = (task == SS_TASK_PURGE || task == SS_TASK_HISTORY) && !rests[task].resting;

	return exact ? 0 : CHECK_EVERY / 2;
}

/* The minimum time between two runs of a task, even on request. */
static int64
gap_of(SsTask task)
{
	return task == SS_TASK_TOUCH ? TOUCH_GAP : task == SS_TASK_NOTIFY ? NOTIFY_GAP : 0;
}

/* Runs a task if it is due. */
static void
run_task(SsTask task)
{
	TimestampTz now = GetCurrentTimestamp();

	if (next_run[task] > now + slack_of(task) || now < entry->tasks[task].last_run + gap_of(task))
		return;
	activity = tasks[task].name;
	skipped = false;
	PG_TRY();
	{
		TimestampTz next = tasks[task].run(now);

		next_run[task] = next;
		if (skipped)
			skip(task);
		ss_databases_lock(true);
		entry->tasks[task].last_run = now;
		entry->tasks[task].failures = 0;
		if (!skipped)
			entry->tasks[task].skipped = 0;
		entry->purge_batch = batch_size;
		entry->purge_low = low_water;
		ss_databases_unlock();
		pgstat_report_activity(STATE_IDLE, NULL);
	}
	PG_CATCH();
	{
		failed(task, now);
	}
	PG_END_TRY();
	ss_stop_unwatch();
}

/* Writes all pending touches once; false if there were none. */
static bool
flush_touches(TimestampTz deadline)
{
	TimestampTz now = GetCurrentTimestamp();
	SsTouchBatch *batch;
	SsCaller caller;
	int partition = 0;
	bool any = false;

	while (GetCurrentTimestamp() < deadline &&
		   (batch = ss_touches_take(now, true, &partition)) != NULL)
	{
		any = true;
		if (!begin(&caller))
			break;
		ss_touches_write(batch, touch_aside);
		finish(&caller);
		ss_touches_finish(batch, touch_aside);
		CHECK_FOR_INTERRUPTS();
	}
	return any;
}

/*
 * Writes all pending touches until the deadline; true if none is left.  A row that a client
 * holds locked becomes free once that client has ended, as it was also asked to.
 */
static bool
flush_touches_until(TimestampTz deadline)
{
	for (;;)
	{
		bool any = flush_touches(deadline);

		/* after the deadline it is unknown whether any are left */
		if (GetCurrentTimestamp() >= deadline)
			return false;
		if (!any)
			return true;
		(void) WaitLatch(NULL, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, STOP_RETRY_MS, PG_WAIT_EXTENSION);
	}
}

/* SIGTERM was received: writes what is pending, and exits. */
static void
stop(void)
{
	TimestampTz deadline = GetCurrentTimestamp() + STOP_TIME;
	volatile bool done = false;

	/* do not act on SIGTERM before that */
	ProcDiePending = false;
	QueryCancelPending = false;
	stopping = true;
	activity = "writing noted reads before the end";
	ss_stop_watch(deadline);
	PG_TRY();
	{
		done = flush_touches_until(deadline);
	}
	PG_CATCH();
	{
		if (geterrcode() != ERRCODE_QUERY_CANCELED)
			EmitErrorReport();
		AbortCurrentTransaction();
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
ensure_pusher(TimestampTz now)
{
	static BackgroundWorkerHandle *handle = NULL;
	SsCache *cache = &entry->cache;
	bool started;
	pid_t pid;

	if (cache->pusher_pid != 0 || cache->retry_at > now || ss_redis_url[0] == '\0')
		return;
	if (handle != NULL && GetBackgroundWorkerPid(handle, &pid) == BGWH_NOT_YET_STARTED)
		return;
	started = ss_worker_start("pusher", MyDatabaseId, &handle);
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
read_claims(void)
{
	SsControl *control = &entry->cache.control;
	SsClaim claims[SS_CLAIMS_MAX];
	SsClaim me;
	SsCaller caller;

	ss_xact_keys_apply_promotion(entry);
	if ((ss_databases->began_in_recovery && ss_redis_url[0] != '\0') ||
		!ss_control_may_be_leased(control, ss_monotonic()))
		return;
	PG_TRY();
	{
		ss_identity_read(&me);
		if (begin(&caller))
		{
			if (ss_claims_read(claims, &me) == 0)
				ss_control_never_leased(control, ss_databases->promoted);
			finish(&caller);
			ConditionVariableBroadcast(&entry->cache.changed);
		}
	}
	PG_CATCH();
	{
		/* then the wait ends by itself */
		MemoryContextSwitchTo(cycle_context);
		EmitErrorReport();
		AbortCurrentTransaction();
		FlushErrorState();
		MemoryContextSwitchTo(cycle_context);
	}
	PG_END_TRY();
	ss_stop_unwatch();
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* Other databases have waited for a worker slot while we had one: exits to make room. */
static void
yield_slot(TimestampTz now)
{
	int waiting;

	ss_databases_lock(false);
	waiting = ss_databases->launcher.waiting;
	ss_databases_unlock();
	if (waiting > 0 && now - started_at > SLOT_TIME)
		leave(SS_DB_WAITING, 0);
}

/* A backend requests a task before it is due. */
static void
run_early(SsTask task)
{
	if (entry->tasks[task].failures == 0)
		next_run[task] = Min(next_run[task], entry->tasks[task].last_run + gap_of(task));
}

/* Sleeps until a task is due or the latch is set, but not beyond the next check of the database. */
static void
sleep_until_due(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until = now + CHECK_EVERY;
	long ms;

	for (int i = 0; i < SS_TASKS; i++)
		until = Min(until, next_run[i]);
	ms = TimestampDifferenceMilliseconds(now, until);
	ss_stop_allow();
	/* even without time to sleep, because the postmaster may have died */
	if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, PG_WAIT_EXTENSION) &
		WL_LATCH_SET)
	{
		ResetLatch(MyLatch);
		/* a reader added a touch worth writing, or found the slots full; or there are events */
		run_early(SS_TASK_TOUCH);
		run_early(SS_TASK_NOTIFY);
	}
	ss_stop_defer();
}

/* The wall clock was set back: what was scheduled by it would come late by as much. */
static void
clock_was_set_back(void)
{
	memset(next_run, 0, sizeof(next_run));
	memset(rests, 0, sizeof(rests));
	next_sweep = low_water = purge_clock = history_clock = DT_NOBEGIN;
	started_at = GetCurrentTimestamp();
}

/* Entry point of the worker; the argument is the OID of the database. */
void
ss_keeper_main(Datum arg)
{
	TimestampTz checked_at = 0;
	TimestampTz now = 0;

	ss_worker_begin(DatumGetObjectId(arg));
	register_keeper();
	ss_worker_set("synchronous_commit", "off");
	ss_worker_set("default_transaction_read_only", "off");
	ss_worker_set("lock_timeout", LOCK_TIMEOUT);
	started_at = GetCurrentTimestamp();
	cycle_context = AllocSetContextCreate(TopMemoryContext, "session_store keeper cycle",
										  ALLOCSET_DEFAULT_SIZES);
	ss_stop_init();
	ss_aside_rolled_back = ss_stop_defer_again; /* called by ss_aside_try */
	purge_aside = ss_aside_of_worker(SS_WORK_PURGE, true);
	touch_aside = ss_aside_of_worker(SS_WORK_TOUCH, false);
	history_aside = ss_aside_of_worker(SS_WORK_HISTORY, false);
	events_aside = ss_aside_of_worker(SS_WORK_EVENTS, false);
	sample_aside = ss_aside_of_worker(SS_WORK_SAMPLE, false);
	for (;;)
	{
		if (ProcDiePending)
			stop();
		CHECK_FOR_INTERRUPTS();
		if (ss_worker_reload())
		{
			next_run[SS_TASK_ORPHANS] = 0; /* the retention time decides when to look */
			memset(rests, 0, sizeof(rests));
		}
		MemoryContextReset(cycle_context);
		MemoryContextSwitchTo(cycle_context);

		if (now == 0)
			read_claims();
		if (GetCurrentTimestamp() < now)
			clock_was_set_back();
		now = GetCurrentTimestamp();
		if (now - checked_at >= CHECK_EVERY - CHECK_EVERY / 4 || now < checked_at)
		{
			checked_at = now;
			if (!ss_database_is_free(MyDatabaseId))
				leave(SS_DB_WAITING, now + 2 * USECS_PER_SEC);
			yield_slot(now);
			ensure_pusher(now);
		}
		for (int i = 0; i < SS_TASKS && !ss_stop_requested(); i++)
			run_task(i);
		sleep_until_due();
	}
}
