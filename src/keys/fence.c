/*
 * fence.c
 *		The wait in a COMMIT until no strong reader can see an old copy.
 *
 * A transaction takes a ticket when its keys are in the ledger and the policies that it changes in
 * shared memory.  It may pass when the pusher has deleted the copies of everything that was there
 * at that time, or when no lease can exist that was granted before (R1).
 */
#include "postgres.h"

#include "storage/condition_variable.h"
#include "utils/wait_event.h"

#include "base/clock.h"
#include "keys/fence.h"
#include "keys/xact_policies.h"
#include "settings.h"
#include "shared/counters.h"

/*
 * On a promoted standby the old primary's lease may be as recent as the promotion.  The time
 * of the promotion is not known here, so the first commit of a change, or the start of the
 * pusher or the keeper, stands for it.  Does nothing on a server that did not start in
 * recovery.
 */
void
ss_fence_apply_promotion(SsDb *db)
{
	static bool applied = false;
	SsMonotonic none = 0;

	if (applied || !ss_databases->began_in_recovery)
		return;
	(void) __atomic_compare_exchange_n(&ss_databases->promoted, &none, ss_monotonic(), false,
									   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	ss_control_promoted(&db->cache.control, ss_databases->promoted);
	applied = true;
}

/* Does a pusher write to a Redis, or will one? */
bool
ss_fence_is_configured(const SsDb *db)
{
	return ss_redis_url[0] != '\0' || db->cache.control.attached;
}

/*
 * May a strong reader trust some Redis?  Checked when the transaction ends, never when a row
 * changes, because it may become true in between.  It may also be true after a start without a
 * URL: before its restart this server may have left a lease, in this database's Redis or in an
 * earlier one.
 */
bool
ss_fence_may_be_trusted(const SsDb *db)
{
	return ss_fence_is_configured(db) ||
		   ss_control_may_be_leased(&db->cache.control, ss_monotonic());
}

/* Takes a ticket, and notes until when leases may last that were granted so far. */
void
ss_fence_take_ticket(SsDb *db, SsFenceWait *fence)
{
	fence->ticket = ss_control_ticket(&db->cache.control, &fence->lease_until);
}

/* Is everything reached that the transaction waits for, or can no lease exist? */
static bool
passes(const SsDb *db, const SsFenceWait *fence, SsMonotonic now)
{
	return (!fence->keys ||
			ss_control_passes(&db->cache.control, fence->ticket, fence->lease_until, now)) &&
		   (!fence->policies || ss_xact_policies_pass(db, fence->lease_until, now));
}

/* Waits until the transaction may pass.  Interruptible: an error here still aborts it. */
void
ss_fence_wait(SsDb *db, const SsFenceWait *fence)
{
	SsMonotonic start = ss_monotonic();
	SsMonotonic now = start;

	if (passes(db, fence, now))
		return;
	ConditionVariablePrepareToSleep(&db->cache.changed);
	for (;;)
	{
		long left_ms;

		ss_database_wake_pusher(db, true);
		now = ss_monotonic();
		if (passes(db, fence, now))
			break;
		left_ms = (long) ((fence->lease_until - now) / 1000 + 1);
		(void) ConditionVariableTimedSleep(&db->cache.changed, Min(left_ms, 100),
										   PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	ss_counter_add(SS_FENCED, 1);
	ss_counter_add(SS_FENCE_MICROSECONDS, now - start);
	if (now >= fence->lease_until)
		ss_counter_add(SS_FENCE_EXPIRED, 1);
}
