/*
 * session_store.c
 *		Module initialization, and a map of the source tree.
 *
 *		settings        configuration parameters
 *		function        declares C functions as callable by SQL, and checks their declaration
 *		worker          common parts of the background workers
 *		shmem           requests and initializes shared memory
 *		xact            what happens at the end of a transaction, in which order
 *		api/            functions that SQL can call: arguments and results, no SQL text
 *		health/         what session_health() and session_metrics() report, and their SQL
 *		workers/        the launcher and the keeper
 *		pusher/         the worker that writes to Redis, and what it reads from the tables
 *		redis/          the connection to Redis, and the requests of the protocol on it
 *		triggers/       the triggers that record changed keys and policies, and queue ended histories
 *		upkeep/         what the keeper does to the tables: purge, samples, orphans, writing touches
 *		sessions/       what the calls mean: change, end, history, members, events, listing, quotas
 *		row/            a session's row: alive or not, read, lock, write, its trigger, access
 *		keys/           the keys that a transaction changed, the fence, hot sessions
 *		touch/          pending touches: sliding reads without writes
 *		table/          how the tables are reached: catalog, SQL, columns, policies, foreign code
 *		shared/         what processes tell each other: entries of the databases, counters, reports
 *		protocol/       pure C, linked by the simulator: ledger, protocol, guard, rules R1 to R22
 *		base/           keys, arithmetic of lifetimes, the clock, URLs; no state of the server
 *
 * Includes go down only: from a folder to those below it (test/architecture/folders.list).
 * docs/architecture.md follows calls from file to file, and lists what is called through pointers.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "function.h"
#include "settings.h"
#include "shmem.h"
#include "table/foreign_hooks.h"
#include "table/plan_marks.h"
#include "triggers/cache_trigger.h"
#include "worker.h"
#include "xact.h"

SS_EXPORT_BEGIN
PG_MODULE_MAGIC;
SS_EXPORT_END

SS_EXPORT void _PG_init(void);

void
_PG_init(void)
{
	bool preloading = process_shared_preload_libraries_in_progress;

	ss_settings_define(preloading);
	ss_xact_init();
	ss_cache_trigger_init();
	ss_foreign_hooks_init();
	ss_plan_marks_init();
	if (preloading)
	{
		ss_shmem_install_hooks();
		ss_worker_register("launcher");
	}
}
