/*
 * health_locks.h
 *		Locks of others on the tables: what session_health() and session_metrics() cannot read.
 */
#ifndef SS_HEALTH_LOCKS_H
#define SS_HEALTH_LOCKS_H

#include "nodes/pg_list.h"

#include "health/report.h"

/* Relations that were locked in order to be read, and those that could not be. */
typedef struct SsHealthLocks
{
	Oid extension;
	List *held;      /* OIDs of relations that this backend has locked */
	List *refused;   /* OIDs of tables that are not read because of a lock */
	List *relations; /* OIDs of all relations that it tried to lock */
	int waits;       /* number of waits so far */
} SsHealthLocks;

extern void ss_health_lock(SsHealthLocks *locks);
extern void ss_health_unlock(SsHealthLocks *locks);
extern bool ss_health_is_locked(const SsHealthLocks *locks, Oid table);
extern int ss_health_count_locked(const SsHealthLocks *locks);
extern void ss_health_locks(SsReport *report, const SsHealthLocks *locks);

#endif
