/*
 * hot.c
 *		Which sessions are used often enough to be cached (cache rule `hot`).
 *
 * Uses are counted in a sketch of fixed size, whatever the number of sessions: two rows of cells.
 * A key has one cell in each row, and the smaller of its two counts is an upper bound of its uses
 * that is seldom far off.  Counting too much only means a copy that few will read.
 *
 * A cell counts by half windows (half of cache_ttl): the present one and the previous one.  So a
 * use counts for at least half of cache_ttl and at most all of it.
 *
 * Cells are plain atomics: a count lost in a race does no harm.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#include "base/clock.h"
#include "keys/hot.h"
#include "shared/counters.h"
#include "shared/databases.h"
#include "shared/ledger_shmem.h"

#define ROWS 2
#define CELLS 16384 /* per row; a power of two */
#define COUNT_MAX 0xffff

/* A session that is read all the time is offered to the pusher no more often than this. */
#define OFFER_EVERY_MS 700
#define OFFER_REPEATED 1 /* flag in a cell: a second offer, with a delay, was made as well */

/* window << 32 | count of the previous half window << 16 | count of the present one */
typedef struct Sketch
{
	pg_atomic_uint64 uses[ROWS][CELLS];
	pg_atomic_uint64 offered[CELLS]; /* hash << 32 | milliseconds | OFFER_REPEATED */
} Sketch;

static Sketch *sketch = NULL;

/* Requests the shared memory (shmem.c). */
void
ss_hot_shmem_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(Sketch)));
}

/* Attaches to the sketch, and initializes it if it is new (shmem.c). */
void
ss_hot_shmem_init(void)
{
	bool found;

	sketch = ShmemInitStruct("session_store hot", sizeof(Sketch), &found);
	if (found)
		return;
	for (int i = 0; i < CELLS; i++)
	{
		for (int row = 0; row < ROWS; row++)
			pg_atomic_init_u64(&sketch->uses[row][i], 0);
		pg_atomic_init_u64(&sketch->offered[i], 0);
	}
}

static pg_atomic_uint64 *
cell(int row, uint32 hash)
{
	return &sketch->uses[row][(row == 0 ? hash : hash * 0x9e3779b1u >> 16) & (CELLS - 1)];
}

static uint32
window_now(const SsPolicy *policy)
{
	return (uint32) (ss_time_number(ss_monotonic()) / Max(policy->cache_ttl_us / 2, 1000));
}

/* The value of a cell in the present half window. */
static uint64
roll_window(uint64 value, uint32 window)
{
	uint32 then = value >> 32;

	if (then == window)
		return value;
	if (then + 1 == window)
		return (uint64) window << 32 | (value & 0xffff) << 16;
	return (uint64) window << 32;
}

static uint32
uses_in(uint64 value)
{
	return (value >> 16 & 0xffff) + (value & 0xffff);
}

/* The hash of the session of a key: uses are counted by session, not by key. */
static uint32
session_hash(const SsKey *key)
{
	SsKey session;

	if (key->part == SS_PART_DOCUMENT)
		return ss_key_hash(key);
	ss_key_copy(&session, key);
	session.part = SS_PART_DOCUMENT;
	return ss_key_hash(&session);
}

/* Counts a use of a session.  Takes no lock. */
void
ss_hot_count_use(const SsKey *key, const SsPolicy *policy)
{
	uint32 window;
	uint32 hash;

	if (sketch == NULL || policy->cache != SS_CACHE_HOT)
		return;
	hash = session_hash(key);
	window = window_now(policy);
	for (int row = 0; row < ROWS; row++)
	{
		pg_atomic_uint64 *at = cell(row, hash);
		uint64 old = pg_atomic_read_u64(at);
		uint64 new = roll_window(old, window);

		if ((new & 0xffff) < COUNT_MAX)
			new ++;
		if (new != old)
			(void) pg_atomic_compare_exchange_u64(at, &old, new);
	}
}

/* Does the cache rule want a copy of this session? */
bool
ss_hot_wants_copy(const SsKey *key, const SsPolicy *policy)
{
	uint32 uses = PG_UINT32_MAX;
	uint32 window;
	uint32 hash;

	if (policy->cache != SS_CACHE_HOT || sketch == NULL)
		return policy->cache == SS_CACHE_ALL;
	hash = session_hash(key);
	window = window_now(policy);
	for (int row = 0; row < ROWS; row++)
		uses = Min(uses, uses_in(roll_window(pg_atomic_read_u64(cell(row, hash)), window)));
	return uses >= (uint32) Min(policy->hot_uses, COUNT_MAX);
}

/*
 * When to offer a key to the pusher: 0 now; a number of milliseconds, once in that time,
 * because the copy may be lost by then; or -1, not for this read.
 */
static int
next_offer(uint32 hash)
{
	pg_atomic_uint64 *at = &sketch->offered[hash & (CELLS - 1)];
	uint32 now = (uint32) (ss_time_number(ss_monotonic()) / 1000);
	uint64 old = pg_atomic_read_u64(at);
	uint32 passed = now - (uint32) (old & ~(uint64) OFFER_REPEATED);

	if (old >> 32 == hash && passed < OFFER_EVERY_MS)
	{
		if ((old & OFFER_REPEATED) ||
			!pg_atomic_compare_exchange_u64(at, &old, old | OFFER_REPEATED))
			return -1;
		return OFFER_EVERY_MS - passed;
	}
	/* keys that share a cell alternate */
	if (old >> 32 != hash && passed < OFFER_EVERY_MS / 32)
		return -1;
	return pg_atomic_compare_exchange_u64(at, &old,
										  (uint64) hash << 32 | (now & ~(uint32) OFFER_REPEATED))
			   ? 0
			   : -1;
}

/* Offers one key of a session to the pusher, now or later. */
static void
offer(SsDb *db, const SsKey *session, uint8 part)
{
	SsKey key;
	uint32 hash;
	int when;

	ss_key_copy(&key, session);
	key.part = part;
	hash = ss_key_hash(&key);
	if ((when = next_offer(hash)) < 0)
		return;
	if (ss_ledger_want(ss_ledger, &db->cache.control, &key, hash,
					   ss_monotonic() + when * INT64CONST(1000)))
	{
		ss_counter_add(SS_WANTED, 1);
		ss_database_wake_pusher(db, false);
	}
}

/*
 * A living session was read by SQL, so its copies in Redis may be missing; otherwise the
 * reader would have found them there.  If it should have copies, the pusher checks that, and
 * extends their expiry.
 */
void
ss_hot_count_read(const SsKey *session, const SsPolicy *policy)
{
	SsDb *db = ss_database_mine();

	if (db == NULL || policy->cache == SS_CACHE_OFF || !db->cache.control.attached)
		return;
	ss_hot_count_use(session, policy);
	if (!ss_hot_wants_copy(session, policy))
		return;
	offer(db, session, SS_PART_DOCUMENT);
	if (policy->tail_prefix[0] != '\0')
		offer(db, session, SS_PART_TAIL);
}
