/*
 * scrub.h
 *		Compares a sample of Redis with the table, counts differences and has them repaired.
 */
#ifndef SS_SCRUB_H
#define SS_SCRUB_H

#include "pusher/pusher_state.h"

extern bool ss_scrub(SsPusher *pusher, uint64 *cursor, SsTableWalk *walk, SsSampleRest *rest,
					 SsMonotonic give_up, int64 counts[4]);

#endif
