/*
 * session_store.c
 *		_PG_init and nothing else: the map of the house.
 *
 *	settings	every setting
 *	function	how C functions are made callable by SQL, and checked
 *	shared		what lives in shared memory: databases, workers, counters
 *	worker		what workers have in common: how they are registered, and begin
 *	api/		the functions that SQL calls: arguments, access, datums
 *	rows/		the only place with SQL on our tables
 *	cache/		what Redis holds: changes, ledger, protocol, pusher
 *	workers/	launcher (finds databases) and keeper (one in each: purge, touches)
 *
 * Calls go down only: api -> rows, cache; workers -> rows, cache; cache -> rows.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "cache/cache_trigger.h"
#include "cache/xact_keys.h"
#include "function.h"
#include "rows/events.h"
#include "rows/foreign_code.h"
#include "rows/relaxed.h"
#include "rows/row_end.h"
#include "rows/touch_xact.h"
#include "settings.h"
#include "shared.h"
#include "worker.h"

SS_EXPORT_BEGIN
PG_MODULE_MAGIC;
SS_EXPORT_END

SS_EXPORT void _PG_init(void);

void
_PG_init(void)
{
	bool preloading = process_shared_preload_libraries_in_progress;

	ss_settings_define(preloading);
	ss_shared_init_backend();
	ss_touch_xact_init();
	ss_xact_keys_init_backend();
	ss_cache_trigger_init();
	ss_events_init_backend();
	ss_relaxed_init_backend();
	ss_foreign_code_init();
	ss_row_end_init();
	if (preloading)
	{
		ss_shared_install_hooks();
		ss_worker_register("launcher");
	}
}
