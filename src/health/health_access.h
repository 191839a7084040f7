/*
 * health_access.h
 *		Reports owners and roles that do not fit.
 */
#ifndef SS_HEALTH_ACCESS_H
#define SS_HEALTH_ACCESS_H

#include "health/health_locks.h"

typedef struct SsAccessFaults
{
	int foreign_tables; /* tables that the owner of conversation_sessions cannot read */
	int unknown_roles;  /* names in allowed_roles that are not names of roles */
} SsAccessFaults;

extern bool ss_health_may_read(const SsHealthLocks *locks, Oid table);
extern void ss_health_access(SsReport *report, const SsHealthLocks *locks, SsAccessFaults *found);

#endif
