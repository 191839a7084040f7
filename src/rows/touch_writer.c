/*
 * touch_writer.c
 *		Noted reads, written to the table.
 *
 * Three steps, of which only the middle one is inside a transaction: take a copy
 * of the notes that are due, write them, and once that is committed settle with
 * the notes.  An error in the middle leaves the notes as they were.  A row that
 * somebody has locked keeps its note for the next time: whoever locked it is about
 * to give it a new expiry anyway, or will let go of it.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "rows/expiry.h"
#include "rows/sessions.h"
#include "rows/touch_writer.h"
#include "shared.h"

#define BATCH 500

typedef enum Outcome
{
	WRITTEN,
	LOCKED,   /* by somebody, for now */
	UNMATCHED /* the row has another version, or is gone */
} Outcome;

struct SsTouchBatch
{
	int count;
	SsTouch touches[BATCH];
	Outcome outcomes[BATCH];
};

/* Notes that are due (or all), from *partition on; NULL when there are none (any more). */
SsTouchBatch *
ss_touches_take(TimestampTz now, bool all, int *partition)
{
	SsTouchBatch *batch;

	if (!ss_touch_usable() || *partition >= ss_touch_partitions())
		return NULL;
	batch = palloc(sizeof(SsTouchBatch));
	batch->count = ss_touch_due(MyDatabaseId, now, all, partition, batch->touches, BATCH);
	if (batch->count == 0)
	{
		pfree(batch);
		return NULL;
	}
	return batch;
}

static Outcome
write_one(const SsTouch *touch)
{
	SsTarget target = {0};
	SsRow row;

	target.ns = PointerGetDatum(cstring_to_text_with_len(touch->key.bytes, touch->key.nslen));
	target.id = PointerGetDatum(
		cstring_to_text_with_len(touch->key.bytes + touch->key.nslen, touch->key.idlen));
	target.key = touch->key;
	target.policy.max_lifetime = SS_NO_LIMIT;

	if (!ss_row_try_lock(&target, &row))
		return ss_row_read(&target, SS_PLAN_WRITE, &row) && row.expires_at == touch->base
				   ? LOCKED
				   : UNMATCHED;
	if (row.expires_at != touch->base || row.dead_until != SS_NEVER)
		return UNMATCHED;
	row.expires_at = touch->expires;
	ss_row_extend(&target, &row);
	return WRITTEN;
}

/* In a transaction; returns how many were written. */
int
ss_touches_write(SsTouchBatch *batch)
{
	int written = 0;

	for (int i = 0; i < batch->count; i++)
	{
		batch->outcomes[i] = write_one(&batch->touches[i]);
		if (batch->outcomes[i] == WRITTEN)
			written++;
		CHECK_FOR_INTERRUPTS();
	}
	return written;
}

/* After the commit. */
void
ss_touches_settle(SsTouchBatch *batch)
{
	for (int i = 0; i < batch->count; i++)
	{
		SsTouch *touch = &batch->touches[i];

		if (batch->outcomes[i] == WRITTEN)
		{
			ss_touch_written(touch);
			ss_count(SS_USES_WRITTEN, 1);
		}
		else
			ss_touch_postpone(touch, GetCurrentTimestamp(), batch->outcomes[i] == LOCKED);
	}
	pfree(batch);
}
