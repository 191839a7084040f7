/*
 * shared.h
 *		What lives in shared memory: the databases, their workers and counters.
 */
#ifndef SS_SHARED_H
#define SS_SHARED_H

#include "port/atomics.h"
#include "utils/timestamp.h"

#define SS_MAIN_TRANCHE "session_store"
#define SS_TOUCH_TRANCHE "session_store_touches"

/* Databases beyond this have no keeper and no counters, and health says so. */
#define SS_MAX_DATABASES 256

#define SS_STRIPES 16
#define SS_MESSAGE_LEN 240

/* Counters of a database, since the server started. */
typedef enum SsCounter
{
	SS_SAVED,
	SS_CREATED,
	SS_READ,
	SS_MISSED,
	SS_TOUCHED,
	SS_DELETED,
	SS_REGENERATED,
	SS_EVICTED,
	SS_PURGED,
	SS_USES_NOTED,
	SS_USES_WRITTEN,
	SS_USES_DROPPED,
	SS_ERROR_CONFLICT,
	SS_ERROR_DEAD,
	SS_ERROR_QUOTA,
	SS_ERROR_DENIED,
	SS_ERROR_TOO_LARGE,
	SS_COUNTERS
} SsCounter;

/* A database, as the launcher knows it. */
typedef enum SsDbState
{
	SS_DB_UNKNOWN,  /* not looked at yet, or to be looked at again */
	SS_DB_STARTING, /* a keeper was asked for */
	SS_DB_RUNNING,  /* a keeper is at work */
	SS_DB_ABSENT,   /* the extension is not there */
	SS_DB_WAITING   /* has the extension; waits for its turn, or to be tried again */
} SsDbState;

/* What a keeper does, each with its own back-off. */
typedef enum SsTask
{
	SS_TASK_TOUCH,
	SS_TASK_PURGE,
	SS_TASK_EVENTS,
	SS_TASK_SAMPLE,
	SS_TASKS
} SsTask;

typedef struct SsTaskState
{
	TimestampTz last_run;
	int32 failures; /* in a row */
	TimestampTz retry_at;
	TimestampTz last_error_at;
	char last_error[SS_MESSAGE_LEN];
} SsTaskState;

/* Guarded by the main lock, but for the counters. */
typedef struct SsDb
{
	Oid oid; /* InvalidOid: free */
	SsDbState state;
	int keeper_pid;
	int keeper_proc; /* in ProcGlobal->allProcs */
	bool look;       /* somebody asked for a look */
	int8 missed;     /* scans of pg_database that it was not in */
	TimestampTz since;
	TimestampTz last_served;
	TimestampTz retry_at;
	int32 failures; /* of starting the keeper, in a row */
	char last_error[SS_MESSAGE_LEN];
	TimestampTz last_error_at;
	int64 purge_batch; /* as adapted */
	TimestampTz purge_low;
	SsTaskState tasks[SS_TASKS];
	pg_atomic_uint64 counters[SS_STRIPES][SS_COUNTERS];
} SsDb;

typedef struct SsLauncherState
{
	int pid;
	int proc;
	int waiting; /* databases that have no keeper for want of a worker slot */
	bool out_of_databases;
} SsLauncherState;

typedef struct SsShared
{
	SsLauncherState launcher;
	SsDb databases[SS_MAX_DATABASES];
} SsShared;

/* NULL when the library was not preloaded. */
extern SsShared *ss_shared;

extern void ss_shared_install_hooks(void);
extern void ss_shared_lock(bool exclusive);
extern void ss_shared_unlock(void);
extern SsDb *ss_shared_db(Oid oid, bool create);
extern SsDb *ss_shared_my_db(void);
extern void ss_count(SsCounter counter, uint64 n);
extern uint64 ss_counter_sum(const SsDb *db, SsCounter counter);
extern void ss_wake_keeper(void);
extern void ss_wake_launcher(void);
extern void ss_wake_proc(int proc);
extern void ss_shared_init_backend(void);

#endif
