/*
 * turn_wakes.c
 *		Wakes the backends that wait for the turn of a session.
 *
 * Sessions are distributed over buckets by the hash of their keys, all databases together.  A
 * transaction that ends turns notes their buckets (ss_turn_wakes_note), and after its COMMIT, when
 * others see what it did, increments the number of each of these buckets and wakes those who wait
 * in it.  A backend that waits for another turn in the same bucket finds its own still taken, and
 * goes on waiting.
 *
 * No wakeup is lost: a backend reads the number of the bucket before it looks whether the turn is
 * free, and sleeps only while the bucket has that number.
 *
 * Not every end of a turn is noted here (its time may pass, a prepared transaction commits without
 * callbacks, a database may have no triggers), so waiting backends also look from time to time.
 *
 * Locking: the numbers are atomic, the condition variables have their own spinlocks.  A savepoint
 * that is rolled back leaves its notes, which wake in vain.
 */
#include "postgres.h"

#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/wait_event.h"

#include "base/clock.h"
#include "compat.h"
#include "shared/turn_wakes.h"

/* One bit each in a uint64. */
#define BUCKETS 64

typedef struct Bucket
{
	pg_atomic_uint64 ends; /* how often transactions that ended turns in it have committed */
	ConditionVariable changed;
} Bucket;

/* Each in cache lines of its own. */
typedef union PaddedBucket
{
	Bucket bucket;
	char padding[TYPEALIGN(PG_CACHE_LINE_SIZE, sizeof(Bucket))];
} PaddedBucket;

/* NULL if the library was not preloaded. */
static PaddedBucket *buckets = NULL;

/* The buckets in which this transaction has ended turns. */
static uint64 noted = 0;

/* Requests the shared memory (shmem.c). */
void
ss_turn_wakes_shmem_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(PaddedBucket) * BUCKETS));
}

/* Attaches to the shared memory, and initializes it if it is new (shmem.c). */
void
ss_turn_wakes_shmem_init(void)
{
	bool found;

	noted = 0;
	buckets = ShmemInitStruct("session_store turns", sizeof(PaddedBucket) * BUCKETS, &found);
	if (found)
		return;
	for (int i = 0; i < BUCKETS; i++)
	{
		pg_atomic_init_u64(&buckets[i].bucket.ends, 0);
		ConditionVariableInit(&buckets[i].bucket.changed);
	}
}

/* Can backends be woken?  Not without shared memory. */
bool
ss_turn_wakes_exist(void)
{
	return buckets != NULL;
}

/* The number of the bucket of a session. */
static int
bucket_of(const SsKey *key)
{
	SsKey session;

	ss_key_copy(&session, key);
	session.part = SS_PART_DOCUMENT;
	return ss_key_hash(&session) % BUCKETS;
}

/* This transaction ends the turn of a session: its COMMIT wakes those who wait for it. */
void
ss_turn_wakes_note(const SsKey *key)
{
	noted |= UINT64_C(1) << bucket_of(key);
}

/* This transaction may end any turn. */
void
ss_turn_wakes_note_all(void)
{
	noted = ~UINT64_C(0);
}

/* At the end of the transaction (xact.c): wakes who waits for what it has ended.  Cannot fail. */
void
ss_turn_wakes_at_end(bool committed)
{
	uint64 ended = noted;

	noted = 0;
	if (!committed || buckets == NULL)
		return;
	for (int i = 0; ended != 0; i++, ended >>= 1)
		if (ended & 1)
		{
			pg_atomic_fetch_add_u64(&buckets[i].bucket.ends, 1);
			ConditionVariableBroadcast(&buckets[i].bucket.changed);
		}
}

/* The number of the bucket, to be read before looking whether the turn is free. */
uint64
ss_turn_wakes_count(const SsKey *key)
{
	uint64 count;

	if (buckets == NULL)
		return 0;
	count = pg_atomic_read_u64(&buckets[bucket_of(key)].bucket.ends);
	pg_read_barrier();
	return count;
}

/*
 * Sleeps until a turn in the bucket has ended since ss_turn_wakes_count returned `seen`, at most for
 * a time.  Returns true if one has.  Interruptible.
 */
bool
ss_turn_wakes_wait(const SsKey *key, uint64 seen, long timeout_ms)
{
	static uint32 event = 0;
	Bucket *bucket = &buckets[bucket_of(key)].bucket;
	SsMonotonic until = ss_monotonic() + timeout_ms * 1000;
	bool ended;

	if (event == 0)
		event = SsWaitEvent("SessionStoreTurn");
	ConditionVariablePrepareToSleep(&bucket->changed);
	while (!(ended = pg_atomic_read_u64(&bucket->ends) != seen))
	{
		int64 left_us = until - ss_monotonic();

		if (left_us <= 0)
			break;
		(void) ConditionVariableTimedSleep(&bucket->changed, (long) ((left_us + 999) / 1000),
										   event);
	}
	ConditionVariableCancelSleep();
	return ended;
}
