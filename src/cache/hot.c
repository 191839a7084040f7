/*
 * hot.c
 *		Which sessions are used enough to be in Redis.
 *
 * Uses are counted in a sketch of fixed size, whatever the number of sessions: two
 * rows of cells, a key has one cell in each, and the lesser count of the two is an upper
 * bound of its uses that is seldom far off.  To count too much only means a copy
 * that few will read.
 *
 * A cell counts by half windows (half of cache_ttl): the present one and the one
 * before.  So a use counts for at least half a cache_ttl and at most a whole one.
 *
 * Cells are plain atomics: a count that is lost in a race is no harm.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "port/atomics.h"
#include "storage/shmem.h"

#include "cache/hot.h"
#include "shared.h"

#define ROWS 2
#define CELLS 16384 /* a row; a power of two */
#define COUNT_MOST 0xffff

/* A session that is read all the time is offered to the pusher no more often than this. */
#define ASK_EVERY 700 /* ms */
#define ASKED_AGAIN 1 /* in a cell: there was another read since */

/* window << 32 | count of the one before << 16 | count of this one */
typedef struct Sketch
{
	pg_atomic_uint64 uses[ROWS][CELLS];
	pg_atomic_uint64 asked[CELLS]; /* hash << 32 | milliseconds | ASKED_AGAIN */
} Sketch;

static Sketch *sketch = NULL;

Size
ss_hot_shmem_size(void)
{
	return MAXALIGN(sizeof(Sketch));
}

/* Under AddinShmemInitLock. */
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
		pg_atomic_init_u64(&sketch->asked[i], 0);
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
	return (uint32) (ss_monotonic() / Max(policy->cache_ttl / 2, 1000));
}

/* Bring a cell into the present window. */
static uint64
brought_up(uint64 value, uint32 window)
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

/* Uses are of the session, whichever of its keys is asked for. */
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

/* Count a use. */
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
		uint64 new = brought_up(old, window);

		if ((new & 0xffff) < COUNT_MOST)
			new ++;
		if (new != old)
			(void) pg_atomic_compare_exchange_u64(at, &old, new);
	}
}

/* Does a session deserve a copy? */
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
		uses = Min(uses, uses_in(brought_up(pg_atomic_read_u64(cell(row, hash)), window)));
	return uses >= (uint32) Min(policy->hot_uses, COUNT_MOST);
}

/*
 * When is it time to offer it to the pusher again?  0 now; in so many ms, once, for the
 * copy that may be lost by now; or -1, not for this read.
 */
static int
ask(uint32 hash)
{
	pg_atomic_uint64 *at = &sketch->asked[hash & (CELLS - 1)];
	uint32 now = (uint32) (ss_monotonic() / 1000);
	uint64 old = pg_atomic_read_u64(at);
	uint32 passed = now - (uint32) (old & ~(uint64) ASKED_AGAIN);

	if (old >> 32 == hash && passed < ASK_EVERY)
	{
		if ((old & ASKED_AGAIN) || !pg_atomic_compare_exchange_u64(at, &old, old | ASKED_AGAIN))
			return -1;
		return ASK_EVERY - passed;
	}
	/* those that share a cell take turns */
	if (old >> 32 != hash && passed < ASK_EVERY / 32)
		return -1;
	return pg_atomic_compare_exchange_u64(at, &old,
										  (uint64) hash << 32 | (now & ~(uint32) ASKED_AGAIN))
			   ? 0
			   : -1;
}

/* Have the pusher look after one key of a session, now or when its copy may be lost. */
static void
want(SsDb *db, const SsKey *session, uint8 part)
{
	SsKey key;
	uint32 hash;
	int when;

	ss_key_copy(&key, session);
	key.part = part;
	hash = ss_key_hash(&key);
	if ((when = ask(hash)) < 0)
		return;
	if (ss_ledger_want(ss_ledger, &db->cache.control, &key, hash,
					   ss_monotonic() + when * INT64CONST(1000)))
	{
		ss_count(SS_WANTED, 1);
		ss_wake_pusher(db, false);
	}
}

/*
 * A living session was read by SQL.  Should it have copies in Redis, it may have lost them
 * (or its reader would have found them there): have the pusher look, and prolong them.
 */
void
ss_hot_count_read(const SsKey *session, const SsPolicy *policy)
{
	SsDb *db = ss_shared_my_db();

	if (db == NULL || policy->cache == SS_CACHE_OFF || !db->cache.control.attached)
		return;
	ss_hot_count_use(session, policy);
	if (!ss_hot_wants_copy(session, policy))
		return;
	want(db, session, SS_PART_DOCUMENT);
	if (policy->tail_prefix[0] != '\0')
		want(db, session, SS_PART_TAIL);
}
