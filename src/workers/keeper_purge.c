/*
 * keeper_purge.c
 *		The keeper's purge of sessions, messages, operations and counters, and its pace.
 *
 * Each run purges one batch.  Its size adapts to how long batches take, the number of rows per second
 * is limited by session_store.purge_rate, and most batches begin where the last one ended.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lmgr.h"

#include "settings.h"
#include "table/catalog.h"
#include "table/subscription.h"
#include "upkeep/counter_purge.h"
#include "upkeep/history_purge.h"
#include "upkeep/operation_purge.h"
#include "upkeep/purge.h"
#include "workers/keeper_purge.h"

/* A batch of the purge should take between these times; its size adapts. */
#define BATCH_SHORT_US (INT64CONST(15) * 1000)
#define BATCH_LONG_US (INT64CONST(45) * 1000)
#define BATCH_MIN 50
#define BATCH_FIRST 200
#define HISTORY_BATCH 1000
#define OPERATIONS_BATCH 1000
#define OPERATIONS_EVERY_US (INT64CONST(60) * USECS_PER_SEC)
#define COUNTERS_BATCH 1000

/*
 * With purge_rate set, batches are so short that there are this many per second.  The next
 * client that commits flushes what a batch logs: many small portions delay no client, few large
 * ones would dominate the 99th percentile.
 */
#define BATCHES_A_SECOND 500
/* The rate is kept on average over this time. */
#define CATCH_UP_US (INT64CONST(20) * 1000)

/*
 * Everything below the low-water mark was visited.  A sweep from the very start finds what was
 * skipped (locked, or committed late).  It costs what vacuum has not removed yet, so the
 * longer it takes the less often it is made.
 */
#define SWEEP_EVERY_US (INT64CONST(3) * USECS_PER_SEC)
#define SWEEP_SHARE 100
#define SWEEP_MAX SS_KEEPER_RETRY_MAX_US /* maximum time between sweeps */
#define LOW_MARGIN_US (INT64CONST(10) * USECS_PER_SEC)

/* Before the first batch, and after the wall clock was set back: begins at the very start. */
void
ss_keeper_purge_init(SsKeeper *keeper)
{
	keeper->low_water = keeper->next_sweep = DT_NOBEGIN;
	keeper->purge_clock = keeper->history_clock = keeper->operations_clock = DT_NOBEGIN;
	keeper->operations_from = DT_NOBEGIN;
	keeper->counters_clock = keeper->counters_from = DT_NOBEGIN;
	if (keeper->batch_size == 0)
		keeper->batch_size = BATCH_FIRST;
}

/* Makes batches longer or shorter, towards the intended duration. */
static void
adapt(SsKeeper *keeper, int64 visited, int64 took_us)
{
	if (took_us > BATCH_LONG_US)
		keeper->batch_size = Max(keeper->batch_size / 2, BATCH_MIN);
	else if (took_us < BATCH_SHORT_US && visited >= keeper->batch_size)
		keeper->batch_size = keeper->batch_size * 2;
	keeper->batch_size = Min(keeper->batch_size, ss_purge_batch_max);
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
	*clock = Max(*clock, began - CATCH_UP_US) + rows * USECS_PER_SEC / ss_purge_rate;
	return *clock;
}

/* Visits some rows of a namespace that is set aside, if one is due. */
static void
walk_namespace(SsKeeper *keeper, TimestampTz now)
{
	SsPurge work = {.aside = keeper->purge_aside};
	SsAsideWalk walk;
	SsCaller caller;

	if (!ss_aside_next_walk(keeper->purge_aside, now, &walk) || !ss_keeper_begin(keeper, &caller))
		return;
	if (!ss_subscribed(SS_TABLE_SESSIONS))
		(void) ss_purge_walk(&work, GetUserId());
	ss_keeper_finish(keeper, &caller);
}

/* Purges one batch of sessions. */
TimestampTz
ss_keeper_purge(SsKeeper *keeper, TimestampTz now)
{
	SsPurge work = {0};
	SsCaller caller;
	bool sweep = now >= keeper->next_sweep;
	bool left; /* to the publisher */
	TimestampTz done;
	SsRest mark;

	if (ss_purge_interval_ms == 0)
		return now + USECS_PER_SEC;
	if (ss_rest_holds(&keeper->rests[SS_TASK_PURGE]) && now < keeper->next_due)
		return Min(keeper->next_due, now + SS_KEEPER_CHECK_US);
	keeper->rests[SS_TASK_PURGE].resting = false;
	mark = ss_rest_mark();
	work.from = sweep ? DT_NOBEGIN : keeper->low_water;
	work.limit = at_the_rate(keeper->batch_size);
	work.remove = PG_INT64_MAX;
	work.no_locks = true;
	work.aside = keeper->purge_aside;
	ss_aside_tidy(keeper->purge_aside, now);
	walk_namespace(keeper, now);
	if (!ss_keeper_begin(keeper, &caller))
		return now + SS_KEEPER_CHECK_US;
	left = ss_subscribed(SS_TABLE_SESSIONS);
	if (!left)
		ss_purge_batch(&work, GetUserId());
	/* locked rows and rows set aside are due, so there is no rest then */
	if (!left && sweep && work.visited == 0)
	{
		if (!ss_purge_oldest(&keeper->next_due))
			keeper->next_due = DT_NOEND;
		ss_rest_begin(&mark, keeper->next_due > GetCurrentTimestamp());
	}
	ss_keeper_finish(keeper, &caller);
	keeper->rests[SS_TASK_PURGE] = mark;
	done = GetCurrentTimestamp();
	if (left)
	{
		/* what has become due meanwhile is found when the subscription is dropped */
		keeper->low_water = DT_NOBEGIN;
		return done + ss_purge_interval_ms * INT64CONST(1000);
	}

	adapt(keeper, work.visited, done - now);
	if (sweep)
		keeper->next_sweep = done + Min(Max(SWEEP_EVERY_US, (done - now) * SWEEP_SHARE), SWEEP_MAX);
	else if (work.failed > 0)
		keeper->next_sweep = Min(Max(keeper->next_sweep, done) + (done - now) * SWEEP_SHARE,
								 done + SWEEP_MAX);
	if (work.visited >= work.limit)
	{
		keeper->low_water = work.up_to;
		/* more rows are due: continue */
		return next_at_the_rate(&keeper->purge_clock, now, work.visited);
	}
	keeper->low_water = now - LOW_MARGIN_US;
	return done + ss_purge_interval_ms * INT64CONST(1000);
}

/* A run of one of the tasks below. */
typedef struct Run
{
	int task;
	SsRest mark;
	SsCaller caller;
	TimestampTz next; /* when the task is due again, if the run was not begun */
} Run;

/*
 * Begins a run of a task, and its transaction.  False if it is not to be run now: while it rests, it is
 * due again at `due`, but asked at least each check_us.
 */
static bool
begin_run(SsKeeper *keeper, Run *run, int task, SsAside *aside, TimestampTz due, int64 check_us,
		  TimestampTz now)
{
	run->task = task;
	run->next = now + USECS_PER_SEC;
	if (ss_purge_interval_ms == 0)
		return false;
	ss_aside_tidy(aside, now);
	run->next = Min(due, now + check_us);
	if (ss_rest_holds(&keeper->rests[task]) && now < due)
		return false;
	keeper->rests[task].resting = false;
	run->mark = task == SS_TASK_COUNTERS ? ss_rest_mark_counters() : ss_rest_mark();
	run->next = now + SS_KEEPER_CHECK_US;
	return ss_keeper_begin(keeper, &run->caller);
}

/* Commits a run.  The task rests from now on if its mark says so. */
static void
finish_run(SsKeeper *keeper, Run *run)
{
	ss_keeper_finish(keeper, &run->caller);
	keeper->rests[run->task] = run->mark;
}

/* Purges one batch of messages whose session is gone. */
TimestampTz
ss_keeper_purge_history(SsKeeper *keeper, TimestampTz now)
{
	int64 limit = at_the_rate(HISTORY_BATCH);
	int64 removed;
	bool more;
	Run run;

	if (!begin_run(keeper, &run, SS_TASK_HISTORY, keeper->history_aside, DT_NOEND,
				   SS_KEEPER_CHECK_US, now))
		return run.next;
	more = ss_history_purge((Datum) 0, limit, keeper->history_aside, &removed);
	ss_rest_begin(&run.mark, !more && removed == 0 && ss_rest_no_ended());
	finish_run(keeper, &run);
	if (!more)
		return GetCurrentTimestamp() + ss_purge_interval_ms * INT64CONST(1000);
	return next_at_the_rate(&keeper->history_clock, now, limit);
}

/* Purges one batch of operations that are no longer kept. */
TimestampTz
ss_keeper_purge_operations(SsKeeper *keeper, TimestampTz now)
{
	int64 limit = at_the_rate(OPERATIONS_BATCH);
	int64 removed;
	bool more;
	Run run;

	if (!begin_run(keeper, &run, SS_TASK_OPERATIONS, keeper->operations_aside,
				   keeper->operations_due, OPERATIONS_EVERY_US, now))
		return run.next;
	more = ss_operations_purge((Datum) 0, limit, &keeper->operations_from, keeper->operations_aside,
							   &removed);
	if (!more)
	{
		keeper->operations_due = ss_operations_oldest();
		ss_rest_begin(&run.mark, keeper->operations_due > GetCurrentTimestamp());
	}
	finish_run(keeper, &run);
	if (!more)
		return GetCurrentTimestamp() + OPERATIONS_EVERY_US;
	/* a batch that is not full had rows that failed */
	return removed < limit ? now + USECS_PER_SEC
						   : next_at_the_rate(&keeper->operations_clock, now, limit);
}

/*
 * Purges one batch of counters.  A batch that follows a full one continues where that ended; the next
 * one begins at the very start, and finds what was skipped.
 */
TimestampTz
ss_keeper_purge_counters(SsKeeper *keeper, TimestampTz now)
{
	SsCounterPurge work = {.from = keeper->counters_from, .aside = keeper->counters_aside};
	SsCatalog catalog;
	Run run;

	work.limit = at_the_rate(COUNTERS_BATCH);
	if (!begin_run(keeper, &run, SS_TASK_COUNTERS, keeper->counters_aside, keeper->next_counter,
				   SS_KEEPER_CHECK_US, now))
		return run.next;
	ss_catalog_get(&catalog);
	/* if the table is missing, the statement says so */
	if (OidIsValid(catalog.counters) &&
		!ConditionalLockRelationOid(catalog.counters, RowExclusiveLock))
		keeper->skipped = true;
	else if (!ss_subscribed(SS_TABLE_COUNTERS))
	{
		ss_counter_purge(&work);
		/* rows that are locked or set aside are over, so there is no rest then */
		if (work.visited == 0 && work.from == DT_NOBEGIN)
		{
			if (!ss_counter_oldest(&keeper->next_counter))
				keeper->next_counter = DT_NOEND;
			ss_rest_begin(&run.mark, keeper->next_counter > GetCurrentTimestamp());
		}
	}
	finish_run(keeper, &run);
	if (keeper->skipped)
		return now + SS_KEEPER_CHECK_US;
	if (work.visited >= work.limit && work.limit > 0)
	{
		keeper->counters_from = work.up_to;
		return next_at_the_rate(&keeper->counters_clock, now, work.visited);
	}
	keeper->counters_from = DT_NOBEGIN;
	return GetCurrentTimestamp() + ss_purge_interval_ms * INT64CONST(1000);
}
