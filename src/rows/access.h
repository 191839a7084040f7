/*
 * access.h
 *		Whose session is it, and what may the caller do with it?
 */
#ifndef SS_ACCESS_H
#define SS_ACCESS_H

#include "rows/sessions.h"
#include "rows/sql.h"

/* What a call needs: each includes what stands before it. */
typedef enum SsNeed
{
	SS_VIEW,
	SS_EDIT,
	SS_OWN
} SsNeed;

extern bool ss_access_isolates(const SsPolicy *policy, Oid role);
extern bool ss_access_allows(const SsPolicy *policy, Oid role, const SsRow *row, SsNeed need,
							 SsPlanMode mode);
extern bool ss_access_allows_change(const SsTarget *target, const SsRow *row, SsNeed need);
extern bool ss_access_need_of_role(const char *name, SsNeed *need);

#endif
