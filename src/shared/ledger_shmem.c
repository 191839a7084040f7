/*
 * ledger_shmem.c
 *		The ledger in shared memory, and the locks of its partitions.
 *
 * ledger.c is pure C, which the simulator links as well.  It declares ss_ledger_lock and
 * ss_ledger_unlock and leaves them to the program that embeds it; in the server they are here.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "settings.h"
#include "shared/ledger_shmem.h"

#define TRANCHE "session_store_ledger"

SsLedger *ss_ledger = NULL;

static LWLockPadded *locks;

/* Requests the shared memory and the locks (shmem.c). */
void
ss_ledger_shmem_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(ss_ledger_size(ss_ledger_keys)));
	RequestNamedLWLockTranche(TRANCHE, SS_LEDGER_PARTITIONS);
}

/* Attaches to the shared memory, and initializes it if it is new (shmem.c). */
void
ss_ledger_shmem_init(void)
{
	bool found;

	ss_ledger = ShmemInitStruct("session_store ledger", ss_ledger_size(ss_ledger_keys), &found);
	locks = GetNamedLWLockTranche(TRANCHE);
	if (!found)
		ss_ledger_init(ss_ledger, ss_ledger_keys);
}

void
ss_ledger_lock(int partition)
{
	LWLockAcquire(&locks[partition].lock, LW_EXCLUSIVE);
}

void
ss_ledger_unlock(int partition)
{
	LWLockRelease(&locks[partition].lock);
}
