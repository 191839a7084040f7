/*
 * pusher_rest.h
 *		Decides when the pusher may skip its check of the database and its comparison with Redis.
 */
#ifndef SS_PUSHER_REST_H
#define SS_PUSHER_REST_H

#include "pusher/pusher_state.h"

extern bool ss_pusher_rests(SsPusher *pusher, SsMonotonic now);
extern void ss_pusher_before_check(SsPusher *pusher);
extern void ss_pusher_after_check(SsPusher *pusher, SsMonotonic now);
extern void ss_pusher_end_rest(SsPusher *pusher);
extern bool ss_pusher_scrub_rests(const SsPusher *pusher);
extern SsTableWalk *ss_pusher_before_scrub(SsPusher *pusher);
extern void ss_pusher_after_scrub(SsPusher *pusher, bool different);

#endif
