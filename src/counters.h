/*
 * counters.h
 *		Counters of what happened in a database.
 *
 * They are atomics, striped by process so that backends do not contend for cache lines, and need
 * no lock.  Each database has its own, in its entry (databases.h).
 */
#ifndef SS_COUNTERS_H
#define SS_COUNTERS_H

#include "port/atomics.h"

#define SS_STRIPES 16

/* Counters of a database, since the server started. */
typedef enum SsCounter
{
	SS_SAVED,
	SS_CREATED,
	SS_READ,
	SS_MISSED,
	SS_TOUCHED,
	SS_DELETED,
	SS_REGENERATED,
	SS_EVICTED,
	SS_PURGED,
	SS_APPENDED,
	SS_MESSAGES_REMOVED,
	SS_MESSAGES_PURGED,
	SS_FORKED,
	SS_ABSORBED,
	SS_SHARED_WITH,
	SS_TOUCHES_NOTED,
	SS_TOUCHES_WRITTEN,
	SS_TOUCHES_DROPPED,
	SS_ERROR_CONFLICT,
	SS_ERROR_DEAD,
	SS_ERROR_QUOTA,
	SS_ERROR_DENIED,
	SS_ERROR_TOO_LARGE,
	SS_FENCED,
	SS_FENCE_MICROSECONDS,
	SS_FENCE_EXPIRED,
	SS_UNLISTED,
	SS_UNLISTED_NO_ROOM,
	SS_WANTED,
	SS_COUNTERS
} SsCounter;

typedef struct SsCounters
{
	pg_atomic_uint64 cells[SS_STRIPES][SS_COUNTERS];
} SsCounters;

/* Called once, before the counters are used. */
static inline void
ss_counters_init(SsCounters *counters)
{
	for (int s = 0; s < SS_STRIPES; s++)
		for (int c = 0; c < SS_COUNTERS; c++)
			pg_atomic_init_u64(&counters->cells[s][c], 0);
}

/* Sets all counters to 0. */
static inline void
ss_counters_reset(SsCounters *counters)
{
	for (int s = 0; s < SS_STRIPES; s++)
		for (int c = 0; c < SS_COUNTERS; c++)
			pg_atomic_write_u64(&counters->cells[s][c], 0);
}

extern void ss_counter_add(SsCounter counter, uint64 n);
extern uint64 ss_counter_sum(const SsCounters *counters, SsCounter counter);

#endif
