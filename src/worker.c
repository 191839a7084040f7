/*
 * worker.c
 *		Common parts of launcher, keeper and pusher: registration, start and configuration.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "compat.h"
#include "table/sql.h"
#include "worker.h"

static void
describe(BackgroundWorker *worker, const char *kind)
{
	memset(worker, 0, sizeof(*worker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	/* not in recovery: the primary purges and writes to Redis */
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	snprintf(worker->bgw_library_name, BGW_MAXLEN, "session_store");
	snprintf(worker->bgw_function_name, BGW_MAXLEN, "ss_%s_main", kind);
	snprintf(worker->bgw_name, BGW_MAXLEN, "session_store %s", kind);
	snprintf(worker->bgw_type, BGW_MAXLEN, "session_store %s", kind);
}

/*
 * Register a worker that the postmaster keeps running.  To be called while
 * shared_preload_libraries is processed.
 *
 * No worker runs in a binary upgrade: pg_upgrade reads the next transaction id of the old server
 * and then copies its files, so a worker that assigned a transaction id in between would leave
 * rows from the future in the new cluster.
 */
void
ss_worker_register(const char *kind)
{
	BackgroundWorker worker;

	if (IsBinaryUpgrade)
		return;
	describe(&worker, kind);
	worker.bgw_restart_time = 2;
	RegisterBackgroundWorker(&worker);
}

/*
 * Start a worker for a database.  The calling process is signaled when the worker starts and when
 * it ends.  *handle is NULL or the handle of an earlier worker, which is freed.  It is set to the
 * handle of the new worker, in TopMemoryContext, or to NULL, with false as result, if no worker
 * slot is free.
 */
bool
ss_worker_start(const char *kind, Oid database, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker;
	MemoryContext old;
	bool started;

	if (IsBinaryUpgrade)
		return false;
	describe(&worker, kind);
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker.bgw_name, BGW_MAXLEN, "session_store %s of database %u", kind, database);
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	worker.bgw_notify_pid = MyProcPid;
	if (*handle != NULL)
		pfree(*handle);
	*handle = NULL;
	old = MemoryContextSwitchTo(TopMemoryContext);
	started = RegisterDynamicBackgroundWorker(&worker, handle);
	MemoryContextSwitchTo(old);
	return started;
}

/* Set a configuration parameter for this worker, overriding any other source. */
void
ss_worker_set(const char *setting, const char *value)
{
	SetConfigOption(setting, value, PGC_SUSET, PGC_S_OVERRIDE);
}

/* Override settings that ALTER DATABASE or ALTER ROLE may have made for other purposes. */
static void
own_settings(void)
{
	static const char *const settings[][2] = {{"default_transaction_isolation", "read committed"},
											  {"default_transaction_deferrable", "off"},
											  {"statement_timeout", "0"},
											  {"idle_in_transaction_session_timeout", "0"},
											  SS_TRANSACTION_TIMEOUT{"jit", "off"},
											  {"search_path", SS_SEARCH_PATH}};

	for (int i = 0; i < (int) lengthof(settings); i++)
		ss_worker_set(settings[i][0], settings[i][1]);
}

/* Set up signal handlers and connect to a database, or to none (InvalidOid). */
void
ss_worker_begin(Oid database)
{
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	/* a reload before the handler was installed went unnoticed */
	ConfigReloadPending = true;
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	if (OidIsValid(database))
		own_settings();
}

/* Reload the configuration if SIGHUP was received.  Returns true if it was reloaded. */
bool
ss_worker_reload(void)
{
	if (!ConfigReloadPending)
		return false;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	return true;
}
