/*
 * health.h
 *		What session_health() and session_metrics() both ask.
 */
#ifndef SS_HEALTH_H
#define SS_HEALTH_H

#include "utils/timestamp.h"

extern double ss_health_purge_behind(void);
#include "api/report.h"

extern void ss_health_cache(SsReport *report);
extern const char *ss_task_name(int task);

#endif
