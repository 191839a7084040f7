/*
 * shared.c
 *		Shared memory: databases, their workers, counters and reports.
 *
 * Locking: one LWLock protects everything in SsShared, except where shared.h says otherwise.  The
 * workers take it about once a second, backends once in their life, to find the entry of their
 * database, and briefly for reports and requests.
 *
 * Counters are atomics, striped by process so that backends do not contend for cache lines.
 *
 * Processes are identified by pid and by their index in ProcGlobal->allProcs, never by a pointer.
 */
#include "postgres.h"

#include <time.h>
#include <unistd.h>

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
static bool check_at_commit = false;
static bool sessions_changed = false; /* this transaction has changed sessions */
static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

static Size
ledger_bytes(void)
{
	return ss_ledger_size(ss_ledger_keys);
}

/* shmem_request_hook */
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

/* shmem_startup_hook */
static void
startup(void)
{
	bool found;

	if (previous_startup_hook)
		previous_startup_hook();

	/* after a crash the postmaster initializes shared memory again: drop the old pointers */
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

/*
 * The locks of the ledger's partitions.  ledger.c declares these two functions and leaves them to
 * the embedding program, so that it does not depend on PostgreSQL.
 */
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

/*
 * The time in microseconds of a clock that is never set and that all processes share.  Not
 * comparable across a restart of the operating system.
 */
int64
ss_monotonic(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * USECS_PER_SEC + now.tv_nsec / 1000;
}

/*
 * Install the hooks that request and initialize shared memory.  To be called while
 * shared_preload_libraries is processed.
 */
void
ss_shared_install_hooks(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup;
}

/* Take the main lock. */
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

/* The index of an entry, by which the ledger and the pending touches identify the database. */
int
ss_shared_number(const SsDb *db)
{
	StaticAssertStmt(SS_MAX_DATABASES <= SS_MEMBERS, "the ledger has a member for each");
	return (int) (db - ss_shared->databases);
}

/*
 * Return the entry of a database, or NULL if there is none.  With create, make one if there is
 * room.  The caller holds the main lock, exclusively if create.
 */
SsDb *
ss_shared_db(Oid oid, bool create)
{
	SsDb *vacant = NULL;

	Assert(create ? LWLockHeldByMeInMode(main_lock, LW_EXCLUSIVE) : LWLockHeldByMe(main_lock));

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
	/*
	 * a lease that an earlier server run left behind is as old as this server run, not as this
	 * entry
	 */
	ss_control_init(&vacant->cache.control, ss_shared_number(vacant), ss_shared->started);
	ConditionVariableInit(&vacant->cache.changed);
	vacant->oid = oid;
	return vacant;
}

/*
 * Return the entry of the database that this backend is connected to, which is created if
 * necessary.  NULL if the library was not preloaded, or if there is no room.
 */
SsDb *
ss_shared_my_db(void)
{
	static bool no_room = false;

	/*
	 * a pointer can be kept: while this backend is connected, the database cannot be dropped and
	 * its entry not be reused
	 */
	if (my_db == NULL && !no_room && ss_shared != NULL && OidIsValid(MyDatabaseId))
	{
		ss_shared_lock(true);
		my_db = ss_shared_db(MyDatabaseId, true);
		no_room = my_db == NULL;
		ss_shared_unlock();
	}
	return my_db;
}

/* Add to a counter of this database; without an entry nothing is counted. */
void
ss_counter_add(SsCounter counter, uint64 n)
{
	SsDb *db = ss_shared_my_db();

	if (db != NULL && n > 0)
		pg_atomic_fetch_add_u64(&db->counters[MyProcPid % SS_STRIPES][counter], n);
}

/* The value of a counter, summed over its stripes without a lock. */
uint64
ss_counter_sum(const SsDb *db, SsCounter counter)
{
	uint64 sum = 0;

	for (int s = 0; s < SS_STRIPES; s++)
		sum += pg_atomic_read_u64(unconstify(pg_atomic_uint64 *, &db->counters[s][counter]));
	return sum;
}

/*
 * Set the latch of a process.  If that process has ended, another one that uses its slot may be
 * woken in vain, which every process tolerates.
 */
void
ss_wake_proc(int proc)
{
	if (proc >= 0 && proc < (int) ProcGlobal->allProcCount)
		SetLatch(&ProcGlobal->allProcs[proc].procLatch);
}

/* Wake the keeper of this database, if there is one. */
void
ss_wake_keeper(void)
{
	SsDb *db = ss_shared_my_db();

	if (db != NULL && db->keeper_pid != 0)
		ss_wake_proc(db->keeper_proc);
}

/* Wake the pusher of a database if it sleeps, or in any case if "always" is set. */
void
ss_wake_pusher(SsDb *db, bool always)
{
	if (db->cache.pusher_pid == 0)
		return;
	pg_memory_barrier();
	if (always || ((volatile SsCache *) &db->cache)->idle)
		ss_wake_proc(db->cache.pusher_proc);
}

/* Wake the launcher, if it runs. */
void
ss_wake_launcher(void)
{
	if (ss_shared != NULL && ss_shared->launcher.pid != 0)
		ss_wake_proc(ss_shared->launcher.proc);
}

/*
 * Could a database be locked at this moment?  The lock is taken as a session lock and released at
 * once, because a session lock needs no transaction: workers ask twice a second and must stay
 * without transactions while idle.
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
 * Is no DROP, ALTER .. RENAME or CREATE .. TEMPLATE waiting for the sessions of this database to
 * end?  While one is, the workers must leave, and a new worker would only wait for the lock and
 * occupy a worker slot that other databases need.
 */
bool
ss_database_is_free(Oid database)
{
	return can_lock_database(database, RowExclusiveLock);
}

/* If not free: is the database being dropped or renamed, as opposed to copied? */
bool
ss_database_is_being_dropped(Oid database)
{
	return !can_lock_database(database, AccessShareLock);
}

/*
 * At the end of the transaction (xact.c): count the change of sessions, and make the launcher check
 * this database if CREATE EXTENSION was run.  Only memory is written: nothing here can fail.
 */
void
ss_shared_at_end(bool committed, bool prepared)
{
	/* my_db was looked up before the commit, because nothing may fail here */
	if (sessions_changed && (committed || prepared))
		pg_atomic_fetch_add_u64(&my_db->changes, 1);
	sessions_changed = false;
	if (check_at_commit && committed && my_db != NULL)
	{
		ss_shared_lock(true);
		my_db->check_requested = true;
		ss_shared_unlock();
		ss_wake_launcher();
	}
	check_at_commit = false;
}

/*
 * Record that this transaction changes sessions.  Counted when it commits, so that the keeper
 * knows that there is something to do.  A savepoint that is rolled back leaves the mark set, which
 * is harmless.
 */
void
ss_mark_sessions_changed(void)
{
	sessions_changed = sessions_changed || ss_shared_my_db() != NULL;
}

/*
 * Called by the install script, so that the launcher starts a keeper when CREATE EXTENSION
 * commits.
 */
static Datum
session_store_wake(PG_FUNCTION_ARGS)
{
	if (ss_shared_my_db() != NULL)
		check_at_commit = true;
	PG_RETURN_VOID();
}
