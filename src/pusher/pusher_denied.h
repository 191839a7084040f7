/*
 * pusher_denied.h
 *		Namespaces whose keys the ACL of Redis does not let the pusher access.
 */
#ifndef SS_PUSHER_DENIED_H
#define SS_PUSHER_DENIED_H

#include "pusher/pusher_state.h"

extern bool ss_pusher_find_denied(SsPusher *pusher, const SsKey *keys, const SsPayload *payloads,
								  int n, SsMonotonic give_up);
extern bool ss_pusher_recheck_denied(SsPusher *pusher, SsMonotonic give_up);

#endif
