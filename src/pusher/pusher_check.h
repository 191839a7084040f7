/*
 * pusher_check.h
 *		Periodic check of the pusher: may it stay in the database, and what do tables, triggers,
 *		namespaces and settings say now?
 */
#ifndef SS_PUSHER_CHECK_H
#define SS_PUSHER_CHECK_H

#include "pusher/pusher_state.h"

/* The time that is left for removing what we wrote, us. */
#define SS_LEAVE_WITHIN_US INT64CONST(3000000)

extern void ss_pusher_leave(SsPusher *pusher, SsMonotonic now, int64 within_us);
extern void ss_pusher_check(SsPusher *pusher, SsMonotonic now);

#endif
