/*
 * access.h
 *		Decides what a caller may do with a session.
 */
#ifndef SS_ACCESS_H
#define SS_ACCESS_H

#include "row/session.h"
#include "table/sql.h"

/* The access that a call needs or a role grants; each value includes the ones before it. */
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
