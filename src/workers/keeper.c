/*
 * keeper.c
 *		The worker of one database: writes noted reads, purges, keeps the log short.
 *
 * Each task runs in transactions of its own, short ones, with its own back-off: an
 * error in one (a table that somebody broke) is logged, shown by session_health()
 * and tried again later and later, while the others go on.
 *
 * The keeper is connected to a database, and would be in the way of DROP DATABASE,
 * RENAME and CREATE DATABASE .. TEMPLATE.  These hold a lock on the database while
 * they wait for others to leave; so twice a second the keeper tries for a lock that
 * conflicts, without waiting, and leaves when it is refused.  It does not wait for
 * our tables either, when somebody holds them exclusively.
 *
 * Where nothing changes, nothing is done: after a look that found nothing to do a task rests, without
 * transactions, until a row is due or something has changed (rows/rest.c).
 *
 * What arrives by a subscription (rows/subscription.c) is purged by the publisher alone.
 *
 * Asked to stop, the keeper writes the pending touches first (workers/stop.c).  At a fast or smart
 * stop of the server that comes before the shutdown checkpoint, so that standbys and subscribers
 * get them.
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
#include "compat.h"
#include "rows/aside.h"
#include "rows/catalog.h"
#include "rows/claim_table.h"
#include "rows/events.h"
#include "rows/history.h"
#include "rows/orphans.h"
#include "rows/purge.h"
#include "rows/rest.h"
#include "rows/sample.h"
#include "rows/sql.h"
#include "rows/subscription.h"
#include "rows/touch_writer.h"
#include "settings.h"
#include "shared.h"
#include "worker.h"
#include "workers/stop.h"
#include "workers/workers.h"

#define LOOK_AROUND (INT64CONST(500) * 1000) /* is somebody waiting for the database? */
#define TURN (INT64CONST(3) * USECS_PER_SEC) /* when worker slots are short */
#define TOUCH_EVERY (USECS_PER_SEC)          /* or when asked to, but */
#define TOUCH_GAP (INT64CONST(100) * 1000)   /* not more often than this */
#define NOTIFY_EVERY (USECS_PER_SEC)         /* likewise, */
#define NOTIFY_GAP (INT64CONST(100) * 1000)  /* so that what happens together is told together */
#define EVENTS_BATCH 1000
#define EVENTS_EVERY (INT64CONST(60) * USECS_PER_SEC)
#define SAMPLE_EVERY (INT64CONST(30) * USECS_PER_SEC)
#define LOCK_TIMEOUT "300ms"      /* less than deadlock_timeout; see failed() */
#define STOP_TIME (USECS_PER_SEC) /* for pending touches, before a stop */
#define STOP_NAP_MS 10            /* until it is tried again */
#define ORPHANS_STEP (USECS_PER_SEC)
#define ORPHANS_BATCH 500
#define ORPHANS_PAUSE_MAX (INT64CONST(3600) * USECS_PER_SEC)
#define ORPHANS_BUSY (INT64CONST(10) * USECS_PER_SEC) /* until the lock is tried again */
#define ORPHANS_PATIENCE 6 /* after so many times it is waited for, shortly */
#define RETRY_MAX (INT64CONST(300) * USECS_PER_SEC)

/* A batch of the purge should take about this long; it adapts. */
#define BATCH_SHORT (INT64CONST(15) * 1000)
#define BATCH_LONG (INT64CONST(45) * 1000)
#define BATCH_LEAST 50
#define BATCH_FIRST 200
#define HISTORY_BATCH 1000

/*
 * With a limit on the rate, batches are so short that this many make a second.
 * What a batch logs is flushed by the next client that commits: many small
 * portions hold nobody up, a few large ones are what a p99 is made of.
 */
#define BATCHES_A_SECOND 500
/* The rate is kept over such a time. */
#define CATCH_UP (INT64CONST(20) * 1000)

/*
 * Below the low-water mark everything was looked at.  A sweep from the very start
 * finds what was passed over (locked, or entered late); it costs what vacuum has
 * not removed yet, so it is made the more seldom the longer it takes.
 */
#define SWEEP_EVERY (INT64CONST(3) * USECS_PER_SEC)
#define SWEEP_SHARE 100
#define SWEEP_MAX RETRY_MAX /* until the next, however long one took */
#define LOW_MARGIN (INT64CONST(10) * USECS_PER_SEC)

static SsDb *entry; /* of our database */
static MemoryContext turn_context;
static TimestampTz next_run[SS_TASKS];
static TimestampTz started_at;
static TimestampTz low_water = DT_NOBEGIN;
static TimestampTz next_sweep = DT_NOBEGIN;
static TimestampTz purge_clock = DT_NOBEGIN; /* see next_at_the_rate */
static TimestampTz history_clock = DT_NOBEGIN;
static int64 batch_size = BATCH_FIRST;
static const char *activity = "starting"; /* what transactions are made for */
static bool stopping = false;
static SsRest rests[SS_TASKS];
static TimestampTz next_due; /* the lowest check_at, while the purge rests */
static bool skipped;         /* a lock of somebody else is in the way of this task */
static SsAside *purge_aside;
static SsAside *touch_aside;
static SsAside *history_aside;
static SsAside *events_aside;
static SsAside *sample_aside;

/* Leave, and say in which state the database is left. */
static void
leave(SsDbState state, TimestampTz retry_at)
{
	ss_shared_lock(true);
	entry->state = state;
	entry->retry_at = retry_at;
	entry->failures = 0;
	ss_shared_unlock();
	proc_exit(0);
}

static void
on_exit_keeper(int code, Datum arg)
{
	TimestampTz now = GetCurrentTimestamp();

	ss_shared_lock(true);
	if (entry->keeper_pid == MyProcPid)
	{
		entry->keeper_pid = 0;
		for (int i = 0; i < SS_TASKS; i++)
			entry->tasks[i].skipped = 0;
		entry->last_served = now;
		/* not by leave(): killed, so the launcher starts another, but not at once */
		if (entry->state == SS_DB_RUNNING)
		{
			entry->state = SS_DB_WAITING;
			entry->retry_at = now + USECS_PER_SEC;
		}
	}
	ss_shared_unlock();
	ss_wake_launcher();
}

/* Enter ourselves as the keeper of this database, unless there is one. */
static void
report_for_duty(void)
{
	bool taken = true;

	ss_shared_lock(true);
	entry = ss_shared_db(MyDatabaseId, true);
	if (entry != NULL && entry->keeper_pid == 0)
	{
		taken = false;
		entry->keeper_pid = MyProcPid;
		entry->keeper_proc = SsMyProcNumber();
		entry->state = SS_DB_RUNNING;
		entry->since = GetCurrentTimestamp();
	}
	ss_shared_unlock();
	if (taken)
		proc_exit(0);
	before_shmem_exit(on_exit_keeper, (Datum) 0);
}

/* Begin a transaction on our tables; false when they cannot be had right now. */
static bool
begin(SsCaller *caller)
{
	static bool has_share = false; /* of the touch slots, for as long as the extension is here */
	SsCatalog catalog;

	/* its timer would wake a keeper that has nothing to do, so it is for transactions */
	if (!stopping)
		ss_stop_watch(0);
	pgstat_report_activity(STATE_RUNNING, activity);
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (!ss_catalog_find(&catalog))
	{
		PopActiveSnapshot();
		CommitTransactionCommand();
		ss_touch_forget_database(MyDatabaseId);
		ss_touch_share(ss_shared_number(entry), false);
		leave(SS_DB_ABSENT, 0);
	}
	if (!has_share)
		ss_touch_share(ss_shared_number(entry), true);
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

static void
finish(SsCaller *caller)
{
	ss_sql_leave(caller);
	PopActiveSnapshot();
	CommitTransactionCommand();
	/* without this autovacuum would not see what we did */
	pgstat_report_stat(false);
	MemoryContextSwitchTo(turn_context);
}

/* Write the notes that are due. */
static TimestampTz
write_touches(TimestampTz now)
{
	static int partition = 0; /* where the last turn ran out of time */
	SsTouchBatch *batch;
	SsCaller caller;

	ss_aside_tidy(touch_aside, now);
	while ((batch = ss_touches_take(GetCurrentTimestamp(), false, &partition)) != NULL)
	{
		if (!begin(&caller))
			return now + LOOK_AROUND;
		ss_touches_write(batch, touch_aside);
		finish(&caller);
		ss_touches_settle(batch, touch_aside);
		CHECK_FOR_INTERRUPTS();
		/* full disk or not, nobody is kept from dropping the database */
		if (GetCurrentTimestamp() - now > LOOK_AROUND)
			return now + LOOK_AROUND;
	}
	partition = 0;
	return now + TOUCH_EVERY;
}

/* Make batches longer or shorter, towards the time that one should take. */
static void
adapt(int64 looked, int64 took)
{
	if (took > BATCH_LONG)
		batch_size = Max(batch_size / 2, BATCH_LEAST);
	else if (took < BATCH_SHORT && looked >= batch_size)
		batch_size = batch_size * 2;
	batch_size = Min(batch_size, ss_purge_batch_max);
}

/* How many rows in one batch, when there is a limit on the rate. */
static int64
at_the_rate(int64 rows)
{
	rows = Min(rows, ss_purge_batch_max);
	return ss_purge_rate > 0 ? Min(rows, Max(ss_purge_rate / BATCHES_A_SECOND, 1)) : rows;
}

/*
 * When is the next batch due, at the rate that is allowed?  Counted from when this one was, for a nap
 * is always a little longer than it should be.
 */
static TimestampTz
next_at_the_rate(TimestampTz *clock, TimestampTz began, int64 rows)
{
	if (ss_purge_rate == 0)
		return began;
	*clock = Max(*clock, began - CATCH_UP) + rows * USECS_PER_SEC / ss_purge_rate;
	return *clock;
}

/* Visit some rows of a namespace that is set aside, when one is due. */
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

/* One batch of the purge; returns when the next is due. */
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
		return Min(next_due, now + LOOK_AROUND);
	rests[SS_TASK_PURGE].resting = false;
	mark = ss_rest_mark();
	work.from = sweep ? DT_NOBEGIN : low_water;
	work.limit = at_the_rate(batch_size);
	work.remove = PG_INT64_MAX;
	work.alone = true;
	work.aside = purge_aside;
	ss_aside_tidy(purge_aside, now);
	walk_namespace(now);
	if (!begin(&caller))
		return now + LOOK_AROUND;
	left = ss_subscribed(SS_TABLE_SESSIONS);
	if (!left)
		ss_purge_batch(&work, GetUserId());
	/* rows that are locked or set aside are due: then there is no rest */
	if (!left && sweep && work.looked == 0)
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
		/* what has become due meanwhile is found once the subscription is gone */
		low_water = DT_NOBEGIN;
		return done + ss_purge_interval * INT64CONST(1000);
	}

	adapt(work.looked, done - now);
	if (sweep)
		next_sweep = done + Min(Max(SWEEP_EVERY, (done - now) * SWEEP_SHARE), SWEEP_MAX);
	else if (work.failed > 0)
		next_sweep = Min(Max(next_sweep, done) + (done - now) * SWEEP_SHARE, done + SWEEP_MAX);
	if (work.looked >= work.limit)
	{
		low_water = work.up_to;
		/* more is due: go on */
		return next_at_the_rate(&purge_clock, now, work.looked);
	}
	low_water = now - LOW_MARGIN;
	return done + ss_purge_interval * INT64CONST(1000);
}

/* One batch of messages whose session is gone. */
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
		return now + LOOK_AROUND;
	rests[SS_TASK_HISTORY].resting = false;
	mark = ss_rest_mark();
	if (!begin(&caller))
		return now + LOOK_AROUND;
	ss_aside_tidy(history_aside, now);
	more = ss_history_purge((Datum) 0, limit, history_aside, &removed);
	ss_rest_begin(&mark, !more && removed == 0 && ss_rest_no_ended());
	finish(&caller);
	rests[SS_TASK_HISTORY] = mark;
	if (!more)
		return GetCurrentTimestamp() + ss_purge_interval * INT64CONST(1000);
	return next_at_the_rate(&history_clock, now, limit);
}

/* Tell who listens what has happened. */
static TimestampTz
notify(TimestampTz now)
{
	SsCaller caller;
	SsNotice notice;

	if (!ss_events_pending(&notice))
		return now + NOTIFY_EVERY;
	if (!begin(&caller))
		return now + LOOK_AROUND;
	ss_events_notify(&notice);
	finish(&caller);
	ss_events_notified(&notice);
	return now + NOTIFY_GAP;
}

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
		return now + LOOK_AROUND;
	if (!ss_subscribed(SS_TABLE_EVENTS))
		more = ss_events_purge(EVENTS_BATCH, events_aside);
	ss_rest_begin(&mark, !more && ss_rest_no_events());
	finish(&caller);
	rests[SS_TASK_EVENTS] = mark;
	return more ? now + USECS_PER_SEC : now + EVENTS_EVERY;
}

static TimestampTz
take_sample(TimestampTz now)
{
	SsCaller caller;
	SsRest mark;

	ss_aside_tidy(sample_aside, now);
	if (ss_rest_holds(&rests[SS_TASK_SAMPLE]))
		return now + LOOK_AROUND;
	rests[SS_TASK_SAMPLE].resting = false;
	mark = ss_rest_mark();
	if (!begin(&caller))
		return now + LOOK_AROUND;
	if (!ss_subscribed(SS_TABLE_SAMPLES))
		ss_sample_take(sample_aside);
	ss_rest_begin(&mark, ss_aside_is_empty(sample_aside));
	finish(&caller);
	rests[SS_TASK_SAMPLE] = mark;
	return now + SAMPLE_EVERY;
}

/*
 * From one pass over the conversations to the next.  A removal is late by no more than that, and
 * by the time that a pass takes.
 */
static TimestampTz
orphans_pause(void)
{
	int64 pause = ss_orphan_keep * USECS_PER_SEC / 24;

	return pause == 0 ? ORPHANS_PAUSE_MAX : Min(Max(pause, ORPHANS_STEP), ORPHANS_PAUSE_MAX);
}

/* One step of looking for messages and members without a session. */
static TimestampTz
remove_orphans(TimestampTz now)
{
	static SsOrphanPass pass;
	static bool recorded = true; /* there may be some of an earlier keeper */
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
	/* writers of sessions queue behind us meanwhile */
	pass.wait = refused >= ORPHANS_PATIENCE;
	if (pass.wait)
	{
		refused = 0;
		ss_worker_set("lock_timeout", "50ms");
	}
	else
		ss_worker_set("lock_timeout", LOCK_TIMEOUT);
	if (!begin(&caller))
		return now + LOOK_AROUND;
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

/* A task did not do its work, because of a lock: for health. */
static void
skip(SsTask task)
{
	ss_shared_lock(true);
	if (entry->tasks[task].skipped < PG_INT32_MAX)
		entry->tasks[task].skipped++;
	entry->keeper_skips++;
	ss_shared_unlock();
}

/*
 * A task failed: say so, leave nothing open, and try again later.  That somebody
 * has one of our tables locked is no failure: lock_timeout is shorter than
 * deadlock_timeout, so that it is always we who give way.
 */
static void
failed(SsTask task, TimestampTz now)
{
	ErrorData *error;
	SsTaskState *state = &entry->tasks[task];
	bool locked;
	bool lock_timeout;

	MemoryContextSwitchTo(turn_context);
	error = CopyErrorData();
	lock_timeout = error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
	locked = lock_timeout || ss_stop_requested();
	if (!locked)
		EmitErrorReport();
	AbortCurrentTransaction();
	ss_stop_defer();
	FlushErrorState();
	MemoryContextSwitchTo(turn_context);
	if (locked)
	{
		next_run[task] = now + USECS_PER_SEC;
		if (lock_timeout)
			skip(task);
		return;
	}

	ss_shared_lock(true);
	state->failures++;
	state->last_error_at = now;
	strlcpy(state->last_error, error->message ? error->message : "unknown error", SS_MESSAGE_LEN);
	state->last_error[pg_mbcliplen(state->last_error, strlen(state->last_error),
								   SS_MESSAGE_LEN - 1)] = '\0';
	state->retry_at = now + Min(USECS_PER_SEC << Min(state->failures - 1, 10), RETRY_MAX);
	next_run[task] = state->retry_at;
	ss_shared_unlock();
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * By how much a task may run before its time: those that are not about a moment run together with
 * others, so that an idle keeper wakes twice a second and not twice for each of them.
 */
static int64
slack_of(SsTask task)
{
	bool exact = (task == SS_TASK_PURGE || task == SS_TASK_HISTORY) && !rests[task].resting;

	return exact ? 0 : LOOK_AROUND / 2;
}

/* So long after its last run a task does not run again, whoever calls. */
static int64
gap_of(SsTask task)
{
	return task == SS_TASK_TOUCH ? TOUCH_GAP : task == SS_TASK_NOTIFY ? NOTIFY_GAP : 0;
}

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
		ss_shared_lock(true);
		entry->tasks[task].last_run = now;
		entry->tasks[task].failures = 0;
		if (!skipped)
			entry->tasks[task].skipped = 0;
		entry->purge_batch = batch_size;
		entry->purge_low = low_water;
		ss_shared_unlock();
		pgstat_report_activity(STATE_IDLE, NULL);
	}
	PG_CATCH();
	{
		failed(task, now);
	}
	PG_END_TRY();
	ss_stop_unwatch();
}

/* Write the notes of all touches once; false when there were none. */
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
		ss_touches_settle(batch, touch_aside);
		CHECK_FOR_INTERRUPTS();
	}
	return any;
}

/*
 * Write the pending touches, for a time: what a client holds locked is free once that client has
 * ended, as it has been asked to.  True when none is left.
 */
static bool
flush_touches_until(TimestampTz deadline)
{
	for (;;)
	{
		bool any = flush_touches(deadline);

		/* past the deadline nobody has looked whether there are any */
		if (GetCurrentTimestamp() >= deadline)
			return false;
		if (!any)
			return true;
		(void) WaitLatch(NULL, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, STOP_NAP_MS, PG_WAIT_EXTENSION);
	}
}

/* SIGTERM was received: write what is pending, and end. */
static void
stop(void)
{
	TimestampTz deadline = GetCurrentTimestamp() + STOP_TIME;
	volatile bool done = false;

	/* not to be acted upon before that */
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
					  errmsg("session_store stopped before all noted reads were written"),
					  errdetail("A session whose last reads are lost so ends early by at most the "
								"slack of its ttl.")));
	QueryCancelPending = false;
	ProcDiePending = true;
	InterruptPending = true;
	CHECK_FOR_INTERRUPTS();
}

/*
 * See to it that there is a pusher when there is a Redis to push to.  When no slot is
 * free for it, health says so.
 */
static void
look_after_pusher(TimestampTz now)
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
	ss_shared_lock(true);
	cache->retry_at = now + USECS_PER_SEC;
	cache->no_slot = !started;
	ss_shared_unlock();
}

/*
 * Did this database ever claim a Redis?  If not, logouts need not wait for a lease of an earlier
 * life of the server, which they otherwise do for its first seconds.  On a promoted standby the
 * row may be missing that its primary wrote last: there the lack of a redis_url must say the same.
 */
static void
learn_claims(void)
{
	SsControl *control = &entry->cache.control;
	SsClaim claims[SS_CLAIMS_MAX];
	SsClaim me;
	SsCaller caller;

	ss_xact_keys_apply_promotion(entry);
	if ((ss_shared->began_in_recovery && ss_redis_url[0] != '\0') ||
		!ss_control_may_be_leased(control, ss_monotonic()))
		return;
	PG_TRY();
	{
		ss_identity_read(&me);
		if (begin(&caller))
		{
			if (ss_claims_read(claims, &me) == 0)
				ss_control_never_leased(control, ss_shared->promoted);
			finish(&caller);
			ConditionVariableBroadcast(&entry->cache.changed);
		}
	}
	PG_CATCH();
	{
		/* then the wait ends by itself */
		MemoryContextSwitchTo(turn_context);
		EmitErrorReport();
		AbortCurrentTransaction();
		FlushErrorState();
		MemoryContextSwitchTo(turn_context);
	}
	PG_END_TRY();
	ss_stop_unwatch();
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* Others have waited for a worker slot while we had ours: make room. */
static void
yield_turn(TimestampTz now)
{
	int waiting;

	ss_shared_lock(false);
	waiting = ss_shared->launcher.waiting;
	ss_shared_unlock();
	if (waiting > 0 && now - started_at > TURN)
		leave(SS_DB_WAITING, 0);
}

/* Somebody calls: a task may run before its time. */
static void
hurry(SsTask task)
{
	if (entry->tasks[task].failures == 0)
		next_run[task] = Min(next_run[task], entry->tasks[task].last_run + gap_of(task));
}

/* Sleep until a task is due or somebody calls, but not past the next look around. */
static void
nap(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until = now + LOOK_AROUND;
	long ms;

	for (int i = 0; i < SS_TASKS; i++)
		until = Min(until, next_run[i]);
	ms = TimestampDifferenceMilliseconds(now, until);
	ss_stop_allow();
	/* even when there is no time to sleep, the postmaster may have died */
	if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, PG_WAIT_EXTENSION) &
		WL_LATCH_SET)
	{
		ResetLatch(MyLatch);
		/* a reader has something worth writing, or finds the notes full; or there are events */
		hurry(SS_TASK_TOUCH);
		hurry(SS_TASK_NOTIFY);
	}
	ss_stop_defer();
}

/* What was planned by a clock that was ahead would not come for as long as it was. */
static void
clock_was_set_back(void)
{
	memset(next_run, 0, sizeof(next_run));
	memset(rests, 0, sizeof(rests));
	next_sweep = low_water = purge_clock = history_clock = DT_NOBEGIN;
	started_at = GetCurrentTimestamp();
}

void
ss_keeper_main(Datum arg)
{
	TimestampTz looked_around = 0;
	TimestampTz now = 0;

	ss_worker_begin(DatumGetObjectId(arg));
	report_for_duty();
	ss_worker_set("synchronous_commit", "off");
	ss_worker_set("default_transaction_read_only", "off");
	ss_worker_set("lock_timeout", LOCK_TIMEOUT);
	started_at = GetCurrentTimestamp();
	turn_context = AllocSetContextCreate(TopMemoryContext, "session_store keeper turn",
										 ALLOCSET_DEFAULT_SIZES);
	ss_stop_init();
	ss_aside_rolled_back = ss_stop_defer_again;
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
			next_run[SS_TASK_ORPHANS] = 0; /* how long they are kept decides when to look */
			memset(rests, 0, sizeof(rests));
		}
		MemoryContextReset(turn_context);
		MemoryContextSwitchTo(turn_context);

		if (now == 0)
			learn_claims();
		if (GetCurrentTimestamp() < now)
			clock_was_set_back();
		now = GetCurrentTimestamp();
		if (now - looked_around >= LOOK_AROUND - LOOK_AROUND / 4 || now < looked_around)
		{
			looked_around = now;
			if (!ss_database_is_free(MyDatabaseId))
				leave(SS_DB_WAITING, now + 2 * USECS_PER_SEC);
			yield_turn(now);
			look_after_pusher(now);
		}
		for (int i = 0; i < SS_TASKS && !ss_stop_requested(); i++)
			run_task(i);
		nap();
	}
}
