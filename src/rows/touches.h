/*
 * touches.h
 *		Pending touches: sliding reads recorded in shared memory instead of the row.
 */
#ifndef SS_TOUCHES_H
#define SS_TOUCHES_H

#include "rows/key.h"

/* A copy of a pending touch, for the keeper to write. */
typedef struct SsTouch
{
	SsKey key;
	int64 base;    /* expires_at of the row version that was read */
	int64 ttl;     /* of that version, in microseconds */
	int64 expires; /* the expires_at that the reads call for */
} SsTouch;

/* Microseconds until a touch that could not be written is checked again. */
#define SS_TOUCH_POSTPONE INT64CONST(1000000)

/* Returned by ss_touch_reserve() if there is no free slot. */
#define SS_NO_RESERVATION (-1)

/* Result of an attempt to record a touch. */
typedef enum SsTouchResult
{
	SS_TOUCH_RECORDED,
	SS_TOUCH_URGENT,  /* recorded, and due to be written: wake the keeper */
	SS_TOUCH_FULL,    /* there is no free slot */
	SS_TOUCH_CONFLICT /* there is a touch of another version of the row */
} SsTouchResult;

/* Slots of all partitions, for metrics and health. */
typedef struct SsTouchCounts
{
	uint32 slots;
	uint32 used; /* or reserved */
	/* of one database */
	uint32 mine;    /* used or reserved */
	uint32 share;   /* guaranteed to it */
	uint32 allowed; /* that it may have now */
} SsTouchCounts;

extern void ss_touch_shmem_request(void);
extern void ss_touch_shmem_init(void);
extern int ss_touch_partitions(void);

extern bool ss_touch_usable(void);
extern int64 ss_touch_effective(const SsKey *key, int64 expires_at);
extern SsTouchResult ss_touch_record(const SsKey *key, int64 base, int64 ttl, int64 expires,
									 bool force);
extern int ss_touch_reserve(const SsKey *key);
extern void ss_touch_unreserve(const SsKey *key, int reservation);
extern SsTouchResult ss_touch_record_reserved(const SsKey *key, int64 base, int64 ttl,
											  int64 expires, int reservation);
extern void ss_touch_rebase(const SsKey *key, int64 base, int64 written, int64 ttl);
extern int ss_touch_due(Oid database, int64 now, bool all, int *partition, SsTouch *out, int max);
extern void ss_touch_written(const SsTouch *touch);
extern void ss_touch_postpone(const SsTouch *touch, int64 now, bool locked);
extern bool ss_touch_ended(const SsTouch *touch, int64 now);
extern void ss_touch_dropped(void);
extern void ss_touch_remove_database(Oid database);
extern void ss_touch_share(int member, bool has_keeper);
extern void ss_touch_counts(int member, SsTouchCounts *counts);

#endif
