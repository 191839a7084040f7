/*
 * worklist.h
 *		The lists of keys that the pusher has to delete or to write; for this folder alone.
 */
#ifndef SS_WORKLIST_H
#define SS_WORKLIST_H

#include "protocol/protocol_state.h"

extern void ss_worklist_init(SsProto *p);
extern void ss_worklist_update(SsProto *p, SsMonotonic now, bool may_open);
extern bool ss_worklist_lease_lapsed(const SsProto *p, SsMonotonic now);
extern void ss_worklist_publish_lease(SsProto *p, SsMonotonic until);
extern int ss_worklist_take_deletes(SsProto *p, bool dirty_too);
extern int ss_worklist_take_fills(SsProto *p, SsMonotonic now);
extern SsMonotonic ss_worklist_next_wanted(SsProto *p);
extern void ss_worklist_retake(SsProto *p);
extern void ss_worklist_restore(SsProto *p, int from, SsMonotonic now);
extern void ss_worklist_key_deleted(SsProto *p, int32_t slot, SsMonotonic now);
extern void ss_worklist_key_written(SsProto *p, const SsOp *op, SsMonotonic now);
extern bool ss_worklist_leaves_nothing(const SsProto *p);
extern void ss_worklist_close_round(SsProto *p);
extern void ss_worklist_flushed(SsProto *p, SsMonotonic now);
extern void ss_worklist_drop_backlog(SsProto *p);
extern void ss_worklist_attach(SsProto *p);
extern void ss_worklist_detach(SsProto *p);
extern void ss_worklist_pass_fence(SsProto *p);

#endif
