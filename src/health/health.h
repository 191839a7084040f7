/*
 * health.h
 *		The report of session_health(), and what session_metrics() takes from it.
 */
#ifndef SS_HEALTH_H
#define SS_HEALTH_H

#include "health/health_locks.h"

extern void ss_health_report(SsReport *report);
extern bool ss_health_purge_behind(const SsHealthLocks *locks, double *behind);

#endif
