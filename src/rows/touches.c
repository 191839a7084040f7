/*
 * touches.c
 *		Sliding reads, noted in shared memory instead of written.
 *
 * Words.  A note says: the row version of this session that ends at `base` now
 * ends at `expires`.  The base ties the note to what was read: whoever ends a
 * session (delete, plain SQL) gives its row another expires_at, so that notes no longer
 * match and are as good as gone, without any cleaning up.  Whoever prolongs it (save,
 * touch, purge, the keeper) takes the note over to the new version when that
 * is committed (ss_touch_rebase), since reads went on meanwhile.  A transaction notes reads of
 * versions that it made itself when it commits (touch_pending.c), so that a note is always on
 * a committed version.
 *
 * Every reader takes the later of expires_at and a matching note, so a noted
 * read is seen by all calls at once.  The keeper writes a note once it moves the
 * expiry by the slack, and otherwise only when the session would else end; what
 * a crash loses is therefore at most the slack and the keeper's next turn.
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
#include "rows/touch_pending.h"
#include "rows/touches.h"
#include "shared.h"

#define PARTITIONS 64
#define NO_SLOT (-1)

/* When to look again at a note that could not be written. */
#define POSTPONE SS_USEC_PER_SEC

typedef struct Slot
{
	uint32 hash;
	int32 next; /* in the bucket's chain or the free list */
	bool used;
	int64 base;
	int64 ttl;
	int64 look_at;  /* not worth a look before */
	bool unmatched; /* at the last look, no row had this base */
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
	return slots == 0 ? 0 : slots / PARTITIONS + slots / PARTITIONS / 8 + 4;
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
		shared->partitions[p].free = shared->slots > 0 ? 0 : NO_SLOT;
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

/*
 * The same from a row's columns.  False when they are longer than any name may be:
 * the table's trigger lets no such row in, but it can be switched off, and nothing in
 * a table may overrun a buffer.
 */
bool
ss_key_from_datums(SsKey *key, Datum ns, Datum id)
{
	text *n = DatumGetTextPP(ns);
	text *i = DatumGetTextPP(id);

	if (VARSIZE_ANY_EXHDR(n) > SS_NAMESPACE_MAX || VARSIZE_ANY_EXHDR(i) > SS_NAME_MAX)
		return false;
	ss_key_set(key, VARDATA_ANY(n), VARSIZE_ANY_EXHDR(n), VARDATA_ANY(i), VARSIZE_ANY_EXHDR(i));
	return true;
}

static uint32
key_hash(const SsKey *key)
{
	uint32 hash = hash_bytes((const unsigned char *) key->bytes, key->nslen + key->idlen);

	return hash_combine(hash, key->database * 31 + key->nslen);
}

bool
ss_key_equal(const SsKey *a, const SsKey *b)
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

		if (slot->hash == hash && ss_key_equal(&slot->key, key))
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

/* Three quarters full: notes are then written, or dropped, before their time. */
static inline bool
under_pressure(int partition)
{
	return shared->partitions[partition].used > shared->slots - shared->slots / 4;
}

/* Can reads be noted here?  Not without shared memory, not on a standby. */
bool
ss_touch_usable(void)
{
	return shared != NULL && shared->slots > 0 && !RecoveryInProgress();
}

/*
 * When the row version that ends at expires_at really ends.  A transaction sees
 * what it touched itself before others do (touch_pending.c).
 */
int64
ss_touch_effective(const SsKey *key, int64 expires_at)
{
	uint32 hash;
	int partition;
	Slot *slot;
	int64 effective = expires_at;

	if (shared == NULL || shared->slots == 0)
		return expires_at;
	hash = key_hash(key);
	partition = partition_of(hash);
	/* a note that is being added right now belongs to a read that is not over */
	if (*bucket_of(partition, hash) != NO_SLOT)
	{
		LWLockAcquire(lock_of(partition), LW_SHARED);
		slot = find(partition, hash, key);
		if (slot != NULL && slot->base == expires_at)
			effective = Max(expires_at, (int64) pg_atomic_read_u64(&slot->expires));
		LWLockRelease(lock_of(partition));
	}
	return ss_pending_effective(key, expires_at, effective);
}

/* Advance a note, never backwards.  The partition's lock is held in either mode. */
static void
advance(Slot *slot, int64 expires)
{
	uint64 old = pg_atomic_read_u64(&slot->expires);

	while ((int64) old < expires && !pg_atomic_compare_exchange_u64(&slot->expires, &old, expires))
		;
}

/* Take a free slot for a key; NULL when there is none.  Exclusive lock. */
static Slot *
take(int partition, uint32 hash, const SsKey *key)
{
	Partition *part = &shared->partitions[partition];
	int32 *bucket = bucket_of(partition, hash);
	int32 index = part->free;
	Slot *slot;

	if (index == NO_SLOT)
		return NULL;
	slot = slot_at(partition, index);
	part->free = slot->next;
	part->used++;
	slot->hash = hash;
	memcpy(&slot->key, key, offsetof(SsKey, bytes) + key->nslen + key->idlen);
	slot->used = true;
	slot->next = *bucket;
	*bucket = index;
	return slot;
}

/* Make the slot a note on another version of the row, that says nothing yet. */
static void
restart(Slot *slot, int64 base, int64 ttl)
{
	slot->base = base;
	slot->ttl = ttl;
	slot->look_at = 0;
	slot->unmatched = false;
	pg_atomic_write_u64(&slot->expires, base);
}

/*
 * Note that the row version ending at `base` shall end at `expires`.  Where there is
 * a note on another version, that one stands, unless the caller insists (having
 * seen with a new snapshot which version is the present one).
 */
SsNoted
ss_touch_note(const SsKey *key, int64 base, int64 ttl, int64 expires, bool force)
{
	uint32 hash = key_hash(key);
	int partition = partition_of(hash);
	int64 slack = ss_slack(ttl);
	Slot *slot;
	bool urgent;

	LWLockAcquire(lock_of(partition), LW_SHARED);
	slot = find(partition, hash, key);
	if (slot != NULL && (slot->base == base || !force))
	{
		SsNoted noted = SS_NOTE_CONFLICT;

		if (slot->base == base)
		{
			int64 before = pg_atomic_read_u64(&slot->expires);

			advance(slot, expires);
			urgent = before - base < slack && expires - base >= slack;
			noted = urgent ? SS_NOTED_URGENT : SS_NOTED;
		}
		LWLockRelease(lock_of(partition));
		return noted;
	}
	LWLockRelease(lock_of(partition));

	LWLockAcquire(lock_of(partition), LW_EXCLUSIVE);
	slot = find(partition, hash, key);
	if (slot == NULL)
	{
		slot = take(partition, hash, key);
		if (slot != NULL)
			restart(slot, base, ttl);
	}
	else if (slot->base != base && force)
		restart(slot, base, ttl);
	if (slot == NULL || slot->base != base)
	{
		LWLockRelease(lock_of(partition));
		return slot == NULL ? SS_NOTE_FULL : SS_NOTE_CONFLICT;
	}
	advance(slot, expires);
	urgent = expires - base >= slack || under_pressure(partition);
	LWLockRelease(lock_of(partition));
	return urgent ? SS_NOTED_URGENT : SS_NOTED;
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

	if (slot->look_at > now)
		return false;
	return pressed || expires - slot->base >= slack || slot->base - now < slack / 2;
}

/*
 * Copy out notes of a database that are due, starting at *partition and leaving
 * there where to go on (PARTITIONS at the end).  A partition that has more than there is
 * room for is gone on with the next time: what was written is not due any more then.
 */
int
ss_touch_due(Oid database, int64 now, int *partition, SsTouch *out, int max)
{
	int count = 0;

	for (; *partition < PARTITIONS && count < max; (*partition)++)
	{
		int p = *partition;
		bool pressed;
		int left;

		if (shared->partitions[p].used == 0)
			continue;
		LWLockAcquire(lock_of(p), LW_SHARED);
		pressed = under_pressure(p);
		left = shared->partitions[p].used;
		for (int i = 0; i < shared->slots && count < max && left > 0; i++)
		{
			Slot *slot = slot_at(p, i);

			if (!slot->used)
				continue;
			left--;
			if (slot->key.database != database || !is_due(slot, now, pressed))
				continue;
			memcpy(&out[count].key, &slot->key,
				   offsetof(SsKey, bytes) + slot->key.nslen + slot->key.idlen);
			out[count].base = slot->base;
			out[count].ttl = slot->ttl;
			out[count].expires = pg_atomic_read_u64(&slot->expires);
			count++;
		}
		LWLockRelease(lock_of(p));
	}
	return count;
}

/*
 * The row version that ended at `base` is now one that ends at `written`, with this
 * ttl, and that is committed.  What was noted meanwhile on the old version was a use
 * all the same, and goes over to the new one; what says nothing new is done with.
 */
void
ss_touch_rebase(const SsKey *key, int64 base, int64 written, int64 ttl)
{
	uint32 hash;
	int partition;
	Slot *slot;

	if (shared == NULL || shared->slots == 0)
		return;
	hash = key_hash(key);
	partition = partition_of(hash);
	if (*bucket_of(partition, hash) == NO_SLOT)
		return;
	LWLockAcquire(lock_of(partition), LW_EXCLUSIVE);
	slot = find(partition, hash, key);
	if (slot != NULL && slot->base == base)
	{
		/* the last use, with the lifetime that the session has now */
		int64 expires = (int64) pg_atomic_read_u64(&slot->expires) - slot->ttl + ttl;

		if (expires > written)
		{
			restart(slot, written, ttl);
			advance(slot, expires);
		}
		else
			release(partition, slot);
	}
	LWLockRelease(lock_of(partition));
}

/* The note was written, and that is committed. */
void
ss_touch_written(const SsTouch *touch)
{
	ss_touch_rebase(&touch->key, touch->base, touch->expires, touch->ttl);
}

/*
 * The note could not be written now.  Its row may be locked: then it waits.  Or the
 * table has another version of the row: whoever wrote that is perhaps about to take the note
 * over (ss_touch_rebase), and if it is still so at the next look, nobody will.
 */
void
ss_touch_postpone(const SsTouch *touch, int64 now, bool locked)
{
	uint32 hash = key_hash(&touch->key);
	int partition = partition_of(hash);
	Slot *slot;

	LWLockAcquire(lock_of(partition), LW_EXCLUSIVE);
	slot = find(partition, hash, &touch->key);
	if (slot != NULL && slot->base == touch->base)
	{
		if (!locked && slot->unmatched)
			release(partition, slot);
		else
		{
			slot->unmatched = !locked;
			slot->look_at = now + POSTPONE;
		}
	}
	LWLockRelease(lock_of(partition));
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
