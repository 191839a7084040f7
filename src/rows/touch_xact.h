/*
 * touch_xact.h
 *		Touches of the current transaction, recorded in shared memory when it commits.
 */
#ifndef SS_TOUCH_XACT_H
#define SS_TOUCH_XACT_H

#include "rows/touches.h"

extern bool ss_touch_xact_read(const SsKey *key, int64 base, int64 ttl, int64 expires);
extern bool ss_touch_xact_touch(const SsKey *key, int64 base, int64 ttl, int64 expires);
extern void ss_touch_xact_rebase(const SsKey *key, int64 base, int64 ttl, int64 expires);
extern int64 ss_touch_xact_effective(const SsKey *key, int64 base, int64 expires);
extern void ss_touch_xact_at_end(bool committed);
extern void ss_touch_xact_at_subxact_commit(SubTransactionId mine, SubTransactionId parent);
extern void ss_touch_xact_at_subxact_abort(SubTransactionId mine);

#endif
