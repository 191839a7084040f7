/*
 * touch_writer.c
 *		Writes pending touches to the table, for the keeper.
 *
 * There are three steps, of which only the second is inside a transaction: copy the touches that
 * are due (ss_touches_take), write them (ss_touches_write), and after the commit update the
 * touches in shared memory (ss_touches_finish).  An error in the second step leaves them
 * unchanged.  A row that is locked by another session is skipped and its touch kept for the next
 * time, because that session may be about to give the row a new expiry.
 *
 * A row that cannot be written, because a trigger refuses it, say, is set aside (aside.c).  Its
 * touch is kept, and so the session stays alive, until the touch itself has expired.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/expiry.h"
#include "row/row.h"
#include "shared/counters.h"
#include "table/sql.h"
#include "touch/touch_slots.h"
#include "touch/touches.h"
#include "upkeep/touch_writer.h"

#define BATCH 500

/* What became of a touch. */
typedef enum Outcome
{
	WRITTEN,
	LOCKED,    /* the row is locked by another session */
	UNMATCHED, /* the row has another version, or was deleted */
	ASIDE      /* the row cannot be written, or was set aside before */
} Outcome;

struct SsTouchBatch
{
	int count;
	SsDueTouch touches[BATCH];
	Outcome outcomes[BATCH];
};

/*
 * Copy a batch of touches that are due, or of all, from *partition on; NULL if there are no more.
 * The batch is palloced, and freed by ss_touches_finish.
 */
SsTouchBatch *
ss_touches_take(TimestampTz now, bool all, int *partition)
{
	SsTouchBatch *batch;

	if (!ss_touch_usable() || *partition >= SS_TOUCH_PARTITIONS)
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

/*
 * Does a touch extend this version of a row?  It may have been recorded before the expiry was fixed, or
 * the session ended.
 */
static bool
matches(const SsRow *row, const SsDueTouch *due)
{
	return row->expires_at == due->touch.base && row->ttl_us != SS_FIXED &&
		   row->dead_until == SS_NEVER;
}

/* Write one touch, unless its row is locked or has changed. */
static Outcome
write_one(const SsDueTouch *due)
{
	SsTarget target = {0};
	SsRow row;

	target.ns = PointerGetDatum(cstring_to_text_with_len(due->key.bytes, due->key.nslen));
	target.id = PointerGetDatum(
		cstring_to_text_with_len(due->key.bytes + due->key.nslen, due->key.idlen));
	target.key = due->key;
	target.policy.max_lifetime_us = SS_NO_LIMIT;

	if (!ss_row_try_lock(&target, 0, &row))
		return ss_row_read(&target, SS_PLAN_WRITE, 0, &row) && matches(&row, due) ? LOCKED
																				  : UNMATCHED;
	if (!matches(&row, due))
		return UNMATCHED;
	row.expires_at = due->touch.expires_at;
	(void) ss_row_write(&target, &row, SS_WRITE_EXPIRY);
	return WRITTEN;
}

/* Write all touches that are not set aside.  Runs in a subtransaction. */
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
	const SsDueTouch *due;
	Outcome outcome;
} Single;

/* Write one touch.  Runs in a subtransaction. */
static bool
write_single(void *arg)
{
	Single *single = arg;

	single->outcome = write_one(single->due);
	return single->outcome == WRITTEN;
}

/*
 * After an error has undone the batch: write each touch in its own subtransaction, and set aside
 * those that fail.  Touches beyond the limits are left for the next time.
 */
static void
write_one_by_one(SsTouchBatch *batch, SsAside *aside)
{
	TimestampTz began = GetCurrentTimestamp();
	int written = 0;

	for (int i = 0; i < batch->count; i++)
	{
		SsDueTouch *due = &batch->touches[i];
		Single single = {due, LOCKED};
		ErrorData *error;

		CHECK_FOR_INTERRUPTS();
		if (batch->outcomes[i] == ASIDE || ss_aside_holds(aside, &due->key, began) ||
			written >= SS_ASIDE_PASS_ROWS || GetCurrentTimestamp() - began > SS_ASIDE_PASS_US)
		{
			batch->outcomes[i] = ASIDE;
			continue;
		}
		written += ss_aside_try(write_single, &single, &error) ? 1 : 0;
		batch->outcomes[i] = single.outcome;
		if (error == NULL)
			ss_aside_done(aside, &due->key);
		else
		{
			batch->outcomes[i] = ASIDE;
			ss_aside_add(aside, &due->key, error);
			FreeErrorData(error);
		}
	}
}

/* Write a batch.  Called in a transaction, within ss_sql_enter and ss_sql_leave. */
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

/* Update the touches in shared memory, and free the batch.  Called after the commit. */
void
ss_touches_finish(SsTouchBatch *batch, SsAside *aside)
{
	for (int i = 0; i < batch->count; i++)
	{
		SsDueTouch *due = &batch->touches[i];

		if (batch->outcomes[i] == WRITTEN)
		{
			ss_touch_written(due);
			ss_counter_add(SS_TOUCHES_WRITTEN, 1);
		}
		else if (batch->outcomes[i] != ASIDE || !ss_touch_ended(due, GetCurrentTimestamp()))
			ss_touch_postpone(due,
							  Max(GetCurrentTimestamp(),
								  ss_aside_until(aside, &due->key) - SS_TOUCH_POSTPONE_US),
							  batch->outcomes[i] != UNMATCHED);
	}
	pfree(batch);
}
