/*
 * touch_slots.h
 *		The shared-memory hash table of pending touches; for touches.c only.
 */
#ifndef SS_TOUCH_SLOTS_H
#define SS_TOUCH_SLOTS_H

#include "port/atomics.h"
#include "storage/lwlock.h"

#include "rows/touches.h"

#define SS_SLOT_PARTITIONS 64

/* A pending touch.  Guarded by the lock of its partition; see touch_slots.c. */
typedef struct SsSlot
{
	uint32 hash;
	int32 next;   /* index of the next slot in the bucket's chain or the free list */
	uint8 member; /* number of the database in shares.c */
	bool used;
	int64 base;
	int64 ttl;
	int64 check_at;           /* not to be checked before this time, after a postponement */
	bool unmatched;           /* at the last check, no row had this base */
	pg_atomic_uint64 expires; /* raised under the lock in shared mode */
	SsKey key;
} SsSlot;

extern bool ss_slots_exist(void);
extern int ss_slots_each(void);
extern int ss_slots_used(int partition);
extern bool ss_slots_pressed(int partition, int member);
extern uint32 ss_slot_hash(const SsKey *key);
extern bool ss_slot_maybe(uint32 hash);
extern LWLock *ss_slot_lock(int partition);
extern SsSlot *ss_slot_at(int partition, int32 index);
extern SsSlot *ss_slot_find(int partition, uint32 hash, const SsKey *key);
extern bool ss_slot_reserve(int partition, int member);
extern void ss_slot_unreserve(int partition, int member);
extern SsSlot *ss_slot_take(int partition, int member, uint32 hash, const SsKey *key);
extern void ss_slot_release(int partition, SsSlot *slot);

/* The partition for a hash. */
static inline int
ss_slot_partition(uint32 hash)
{
	return hash % SS_SLOT_PARTITIONS;
}

#endif
