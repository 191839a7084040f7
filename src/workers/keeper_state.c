/*
 * keeper_state.c
 *		The transactions of a keeper, and its exit.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "table/catalog.h"
#include "touch/touch_slots.h"
#include "workers/keeper_state.h"
#include "workers/stop.h"

/* Exits, after setting the state of the database for the launcher. */
void
ss_keeper_leave(SsKeeper *keeper, SsDbState state, TimestampTz retry_at)
{
	ss_databases_lock(true);
	keeper->db->state = state;
	keeper->db->retry_at = retry_at;
	keeper->db->failures = 0;
	ss_databases_unlock();
	proc_exit(0);
}

/*
 * Begins a transaction with our tables locked.  False if another session has them locked;
 * exits if the extension was dropped.
 */
bool
ss_keeper_begin(SsKeeper *keeper, SsCaller *caller)
{
	SsCatalog catalog;

	/* only during transactions, because the timer would wake an idle keeper */
	if (!keeper->stopping)
		ss_stop_watch(0);
	pgstat_report_activity(STATE_RUNNING, keeper->activity);
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (!ss_catalog_find(&catalog))
	{
		PopActiveSnapshot();
		CommitTransactionCommand();
		ss_touch_remove_database(MyDatabaseId);
		ss_touch_share(ss_database_number(keeper->db), false);
		ss_keeper_leave(keeper, SS_DB_ABSENT, 0);
	}
	if (!keeper->has_share)
		ss_touch_share(ss_database_number(keeper->db), true);
	keeper->has_share = true;
	if (!ss_catalog_try_lock(&catalog) ||
		!ConditionalLockRelationOid(catalog.sessions, RowExclusiveLock) ||
		!ConditionalLockRelationOid(catalog.history, RowExclusiveLock))
	{
		PopActiveSnapshot();
		CommitTransactionCommand();
		keeper->skipped = true;
		return false;
	}
	ss_sql_enter(caller);
	return true;
}

/* Commits the transaction of ss_keeper_begin. */
void
ss_keeper_finish(SsKeeper *keeper, SsCaller *caller)
{
	ss_sql_leave(caller);
	PopActiveSnapshot();
	CommitTransactionCommand();
	/* otherwise autovacuum would not see our changes */
	pgstat_report_stat(false);
	MemoryContextSwitchTo(keeper->cycle_context);
}
