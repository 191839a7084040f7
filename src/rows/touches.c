/*
 * touches.c
 *		Sliding reads, noted in shared memory instead of written.
 *
 * Words.  A note says: the row version of this session that ends at `base` now
 * ends at `expires`.  The base is what makes notes safe without any cleaning up:
 * whoever writes the row anew (save, touch, delete, plain SQL) gives it another
 * expires_at, so that an older note no longer matches and is as good as gone.
 * A note on a row version that is rolled back matches nothing, either.
 *
 * Every reader takes the later of expires_at and a matching note, so a noted
 * read is seen by all calls at once.  The keeper writes a note once it moves the
 * expiry by the slack, and otherwise only when the session would else end; what
 * a crash loses is therefore at most the slack.
 *
 * Layout and locking.  The slots are split into partitions by hash, each an
 * array of slots, a chain of slots per bucket and a free list, guarded by one
 * LWLock: shared to look and to advance a note (expires is atomic), exclusive to
 * add, remove and rebase.  Offsets only, no pointers.  Nothing here allocates or
 * can fail once the server has started.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "rows/expiry.h"
#include "rows/touches.h"
#include "shared.h"

#define PARTITIONS 64
#define NO_SLOT (-1)

typedef struct Slot
{
	uint32 hash;
	int32 next; /* in the bucket's chain or the free list */
	bool used;
	int64 base;
	int64 ttl;
	pg_atomic_uint64 expires;
	SsKey key;
} Slot;

typedef struct Partition
{
	int32 used;
	int32 free;
} Partition;

typedef struct Shared
{
	int32 slots;   /* a partition */
	int32 buckets; /* a partition; a power of two */
	Partition partitions[PARTITIONS];
	/* then int32 buckets[PARTITIONS][buckets], then Slot slots[PARTITIONS][slots] */
} Shared;

static Shared *shared = NULL;
static int32 *all_buckets;
static Slot *all_slots;
static LWLockPadded *locks;

int
ss_touch_partitions(void)
{
	return PARTITIONS;
}

/* Per partition, with head-room: hashing does not fill partitions evenly. */
static int
slots_of_partition(int slots)
{
	return slots / PARTITIONS + slots / PARTITIONS / 8 + 4;
}

static int
buckets_of_partition(int slots)
{
	int buckets = 1;

	while (buckets < slots_of_partition(slots))
		buckets *= 2;
	return buckets;
}

Size
ss_touch_shmem_size(int slots)
{
	Size size = MAXALIGN(sizeof(Shared));

	size = add_size(size,
					MAXALIGN(mul_size(sizeof(int32) * PARTITIONS, buckets_of_partition(slots))));
	return add_size(size, mul_size(sizeof(Slot) * PARTITIONS, slots_of_partition(slots)));
}

/* Under AddinShmemInitLock. */
void
ss_touch_shmem_init(int slots)
{
	bool found;

	shared = ShmemInitStruct("session_store touches", ss_touch_shmem_size(slots), &found);
	all_buckets = (int32 *) ((char *) shared + MAXALIGN(sizeof(Shared)));
	all_slots = (Slot *) ((char *) all_buckets + MAXALIGN(sizeof(int32) * PARTITIONS *
														  (Size) buckets_of_partition(slots)));
	locks = GetNamedLWLockTranche(SS_TOUCH_TRANCHE);
	if (found)
		return;

	shared->slots = slots_of_partition(slots);
	shared->buckets = buckets_of_partition(slots);
	memset(all_buckets, 0xff, sizeof(int32) * PARTITIONS * (Size) shared->buckets);
	for (int p = 0; p < PARTITIONS; p++)
	{
		Slot *slot = all_slots + (Size) p * shared->slots;

		shared->partitions[p].used = 0;
		shared->partitions[p].free = 0;
		for (int i = 0; i < shared->slots; i++)
		{
			slot[i].used = false;
			slot[i].next = i + 1 < shared->slots ? i + 1 : NO_SLOT;
			pg_atomic_init_u64(&slot[i].expires, 0);
		}
	}
}

void
ss_key_set(SsKey *key, const char *ns, int nslen, const char *id, int idlen)
{
	Assert(nslen <= SS_NAMESPACE_MAX && idlen <= SS_NAME_MAX);
	key->database = MyDatabaseId;
	key->nslen = nslen;
	key->idlen = idlen;
	memcpy(key->bytes, ns, nslen);
	memcpy(key->bytes + nslen, id, idlen);
}

void
ss_key_from_datums(SsKey *key, Datum ns, Datum id)
{
	char *n = DatumGetPointer(ns);
	char *i = DatumGetPointer(id);

	ss_key_set(key, VARDATA_ANY(n), VARSIZE_ANY_EXHDR(n), VARDATA_ANY(i), VARSIZE_ANY_EXHDR(i));
}

static uint32
key_hash(const SsKey *key)
{
	uint32 hash = hash_bytes((const unsigned char *) key->bytes, key->nslen + key->idlen);

	return hash_combine(hash, key->database * 31 + key->nslen);
}

static bool
key_equal(const SsKey *a, const SsKey *b)
{
	return a->database == b->database && a->nslen == b->nslen && a->idlen == b->idlen &&
		   memcmp(a->bytes, b->bytes, a->nslen + a->idlen) == 0;
}

static inline int
partition_of(uint32 hash)
{
	return hash % PARTITIONS;
}

static inline LWLock *
lock_of(int partition)
{
	return &locks[partition].lock;
}

static inline Slot *
slot_at(int partition, int32 index)
{
	return &all_slots[(Size) partition * shared->slots + index];
}

static inline int32 *
bucket_of(int partition, uint32 hash)
{
	return &all_buckets[(Size) partition * shared->buckets +
						((hash / PARTITIONS) & (shared->buckets - 1))];
}

/* Caller holds the partition's lock in either mode. */
static Slot *
find(int partition, uint32 hash, const SsKey *key)
{
	for (int32 i = *bucket_of(partition, hash); i != NO_SLOT; i = slot_at(partition, i)->next)
	{
		Slot *slot = slot_at(partition, i);

		if (slot->hash == hash && key_equal(&slot->key, key))
			return slot;
	}
	return NULL;
}

/* Caller holds the partition's lock exclusively. */
static void
release(int partition, Slot *slot)
{
	int32 index = slot - slot_at(partition, 0);
	int32 *link = bucket_of(partition, slot->hash);

	while (*link != index)
		link = &slot_at(partition, *link)->next;
	*link = slot->next;
	slot->used = false;
	slot->next = shared->partitions[partition].free;
	shared->partitions[partition].free = index;
	shared->partitions[partition].used--;
}

/* Can reads be noted here?  Not without shared memory, not on a standby. */
bool
ss_touch_usable(void)
{
	return shared != NULL && shared->slots > 0 && !RecoveryInProgress();
}

/* When the row version that ends at expires_at really ends. */
int64
ss_touch_effective(const SsKey *key, int64 expires_at)
{
	uint32 hash;
	int partition;
	Slot *slot;

	if (shared == NULL)
		return expires_at;
	hash = key_hash(key);
	partition = partition_of(hash);
	/* a note that is being added right now belongs to a read that is not over */
	if (*bucket_of(partition, hash) == NO_SLOT)
		return expires_at;

	LWLockAcquire(lock_of(partition), LW_SHARED);
	slot = find(partition, hash, key);
	if (slot != NULL && slot->base == expires_at)
		expires_at = Max(expires_at, (int64) pg_atomic_read_u64(&slot->expires));
	LWLockRelease(lock_of(partition));
	return expires_at;
}

/* Advance a note, never backwards.  The partition's lock is held in either mode. */
static void
advance(Slot *slot, int64 expires)
{
	uint64 old = pg_atomic_read_u64(&slot->expires);

	while ((int64) old < expires && !pg_atomic_compare_exchange_u64(&slot->expires, &old, expires))
		;
}

/*
 * Note that the row version ending at `base` shall end at `expires`.  False when
 * there is no room.  *urgent is set when the note has just become worth writing.
 *
 * Two row versions may compete for one note: a reader with an old snapshot must
 * not push out what was noted for a newer version.  The newer is the one whose
 * lifetime started later.
 */
bool
ss_touch_note(const SsKey *key, int64 base, int64 ttl, int64 expires, bool *urgent)
{
	uint32 hash = key_hash(key);
	int partition = partition_of(hash);
	Partition *part = &shared->partitions[partition];
	int64 slack = ss_slack(ttl);
	Slot *slot;
	bool done = false;

	*urgent = false;
	LWLockAcquire(lock_of(partition), LW_SHARED);
	slot = find(partition, hash, key);
	if (slot != NULL && slot->base == base)
	{
		int64 before = pg_atomic_read_u64(&slot->expires);

		advance(slot, expires);
		*urgent = before - base < slack && expires - base >= slack;
		done = true;
	}
	LWLockRelease(lock_of(partition));
	if (done)
		return true;

	LWLockAcquire(lock_of(partition), LW_EXCLUSIVE);
	slot = find(partition, hash, key);
	if (slot != NULL && slot->base != base && slot->base - slot->ttl > base - ttl)
	{
		/* theirs is the newer version: ours is over */
		LWLockRelease(lock_of(partition));
		return true;
	}
	if (slot == NULL)
	{
		int32 *bucket = bucket_of(partition, hash);
		int32 index = part->free;

		if (index == NO_SLOT)
		{
			LWLockRelease(lock_of(partition));
			return false;
		}
		slot = slot_at(partition, index);
		part->free = slot->next;
		part->used++;
		slot->hash = hash;
		memcpy(&slot->key, key, offsetof(SsKey, bytes) + key->nslen + key->idlen);
		slot->used = true;
		slot->base = base;
		pg_atomic_write_u64(&slot->expires, base);
		slot->next = *bucket;
		*bucket = index;
	}
	else if (slot->base != base)
	{
		slot->base = base;
		pg_atomic_write_u64(&slot->expires, base);
	}
	slot->ttl = ttl;
	advance(slot, expires);
	*urgent = expires - base >= slack || part->used > shared->slots - shared->slots / 4;
	LWLockRelease(lock_of(partition));
	return true;
}

/*
 * Is a note to be written?  When it moves the expiry by the slack, when the row
 * would end soon without it, or when its partition fills up.  "Soon" is half the
 * slack: long before, so that a subscriber hears of it in time.
 */
static bool
is_due(const Slot *slot, int64 now, bool pressed)
{
	int64 slack = ss_slack(slot->ttl);
	int64 expires = pg_atomic_read_u64(unconstify(pg_atomic_uint64 *, &slot->expires));

	return pressed || expires - slot->base >= slack || slot->base - now < slack / 2;
}

/*
 * Copy out notes of a database that are due, starting at *partition and leaving
 * there where to go on (PARTITIONS at the end).  Always whole partitions, as far
 * as max allows.
 */
int
ss_touch_due(Oid database, int64 now, int *partition, SsTouch *out, int max)
{
	int count = 0;

	for (; *partition < PARTITIONS && count < max; (*partition)++)
	{
		int p = *partition;
		bool pressed;

		if (shared->partitions[p].used == 0)
			continue;
		LWLockAcquire(lock_of(p), LW_SHARED);
		pressed = shared->partitions[p].used > shared->slots - shared->slots / 4;
		for (int i = 0; i < shared->slots && count < max; i++)
		{
			Slot *slot = slot_at(p, i);

			if (!slot->used || slot->key.database != database || !is_due(slot, now, pressed))
				continue;
			memcpy(&out[count].key, &slot->key,
				   offsetof(SsKey, bytes) + slot->key.nslen + slot->key.idlen);
			out[count].base = slot->base;
			out[count].expires = pg_atomic_read_u64(&slot->expires);
			count++;
		}
		LWLockRelease(lock_of(p));
	}
	return count;
}

/*
 * The row now ends at `written` instead of touch->base, and that is committed.
 * What was noted since is kept, on the new base; else the note is done with.
 */
void
ss_touch_written(const SsTouch *touch, int64 written)
{
	uint32 hash = key_hash(&touch->key);
	int partition = partition_of(hash);
	Slot *slot;

	LWLockAcquire(lock_of(partition), LW_EXCLUSIVE);
	slot = find(partition, hash, &touch->key);
	if (slot != NULL && slot->base == touch->base)
	{
		if ((int64) pg_atomic_read_u64(&slot->expires) > written)
			slot->base = written;
		else
			release(partition, slot);
	}
	LWLockRelease(lock_of(partition));
}

/* The row version that the note was on is no more. */
void
ss_touch_drop(const SsTouch *touch)
{
	ss_touch_written(touch, PG_INT64_MAX);
}

/* The database is gone, or the extension in it. */
void
ss_touch_forget_database(Oid database)
{
	if (shared == NULL)
		return;
	for (int p = 0; p < PARTITIONS; p++)
	{
		LWLockAcquire(lock_of(p), LW_EXCLUSIVE);
		for (int i = 0; i < shared->slots && shared->partitions[p].used > 0; i++)
		{
			Slot *slot = slot_at(p, i);

			if (slot->used && slot->key.database == database)
				release(p, slot);
		}
		LWLockRelease(lock_of(p));
	}
}

void
ss_touch_counts(SsTouchCounts *counts)
{
	memset(counts, 0, sizeof(*counts));
	if (shared == NULL)
		return;
	counts->slots = shared->slots * PARTITIONS;
	for (int p = 0; p < PARTITIONS; p++)
		counts->used += shared->partitions[p].used;
}
