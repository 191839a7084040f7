/*
 * worklist.h
 *		The lists of keys that the pusher has to delete or to write; for protocol.c alone.
 */
#ifndef SS_WORKLIST_H
#define SS_WORKLIST_H

#include "cache/protocol.h"

extern void ss_worklist_init(SsProto *p);
extern void ss_worklist_update(SsProto *p, int64_t now, bool may_open);
extern bool ss_worklist_lease_lapsed(const SsProto *p, int64_t now);
extern void ss_worklist_publish_lease(SsProto *p, int64_t until);
extern int ss_worklist_take_deletes(SsProto *p, bool dirty_too);
extern int ss_worklist_take_fills(SsProto *p, int64_t now);
extern int64_t ss_worklist_next_wanted(SsProto *p);
extern void ss_worklist_retake(SsProto *p);
extern void ss_worklist_restore(SsProto *p, int from, int64_t now);
extern void ss_worklist_key_deleted(SsProto *p, int32_t slot, int64_t now);
extern void ss_worklist_key_written(SsProto *p, const SsOp *op, int64_t now);
extern bool ss_worklist_leaves_nothing(const SsProto *p);
extern void ss_worklist_close_round(SsProto *p);
extern void ss_worklist_flushed(SsProto *p, int64_t now);
extern void ss_worklist_drop_backlog(SsProto *p);
extern void ss_worklist_attach(SsProto *p);
extern void ss_worklist_detach(SsProto *p);
extern void ss_worklist_pass_fence(SsProto *p);

#endif
