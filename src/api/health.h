/*
 * health.h
 *		What session_health() and session_metrics() both ask.
 */
#ifndef SS_HEALTH_H
#define SS_HEALTH_H

#include "nodes/pg_list.h"
#include "utils/timestamp.h"

#include "api/report.h"
#include "shared.h"

/* How much code of other people is attached to our tables (health_foreign.c). */
typedef struct SsForeignCode
{
	int refused;        /* functions that do not run, for their owner is not trusted */
	int no_search_path; /* functions that set no search_path */
	int ignored_keys;   /* foreign keys that are not enforced */
} SsForeignCode;

/* What the catalogs say of owners and roles (health_access.c). */
typedef struct SsAccessFaults
{
	int foreign_tables; /* tables of ours that belong to a role without the owner's privileges */
	int unknown_roles;  /* names in allowed_roles that are no role */
} SsAccessFaults;

/* What was locked to be read, and what could not be (health_locks.c). */
typedef struct SsHealthLocks
{
	Oid extension;
	List *held; /* relations that are locked */
	List *
		refused; /* tables that somebody else has locked, with an index or a child table or alone */
	List *relations; /* all that were tried */
	int naps;        /* how often it was waited for a moment */
} SsHealthLocks;

/* What went wrong within this time (us) is worth a warning. */
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
