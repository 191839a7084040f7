/*
 * touch_slots.c
 *		The shared-memory hash table of pending touches.
 *
 * The slots are divided into partitions by hash.  Each partition has an array of slots, a chain of
 * slots per bucket and a free list, and one LWLock: held shared to search and to raise an expiry
 * (which is atomic), and exclusively to add or remove a slot or change its base.  shares.c decides
 * how many slots one database may have.  Slots refer to each other by index, not by pointer.
 * Nothing here allocates memory or can fail once the server has started.
 *
 * A caller opens the place of one session (SsSlotRef), which locks its partition, or passes over
 * the slots of one partition (SsSlotScan), and closes it before it opens another.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "protocol/shares.h"
#include "settings.h"
#include "touch/touch_slots.h"

#define TRANCHE "session_store_touches"
#define NO_SLOT (-1)

/* Guarded by the lock of the partition. */
typedef struct Partition
{
	int32 used;              /* slots in use */
	int32 free;              /* head of the free list */
	int32 count[SS_MEMBERS]; /* slots in use, per database */
	TimestampTz removed_at;  /* when a slot was last removed */
	uint64 removals;         /* how often one was */
} Partition;

typedef struct Shared
{
	int32 slots;     /* per partition; constant */
	int32 buckets;   /* per partition, a power of two; constant */
	SsShares shares; /* written under the locks of all partitions, read under any */
	Partition partitions[SS_TOUCH_PARTITIONS];
	/* followed by int32 [SS_TOUCH_PARTITIONS][buckets] and SsSlot [SS_TOUCH_PARTITIONS][slots] */
} Shared;

static Shared *shared = NULL;
static int32 *all_buckets;
static SsSlot *all_slots;
static LWLockPadded *locks;

/* Slots of a partition, with a reserve, because hashing does not fill partitions evenly. */
static int
slots_of_partition(int slots)
{
	return slots == 0 ? 0 : slots / SS_TOUCH_PARTITIONS + slots / SS_TOUCH_PARTITIONS / 8 + 4;
}

static int
buckets_of_partition(int slots)
{
	int buckets = 1;

	while (buckets < slots_of_partition(slots))
		buckets *= 2;
	return buckets;
}

/* The size of the shared memory. */
static Size
shmem_size(int slots)
{
	Size size = MAXALIGN(sizeof(Shared));

	size = add_size(size, MAXALIGN(mul_size(sizeof(int32) * SS_TOUCH_PARTITIONS,
											buckets_of_partition(slots))));
	return add_size(size,
					mul_size(sizeof(SsSlot) * SS_TOUCH_PARTITIONS, slots_of_partition(slots)));
}

/* Requests the shared memory and the locks (shmem.c). */
void
ss_touch_shmem_request(void)
{
	RequestAddinShmemSpace(shmem_size(ss_touch_slots));
	RequestNamedLWLockTranche(TRANCHE, SS_TOUCH_PARTITIONS);
}

/* Attaches to the shared memory, and initializes it if it is new (shmem.c). */
void
ss_touch_shmem_init(void)
{
	int slots = ss_touch_slots;
	bool found;

	shared = ShmemInitStruct("session_store touches", shmem_size(slots), &found);
	all_buckets = (int32 *) ((char *) shared + MAXALIGN(sizeof(Shared)));
	all_slots = (SsSlot *) ((char *) all_buckets + MAXALIGN(sizeof(int32) * SS_TOUCH_PARTITIONS *
															(Size) buckets_of_partition(slots)));
	locks = GetNamedLWLockTranche(TRANCHE);
	if (found)
		return;

	memset(shared, 0, sizeof(Shared));
	shared->slots = slots_of_partition(slots);
	shared->buckets = buckets_of_partition(slots);
	memset(all_buckets, 0xff, sizeof(int32) * SS_TOUCH_PARTITIONS * (Size) shared->buckets);
	for (int p = 0; p < SS_TOUCH_PARTITIONS; p++)
	{
		SsSlot *slot = all_slots + (Size) p * shared->slots;

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

/* The hash of a key: its low part selects the partition, the rest the bucket. */
static uint32
hash_of(const SsKey *key)
{
	uint32 hash = hash_bytes((const unsigned char *) key->bytes, ss_key_length(key));

	return hash_combine(hash, key->database * 31 + key->nslen);
}

/* The lock of a partition. */
static inline LWLock *
lock_of(int partition)
{
	return &locks[partition].lock;
}

/* A slot by its index, used or not. */
static inline SsSlot *
slot_at(int partition, int32 index)
{
	return &all_slots[(Size) partition * shared->slots + index];
}

/* The head of the chain for a hash. */
static inline int32 *
bucket_of(int partition, uint32 hash)
{
	return &all_buckets[(Size) partition * shared->buckets +
						((hash / SS_TOUCH_PARTITIONS) & (shared->buckets - 1))];
}

/* Are there any slots?  Not without shared_preload_libraries, or if they are turned off. */
bool
ss_slots_exist(void)
{
	return shared != NULL && shared->slots > 0;
}

static void
set_place(SsSlotRef *ref, const SsKey *key)
{
	ref->key = key;
	ref->hash = hash_of(key);
	ref->partition = ref->hash % SS_TOUCH_PARTITIONS;
	ref->slot = NULL;
}

/* Lock the partition, and search it for the session. */
static void
lock_place(SsSlotRef *ref, LWLockMode mode)
{
	int32 index;

	LWLockAcquire(lock_of(ref->partition), mode);
	for (index = *bucket_of(ref->partition, ref->hash); index != NO_SLOT;
		 index = slot_at(ref->partition, index)->next)
	{
		SsSlot *slot = slot_at(ref->partition, index);

		if (slot->hash == ref->hash && ss_key_equal(&slot->key, ref->key))
		{
			ref->slot = slot;
			return;
		}
	}
	ref->slot = NULL;
}

/*
 * Open the place of a session, whether it has a slot or not.  The key must stay valid until
 * ss_slot_close().  Called only if ss_slots_exist().
 */
void
ss_slot_open(SsSlotRef *ref, const SsKey *key, LWLockMode mode)
{
	set_place(ref, key);
	lock_place(ref, mode);
}

/*
 * Open the slot that has a touch of the row version that ends at `base`.  False, and nothing is
 * open, if there is none.
 */
bool
ss_slot_find(SsSlotRef *ref, const SsKey *key, TimestampTz base, LWLockMode mode)
{
	if (!ss_slots_exist())
		return false;
	set_place(ref, key);
	/*
	 * no lock is needed to see that there is none: a touch being added belongs to a read in
	 * progress
	 */
	if (*bucket_of(ref->partition, ref->hash) == NO_SLOT)
		return false;
	lock_place(ref, mode);
	if (ref->slot != NULL && ref->slot->base == base)
		return true;
	ss_slot_close(ref);
	return false;
}

/* Unlock the partition. */
void
ss_slot_close(SsSlotRef *ref)
{
	LWLockRelease(lock_of(ref->partition));
	ref->slot = NULL;
}

/*
 * Add a slot of a database for a session that has none; false if the database may have no more.  The
 * place is open exclusively.
 */
bool
ss_slot_add(SsSlotRef *ref, int member)
{
	Partition *part = &shared->partitions[ref->partition];
	int32 *bucket = bucket_of(ref->partition, ref->hash);
	int32 index = part->free;
	SsSlot *slot;

	Assert(LWLockHeldByMeInMode(lock_of(ref->partition), LW_EXCLUSIVE));
	Assert(ref->slot == NULL);
	if (!ss_shares_may_take(&shared->shares, part->count, shared->slots - part->used, member))
		return false;
	Assert(index != NO_SLOT);
	slot = slot_at(ref->partition, index);
	part->free = slot->next;
	part->used++;
	part->count[member]++;
	slot->member = member;
	slot->pins = 0;
	slot->hash = ref->hash;
	ss_key_copy(&slot->key, ref->key);
	slot->used = true;
	slot->next = *bucket;
	*bucket = index;
	ref->slot = slot;
	return true;
}

/* Free a slot that is in use.  Caller holds the partition's lock exclusively. */
static void
free_slot(int partition, SsSlot *slot)
{
	int32 index = slot - slot_at(partition, 0);
	int32 *link = bucket_of(partition, slot->hash);

	Assert(LWLockHeldByMeInMode(lock_of(partition), LW_EXCLUSIVE));
	Assert(slot->used);
	while (*link != index)
		link = &slot_at(partition, *link)->next;
	*link = slot->next;
	slot->used = false;
	slot->next = shared->partitions[partition].free;
	shared->partitions[partition].free = index;
	shared->partitions[partition].used--;
	shared->partitions[partition].count[slot->member]--;
}

/* Remove the slot of a session, which is open exclusively; its place stays open. */
void
ss_slot_remove(SsSlotRef *ref)
{
	free_slot(ref->partition, ref->slot);
	shared->partitions[ref->partition].removed_at = GetCurrentTimestamp();
	shared->partitions[ref->partition].removals++;
	ref->slot = NULL;
}

/* Was a slot of this partition removed at this time or later?  The place is open exclusively. */
bool
ss_slots_removed_since(const SsSlotRef *ref, TimestampTz time)
{
	Assert(LWLockHeldByMeInMode(lock_of(ref->partition), LW_EXCLUSIVE));
	return shared->partitions[ref->partition].removed_at >= time;
}

/* How often was a slot of this partition removed?  The place is open exclusively. */
uint64
ss_slots_removals(const SsSlotRef *ref)
{
	Assert(LWLockHeldByMeInMode(lock_of(ref->partition), LW_EXCLUSIVE));
	return shared->partitions[ref->partition].removals;
}

/*
 * Does a database use more than three quarters of the slots that it may have?  Its touches are
 * then written early.  Caller holds the partition's lock in either mode.
 */
bool
ss_slots_pressed(int partition, int member)
{
	const Partition *part = &shared->partitions[partition];
	int32 allowed = ss_shares_allowed(&shared->shares, part->count, shared->slots - part->used,
									  member);

	Assert(LWLockHeldByMe(lock_of(partition)));
	return part->count[member] > allowed - allowed / 4;
}

/* Begin a pass over a partition.  False, and it is not locked, if none of its slots is in use. */
bool
ss_slot_scan_begin(SsSlotScan *scan, int partition)
{
	if (shared->partitions[partition].used == 0)
		return false;
	LWLockAcquire(lock_of(partition), LW_SHARED);
	scan->partition = partition;
	scan->next = 0;
	scan->left = shared->partitions[partition].used;
	return true;
}

/* The next slot that is in use, NULL at the end. */
SsSlot *
ss_slot_scan_next(SsSlotScan *scan)
{
	while (scan->next < shared->slots && scan->left > 0)
	{
		SsSlot *slot = slot_at(scan->partition, scan->next++);

		if (slot->used)
		{
			scan->left--;
			return slot;
		}
	}
	return NULL;
}

/* Unlock the partition. */
void
ss_slot_scan_end(SsSlotScan *scan)
{
	LWLockRelease(lock_of(scan->partition));
}

/* A database has got a keeper, or lost it: only those with one have a share of the slots. */
void
ss_touch_share(int member, bool has_keeper)
{
	if (shared == NULL)
		return;
	for (int p = 0; p < SS_TOUCH_PARTITIONS; p++)
		LWLockAcquire(lock_of(p), LW_EXCLUSIVE);
	(void) ss_shares_set(&shared->shares, shared->slots, member, has_keeper);
	for (int p = 0; p < SS_TOUCH_PARTITIONS; p++)
		LWLockRelease(lock_of(p));
}

/* Remove all touches of a database that was dropped, or whose extension was. */
void
ss_touch_remove_database(Oid database)
{
	if (shared == NULL)
		return;
	for (int p = 0; p < SS_TOUCH_PARTITIONS; p++)
	{
		LWLockAcquire(lock_of(p), LW_EXCLUSIVE);
		for (int i = 0; i < shared->slots && shared->partitions[p].used > 0; i++)
		{
			SsSlot *slot = slot_at(p, i);

			if (slot->used && slot->key.database == database)
				free_slot(p, slot);
		}
		LWLockRelease(lock_of(p));
	}
}

/* Count slots, those of one database unless member is negative.  Reads without locks. */
void
ss_touch_counts(int member, SsTouchCounts *counts)
{
	memset(counts, 0, sizeof(*counts));
	if (shared == NULL)
		return;
	counts->slots = shared->slots * SS_TOUCH_PARTITIONS;
	for (int p = 0; p < SS_TOUCH_PARTITIONS; p++)
	{
		const Partition *part = &shared->partitions[p];

		counts->used += part->used;
		if (member < 0)
			continue;
		counts->mine += part->count[member];
		counts->share += ss_shares_of(&shared->shares, member);
		counts->allowed += ss_shares_allowed(&shared->shares, part->count,
											 shared->slots - part->used, member);
	}
}
