/*
 * keeper_tasks.h
 *		Tasks of the keeper: events, samples, and messages without a session.
 */
#ifndef SS_KEEPER_TASKS_H
#define SS_KEEPER_TASKS_H

#include "workers/keeper_state.h"

extern TimestampTz ss_keeper_notify(SsKeeper *keeper, TimestampTz now);
extern TimestampTz ss_keeper_purge_events(SsKeeper *keeper, TimestampTz now);
extern TimestampTz ss_keeper_sample(SsKeeper *keeper, TimestampTz now);
extern TimestampTz ss_keeper_remove_orphans(SsKeeper *keeper, TimestampTz now);

#endif
