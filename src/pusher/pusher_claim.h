/*
 * pusher_claim.h
 *		Reads and writes this database's record of its claims, and drops the lease when the
 *		pusher ends.
 */
#ifndef SS_PUSHER_CLAIM_H
#define SS_PUSHER_CLAIM_H

#include "pusher/pusher_state.h"

extern void ss_pusher_identify(SsPusher *pusher);
extern void ss_pusher_read_claims(SsPusher *pusher);
extern void ss_pusher_record_claim(SsPusher *pusher);
extern void ss_pusher_record_only_redis(SsPusher *pusher, SsMonotonic now);
extern void ss_pusher_drop_lease(int code, Datum arg);

#endif
