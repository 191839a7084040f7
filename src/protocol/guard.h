/*
 * guard.h
 *		Decides who owns a Redis, from the guard in it and our own record of claims; for
 *		this folder alone.
 */
#ifndef SS_GUARD_H
#define SS_GUARD_H

#include "protocol/protocol_state.h"

extern void ss_guard_sign(SsProto *p);
extern void ss_guard_carried_out(SsProto *p);
extern void ss_guard_unanswered(SsProto *p);
extern SsStage ss_guard_decide(SsProto *p, const SsGuard *guard, SsMonotonic now);
extern void ss_guard_claim(SsProto *p, uint64_t token);
extern void ss_guard_claimed(SsProto *p);
extern SsStage ss_guard_outrun(SsProto *p, SsMonotonic now);
extern SsStage ss_guard_unrecorded(SsProto *p, SsMonotonic now);

#endif
