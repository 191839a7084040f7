/*
 * health_cache.h
 *		Reports the cache in Redis.
 */
#ifndef SS_HEALTH_CACHE_H
#define SS_HEALTH_CACHE_H

#include "health/report.h"

extern void ss_health_cache(SsReport *report);

#endif
