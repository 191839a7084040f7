/*
 * touches.h
 *		Sliding reads, noted in shared memory instead of written.
 */
#ifndef SS_TOUCHES_H
#define SS_TOUCHES_H

#include "rows/key.h"
#include "rows/names.h"
#include "rows/namespaces.h"

/* A note, as the keeper takes it for writing. */
typedef struct SsTouch
{
	SsKey key;
	int64 base; /* expires_at of the row version that was read */
	int64 ttl;
	int64 expires; /* what the reads have made of it */
} SsTouch;

/* From one look at a note that could not be written to the next. */
#define SS_TOUCH_POSTPONE INT64CONST(1000000)

/* Returned by ss_touch_reserve() if there is no free slot. */
#define SS_NO_RESERVATION (-1)

/* What became of an attempt to note. */
typedef enum SsTouchResult
{
	SS_TOUCH_RECORDED,
	SS_TOUCH_URGENT, /* and worth writing now */
	SS_TOUCH_FULL,     /* no room */
	SS_TOUCH_CONFLICT  /* there is a note on another version of the row */
} SsTouchResult;

typedef struct SsTouchCounts
{
	uint32 slots;
	uint32 used;
	/* of one database: those it has, can have whatever others do, and may have now */
	uint32 mine;
	uint32 share;
	uint32 allowed;
} SsTouchCounts;

extern Size ss_touch_shmem_size(int slots);
extern void ss_touch_shmem_init(int slots);
extern int ss_touch_partitions(void);

extern void ss_key_set(SsKey *key, const char *ns, int nslen, const char *id, int idlen);
extern bool ss_key_from_datums(SsKey *key, Datum ns, Datum id);

extern bool ss_touch_usable(void);
extern int64 ss_touch_effective(const SsKey *key, int64 expires_at);
extern SsTouchResult ss_touch_record(const SsKey *key, int64 base, int64 ttl, int64 expires, bool force);
extern int ss_touch_reserve(const SsKey *key);
extern void ss_touch_unreserve(const SsKey *key, int reservation);
extern SsTouchResult ss_touch_record_reserved(const SsKey *key, int64 base, int64 ttl, int64 expires,
									  int reservation);
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
