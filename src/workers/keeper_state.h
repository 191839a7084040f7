/*
 * keeper_state.h
 *		The state of a keeper, its transactions and its exit.
 *
 *		keeper.c			the process: its entry, the schedule of the tasks, errors, the end
 *		keeper_purge.c		the purge of sessions, messages, operations and counters, and its pace
 *		keeper_touches.c	pending touches
 *		keeper_tasks.c		events, samples, messages without a session
 *
 * A task is a function that the keeper calls when it is due, and that returns when it is due again.
 * If it rests, it returns without a transaction.
 */
#ifndef SS_KEEPER_STATE_H
#define SS_KEEPER_STATE_H

#include "postmaster/bgworker.h"

#include "sessions/aside.h"
#include "shared/databases.h"
#include "table/sql.h"
#include "upkeep/orphans.h"
#include "upkeep/rest.h"

#define SS_KEEPER_CHECK_US (INT64CONST(500) * 1000) /* is the database to be dropped or copied? */
#define SS_KEEPER_NOTIFY_GAP_US (INT64CONST(100) * 1000) /* .. to combine notifications */
#define SS_KEEPER_RETRY_MAX_US (INT64CONST(300) * USECS_PER_SEC)
#define SS_KEEPER_LOCK_TIMEOUT "300ms" /* less than deadlock_timeout; see failed() in keeper.c */

/* There is one per process. */
typedef struct SsKeeper
{
	SsDb *db; /* the entry of our database */
	MemoryContext cycle_context;
	TimestampTz started_at;
	const char *activity;           /* reported to pg_stat_activity for each transaction */
	bool stopping;                  /* writes pending touches before its end */
	bool has_share;                 /* of the touch slots, as long as the extension exists */
	BackgroundWorkerHandle *pusher; /* that was started last */

	/* The schedule. */
	TimestampTz next_run[SS_TASKS];
	SsRest rests[SS_TASKS];
	bool skipped; /* this task was prevented by a lock of another session */

	/* keeper_purge.c */
	SsAside *purge_aside;
	SsAside *history_aside;
	SsAside *operations_aside;
	int64 batch_size;
	TimestampTz low_water; /* everything below it was visited */
	TimestampTz next_sweep;
	TimestampTz purge_clock; /* see next_at_the_rate */
	TimestampTz history_clock;
	TimestampTz operations_clock;
	TimestampTz next_due;        /* the lowest check_at, while the purge rests */
	TimestampTz operations_from; /* where the next batch of operations begins */
	TimestampTz operations_due;  /* the lowest keep_until, while their purge rests */
	SsAside *counters_aside;
	TimestampTz counters_from; /* counters below it were visited */
	TimestampTz counters_clock;
	TimestampTz next_counter; /* the lowest resets_at, while the purge of counters rests */

	/* keeper_touches.c */
	SsAside *touch_aside;
	int partition; /* where the last run ran out of time */

	/* keeper_tasks.c */
	SsAside *events_aside;
	SsAside *sample_aside;
	SsOrphanPass orphan_pass;
	int64 orphan_changes;  /* rows changed before the last pass began; -1: unknown */
	bool orphans_recorded; /* there may be orphans that were recorded and not removed yet */
	int orphans_refused;   /* how often, in a row, a lock was refused */
} SsKeeper;

extern void ss_keeper_leave(SsKeeper *keeper, SsDbState state, TimestampTz retry_at);
extern bool ss_keeper_begin(SsKeeper *keeper, SsCaller *caller);
extern void ss_keeper_finish(SsKeeper *keeper, SsCaller *caller);

#endif
