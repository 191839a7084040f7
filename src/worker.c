/*
 * worker.c
 *		What launcher, keeper and pusher have in common: how a worker is registered, begins,
 *		and reads the configuration again.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "compat.h"
#include "rows/sql.h"
#include "worker.h"

static void
describe(BackgroundWorker *worker, const char *kind)
{
	memset(worker, 0, sizeof(*worker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	/* never in recovery: purging, and what Redis holds, is the primary's business */
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	snprintf(worker->bgw_library_name, BGW_MAXLEN, "session_store");
	snprintf(worker->bgw_function_name, BGW_MAXLEN, "ss_%s_main", kind);
	snprintf(worker->bgw_name, BGW_MAXLEN, "session_store %s", kind);
	snprintf(worker->bgw_type, BGW_MAXLEN, "session_store %s", kind);
}

/*
 * While the library is preloaded: a worker that the postmaster keeps running.  None in a binary
 * upgrade: pg_upgrade reads the next transaction id of the old server and then copies its files,
 * so a worker that assigns one in between leaves rows from the future in the new cluster.
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
 * A worker for a database: whoever started it is woken when it begins and when it ends, and
 * may start another.  *handle is NULL or of an earlier one, and becomes the new one's; false,
 * and NULL, when no slot is free.
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

/* A setting for this worker alone, whatever the configuration says. */
void
ss_worker_set(const char *setting, const char *value)
{
	SetConfigOption(setting, value, PGC_SUSET, PGC_S_OVERRIDE);
}

/* What databases and roles may have set for their own purposes is not for us. */
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

/* Listen to signals, and connect to a database, or to none (InvalidOid). */
void
ss_worker_begin(Oid database)
{
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	/* a reload that came before we listened was lost on us */
	ConfigReloadPending = true;
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	if (OidIsValid(database))
		own_settings();
}

/* Read the configuration again, if somebody asked for that; true when it was read. */
bool
ss_worker_reload(void)
{
	if (!ConfigReloadPending)
		return false;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	return true;
}
