/*
 * touch_pending.h
 *		What the present transaction has to say to the notes when it commits.
 */
#ifndef SS_TOUCH_PENDING_H
#define SS_TOUCH_PENDING_H

#include "rows/touches.h"

extern void ss_pending_init_backend(void);
extern bool ss_pending_use(const SsKey *key, int64 base, int64 ttl, int64 expires);
extern bool ss_pending_touch(const SsKey *key, int64 base, int64 ttl, int64 expires);
extern void ss_pending_rebase(const SsKey *key, int64 base, int64 ttl, int64 expires);
extern int64 ss_pending_effective(const SsKey *key, int64 base, int64 expires);

#endif
