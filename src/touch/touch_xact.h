/*
 * touch_xact.h
 *		Touches of the current transaction, recorded in shared memory when it commits.
 */
#ifndef SS_TOUCH_XACT_H
#define SS_TOUCH_XACT_H

#include "touch/touches.h"

extern bool ss_touch_xact_read(const SsKey *key, const SsTouch *touch);
extern bool ss_touch_xact_touch(const SsKey *key, const SsTouch *touch, TimestampTz read_at);
extern void ss_touch_xact_rebase(const SsKey *key, const SsTouch *touch);
extern TimestampTz ss_touch_effective(const SsKey *key, TimestampTz expires_at);
extern void ss_touch_xact_at_end(bool committed);
extern void ss_touch_xact_at_subxact_commit(SubTransactionId mine, SubTransactionId parent);
extern void ss_touch_xact_at_subxact_abort(SubTransactionId mine);

#endif
