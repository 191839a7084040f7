/*
 * owners.h
 *		Ends many sessions at once: those of an owner, of a namespace, or over a quota.
 */
#ifndef SS_OWNERS_H
#define SS_OWNERS_H

#include "sessions/selection.h"

extern void ss_owner_enforce_quota(SsTarget *target, Datum owner, Datum exempt_id);
extern int64 ss_sessions_delete(SsTarget *target, const SsSelection *which);

#endif
