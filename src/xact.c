/*
 * xact.c
 *		What happens at the end of a transaction and of a subtransaction, and in which order.
 *
 * These are the only callbacks that we register for it.  A module that keeps state of the current
 * transaction has a function for each event that concerns it (ss_<module>_at_<event>), which
 * returns at once if the transaction did not use the module.  The order of the calls here is
 * written with its reasons; where none is given, the modules do not depend on each other.
 *
 * The callbacks are registered when the library is loaded and not on first use.  The server calls
 * them last registered first; so where the library is preloaded, the order with regard to other
 * extensions depends on shared_preload_libraries alone, not on what a session calls first.
 *
 * Errors:
 *
 *	- PRE_COMMIT and PRE_PREPARE may raise one.  It aborts the transaction: the steps that follow
 *	  are left out, and the ABORT event undoes those that were done.
 *	- COMMIT and PREPARE come when the transaction is on disk, and COMMIT when others can see it; an
 *	  error would be a PANIC.  ABORT comes while an error is handled; another one there would start
 *	  the abort over, in the end a PANIC as well.  So these steps, and those at the end of a
 *	  subtransaction, allocate nothing and read no catalog: they write memory, under LWLocks where it
 *	  is shared, and set latches.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/resowner.h"

#include "keys/xact_keys.h"
#include "keys/xact_policies.h"
#include "sessions/events.h"
#include "sessions/relaxed.h"
#include "shared/databases.h"
#include "shared/turn_wakes.h"
#include "table/catalog.h"
#include "touch/touch_xact.h"
#include "xact.h"

static void
xact_callback(XactEvent event, void *arg)
{
	bool committed = event == XACT_EVENT_COMMIT;

	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:

			/*
			 * First what decides on the wait for the disk.  It asks whether WAL was written since
			 * the last save, and the fence may read a catalog, which may write WAL (pruning).  If it
			 * fails, no key has entered the ledger, and no reader and no pusher is affected.
			 */
			ss_relaxed_at_pre_commit();
			/* last, because it may wait as long as a lease lasts, and others see what it does */
			ss_xact_keys_at_pre_commit();
			break;

		case XACT_EVENT_PRE_PREPARE:
			/* the commit of a prepared transaction always waits for the disk */
			ss_xact_keys_at_pre_prepare();
			break;

		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			ss_relaxed_at_end();
			if (!committed)
				ss_catalog_at_rollback();
			ss_catalog_at_end();
			ss_events_at_end(committed);
			ss_xact_keys_at_end();
			ss_touch_xact_at_end(committed);
			/* those it wakes must find what the transaction did, pending touches included */
			ss_turn_wakes_at_end(committed);

			/*
			 * Last: a keeper that sees that sessions have changed must find all of the above.  One
			 * that was woken by the above and finds nothing to do rests only until this is counted
			 * (rest.c).
			 */
			ss_database_at_end(committed, event == XACT_EVENT_PREPARE);
			break;

		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
			/* a parallel worker changes nothing that these modules record */
			break;
	}
}

static void
subxact_callback(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	switch (event)
	{
		case SUBXACT_EVENT_COMMIT_SUB:
			ss_events_at_subxact_commit();
			ss_xact_keys_at_subxact_commit(mine, parent);
			ss_touch_xact_at_subxact_commit(mine, parent);
			break;

		case SUBXACT_EVENT_ABORT_SUB:
			/* relaxed.c has nothing to undo: what a rolled back savepoint wrote is in WAL */
			ss_catalog_at_rollback();
			ss_events_at_subxact_abort();
			ss_xact_keys_at_subxact_abort(mine);
			ss_touch_xact_at_subxact_abort(mine);
			break;

		case SUBXACT_EVENT_START_SUB:
		case SUBXACT_EVENT_PRE_COMMIT_SUB:
			break;
	}
}

/*
 * Called in several phases of the release of resources, after COMMIT, ABORT and PREPARE, also for
 * subtransactions and portals.  AFTER_LOCKS comes after the invalidation messages were sent.
 */
static void
resource_callback(ResourceReleasePhase phase, bool is_commit, bool is_top, void *arg)
{
	if (phase == RESOURCE_RELEASE_AFTER_LOCKS && is_top)
		ss_xact_policies_after_end();
}

/* Registers the callbacks.  Called once, by _PG_init. */
void
ss_xact_init(void)
{
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
	RegisterResourceReleaseCallback(resource_callback, NULL);
}
