/*
 * keeper_purge.h
 *		The keeper's purge of sessions, messages and counters, and its pace.
 */
#ifndef SS_KEEPER_PURGE_H
#define SS_KEEPER_PURGE_H

#include "workers/keeper_state.h"

extern void ss_keeper_purge_init(SsKeeper *keeper);
extern TimestampTz ss_keeper_purge(SsKeeper *keeper, TimestampTz now);
extern TimestampTz ss_keeper_purge_operations(SsKeeper *keeper, TimestampTz now);
extern TimestampTz ss_keeper_purge_history(SsKeeper *keeper, TimestampTz now);
extern TimestampTz ss_keeper_purge_counters(SsKeeper *keeper, TimestampTz now);

#endif
