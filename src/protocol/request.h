/*
 * request.h
 *		Completes a request of the protocol: its deadline, the end of a lease, its place in the chain.
 */
#ifndef SS_REQUEST_H
#define SS_REQUEST_H

#include "protocol/protocol_state.h"

extern void ss_request_update_clock(SsProto *p, SsRedisTime time, SsMonotonic now);
extern SsDo ss_request_send(SsProto *p, SsRequestKind kind, SsMonotonic now);

#endif
