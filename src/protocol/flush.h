/*
 * flush.h
 *		The flushes: deleting all our keys, those of one prefix, or those of namespaces whose policies
 *		change.
 */
#ifndef SS_FLUSH_H
#define SS_FLUSH_H

#include "protocol/protocol_state.h"

extern void ss_flush_begin(SsProto *p);
extern void ss_flush_begin_partial(SsProto *p);
extern SsDo ss_flush_step(SsProto *p, SsMonotonic now);
extern bool ss_flush_policies_due(const SsProto *p);
extern SsDo ss_flush_policies(SsProto *p, SsMonotonic now);
extern void ss_flush_answered(SsProto *p, const SsReply *reply, SsMonotonic now);
extern void ss_flush_interrupted(SsProto *p);

#endif
