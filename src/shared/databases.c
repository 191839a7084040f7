/*
 * databases.c
 *		The databases of the server and their workers, in shared memory.
 *
 * Locking: one LWLock protects everything in SsDatabases, except where databases.h says otherwise.
 * The workers take it about once a second, backends once in their life, to find the entry of their
 * database, and briefly for reports and requests.
 *
 * Processes are identified by pid and by their index in ProcGlobal->allProcs, never by a pointer.
 */
#include "postgres.h"

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

#include "base/clock.h"
#include "function.h"
#include "protocol/shares.h"
#include "shared/databases.h"

#define TRANCHE "session_store"

SS_FUNCTION(session_store_wake, 1_0, VOIDOID);

SsDatabases *ss_databases = NULL;

static LWLock *main_lock;
static SsDb *my_db = NULL;
static bool check_at_commit = false;
static bool sessions_changed = false; /* this transaction has changed sessions */

/* Requests the shared memory and the main lock (shmem.c). */
void
ss_databases_shmem_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(SsDatabases)));
	RequestNamedLWLockTranche(TRANCHE, 1);
}

/* Attaches to the shared memory, and initializes it if it is new (shmem.c). */
void
ss_databases_shmem_init(void)
{
	bool found;

	my_db = NULL;
	ss_databases = ShmemInitStruct("session_store", sizeof(SsDatabases), &found);
	main_lock = &GetNamedLWLockTranche(TRANCHE)->lock;
	if (found)
		return;
	memset(ss_databases, 0, sizeof(SsDatabases));
	ss_databases->started = ss_monotonic();
	ss_databases->began_in_recovery = access(STANDBY_SIGNAL_FILE, F_OK) == 0 ||
									  access(RECOVERY_SIGNAL_FILE, F_OK) == 0;
	for (int i = 0; i < SS_MAX_DATABASES; i++)
	{
		SsDb *db = &ss_databases->entries[i];

		pg_atomic_init_u64(&db->events_written, 0);
		pg_atomic_init_u64(&db->events_since, 0);
		pg_atomic_init_u64(&db->changes, 0);
	}
}

/* Take the main lock. */
void
ss_databases_lock(bool exclusive)
{
	LWLockAcquire(main_lock, exclusive ? LW_EXCLUSIVE : LW_SHARED);
}

void
ss_databases_unlock(void)
{
	LWLockRelease(main_lock);
}

/* The index of an entry, by which the ledger and the pending touches identify the database. */
int
ss_database_number(const SsDb *db)
{
	StaticAssertStmt(SS_MAX_DATABASES <= SS_MEMBERS, "the ledger has a member for each");
	return (int) (db - ss_databases->entries);
}

/* Return the entry of a database, or NULL if there is none.  The caller holds the main lock. */
SsDb *
ss_database_find(Oid oid)
{
	Assert(LWLockHeldByMe(main_lock));

	for (int i = 0; i < SS_MAX_DATABASES; i++)
		if (ss_databases->entries[i].oid == oid)
			return &ss_databases->entries[i];
	return NULL;
}

/*
 * Return the entry of a database, which is created if necessary, or NULL if there is no room.  The
 * caller holds the main lock exclusively.
 */
SsDb *
ss_database_add(Oid oid)
{
	SsDb *db = ss_database_find(oid);

	Assert(LWLockHeldByMeInMode(main_lock, LW_EXCLUSIVE));

	if (db != NULL)
		return db;
	db = ss_database_find(InvalidOid);
	if (db == NULL)
	{
		ss_databases->launcher.out_of_databases = true;
		return NULL;
	}
	memset(db, 0, offsetof(SsDb, events_written));
	pg_atomic_write_u64(&db->events_written, 0);
	pg_atomic_write_u64(&db->events_since, 0);
	/*
	 * a lease that an earlier server run left behind is as old as this server run, not as this
	 * entry
	 */
	ss_control_init(&db->cache.control, ss_database_number(db), ss_databases->started);
	ConditionVariableInit(&db->cache.changed);
	db->oid = oid;
	return db;
}

/*
 * Return the entry of the database that this backend is connected to, which is created if
 * necessary.  NULL if the library was not preloaded, or if there is no room.
 */
SsDb *
ss_database_mine(void)
{
	static bool no_room = false;

	/*
	 * a pointer can be kept: while this backend is connected, the database cannot be dropped and
	 * its entry not be reused
	 */
	if (my_db == NULL && !no_room && ss_databases != NULL && OidIsValid(MyDatabaseId))
	{
		ss_databases_lock(true);
		my_db = ss_database_add(MyDatabaseId);
		no_room = my_db == NULL;
		ss_databases_unlock();
	}
	return my_db;
}

/*
 * Set the latch of a process.  If that process has ended, another one that uses its slot may be
 * woken in vain, which every process tolerates.
 */
static void
wake_proc(int proc)
{
	if (proc >= 0 && proc < (int) ProcGlobal->allProcCount)
		SetLatch(&ProcGlobal->allProcs[proc].procLatch);
}

/* Wake the keeper of this database, if there is one. */
void
ss_database_wake_keeper(void)
{
	SsDb *db = ss_database_mine();

	if (db != NULL && db->keeper_pid != 0)
		wake_proc(db->keeper_proc);
}

/* Wake the pusher of a database if it sleeps, or in any case if "always" is set. */
void
ss_database_wake_pusher(SsDb *db, bool always)
{
	if (db->cache.pusher_pid == 0)
		return;
	pg_memory_barrier();
	if (always || ((volatile SsCache *) &db->cache)->idle)
		wake_proc(db->cache.pusher_proc);
}

/* Wake the launcher, if it runs. */
void
ss_databases_wake_launcher(void)
{
	if (ss_databases != NULL && ss_databases->launcher.pid != 0)
		wake_proc(ss_databases->launcher.proc);
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
ss_database_at_end(bool committed, bool prepared)
{
	/* my_db was looked up before the commit, because nothing may fail here */
	if (sessions_changed && (committed || prepared))
		pg_atomic_fetch_add_u64(&my_db->changes, 1);
	sessions_changed = false;
	if (check_at_commit && committed && my_db != NULL)
	{
		ss_databases_lock(true);
		my_db->check_requested = true;
		ss_databases_unlock();
		ss_databases_wake_launcher();
	}
	check_at_commit = false;
}

/*
 * Record that this transaction changes sessions.  Counted when it commits, so that the keeper
 * knows that there is something to do.  A savepoint that is rolled back leaves the mark set, which
 * is harmless.
 */
void
ss_database_mark_changed(void)
{
	sessions_changed = sessions_changed || ss_database_mine() != NULL;
}

/*
 * Called by the install script, so that the launcher starts a keeper when CREATE EXTENSION
 * commits.
 */
static Datum
session_store_wake(PG_FUNCTION_ARGS)
{
	if (ss_database_mine() != NULL)
		check_at_commit = true;
	PG_RETURN_VOID();
}
