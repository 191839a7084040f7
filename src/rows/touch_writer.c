/*
 * touch_writer.c
 *		Noted reads, written to the table.
 *
 * Three steps, of which only the middle one is inside a transaction: take a copy
 * of the notes that are due, write them, and once that is committed settle with
 * the notes.  An error in the middle leaves the notes as they were.  A row that
 * somebody has locked keeps its note for the next time: whoever locked it is about
 * to give it a new expiry anyway, or will let go of it.
 *
 * A row that cannot be written (a trigger refuses it, say) is set aside (aside.c): its note is kept,
 * and so the session goes on, until the note itself says that the session has ended.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "rows/expiry.h"
#include "rows/sessions.h"
#include "rows/sql.h"
#include "rows/touch_writer.h"
#include "shared.h"

#define BATCH 500

/* When touches are written one by one: at most so many, for so long. */
#define ALONE_MOST 50
#define ALONE_TIME (INT64CONST(300) * 1000)

typedef enum Outcome
{
	WRITTEN,
	LOCKED,    /* by somebody, for now */
	UNMATCHED, /* the row has another version, or is gone */
	ASIDE      /* it cannot be written, or was set aside before */
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
	ss_row_write_expiry(&target, &row);
	return WRITTEN;
}

/* In a subtransaction: all of them that are not set aside. */
static bool
write_together(void *arg)
{
	SsTouchBatch *batch = arg;

	for (int i = 0; i < batch->count; i++)
	{
		if (batch->outcomes[i] != ASIDE)
			batch->outcomes[i] = write_one(&batch->touches[i]);
		CHECK_FOR_INTERRUPTS();
	}
	return true;
}

typedef struct Single
{
	const SsTouch *touch;
	Outcome outcome;
} Single;

/* In a subtransaction: one. */
static bool
write_alone(void *arg)
{
	Single *single = arg;

	single->outcome = write_one(single->touch);
	return single->outcome == WRITTEN;
}

/* The batch was undone: write one by one.  Those that come to no turn are left for the next time. */
static void
write_one_by_one(SsTouchBatch *batch, SsAside *aside)
{
	TimestampTz began = GetCurrentTimestamp();
	int written = 0;

	for (int i = 0; i < batch->count; i++)
	{
		SsTouch *touch = &batch->touches[i];
		Single single = {touch, LOCKED};
		ErrorData *error;

		CHECK_FOR_INTERRUPTS();
		if (batch->outcomes[i] == ASIDE || ss_aside_holds(aside, &touch->key, began) ||
			written >= ALONE_MOST || GetCurrentTimestamp() - began > ALONE_TIME)
		{
			batch->outcomes[i] = ASIDE;
			continue;
		}
		written += ss_aside_try(write_alone, &single, &error) ? 1 : 0;
		batch->outcomes[i] = single.outcome;
		if (error == NULL)
			ss_aside_done(aside, &touch->key);
		else
		{
			batch->outcomes[i] = ASIDE;
			ss_aside_add(aside, &touch->key, error);
			FreeErrorData(error);
		}
	}
}

/* In a transaction. */
void
ss_touches_write(SsTouchBatch *batch, SsAside *aside)
{
	TimestampTz now = GetCurrentTimestamp();
	ErrorData *error;

	for (int i = 0; i < batch->count; i++)
		batch->outcomes[i] = ss_aside_holds(aside, &batch->touches[i].key, now) ? ASIDE : LOCKED;
	(void) ss_aside_try(write_together, batch, &error);
	if (error != NULL)
	{
		FreeErrorData(error);
		write_one_by_one(batch, aside);
		return;
	}
	for (int i = 0; i < batch->count && !ss_aside_is_empty(aside); i++)
		if (batch->outcomes[i] != ASIDE)
			ss_aside_done(aside, &batch->touches[i].key);
}

/* After the commit. */
void
ss_touches_finish(SsTouchBatch *batch, SsAside *aside)
{
	for (int i = 0; i < batch->count; i++)
	{
		SsTouch *touch = &batch->touches[i];

		if (batch->outcomes[i] == WRITTEN)
		{
			ss_touch_written(touch);
			ss_count(SS_USES_WRITTEN, 1);
		}
		else if (batch->outcomes[i] != ASIDE || !ss_touch_ended(touch, GetCurrentTimestamp()))
			ss_touch_postpone(touch,
							  Max(GetCurrentTimestamp(),
								  ss_aside_until(aside, &touch->key) - SS_TOUCH_POSTPONE),
							  batch->outcomes[i] != UNMATCHED);
	}
	pfree(batch);
}
