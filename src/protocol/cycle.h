/*
 * cycle.h
 *		What the pusher does while Redis is ours.
 */
#ifndef SS_CYCLE_H
#define SS_CYCLE_H

#include "protocol/protocol_state.h"

extern SsDo ss_cycle_run(SsProto *p, SsMonotonic now);
extern SsDo ss_cycle_send_batch(SsProto *p, SsMonotonic now);
extern void ss_cycle_batch_done(SsProto *p, SsMonotonic now);

#endif
