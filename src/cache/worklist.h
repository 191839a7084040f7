/*
 * worklist.h
 *		The pusher's work: which keys are to be deleted, and which written; for
 *		protocol.c alone.
 */
#ifndef SS_WORKLIST_H
#define SS_WORKLIST_H

#include "cache/protocol.h"

extern void ss_work_init(SsProto *p);
extern void ss_work_look(SsProto *p, int64_t now, bool may_open);
extern bool ss_work_lapsed(const SsProto *p, int64_t now);
extern void ss_work_publish(SsProto *p, int64_t until);
extern int ss_work_take_deletes(SsProto *p, bool dirty_too);
extern int ss_work_take_fills(SsProto *p, int64_t now);
extern int64_t ss_work_next_wanted(SsProto *p);
extern void ss_work_retake(SsProto *p);
extern void ss_work_restore(SsProto *p, int from, int64_t now);
extern void ss_work_deleted(SsProto *p, int32_t slot, int64_t now);
extern void ss_work_written(SsProto *p, const SsOp *op, int64_t now);
extern bool ss_work_leaves_nothing(const SsProto *p);
extern void ss_work_close_round(SsProto *p);
extern void ss_work_flushed(SsProto *p, int64_t now);
extern void ss_work_forget(SsProto *p);
extern void ss_work_attach(SsProto *p);
extern void ss_work_detach(SsProto *p);
extern void ss_work_let_pass(SsProto *p);

#endif
