/*
 * shared.h
 *		Shared memory: databases, their workers, counters and reports.
 *
 * Locking: the main lock (ss_shared_lock) protects everything in SsShared unless a field says
 * otherwise.
 */
#ifndef SS_SHARED_H
#define SS_SHARED_H

#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "utils/timestamp.h"

#include "cache/ledger.h"

#define SS_MAIN_TRANCHE "session_store"
#define SS_TOUCH_TRANCHE "session_store_touches"
#define SS_LEDGER_TRANCHE "session_store_ledger"

/* Databases beyond this number have no keeper and no counters; session_health() warns of it. */
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
	SS_APPENDED,
	SS_MESSAGES_REMOVED,
	SS_MESSAGES_PURGED,
	SS_FORKED,
	SS_ABSORBED,
	SS_SHARED_WITH,
	SS_TOUCHES_NOTED,
	SS_TOUCHES_WRITTEN,
	SS_TOUCHES_DROPPED,
	SS_ERROR_CONFLICT,
	SS_ERROR_DEAD,
	SS_ERROR_QUOTA,
	SS_ERROR_DENIED,
	SS_ERROR_TOO_LARGE,
	SS_FENCED,
	SS_FENCE_MICROSECONDS,
	SS_FENCE_EXPIRED,
	SS_UNLISTED,
	SS_UNLISTED_NO_ROOM,
	SS_WANTED,
	SS_COUNTERS
} SsCounter;

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

/* Kinds of work in which a row that fails is set aside (rows/aside.c). */
typedef enum SsWork
{
	SS_WORK_PURGE,
	SS_WORK_TOUCH,
	SS_WORK_HISTORY,
	SS_WORK_EVENTS,
	SS_WORK_SAMPLE,
	SS_WORK_PUSH,
	SS_WORK_SCRUB,
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

/* The pusher's report of itself, for session_health() and session_metrics(). */
typedef struct SsCacheReport
{
	bool connected;
	bool running;               /* leases are granted and copies written */
	bool locked;                /* a lock held by others keeps it from reading the tables */
	uint64 lock_skips;          /* how often that happened */
	char where[SS_MESSAGE_LEN]; /* the URL, without its password */
	char state[32];
	char trouble[2 * SS_MESSAGE_LEN]; /* why nothing is cached, and what to do */
	char refused[32];                 /* why this Redis cannot be claimed: one word, or empty */
	char last_error[SS_MESSAGE_LEN];
	TimestampTz last_error_at;
	bool password_in_url;
	int failures;    /* in a row */
	int64 latency;   /* of the last request, in microseconds */
	int64 lease_end; /* ss_monotonic() */
	int64 oldest;    /* since when the oldest key has waited, ss_monotonic(); 0 for none */
	int32 dirty;
	int32 in_doubt;
	uint64 batches;
	uint64 late;
	uint64 lost;
	uint64 connects;
	uint64 takeovers;
	uint64 flushes;
	uint64 clock_steps;
	uint64 sets;
	uint64 deletes;
	uint64 expires;
	uint64 too_large;
	uint64 unreadable;
	uint64 no_room; /* documents that Redis refused because its memory was full */
	int denied;     /* number of namespaces whose keys the Redis ACL denies, and one of them */
	char denied_namespace[SS_NAMESPACE_MAX + 1];
	uint64 verified;
	uint64 divergent;
	TimestampTz resting_since; /* since when it rests, because nothing changes; 0: it does not */
	bool diverging;            /* copies differed; ends when a pass over all keys finds none */
	int64 redis_memory;        /* bytes; 0 if unknown */
	int64 redis_memory_limit;
	char redis_version[32];
	char redis_policy[32];
} SsCacheReport;

typedef enum SsCacheCommand
{
	SS_CACHE_COMMAND_FLUSH,
	SS_CACHE_COMMAND_TAKEOVER,
	SS_CACHE_COMMAND_VERIFY
} SsCacheCommand;

/*
 * A request to the pusher, made by one backend at a time.  The slot is free while asked equals
 * answered.
 */
typedef struct SsCacheRequest
{
	uint64 asked;
	uint64 answered;
	SsCacheCommand command;
	char ns[SS_NAMESPACE_MAX + 1]; /* SS_CACHE_COMMAND_FLUSH: the namespace, or empty for all */
	int32 sample;                  /* SS_CACHE_COMMAND_VERIFY: number of copies to compare */
	int64 results[4];              /* of the answer; until then, how far the pusher is */
} SsCacheRequest;

/* A namespace whose policy was changed so that sessions or copies end earlier. */
typedef struct SsPolicyChange
{
	char ns[SS_NAMESPACE_MAX + 1];
	uint64 number; /* number of the last such change (SsControl); 0: the entry is free */
	int64 at;      /* when it was made, ss_monotonic() */
} SsPolicyChange;

/* If more namespaces than this wait to be flushed, all copies are flushed. */
#define SS_POLICY_CHANGES 16

/*
 * The cache of a database.  The main lock protects it, with these exceptions: control is atomic;
 * idle, pusher_pid and pusher_proc are read without a lock to wake the pusher, which at worst wakes
 * a process in vain; the pusher alone writes token and report.latency, and may do so
 * without a lock.
 */
typedef struct SsCache
{
	SsControl control;
	ConditionVariable changed; /* signaled when the pusher has made progress */
	uint32 idle;               /* the pusher sleeps and must be woken */
	int pusher_pid;
	int pusher_proc;
	uint64 token; /* token of the last claim, for the next pusher */
	bool copied;  /* for the next pusher: a copy of this server was seen to write to this Redis */
	bool no_slot; /* no worker slot was free for a pusher */
	/*
	 * When a commit last found no room in the ledger, and when one last changed more keys than the
	 * ledger may hold; ss_monotonic(), 0 for never, written without a lock.
	 */
	int64 no_room_at;
	int64 too_large_at;
	char too_large_ns[SS_NAMESPACE_MAX + 1]; /* namespace of the last of those keys */
	TimestampTz retry_at;
	SsCacheReport report;
	SsCacheRequest request;
	SsPolicyChange policy_changes[SS_POLICY_CHANGES];
} SsCache;

/*
 * A database.  The main lock protects it, except for the atomics and where a field says otherwise.
 */
typedef struct SsDb
{
	Oid oid; /* InvalidOid: the entry is free */
	SsDbState state;
	int keeper_pid;
	int keeper_proc;      /* index in ProcGlobal->allProcs */
	bool check_requested; /* CREATE EXTENSION was run: the launcher has to check this database */
	int8 missed_scans;    /* consecutive scans of pg_database that did not find it */
	TimestampTz since;
	TimestampTz last_served;
	TimestampTz retry_at;
	int32 failures; /* consecutive, of starting the keeper */
	char last_error[SS_MESSAGE_LEN];
	TimestampTz last_error_at;
	int64 purge_batch; /* current batch size of the keeper's purge, adapted to its duration */
	TimestampTz purge_low;
	SsTaskState tasks[SS_TASKS];
	uint64 keeper_skips; /* skipped runs of all tasks, since the server started */
	SsAsideReport aside[SS_WORKS];
	SsCache cache;
	int64 touch_dropped_at; /* when a read could not be recorded, ss_monotonic(); without a lock */
	/* events committed since the last NOTIFY: how many, and the time of the first (0: none) */
	pg_atomic_uint64 events_written;
	pg_atomic_uint64 events_since;
	/* committed transactions that changed sessions: see ss_mark_sessions_changed() */
	pg_atomic_uint64 changes;
	pg_atomic_uint64 counters[SS_STRIPES][SS_COUNTERS];
} SsDb;

typedef struct SsLauncherState
{
	int pid;
	int proc;
	int waiting; /* databases whose keeper waits for a worker slot */
	bool out_of_databases;
} SsLauncherState;

typedef struct SsShared
{
	SsLauncherState launcher;
	int64 started;          /* by the monotonic clock */
	bool began_in_recovery; /* as a standby or for archive recovery */
	int64 promoted; /* when the first change was committed since then; atomic, 0: none yet */
	int64 touch_dropped_at; /* like SsDb.touch_dropped_at, of any database */
	SsDb databases[SS_MAX_DATABASES];
} SsShared;

/* NULL if the library was not preloaded. */
extern SsShared *ss_shared;

/*
 * The keys of all databases whose copy in Redis may be out of date.  NULL if the library was not
 * preloaded.
 */
extern SsLedger *ss_ledger;

extern void ss_shared_install_hooks(void);
extern void ss_shared_lock(bool exclusive);
extern void ss_shared_unlock(void);
extern int ss_shared_number(const SsDb *db);
extern SsDb *ss_shared_db(Oid oid, bool create);
extern SsDb *ss_shared_my_db(void);
extern void ss_counter_add(SsCounter counter, uint64 n);
extern uint64 ss_counter_sum(const SsDb *db, SsCounter counter);
extern int64 ss_monotonic(void);
extern void ss_mark_sessions_changed(void);
extern void ss_wake_keeper(void);
extern void ss_wake_pusher(SsDb *db, bool always);
extern void ss_wake_launcher(void);
extern void ss_wake_proc(int proc);
extern bool ss_database_is_free(Oid database);
extern bool ss_database_is_being_dropped(Oid database);
extern void ss_shared_at_end(bool committed, bool prepared);

#endif
