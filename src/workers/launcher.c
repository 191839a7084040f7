/*
 * launcher.c
 *		Finds the databases that have the extension, and keeps a keeper running in each.
 *
 * There is no list to configure.  The launcher reads pg_database about once a second.  Into each
 * database that it does not know (a copy of another, for example) it sends a keeper, which looks for
 * the extension and, if there is none, reports that and exits.  CREATE EXTENSION requests this by
 * itself (session_store_wake).  The launcher is connected to no database, so it blocks no DROP
 * DATABASE.
 *
 * What it knows about databases is in shared memory (databases.h), so that a launcher that was killed
 * continues with the keepers that run.  A keeper clears its entry when it ends for any reason.
 *
 * If there are fewer worker slots than databases, keepers alternate: the launcher publishes how many
 * databases wait, and a keeper that has had its time exits.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "shared/counters.h"
#include "shared/databases.h"
#include "touch/touch_slots.h"
#include "worker.h"
#include "workers/launcher.h"

#define CYCLE_MS 1000

/* A keeper that was requested must report within this time. */
#define START_TIMEOUT_US (INT64CONST(15) * USECS_PER_SEC)

/* Maximum delay before a keeper that could not be started is tried again: 1, 2, 4 .. seconds. */
#define RETRY_MAX_US (INT64CONST(60) * USECS_PER_SEC)

/*
 * Keepers requested by this launcher, by index of the database; those of an earlier one are
 * known by their entries.
 */
static BackgroundWorkerHandle *handles[SS_MAX_DATABASES];

/* A row of pg_database. */
typedef struct Candidate
{
	Oid oid;
	bool connectable;
} Candidate;

/* At the end of the process: clears the launcher's entry. */
static void
on_exit_launcher(int code, Datum arg)
{
	ss_databases_lock(true);
	if (ss_databases->launcher.pid == MyProcPid)
		ss_databases->launcher.pid = 0;
	ss_databases_unlock();
}

/* Reads all databases of the cluster, into the current memory context. */
static Candidate *
read_databases(int *count)
{
	MemoryContext context = CurrentMemoryContext;
	Candidate *found;
	int room = 64;
	Relation rel;
	TableScanDesc scan;
	HeapTuple tuple;

	found = palloc(sizeof(Candidate) * room);
	*count = 0;
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		if (*count == room)
			found = repalloc(found, sizeof(Candidate) * (room *= 2));
		found[*count].oid = form->oid;
		/* a limit of -2 marks what an interrupted DROP DATABASE left */
		found[*count].connectable = form->datallowconn && form->datconnlimit != -2;
		(*count)++;
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return found;
}

/* The row of a database; NULL if there is none. */
static const Candidate *
candidate_of(const Candidate *all, int count, Oid oid)
{
	for (int i = 0; i < count; i++)
		if (all[i].oid == oid)
			return &all[i];
	return NULL;
}

/* Has the requested keeper not ended yet?  It may be waiting for a lock. */
static bool
is_under_way(int index)
{
	pid_t pid;

	return handles[index] != NULL && GetBackgroundWorkerPid(handles[index], &pid) != BGWH_STOPPED;
}

/* Updates the entries in shared memory from pg_database. */
static void
update_entries(const Candidate *all, int count, TimestampTz now)
{
	ss_databases_lock(true);
	ss_databases->launcher.out_of_databases = false;
	for (int i = 0; i < SS_MAX_DATABASES; i++)
	{
		SsDb *db = &ss_databases->entries[i];

		if (db->oid == InvalidOid || db->keeper_pid != 0)
			continue;
		if (candidate_of(all, count, db->oid) == NULL)
		{
			/* dropped; or so new that this scan does not see it, but the next will */
			if (++db->missed_scans > 1)
			{
				ss_touch_remove_database(db->oid);
				ss_touch_share(i, false);
				ss_counters_reset(db);
				db->oid = InvalidOid;
			}
			continue;
		}
		db->missed_scans = 0;
		/* requested, but it exited or never reported: its start failed */
		if (db->state == SS_DB_STARTING && now - db->since > START_TIMEOUT_US && !is_under_way(i))
		{
			db->state = SS_DB_WAITING;
			db->failures++;
			db->retry_at = now + Min(USECS_PER_SEC << Min(db->failures, 10), RETRY_MAX_US);
			strlcpy(db->last_error, "the keeper did not start; see the server log", SS_MESSAGE_LEN);
			db->last_error_at = now;
		}
		if (db->check_requested && (db->state == SS_DB_ABSENT || db->state == SS_DB_WAITING))
		{
			db->state = SS_DB_UNKNOWN;
			db->retry_at = 0;
		}
	}
	for (int i = 0; i < count; i++)
		if (all[i].connectable)
			(void) ss_database_add(all[i].oid);
	ss_databases_unlock();
}

/* Shall a keeper be started for this entry now? */
static bool
wants_keeper(const SsDb *db, const Candidate *all, int count, TimestampTz now)
{
	const Candidate *candidate;

	if (db->oid == InvalidOid || db->keeper_pid != 0 || db->retry_at > now)
		return false;
	if (db->state != SS_DB_UNKNOWN && db->state != SS_DB_WAITING)
		return false;
	candidate = candidate_of(all, count, db->oid);
	return candidate != NULL && candidate->connectable;
}

/* The entry that has waited longest for a keeper, or NULL; *waiting is the number that wait. */
static SsDb *
next_to_serve(const Candidate *all, int count, TimestampTz now, int *waiting)
{
	SsDb *next = NULL;

	*waiting = 0;
	for (int i = 0; i < SS_MAX_DATABASES; i++)
	{
		SsDb *db = &ss_databases->entries[i];

		if (!wants_keeper(db, all, count, now))
			continue;
		(*waiting)++;
		if (next == NULL || db->last_served < next->last_served)
			next = db;
	}
	return next;
}

/* Starts keepers until all databases have one, or no worker slot is free. */
static void
start_keepers(const Candidate *all, int count)
{
	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		SsDb *db;
		Oid oid;
		int waiting;

		ss_databases_lock(true);
		db = next_to_serve(all, count, now, &waiting);
		if (db == NULL)
		{
			ss_databases->launcher.waiting = 0;
			ss_databases_unlock();
			return;
		}
		oid = db->oid;
		db->state = SS_DB_STARTING;
		db->since = now;
		db->check_requested = false;
		ss_databases_unlock();

		if (!ss_database_is_free(oid))
		{
			ss_databases_lock(true);
			if (db->oid == oid && db->state == SS_DB_STARTING)
			{
				db->state = SS_DB_WAITING;
				db->retry_at = now + USECS_PER_SEC;
			}
			ss_databases_unlock();
			continue;
		}
		if (ss_worker_start("keeper", oid, &handles[db - ss_databases->entries]))
			continue;

		/* no slot: keepers that run are asked to make room */
		ss_databases_lock(true);
		if (db->oid == oid && db->state == SS_DB_STARTING)
			db->state = SS_DB_WAITING;
		ss_databases->launcher.waiting = waiting;
		ss_databases_unlock();
		return;
	}
}

/* Entry point of the worker. */
void
ss_launcher_main(Datum arg)
{
	MemoryContext cycle;

	ss_worker_begin(InvalidOid);
	before_shmem_exit(on_exit_launcher, (Datum) 0);
	ss_databases_lock(true);
	ss_databases->launcher.pid = MyProcPid;
	ss_databases->launcher.proc = SsMyProcNumber();
	ss_databases_unlock();

	cycle = AllocSetContextCreate(TopMemoryContext, "session_store launcher cycle",
								  ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		Candidate *all;
		int count;

		CHECK_FOR_INTERRUPTS();
		(void) ss_worker_reload();
		MemoryContextReset(cycle);
		MemoryContextSwitchTo(cycle);
		pgstat_report_activity(STATE_RUNNING, "looking at databases");
		all = read_databases(&count);
		update_entries(all, count, GetCurrentTimestamp());
		start_keepers(all, count);
		pgstat_report_stat(false);
		pgstat_report_activity(STATE_IDLE, NULL);

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, CYCLE_MS,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}
