/*
 * shared.h
 *		What lives in shared memory: the databases, their workers and counters.
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
	SS_APPENDED,
	SS_MESSAGES_REMOVED,
	SS_MESSAGES_PURGED,
	SS_FORKED,
	SS_ABSORBED,
	SS_SHARED_WITH,
	SS_USES_NOTED,
	SS_USES_WRITTEN,
	SS_USES_DROPPED,
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
	int32 failures; /* in a row */
	int32 skipped;  /* in a row, because of a lock of somebody else */
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

/* What a worker tells of the rows that it has set aside; since the server started. */
typedef struct SsAsideReport
{
	int32 rows;       /* set aside at present, one by one */
	int32 namespaces; /* set aside at present as a whole */
	uint64 failures;
	TimestampTz last_error_at;
	int last_code; /* SQLSTATE, as in ErrorData */
	char last_ns[SS_NAMESPACE_MAX + 1];
	char last_error[SS_MESSAGE_LEN];
} SsAsideReport;

/* What the pusher tells of itself, for health and metrics. */
typedef struct SsCacheReport
{
	bool connected;
	bool running;               /* leases are granted, copies written */
	bool locked;                /* a lock of somebody else is in the way of reading our tables */
	uint64 lock_skips;          /* how often it was */
	char where[SS_MESSAGE_LEN]; /* the URL, without its password */
	char state[32];
	char trouble[2 * SS_MESSAGE_LEN]; /* why it does not run, and what to do */
	char refused[32];                 /* why this Redis is not ours: one word, or empty */
	char last_error[SS_MESSAGE_LEN];
	TimestampTz last_error_at;
	bool password_in_url;
	int failures;    /* in a row */
	int64 latency;   /* us, of the last request */
	int64 lease_end; /* by the monotonic clock */
	int64 oldest;    /* likewise: since when a key waits; 0 for none */
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
	uint64 no_room; /* that Redis refused for want of memory */
	int denied;     /* namespaces whose keys the ACL of Redis denies us, and one of them */
	char denied_namespace[SS_NAMESPACE_MAX + 1];
	uint64 verified;
	uint64 divergent;
	TimestampTz resting_since; /* nothing is read, but now and then; 0: it is */
	bool diverging;     /* a pass over all keys has not come to its end without finding any */
	int64 redis_memory; /* bytes; 0 for unknown */
	int64 redis_memory_limit;
	char redis_version[32];
	char redis_policy[32];
} SsCacheReport;

typedef enum SsCacheQuestion
{
	SS_ASK_FLUSH,
	SS_ASK_TAKEOVER,
	SS_ASK_VERIFY
} SsCacheQuestion;

/* A question to the pusher, put by one backend at a time. */
typedef struct SsCacheRequest
{
	uint64 asked;
	uint64 answered;
	SsCacheQuestion question;
	char ns[SS_NAMESPACE_MAX + 1]; /* of a flush; empty for all */
	int32 sample;                  /* of a verification */
	int64 results[4];
} SsCacheRequest;

/* A namespace whose policy was changed so that sessions or copies end earlier. */
typedef struct SsPolicyChange
{
	char ns[SS_NAMESPACE_MAX + 1];
	uint64 number; /* of the last such change (SsControl); 0: free */
	int64 at;      /* when, by the monotonic clock */
} SsPolicyChange;

/* Changes of more namespaces than that, not flushed yet, flush everything. */
#define SS_POLICY_CHANGES 16

/* A database's cache.  The control is atomic, the rest guarded by the main lock. */
typedef struct SsCache
{
	SsControl control;
	ConditionVariable changed; /* somebody who waits may look again */
	uint32 idle;               /* the pusher sleeps, and wants to be woken */
	int pusher_pid;
	int pusher_proc;
	uint64 token; /* of the last claim, for the next pusher */
	bool copied;  /* likewise: a copy of this server was seen to write to our Redis */
	bool no_slot; /* for a pusher */
	/* by the monotonic clock, 0 for never: a commit found no room in the ledger (without a lock), */
	int64 no_room_at;
	int64 too_large_at;                      /* or changed more keys than it may hold, */
	char too_large_ns[SS_NAMESPACE_MAX + 1]; /* the last of which is of this namespace */
	TimestampTz retry_at;
	SsCacheReport report;
	SsCacheRequest request;
	SsPolicyChange policy_changes[SS_POLICY_CHANGES];
} SsCache;

/* Guarded by the main lock, but for the counters and what is said otherwise. */
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
	uint64 keeper_skips; /* of all tasks, since the server started */
	SsAsideReport aside[SS_WORKS];
	SsCache cache;
	int64 touch_dropped_at; /* by the monotonic clock, without a lock: a read could not be noted */
	/* of events committed since the keeper last told of them: how many, and from when on (0) */
	pg_atomic_uint64 events_written;
	pg_atomic_uint64 events_since;
	/* transactions that changed sessions, by any statement: see ss_note_change */
	pg_atomic_uint64 changes;
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
	int64 started;          /* by the monotonic clock */
	bool began_in_recovery; /* as a standby, or to be restored */
	int64 promoted;         /* atomic: when the first change was committed since; 0 before */
	int64 touch_dropped_at; /* as of a database, in any of them */
	SsDb databases[SS_MAX_DATABASES];
} SsShared;

/* NULL when the library was not preloaded. */
extern SsShared *ss_shared;

/* The keys of all databases whose copy in Redis may be wrong; NULL likewise. */
extern SsLedger *ss_ledger;

extern void ss_shared_install_hooks(void);
extern void ss_shared_lock(bool exclusive);
extern void ss_shared_unlock(void);
extern int ss_shared_number(const SsDb *db);
extern SsDb *ss_shared_db(Oid oid, bool create);
extern SsDb *ss_shared_my_db(void);
extern void ss_count(SsCounter counter, uint64 n);
extern uint64 ss_counter_sum(const SsDb *db, SsCounter counter);
extern int64 ss_monotonic(void);
extern void ss_note_change(void);
extern void ss_wake_keeper(void);
extern void ss_wake_pusher(SsDb *db, bool always);
extern void ss_wake_launcher(void);
extern void ss_wake_proc(int proc);
extern bool ss_database_is_free(Oid database);
extern bool ss_database_is_going(Oid database);
extern void ss_shared_init_backend(void);

#endif
