/*
 * keeper_tasks.c
 *		Tasks of the keeper: events, samples, and messages without a session.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "sessions/events.h"
#include "settings.h"
#include "table/subscription.h"
#include "upkeep/sample.h"
#include "worker.h"
#include "workers/keeper_tasks.h"

#define NOTIFY_EVERY_US (USECS_PER_SEC) /* or when a backend requests it */
#define EVENTS_BATCH 1000
#define EVENTS_EVERY_US (INT64CONST(60) * USECS_PER_SEC)
#define SAMPLE_EVERY_US (INT64CONST(30) * USECS_PER_SEC)
#define ORPHANS_STEP_US (USECS_PER_SEC)
#define ORPHANS_BATCH 500
#define ORPHANS_PAUSE_MAX_US (INT64CONST(3600) * USECS_PER_SEC)
#define ORPHANS_BUSY_US (INT64CONST(10) * USECS_PER_SEC) /* before the lock is tried again */
#define ORPHANS_PATIENCE 6 /* after this many refusals, wait for it briefly */

/* Sends notifications of events that were committed. */
TimestampTz
ss_keeper_notify(SsKeeper *keeper, TimestampTz now)
{
	SsCaller caller;
	SsNotice notice;

	if (!ss_events_pending(&notice))
		return now + NOTIFY_EVERY_US;
	if (!ss_keeper_begin(keeper, &caller))
		return now + SS_KEEPER_CHECK_US;
	ss_events_notify(&notice);
	ss_keeper_finish(keeper, &caller);
	ss_events_notified(&notice);
	return now + SS_KEEPER_NOTIFY_GAP_US;
}

/* Purges one batch of old events. */
TimestampTz
ss_keeper_purge_events(SsKeeper *keeper, TimestampTz now)
{
	SsCaller caller;
	bool more = false;
	SsRest mark;

	ss_aside_tidy(keeper->events_aside, now);
	if (ss_rest_holds(&keeper->rests[SS_TASK_EVENTS]))
		return now + EVENTS_EVERY_US;
	keeper->rests[SS_TASK_EVENTS].resting = false;
	mark = ss_rest_mark();
	if (!ss_keeper_begin(keeper, &caller))
		return now + SS_KEEPER_CHECK_US;
	if (!ss_subscribed(SS_TABLE_EVENTS))
		more = ss_events_purge(EVENTS_BATCH, keeper->events_aside);
	ss_rest_begin(&mark, !more && ss_rest_no_events());
	ss_keeper_finish(keeper, &caller);
	keeper->rests[SS_TASK_EVENTS] = mark;
	return more ? now + USECS_PER_SEC : now + EVENTS_EVERY_US;
}

/* Takes a sample of the sessions, for session_stats. */
TimestampTz
ss_keeper_sample(SsKeeper *keeper, TimestampTz now)
{
	SsCaller caller;
	bool complete = true;
	SsRest mark;

	ss_aside_tidy(keeper->sample_aside, now);
	if (ss_rest_holds(&keeper->rests[SS_TASK_SAMPLE]))
		return now + SS_KEEPER_CHECK_US;
	keeper->rests[SS_TASK_SAMPLE].resting = false;
	mark = ss_rest_mark();
	if (!ss_keeper_begin(keeper, &caller))
		return now + SS_KEEPER_CHECK_US;
	if (!ss_subscribed(SS_TABLE_SAMPLES))
		complete = ss_sample_take(keeper->sample_aside);
	ss_rest_begin(&mark, complete);
	ss_keeper_finish(keeper, &caller);
	keeper->rests[SS_TASK_SAMPLE] = mark;
	return now + SAMPLE_EVERY_US;
}

/*
 * The time between two passes over the histories.  A removal is late by at most this time and
 * the duration of a pass.
 */
static TimestampTz
orphans_pause(void)
{
	int64 pause_us = ss_orphan_keep_s * USECS_PER_SEC / 24;

	return pause_us == 0 ? ORPHANS_PAUSE_MAX_US
						 : Min(Max(pause_us, ORPHANS_STEP_US), ORPHANS_PAUSE_MAX_US);
}

/* One step of a pass that finds messages and members without a session. */
TimestampTz
ss_keeper_remove_orphans(SsKeeper *keeper, TimestampTz now)
{
	SsOrphanPass *pass = &keeper->orphan_pass;
	SsCaller caller;
	TimestampTz oldest;
	int64 changes = -1;
	bool begins = pass->stage == SS_ORPHANS_RECORDED && !pass->begun;

	if (ss_purge_interval_ms == 0)
		return now + USECS_PER_SEC;
	if (begins)
	{
		bool changed;

		changes = ss_orphans_count_changes();
		changed = changes < 0 || changes != keeper->orphan_changes;
		if (!changed && !keeper->orphans_recorded)
			return now + orphans_pause();
		pass->only_old = !changed;
	}
	/* writers of sessions queue behind us while we wait */
	pass->wait = keeper->orphans_refused >= ORPHANS_PATIENCE;
	if (pass->wait)
	{
		keeper->orphans_refused = 0;
		ss_worker_set("lock_timeout", "50ms");
	}
	else
		ss_worker_set("lock_timeout", SS_KEEPER_LOCK_TIMEOUT);
	if (!ss_keeper_begin(keeper, &caller))
		return now + SS_KEEPER_CHECK_US;
	if (begins)
		keeper->orphan_changes = changes; /* these will be seen */
	pass->begun = true;
	ss_orphans_step(pass, ORPHANS_BATCH);
	if (pass->left)
		keeper->orphan_changes = -1;
	keeper->orphans_recorded = pass->stage == SS_ORPHANS_DONE && ss_orphans_count(&oldest) > 0;
	ss_keeper_finish(keeper, &caller);
	if (pass->refused)
	{
		keeper->orphans_refused++;
		return now + ORPHANS_BUSY_US;
	}
	keeper->orphans_refused = 0;
	if (pass->stage != SS_ORPHANS_DONE)
		return now + (pass->locked ? ORPHANS_STEP_US / 5 : ORPHANS_STEP_US);
	memset(pass, 0, sizeof(*pass));
	return now + orphans_pause();
}
