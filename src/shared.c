/*
 * shared.c
 *		What lives in shared memory: the databases, their workers and counters.
 *
 * Locking: everything in SsShared is guarded by one LWLock, taken by the workers
 * about once a second and by backends once in their life, to find their database.
 * Counters are atomics, striped by process so that backends do not fight over
 * cache lines.  Processes are named by pid and index, never by a pointer.
 */
#include "postgres.h"

#include <time.h>
#include <unistd.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"

#include "cache/hot.h"
#include "cache/identity.h"
#include "compat.h"
#include "function.h"
#include "rows/touches.h"
#include "settings.h"
#include "shared.h"

SS_FUNCTION(session_store_wake, 1_0, VOIDOID);

SsShared *ss_shared = NULL;

SsLedger *ss_ledger = NULL;

static LWLock *main_lock;
static LWLockPadded *ledger_locks;
static SsDb *my_db = NULL;
static bool look_at_commit = false;
static bool changed = false; /* by this transaction: sessions */
static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

static Size
ledger_bytes(void)
{
	return ss_ledger_size(ss_ledger_keys);
}

static void
request(void)
{
	Size size;

	if (previous_request_hook)
		previous_request_hook();
	size = add_size(MAXALIGN(sizeof(SsShared)), ss_touch_shmem_size(ss_touch_slots));
	size = add_size(size, MAXALIGN(ledger_bytes()));
	RequestAddinShmemSpace(add_size(size, ss_hot_shmem_size()));
	RequestNamedLWLockTranche(SS_MAIN_TRANCHE, 1);
	RequestNamedLWLockTranche(SS_LEDGER_TRANCHE, SS_LEDGER_PARTITIONS);
	RequestNamedLWLockTranche(SS_TOUCH_TRANCHE, ss_touch_partitions());
}

static void
startup(void)
{
	bool found;

	if (previous_startup_hook)
		previous_startup_hook();

	/* after a crash the server starts anew in the same process: forget the old */
	ss_shared = NULL;
	ss_ledger = NULL;
	my_db = NULL;
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	ss_shared = ShmemInitStruct("session_store", sizeof(SsShared), &found);
	main_lock = &GetNamedLWLockTranche(SS_MAIN_TRANCHE)->lock;
	if (!found)
	{
		memset(ss_shared, 0, sizeof(SsShared));
		ss_shared->started = ss_monotonic();
		ss_shared->began_in_recovery = access(STANDBY_SIGNAL_FILE, F_OK) == 0 ||
									   access(RECOVERY_SIGNAL_FILE, F_OK) == 0;
		ss_identity_at_start();
		for (int i = 0; i < SS_MAX_DATABASES; i++)
		{
			SsDb *db = &ss_shared->databases[i];

			pg_atomic_init_u64(&db->events_written, 0);
			pg_atomic_init_u64(&db->events_since, 0);
			pg_atomic_init_u64(&db->changes, 0);
			for (int s = 0; s < SS_STRIPES; s++)
				for (int c = 0; c < SS_COUNTERS; c++)
					pg_atomic_init_u64(&db->counters[s][c], 0);
		}
	}
	ss_touch_shmem_init(ss_touch_slots);
	ss_hot_shmem_init();
	ss_ledger = ShmemInitStruct("session_store ledger", ledger_bytes(), &found);
	ledger_locks = GetNamedLWLockTranche(SS_LEDGER_TRANCHE);
	if (!found)
		ss_ledger_init(ss_ledger, ss_ledger_keys);
	LWLockRelease(AddinShmemInitLock);
}

/* What guards the ledger, for ledger.c, which knows nothing of Postgres. */
void
ss_ledger_lock(int partition)
{
	LWLockAcquire(&ledger_locks[partition].lock, LW_EXCLUSIVE);
}

void
ss_ledger_unlock(int partition)
{
	LWLockRelease(&ledger_locks[partition].lock);
}

/* Microseconds of a clock that never steps, and that all processes share. */
int64
ss_monotonic(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * USECS_PER_SEC + now.tv_nsec / 1000;
}

/* While shared_preload_libraries is being processed. */
void
ss_shared_install_hooks(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup;
}

void
ss_shared_lock(bool exclusive)
{
	LWLockAcquire(main_lock, exclusive ? LW_EXCLUSIVE : LW_SHARED);
}

void
ss_shared_unlock(void)
{
	LWLockRelease(main_lock);
}

/* The number of an entry; the ledger and the noted reads know databases by it. */
int
ss_shared_number(const SsDb *db)
{
	StaticAssertStmt(SS_MAX_DATABASES <= SS_MEMBERS, "the ledger has a member for each");
	return (int) (db - ss_shared->databases);
}

/* The entry of a database, or NULL.  The caller holds the lock (to create: exclusively). */
SsDb *
ss_shared_db(Oid oid, bool create)
{
	SsDb *vacant = NULL;

	for (int i = 0; i < SS_MAX_DATABASES; i++)
	{
		SsDb *db = &ss_shared->databases[i];

		if (db->oid == oid)
			return db;
		if (db->oid == InvalidOid && vacant == NULL)
			vacant = db;
	}
	if (!create)
		return NULL;
	if (vacant == NULL)
	{
		ss_shared->launcher.out_of_databases = true;
		return NULL;
	}
	memset(vacant, 0, offsetof(SsDb, events_written));
	pg_atomic_write_u64(&vacant->events_written, 0);
	pg_atomic_write_u64(&vacant->events_since, 0);
	for (int s = 0; s < SS_STRIPES; s++)
		for (int c = 0; c < SS_COUNTERS; c++)
			pg_atomic_write_u64(&vacant->counters[s][c], 0);
	/* leases that an earlier server left behind are as old as this one, not as this entry */
	ss_control_init(&vacant->cache.control, ss_shared_number(vacant), ss_shared->started);
	ConditionVariableInit(&vacant->cache.changed);
	vacant->oid = oid;
	return vacant;
}

/* The entry of this backend's database; NULL without preloading. */
SsDb *
ss_shared_my_db(void)
{
	static bool no_room = false;

	/* a database cannot be dropped, and its entry not reused, while we are in it */
	if (my_db == NULL && !no_room && ss_shared != NULL && OidIsValid(MyDatabaseId))
	{
		ss_shared_lock(true);
		my_db = ss_shared_db(MyDatabaseId, true);
		no_room = my_db == NULL;
		ss_shared_unlock();
	}
	return my_db;
}

void
ss_count(SsCounter counter, uint64 n)
{
	SsDb *db = ss_shared_my_db();

	if (db != NULL && n > 0)
		pg_atomic_fetch_add_u64(&db->counters[MyProcPid % SS_STRIPES][counter], n);
}

uint64
ss_counter_sum(const SsDb *db, SsCounter counter)
{
	uint64 sum = 0;

	for (int s = 0; s < SS_STRIPES; s++)
		sum += pg_atomic_read_u64(unconstify(pg_atomic_uint64 *, &db->counters[s][counter]));
	return sum;
}

/*
 * Set the latch of a process known by its index.  Should the process have ended
 * meanwhile, another is woken for nothing, which every process can bear.
 */
void
ss_wake_proc(int proc)
{
	if (proc >= 0 && proc < (int) ProcGlobal->allProcCount)
		SetLatch(&ProcGlobal->allProcs[proc].procLatch);
}

void
ss_wake_keeper(void)
{
	SsDb *db = ss_shared_my_db();

	if (db != NULL && db->keeper_pid != 0)
		ss_wake_proc(db->keeper_proc);
}

/* Wake the pusher of a database if it sleeps, or always. */
void
ss_wake_pusher(SsDb *db, bool always)
{
	if (db->cache.pusher_pid == 0)
		return;
	pg_memory_barrier();
	if (always || ((volatile SsCache *) &db->cache)->idle)
		ss_wake_proc(db->cache.pusher_proc);
}

void
ss_wake_launcher(void)
{
	if (ss_shared != NULL && ss_shared->launcher.pid != 0)
		ss_wake_proc(ss_shared->launcher.proc);
}

/*
 * Could a database be locked right now?  The lock is one of the session and is given back at once: it
 * needs no transaction, which workers that ask twice a second would be made of otherwise.
 */
static bool
can_lock_database(Oid database, LOCKMODE mode)
{
	LOCKTAG tag;

	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, database, 0);
	if (LockAcquire(&tag, mode, true, true) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	(void) LockRelease(&tag, mode, true);
	return true;
}

/*
 * Does nobody wait for everybody to leave this database?  While somebody drops, renames
 * or copies it, our workers must leave, and a new one would wait in a worker slot that
 * others go without.
 */
bool
ss_database_is_free(Oid database)
{
	return can_lock_database(database, RowExclusiveLock);
}

/* If not: is it about to be dropped (or renamed), rather than copied? */
bool
ss_database_is_going(Oid database)
{
	return !can_lock_database(database, AccessShareLock);
}

/* At commit of whoever asked: have the launcher look at this database. */
static void
xact_callback(XactEvent event, void *arg)
{
	SsDb *db;

	if (changed && (event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE))
		pg_atomic_fetch_add_u64(&my_db->changes, 1);
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE || event == XACT_EVENT_ABORT)
		changed = false;
	if (!look_at_commit)
		return;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			look_at_commit = false;
			/* found before the commit: nothing here may fail */
			if ((db = my_db) == NULL)
				return;
			ss_shared_lock(true);
			db->look = true;
			ss_shared_unlock();
			ss_wake_launcher();
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			look_at_commit = false;
			break;
		default:
			break;
	}
}

/*
 * This transaction changes sessions, which counts when it is committed: so the keeper learns that it
 * has to look at them.  (A rolled-back savepoint leaves the mark behind, which does no harm.)
 */
void
ss_note_change(void)
{
	changed = changed || ss_shared_my_db() != NULL;
}

/* Once, from _PG_init. */
void
ss_shared_init_backend(void)
{
	RegisterXactCallback(xact_callback, NULL);
}

/* Called by the install script: CREATE EXTENSION starts the keeper, at commit. */
static Datum
session_store_wake(PG_FUNCTION_ARGS)
{
	if (ss_shared_my_db() != NULL)
		look_at_commit = true;
	PG_RETURN_VOID();
}
