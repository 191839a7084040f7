/*
 * fence.h
 *		The wait in a COMMIT until no strong reader can see an old copy.
 */
#ifndef SS_FENCE_H
#define SS_FENCE_H

#include "shared/databases.h"

/* What a transaction waits for at the fence. */
typedef struct SsFenceWait
{
	bool keys;     /* deletion of the copies of its keys */
	bool policies; /* .. and of the namespaces whose policies it changes */
	uint64 ticket; /* of ss_fence_take_ticket */
	SsMonotonic lease_until;
} SsFenceWait;

extern void ss_fence_apply_promotion(SsDb *db);
extern bool ss_fence_is_configured(const SsDb *db);
extern bool ss_fence_may_be_trusted(const SsDb *db);
extern void ss_fence_take_ticket(SsDb *db, SsFenceWait *fence);
extern void ss_fence_wait(SsDb *db, const SsFenceWait *fence);

#endif
