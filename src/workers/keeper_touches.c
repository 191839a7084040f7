/*
 * keeper_touches.c
 *		Writes pending touches to the rows: those that are due, and all of them before a stop.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/wait_event.h"

#include "upkeep/touch_writer.h"
#include "workers/keeper_touches.h"

#define TOUCH_EVERY_US (USECS_PER_SEC) /* or when a backend requests it */
#define STOP_RETRY_MS 10               /* before the next attempt */

/* Writes one batch in a transaction; false if another session has the tables locked. */
static bool
write_batch(SsKeeper *keeper, SsTouchBatch *batch)
{
	SsCaller caller;

	if (!ss_keeper_begin(keeper, &caller))
		return false;
	ss_touches_write(batch, keeper->touch_aside);
	ss_keeper_finish(keeper, &caller);
	ss_touches_finish(batch, keeper->touch_aside);
	CHECK_FOR_INTERRUPTS();
	return true;
}

/* Writes the pending touches that are due. */
TimestampTz
ss_keeper_write_touches(SsKeeper *keeper, TimestampTz now)
{
	SsTouchBatch *batch;

	ss_aside_tidy(keeper->touch_aside, now);
	while ((batch = ss_touches_take(GetCurrentTimestamp(), false, &keeper->partition)) != NULL)
	{
		if (!write_batch(keeper, batch))
			return now + SS_KEEPER_CHECK_US;
		/* even if the disk is full, DROP DATABASE must not be blocked */
		if (GetCurrentTimestamp() - now > SS_KEEPER_CHECK_US)
			return now + SS_KEEPER_CHECK_US;
	}
	keeper->partition = 0;
	return now + TOUCH_EVERY_US;
}

/* Writes all pending touches once; false if there were none. */
static bool
flush_touches(SsKeeper *keeper, TimestampTz deadline)
{
	TimestampTz now = GetCurrentTimestamp();
	SsTouchBatch *batch;
	int partition = 0;
	bool any = false;

	while (GetCurrentTimestamp() < deadline &&
		   (batch = ss_touches_take(now, true, &partition)) != NULL)
	{
		any = true;
		if (!write_batch(keeper, batch))
			break;
	}
	return any;
}

/*
 * Writes all pending touches until the deadline; true if none is left.  A row that a client
 * holds locked becomes free once that client has ended, as it was also asked to.
 */
bool
ss_keeper_flush_touches(SsKeeper *keeper, TimestampTz deadline)
{
	for (;;)
	{
		bool any = flush_touches(keeper, deadline);

		/* after the deadline it is unknown whether any are left */
		if (GetCurrentTimestamp() >= deadline)
			return false;
		if (!any)
			return true;
		(void) WaitLatch(NULL, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, STOP_RETRY_MS, PG_WAIT_EXTENSION);
	}
}
