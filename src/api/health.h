/*
 * health.h
 *		What session_health() and session_metrics() both ask.
 */
#ifndef SS_HEALTH_H
#define SS_HEALTH_H

#include "utils/timestamp.h"

#include "api/report.h"

/* How much code of other people is attached to our tables (health_foreign.c). */
typedef struct SsForeignCode
{
	int refused;        /* functions that do not run, for their owner is not trusted */
	int no_search_path; /* functions that set no search_path */
	int ignored_keys;   /* foreign keys that are not enforced */
} SsForeignCode;

extern double ss_health_purge_behind(void);
extern void ss_health_foreign(SsReport *report, SsForeignCode *found);
extern void ss_health_access(SsReport *report);
extern void ss_health_cache(SsReport *report);
extern const char *ss_task_name(int task);

#endif
