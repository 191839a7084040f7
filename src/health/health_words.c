/*
 * health_words.c
 *		Names and a limit that the parts of session_health() and session_metrics() share.
 */
#include "postgres.h"

#include "health/health_words.h"

/* Warnings of an event end after this time. */
#define RECENT_US INT64CONST(600000000)

/* The name of a task of the keeper. */
const char *
ss_health_task_name(SsTask task)
{
	static const char *const names[SS_TASKS] = {"touch",   "purge",      "history",
												"notify",  "events",     "sample",
												"orphans", "operations", "counters"};

	return names[task];
}

/* The name of a kind of work in which rows are set aside. */
const char *
ss_health_work_name(SsWork work)
{
	static const char *const names[SS_WORKS] = {"purge", "touch", "history",    "events",  "sample",
												"push",  "scrub", "operations", "counters"};

	return names[work];
}

/* Did an event happen so recently that health warns of it?  `when` is 0 if it never happened. */
bool
ss_health_is_recent(SsMonotonic when, SsMonotonic now)
{
	return when != 0 && now - when < RECENT_US;
}
