/*
 * health.h
 *		What session_health() and session_metrics() have in common.
 */
#ifndef SS_HEALTH_H
#define SS_HEALTH_H

#include "nodes/pg_list.h"
#include "utils/timestamp.h"

#include "api/report.h"
#include "databases.h"

/* Foreign code attached to the tables of session_store (health_foreign.c). */
typedef struct SsForeignCode
{
	int refused;        /* functions that do not run because their owner is not trusted */
	int no_search_path; /* functions that set no search_path */
	int ignored_keys;   /* foreign keys that are not enforced */
} SsForeignCode;

/* Owners and roles that do not fit (health_access.c). */
typedef struct SsAccessFaults
{
	int foreign_tables; /* tables that the owner of conversation_sessions cannot read */
	int unknown_roles;  /* names in allowed_roles that are not names of roles */
} SsAccessFaults;

/* Relations that were locked in order to be read, and those that could not be (health_locks.c). */
typedef struct SsHealthLocks
{
	Oid extension;
	List *held;      /* OIDs of relations that this backend has locked */
	List *refused;   /* OIDs of tables that are not read because of a lock */
	List *relations; /* OIDs of all relations that it tried to lock */
	int waits;       /* number of waits so far */
} SsHealthLocks;

/* Warn of an event that happened within this time (microseconds). */
#define SS_HEALTH_RECENT INT64CONST(600000000)

extern void ss_health_report(SsReport *report);
extern bool ss_health_purge_behind(const SsHealthLocks *locks, double *behind);
extern void ss_health_lock(SsHealthLocks *locks);
extern void ss_health_unlock(SsHealthLocks *locks);
extern bool ss_health_is_locked(const SsHealthLocks *locks, Oid table);
extern int ss_health_count_locked(const SsHealthLocks *locks);
extern void ss_health_locks(SsReport *report, const SsHealthLocks *locks);
extern void ss_health_foreign(SsReport *report, const SsHealthLocks *locks, SsForeignCode *found);
extern bool ss_health_may_read(const SsHealthLocks *locks, Oid table);
extern void ss_health_access(SsReport *report, const SsHealthLocks *locks, SsAccessFaults *found);
extern void ss_health_cache(SsReport *report);
extern const char *ss_task_name(int task);
extern const char *ss_work_name(int work);
extern void ss_health_set_aside(SsAsideReport reports[SS_WORKS]);

#endif
