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

#include "base/clock.h"
#include "base/key.h"
#include "protocol/control.h"

/* Size of a stored message. */
#define SS_MESSAGE_LEN 240

/* Size of a message that says as well what to do. */
#define SS_TROUBLE_LEN (2 * SS_MESSAGE_LEN)

/*
 * The pusher's report of itself, for session_health() and session_metrics().  Written by the pusher
 * under the main lock.
 */
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
	int failures;     /* in a row */
	int64 latency_us; /* of the last request */
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
	int64 redis_memory_bytes;  /* 0 if unknown */
	int64 redis_memory_limit_bytes;
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
 * answered.  The pusher compares these two without a lock, to see whether there is a request; the
 * rest, and all writes, are under the main lock.
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

/* A namespace whose policy was changed so that sessions or copies end earlier.  Under the main lock. */
typedef struct SsPolicyChange
{
	char ns[SS_NAMESPACE_MAX + 1];
	uint64 number;  /* number of the last such change (SsControl); 0: the entry is free */
	SsMonotonic at; /* when it was made */
} SsPolicyChange;

/* If more namespaces than this wait to be flushed, all copies are flushed. */
#define SS_POLICY_CHANGES 16

/*
 * The cache of a database.  The main lock (databases.h) protects it; fields that are used without it
 * say so.
 */
typedef struct SsCache
{
	SsControl control;         /* atomic; see control.h */
	ConditionVariable changed; /* signaled when the pusher has made progress; has its own lock */

	/*
	 * Written by the pusher without a lock, with a barrier before it looks for work once more.
	 * Committers read it without a lock, after a barrier (ss_database_wake_pusher).
	 */
	uint32 idle; /* the pusher sleeps and must be woken */

	/*
	 * Written when a pusher begins and ends, under the main lock.  Also read without it to wake the
	 * pusher, which at worst wakes a process in vain.
	 */
	int pusher_pid;
	int pusher_proc;

	/*
	 * Used by the pusher without a lock.  The next pusher registers under the main lock after this
	 * one has ended, and reads them then.
	 */
	uint64 token; /* token of the last claim */
	bool copied;  /* a copy of this server was seen to write to this Redis */

	bool no_slot; /* no worker slot was free for a pusher */

	/* When a commit last found no room in the ledger; 0: never.  Without a lock. */
	SsMonotonic no_room_at;

	/* When a commit last changed more keys than the ledger may hold, and one of their namespaces. */
	SsMonotonic too_large_at;
	char too_large_ns[SS_NAMESPACE_MAX + 1];
	TimestampTz retry_at; /* when another pusher may be started */
	SsCacheReport report; /* written by the pusher; report.where does not change while it runs */
	SsCacheRequest request;
	SsPolicyChange policy_changes[SS_POLICY_CHANGES];
} SsCache;

#endif
