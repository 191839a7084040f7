/*
 * shmem.c
 *		Requests and initializes the shared memory of all modules.
 *
 * A module that has shared memory has two functions, ss_<module>_shmem_request and
 * ss_<module>_shmem_init, which are called here only.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "keys/hot.h"
#include "shared/counters.h"
#include "shared/databases.h"
#include "shared/identity.h"
#include "shared/ledger_shmem.h"
#include "shared/turn_wakes.h"
#include "shmem.h"
#include "touch/touch_slots.h"

static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

/* shmem_request_hook */
static void
request(void)
{
	if (previous_request_hook)
		previous_request_hook();
	ss_databases_shmem_request();
	ss_counters_shmem_request();
	ss_ledger_shmem_request();
	ss_touch_shmem_request();
	ss_hot_shmem_request();
	ss_turn_wakes_shmem_request();
}

/*
 * shmem_startup_hook.  Called again after a crash, when the postmaster has made new shared memory;
 * then the pointers of the modules to the old one are replaced.
 */
static void
startup(void)
{
	if (previous_startup_hook)
		previous_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	ss_databases_shmem_init();
	ss_counters_shmem_init();
	ss_touch_shmem_init();
	ss_hot_shmem_init();
	ss_turn_wakes_shmem_init();
	ss_ledger_shmem_init();
	LWLockRelease(AddinShmemInitLock);
	if (!IsUnderPostmaster)
		ss_identity_at_start();
}

/*
 * Installs the hooks that request and initialize shared memory.  To be called while
 * shared_preload_libraries is processed.
 */
void
ss_shmem_install_hooks(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup;
}
