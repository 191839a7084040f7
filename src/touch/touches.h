/*
 * touches.h
 *		Pending touches: sliding reads recorded in shared memory instead of the row.
 */
#ifndef SS_TOUCHES_H
#define SS_TOUCHES_H

#include "datatype/timestamp.h"

#include "base/key.h"

/* A new expiry for a row version, which is identified by the one that it has (base). */
typedef struct SsTouch
{
	TimestampTz base;       /* expires_at of the row version that was read, or was replaced */
	int64 ttl_us;           /* of that version, or of its replacement */
	TimestampTz expires_at; /* when the session ends instead */
} SsTouch;

/* A copy of a pending touch, for the keeper to write. */
typedef struct SsDueTouch
{
	SsKey key;
	SsTouch touch;
} SsDueTouch;

/* Microseconds until a touch that could not be written is checked again. */
#define SS_TOUCH_POSTPONE_US INT64CONST(1000000)

/* Result of an attempt to record a touch. */
typedef enum SsTouchResult
{
	SS_TOUCH_RECORDED,
	SS_TOUCH_URGENT,  /* recorded, and due to be written: wake the keeper */
	SS_TOUCH_FULL,    /* there is no free slot */
	SS_TOUCH_CONFLICT /* the row may have another version by now: read it again */
} SsTouchResult;

/* What a reader knows about the row version that it touches (ss_touch_record). */
typedef struct SsTouchRead
{
	TimestampTz read_at; /* its snapshot was taken then or later */
	/* of the last SS_TOUCH_CONFLICT, after which the row was read again; 0 before */
	TimestampTz replaced; /* base of the touch of another version */
	uint64 removals;      /* slots that had been removed */
} SsTouchRead;

extern bool ss_touch_usable(void);
extern SsTouchResult ss_touch_record(const SsKey *key, const SsTouch *touch, SsTouchRead *read);
extern bool ss_touch_pin(const SsKey *key, const SsTouch *touch, TimestampTz read_at);
extern SsTouchResult ss_touch_unpin(const SsKey *key, const SsTouch *touch);
extern void ss_touch_rebase(const SsKey *key, const SsTouch *touch);
extern int ss_touch_due(Oid database, TimestampTz now, bool all, int *partition, SsDueTouch *out,
						int max);
extern void ss_touch_written(const SsDueTouch *due);
extern void ss_touch_postpone(const SsDueTouch *due, TimestampTz now, bool locked);
extern bool ss_touch_ended(const SsDueTouch *due, TimestampTz now);
extern void ss_touch_dropped(void);

#endif
