/*
 * session_store.c
 *		Module initialization, and a map of the source tree.
 *
 *		settings        configuration parameters
 *		function        declares C functions as callable by SQL, and checks their declaration
 *		shmem           shared memory: requested and initialized here, for all modules
 *		databases       the databases and their workers, in shared memory
 *		counters        what happened in a database, counted
 *		cache_status    what the pusher and other processes tell each other
 *		clock           the monotonic clock
 *		worker          common parts of the background workers
 *		xact            what happens at the end of a transaction, in which order
 *		api/            SQL functions: arguments and results
 *		rows/           the rows of the extension's tables: SQL and access to the heap
 *		cache/          the copies in Redis: changed keys, ledger, protocol, pusher
 *		workers/        launcher (finds databases) and keeper (purges, writes pending touches)
 *
 * docs/architecture.md follows calls from file to file, and lists what is called through pointers.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "cache/cache_trigger.h"
#include "function.h"
#include "rows/foreign_hooks.h"
#include "rows/row_end.h"
#include "settings.h"
#include "shmem.h"
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
	ss_row_end_init();
	if (preloading)
	{
		ss_shmem_install_hooks();
		ss_worker_register("launcher");
	}
}
