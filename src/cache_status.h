/*
 * cache_status.h
 *		What the pusher of a database and other processes tell each other.
 *
 * The state of the cache (SsCache) is part of the database's entry in shared memory (databases.h).
 */
#ifndef SS_CACHE_STATUS_H
#define SS_CACHE_STATUS_H

#include "datatype/timestamp.h"
#include "storage/condition_variable.h"

#include "cache/ledger.h"
#include "clock.h"

/* Size of a stored message. */
#define SS_MESSAGE_LEN 240

/* Size of a message that says as well what to do. */
#define SS_TROUBLE_LEN (2 * SS_MESSAGE_LEN)

/* The pusher's report of itself, for session_health() and session_metrics(). */
typedef struct SsCacheReport
{
	bool connected;
	bool running;               /* leases are granted and copies written */
	bool locked;                /* a lock held by others keeps it from reading the tables */
	uint64 lock_skips;          /* how often that happened */
	char where[SS_MESSAGE_LEN]; /* the URL, without its password */
	char state[32];
	char trouble[SS_TROUBLE_LEN]; /* why nothing is cached, and what to do */
	char refused[32];             /* why this Redis cannot be claimed: one word, or empty */
	char last_error[SS_MESSAGE_LEN];
	TimestampTz last_error_at;
	bool password_in_url;
	int failures;  /* in a row */
	int64 latency; /* of the last request, in microseconds */
	SsMonotonic lease_end;
	SsMonotonic oldest; /* since when the oldest key has waited; 0 for none */
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
	uint64 number;  /* number of the last such change (SsControl); 0: the entry is free */
	SsMonotonic at; /* when it was made */
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
	 * ledger may hold; 0 for never, written without a lock.
	 */
	SsMonotonic no_room_at;
	SsMonotonic too_large_at;
	char too_large_ns[SS_NAMESPACE_MAX + 1]; /* namespace of the last of those keys */
	TimestampTz retry_at;
	SsCacheReport report;
	SsCacheRequest request;
	SsPolicyChange policy_changes[SS_POLICY_CHANGES];
} SsCache;

#endif
