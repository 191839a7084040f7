/*
 * health_workers.h
 *		Reports the launcher, the keeper, rows that are set aside, and pending touches.
 */
#ifndef SS_HEALTH_WORKERS_H
#define SS_HEALTH_WORKERS_H

#include "health/report.h"
#include "shared/databases.h"

extern void ss_health_workers(SsReport *report);
extern void ss_health_set_aside(SsAsideReport reports[SS_WORKS]);

#endif
