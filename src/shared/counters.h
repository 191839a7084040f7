/*
 * counters.h
 *		Counters of what happened in a database.
 *
 * They are atomics in shared memory and need no lock.
 */
#ifndef SS_COUNTERS_H
#define SS_COUNTERS_H

#include "shared/databases.h"

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
	SS_HITS,
	SS_COUNTERS_PURGED,
	SS_TURNS_BEGUN,
	SS_TURN_WAITS,
	SS_TURN_WAKES,
	SS_ERROR_TURN,
	SS_COUNTERS
} SsCounter;

extern void ss_counters_shmem_request(void);
extern void ss_counters_shmem_init(void);
extern void ss_counter_add(SsCounter counter, uint64 n);
extern uint64 ss_counter_sum(const SsDb *db, SsCounter counter);
extern void ss_counters_reset(const SsDb *db);

#endif
