/*
 * touch_slots.h
 *		The shared-memory hash table of pending touches.
 */
#ifndef SS_TOUCH_SLOTS_H
#define SS_TOUCH_SLOTS_H

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/lwlock.h"

#include "base/key.h"

#define SS_TOUCH_PARTITIONS 64

/* A pending touch.  Guarded by the lock of its partition; see touch_slots.c. */
typedef struct SsSlot
{
	uint32 hash;
	int32 next;   /* index of the next slot in the bucket's chain or the free list */
	uint8 member; /* number of the database in shares.c */
	bool used;
	TimestampTz base;
	int64 ttl_us;
	TimestampTz check_at;     /* not to be checked before this time, after a postponement */
	bool unmatched;           /* at the last check, no row had this base */
	int32 pins;               /* transactions that will record a touch when they commit */
	pg_atomic_uint64 expires; /* raised under the lock in shared mode */
	SsKey key;
} SsSlot;

/*
 * The place of a session in the table.  The lock of its partition is held from ss_slot_open() or
 * ss_slot_find() until ss_slot_close().
 */
typedef struct SsSlotRef
{
	const SsKey *key;
	uint32 hash;
	int partition;
	SsSlot *slot; /* NULL: the session has no pending touch */
} SsSlotRef;

/*
 * A pass over the slots in use of one partition, whose lock is held in shared mode from
 * ss_slot_scan_begin() until ss_slot_scan_end().
 */
typedef struct SsSlotScan
{
	int partition;
	int32 next; /* index of the slot to visit next */
	int32 left; /* at most this many slots in use remain to be visited */
} SsSlotScan;

/* Slots of all partitions, for metrics and health. */
typedef struct SsTouchCounts
{
	uint32 slots;
	uint32 used;
	/* of one database */
	uint32 mine;    /* used */
	uint32 share;   /* guaranteed to it */
	uint32 allowed; /* that it may have now */
} SsTouchCounts;

extern void ss_touch_shmem_request(void);
extern void ss_touch_shmem_init(void);

extern bool ss_slots_exist(void);
extern void ss_slot_open(SsSlotRef *ref, const SsKey *key, LWLockMode mode);
extern bool ss_slot_find(SsSlotRef *ref, const SsKey *key, TimestampTz base, LWLockMode mode);
extern void ss_slot_close(SsSlotRef *ref);
extern bool ss_slot_add(SsSlotRef *ref, int member);
extern void ss_slot_remove(SsSlotRef *ref);
extern bool ss_slots_removed_since(const SsSlotRef *ref, TimestampTz time);
extern uint64 ss_slots_removals(const SsSlotRef *ref);
extern bool ss_slots_pressed(int partition, int member);

extern bool ss_slot_scan_begin(SsSlotScan *scan, int partition);
extern SsSlot *ss_slot_scan_next(SsSlotScan *scan);
extern void ss_slot_scan_end(SsSlotScan *scan);

extern void ss_touch_share(int member, bool has_keeper);
extern void ss_touch_remove_database(Oid database);
extern void ss_touch_counts(int member, SsTouchCounts *counts);

#endif
