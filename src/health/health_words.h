/*
 * health_words.h
 *		Names and a limit that the parts of session_health() and session_metrics() share.
 */
#ifndef SS_HEALTH_WORDS_H
#define SS_HEALTH_WORDS_H

#include "base/clock.h"
#include "shared/databases.h"

extern const char *ss_health_task_name(SsTask task);
extern const char *ss_health_work_name(SsWork work);
extern bool ss_health_is_recent(SsMonotonic when, SsMonotonic now);

#endif
