/*
 * databases.h
 *		The databases of the server and their workers, in shared memory.
 *
 * Locking: one LWLock (ss_databases_lock), called the main lock, protects everything in SsDatabases
 * unless a field says otherwise.  It comes before the locks of partitions of the ledger and of
 * pending touches: with one of those held it must not be taken.
 *
 * "Without a lock" is said of single words whose readers tolerate an old value.
 */
#ifndef SS_DATABASES_H
#define SS_DATABASES_H

#include "port/atomics.h"

#include "shared/cache_status.h"

/* Databases beyond this number have no keeper and no counters; session_health() warns of it. */
#define SS_MAX_DATABASES 256

/* What the launcher knows of a database. */
typedef enum SsDbState
{
	SS_DB_UNKNOWN,  /* not checked yet, or to be checked again */
	SS_DB_STARTING, /* a keeper was requested */
	SS_DB_RUNNING,  /* a keeper runs */
	SS_DB_ABSENT,   /* the extension is not installed */
	SS_DB_WAITING   /* has the extension; its keeper waits for a worker slot or a retry */
} SsDbState;

/* Tasks of a keeper, each with its own back-off. */
typedef enum SsTask
{
	SS_TASK_TOUCH,
	SS_TASK_PURGE,
	SS_TASK_HISTORY,
	SS_TASK_NOTIFY,
	SS_TASK_EVENTS,
	SS_TASK_SAMPLE,
	SS_TASK_ORPHANS,
	SS_TASK_OPERATIONS,
	SS_TASK_COUNTERS,
	SS_TASKS
} SsTask;

typedef struct SsTaskState
{
	TimestampTz last_run;
	int32 failures; /* consecutive */
	int32 skipped;  /* consecutive, because of a lock held by others */
	TimestampTz retry_at;
	TimestampTz last_error_at;
	char last_error[SS_MESSAGE_LEN];
} SsTaskState;

/* Kinds of work in which a row that fails is set aside (sessions/aside.c). */
typedef enum SsWork
{
	SS_WORK_PURGE,
	SS_WORK_TOUCH,
	SS_WORK_HISTORY,
	SS_WORK_EVENTS,
	SS_WORK_SAMPLE,
	SS_WORK_PUSH,
	SS_WORK_SCRUB,
	SS_WORK_OPERATIONS,
	SS_WORK_COUNTERS,
	SS_WORKS
} SsWork;

/* A worker's report of the rows that it has set aside.  Counted since the server started. */
typedef struct SsAsideReport
{
	int32 rows;       /* currently set aside one by one */
	int32 namespaces; /* currently set aside as a whole */
	uint64 failures;
	TimestampTz last_error_at;
	int last_code; /* SQLSTATE, as in ErrorData */
	char last_ns[SS_NAMESPACE_MAX + 1];
	char last_error[SS_MESSAGE_LEN];
} SsAsideReport;

/*
 * A database.  The main lock protects it; fields that are used without it say so.  A worker reads
 * without the lock what it alone writes.
 */
typedef struct SsDb
{
	Oid oid; /* InvalidOid: the entry is free */

	/* Written by the launcher and the keeper. */
	SsDbState state;
	TimestampTz retry_at;

	/*
	 * Written when a keeper begins and ends.  Also read without the lock to wake the keeper, which
	 * at worst wakes a process in vain.
	 */
	int keeper_pid;
	int keeper_proc; /* index in ProcGlobal->allProcs */

	bool check_requested; /* CREATE EXTENSION was run: the launcher has to check this database */
	int8 missed_scans;    /* consecutive scans of pg_database that did not find it */
	TimestampTz since;    /* when the keeper was requested, or began */
	TimestampTz last_served;
	int32 failures; /* consecutive, of starting the keeper */
	char last_error[SS_MESSAGE_LEN];
	TimestampTz last_error_at;

	/* Written by the keeper. */
	int64 purge_batch; /* current batch size of the purge, adapted to its duration */
	TimestampTz purge_low;
	SsTaskState tasks[SS_TASKS];
	uint64 keeper_skips; /* skipped runs of all tasks, since the server started */

	SsAsideReport aside[SS_WORKS]; /* each written by the worker that does such work */
	SsCache cache;                 /* see there */

	/* When a read could not be recorded; 0: never.  Without a lock. */
	SsMonotonic touch_dropped_at;

	/* Atomic.  Events committed since the last NOTIFY: how many, and the time of the first (0: none). */
	pg_atomic_uint64 events_written;
	pg_atomic_uint64 events_since;

	/* Atomic.  Committed transactions that changed sessions: see ss_database_mark_changed(). */
	pg_atomic_uint64 changes;
} SsDb;

/* The main lock protects it; pid and proc are also read without it to wake the launcher. */
typedef struct SsLauncherState
{
	int pid;
	int proc;
	int waiting; /* databases whose keeper waits for a worker slot */
	bool out_of_databases;
} SsLauncherState;

typedef struct SsDatabases
{
	SsLauncherState launcher;

	/* Written before any other process exists, and constant. */
	SsMonotonic started;
	bool began_in_recovery; /* as a standby or for archive recovery */

	/* Atomic.  When the first change was committed after the promotion; 0: none yet. */
	SsMonotonic promoted;

	SsMonotonic touch_dropped_at; /* like SsDb.touch_dropped_at, of any database; without a lock */
	SsDb entries[SS_MAX_DATABASES];
} SsDatabases;

/* NULL if the library was not preloaded. */
extern SsDatabases *ss_databases;

extern void ss_databases_shmem_request(void);
extern void ss_databases_shmem_init(void);
extern void ss_databases_lock(bool exclusive);
extern void ss_databases_unlock(void);
extern void ss_databases_wake_launcher(void);
extern int ss_database_number(const SsDb *db);
extern SsDb *ss_database_find(Oid oid);
extern SsDb *ss_database_add(Oid oid);
extern SsDb *ss_database_mine(void);
extern void ss_database_mark_changed(void);
extern void ss_database_at_end(bool committed, bool prepared);
extern void ss_database_wake_keeper(void);
extern void ss_database_wake_pusher(SsDb *db, bool always);
extern bool ss_database_is_free(Oid database);
extern bool ss_database_is_being_dropped(Oid database);

#endif
