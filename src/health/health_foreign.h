/*
 * health_foreign.h
 *		Reports foreign code that is attached to the tables of session_store.
 */
#ifndef SS_HEALTH_FOREIGN_H
#define SS_HEALTH_FOREIGN_H

#include "health/health_locks.h"

typedef struct SsForeignCode
{
	int refused;        /* functions that do not run because their owner is not trusted */
	int no_search_path; /* functions that set no search_path */
	int ignored_keys;   /* foreign keys that are not enforced */
} SsForeignCode;

extern void ss_health_foreign(SsReport *report, const SsHealthLocks *locks, SsForeignCode *found);

#endif
