/*
 * protocol_state.h
 *		The state of the protocol, its requests and its replies.
 *
 * The guard (guard.c), the lists of keys (worklist.c) and the protocol itself (protocol.c) work on
 * one SsProto.  Pure C, like they are.
 *
 * Times are microseconds of the monotonic clock that all processes of this machine share, unless
 * they are said to be in Redis' clock.
 */
#ifndef SS_PROTOCOL_STATE_H
#define SS_PROTOCOL_STATE_H

#include "protocol/ledger.h"
#include "protocol/standing.h"

#define SS_BATCH_MAX 256
#define SS_CHAIN_MAX 8

/* The owner of a Redis, as the guard names it. */
typedef struct SsOwner
{
	uint64_t system; /* system identifier */
	uint32_t database;
	uint32_t timeline;
} SsOwner;

/* Identifies a batch.  A token is drawn for each claim. */
typedef struct SsBatchId
{
	uint64_t token;
	uint64_t number;
} SsBatchId;

/* What Redis says about its owner. */
typedef struct SsGuard
{
	bool present;
	bool leased; /* the lease exists */
	SsOwner owner;
	uint64_t epoch;
	SsBatchId last;
} SsGuard;

typedef enum SsRequestKind
{
	SS_REQUEST_PROBE,  /* return the guard and the time */
	SS_REQUEST_CLAIM,  /* if the guard is `expected`: become the owner, remove the lease */
	SS_REQUEST_BATCH,  /* carry out the operations, then set or remove the lease */
	SS_REQUEST_FLUSH,  /* delete some of our keys, starting at a cursor */
	SS_REQUEST_REMOVE, /* delete guard and lease */
	SS_REQUEST_KINDS
} SsRequestKind;

typedef enum SsLeaseAction
{
	SS_LEASE_KEEP,
	SS_LEASE_SET,
	SS_LEASE_DROP
} SsLeaseAction;

/*
 * All requests except the probe do nothing (LATE) after the deadline.  All except probe and
 * claim do nothing (LOST) unless the guard names this owner, this epoch and one of `previous`.
 */
typedef struct SsRequest
{
	SsRequestKind kind;
	SsMonotonic give_up;  /* when to stop waiting for the answer */
	SsRedisTime deadline; /* in Redis' clock */
	SsBatchId id;         /* what the guard shall say afterwards */
	SsBatchId previous[SS_CHAIN_MAX];
	int nprevious;
	SsLeaseAction lease;
	SsRedisTime lease_until; /* in Redis' clock */
	int64_t lease_for_us;    /* for the mutant of R3 only: from when it is carried out */
	uint64_t cursor;         /* of a flush */
	bool policies;           /* flush the namespaces whose policies change, not everything */
	uint64_t epoch;          /* of all requests except the probe: ours */
	SsGuard expected;        /* of a claim */
} SsRequest;

typedef enum SsAnswer
{
	SS_ANSWER_OK,
	SS_ANSWER_LATE,
	SS_ANSWER_LOST
} SsAnswer;

typedef struct SsReply
{
	SsAnswer answer;
	SsRedisTime time; /* Redis' clock while it carried the request out */
	SsGuard guard;    /* of a probe */
	uint64_t cursor;  /* of a flush; 0 at the end */
	uint64_t removed;
} SsReply;

typedef enum SsFound
{
	SS_FOUND_NONE, /* no session, one that shall have no copy, or an unreadable one */
	SS_FOUND_COPY, /* a session whose copy may live until `until` */
	SS_FOUND_LATER /* did not fit into the batch */
} SsFound;

typedef enum SsOpKind
{
	SS_OP_NONE,
	SS_OP_DELETE,
	SS_OP_SET,
	SS_OP_EXPIRE
} SsOpKind;

typedef struct SsOp
{
	int32_t slot;
	/* For SS_DO_READ */
	bool document; /* is the document needed, or only its expiry? */
	SsFound found;
	SsMonotonic until;
	/* For SS_DO_SEND */
	SsOpKind kind;
	SsRedisTime expires; /* in Redis' clock */
	bool missing;        /* the answer to SS_OP_EXPIRE: there was no copy */
} SsOp;

typedef enum SsDo
{
	SS_DO_WAIT,
	SS_DO_CONNECT,
	SS_DO_SEND,
	SS_DO_RECORD,
	SS_DO_READ,
	SS_DO_LEAVE
} SsDo;

typedef enum SsStage
{
	SS_STAGE_PROBE,   /* find out who owns this Redis */
	SS_STAGE_REFUSED, /* another server or database owns it */
	SS_STAGE_CLAIM,
	SS_STAGE_FLUSH,
	SS_STAGE_RUN,
	SS_STAGE_REMOVE,
	SS_STAGE_LEFT
} SsStage;

/* Why a Redis is not ours. */
typedef enum SsRefusal
{
	SS_REFUSED_NONE,
	SS_REFUSED_OTHER,         /* another server or database owns it */
	SS_REFUSED_NEWER,         /* a later timeline of this server owns it: we were superseded */
	SS_REFUSED_OLDER,         /* an earlier timeline of this server owns it, and is alive */
	SS_REFUSED_SAME_IDENTITY, /* a server with our identity owns it, and is alive */
	SS_REFUSED_RIVAL,         /* a server with our identity has claimed it after us */
	SS_REFUSED_COPY,          /* this database is a copy of one that had a Redis: see record */
	SS_REFUSED_UNRECORDED     /* a claim could not be recorded in this database */
} SsRefusal;

typedef struct SsProtoCounts
{
	uint64_t batches;
	uint64_t late;
	uint64_t lost;
	uint64_t failures;
	uint64_t connects;
	uint64_t claims;
	uint64_t takeovers; /* claims of a Redis that another had */
	uint64_t flushes;
	uint64_t steps; /* times that Redis' clock was set */
	uint64_t sets;
	uint64_t deletes;
	uint64_t expires;
	uint64_t leases;
} SsProtoCounts;

typedef struct SsList
{
	int32_t first;
	int32_t last;
	int32_t count;
} SsList;

typedef struct SsProto
{
	SsLedger *ledger;
	SsControl *control;
	uint32_t database;

	/* Inputs, which the driver may change at any time. */
	SsOwner me;
	int64_t lease_us;
	int batch_keys;
	bool promoted;        /* take over from an earlier timeline, whether it is alive or not */
	bool takeover;        /* take over from any owner, once */
	bool suspended;       /* the tables cannot be trusted: no copies, no lease */
	int64_t own_clock_us; /* our wall clock minus the monotonic one, for the mutant of R12 only */
	uint64_t remembered;  /* the last token confirmed by this pusher or its predecessor */
	bool copied;          /* a copy of this server was seen to write: claim only by takeover */

	/* Outputs, which the driver may read. */
	SsMonotonic wait_until;
	SsRequest request;
	SsOp ops[SS_BATCH_MAX];
	int nops;
	SsStage stage;
	SsRefusal refusal;
	SsGuard guard;   /* as last seen */
	SsRecord record; /* as last read from this database, or written to it */
	uint64_t token;
	SsMonotonic lease_end;
	SsMonotonic retry_at;
	int failures;     /* consecutive */
	uint64_t removed; /* by the last flush */
	SsProtoCounts counts;

	/* Private to the state machine. */
	bool connected;
	bool attached;        /* keys stay in the ledger until Redis has them (R13) */
	bool backlog_dropped; /* detached while Redis is away, because too many keys waited */
	bool busy;            /* a request is under way */
	bool reading;         /* rows are being read */
	bool ready;           /* the operations are complete and shall be sent */
	bool deleting;        /* the batch only deletes, without regard to the rows */
	bool leaving;
	bool flush_wanted;
	bool partial_wanted; /* a flush of one prefix was asked for */
	bool partial;        /* and is under way */
	bool claimed;        /* at least once by this pusher */
	bool pending;        /* the claim of this token was not confirmed yet */
	bool ends_foreign;   /* this claim finds the guard of our last lease (R18) */
	uint64_t base_epoch; /* a claim must have a greater epoch */
	bool superseded;     /* a later timeline was seen: claim only by takeover */
	bool yielded;        /* refused, and not claimed since */
	bool was_suspended;
	SsMonotonic guard_seen_at;
	bool unreadable;
	SsMonotonic sent_at;
	SsMonotonic probe_at;
	SsMonotonic read_at; /* not before this time */
	uint64_t random;
	uint64_t epoch;
	uint64_t number;
	SsBatchId chain[SS_CHAIN_MAX];
	int nchain;
	SsBatchId watched; /* last batch of a foreign guard */
	SsMonotonic watched_since;
	bool watching;
	SsMonotonic connected_at; /* the first connection */
	/* Redis' clock minus ours is between these two. */
	bool clock_known;
	int64_t clock_low_us;
	int64_t clock_high_us;
	SsMonotonic clock_at;
	/* Lists of slots, by SsListId. */
	SsList lists[SS_LISTS];
	/* The round: what has to be done before the next lease. */
	bool round_open;
	uint32_t round;
	int32_t round_left;
	SsMonotonic round_at;
	int64_t round_lease_us; /* that was published; lease_us may change meanwhile */
	SsMonotonic renew_at;
	bool lease_sent;
	/* The fence: when all keys up to this order are deleted, this ticket passes. */
	uint32_t order;
	uint32_t fence_order;
	uint64_t fence_ticket;
	/* session_cache_sync: when all of these keys are done, this ticket is synced. */
	uint32_t sync;
	int32_t sync_left;
	uint64_t sync_ticket;
	/* As of the last update of the lists. */
	uint64_t ticket;
	uint64_t begun;
	uint64_t ended;
	/* Flushes. */
	uint64_t covered; /* unlisted transactions up to this one are covered */
	uint64_t flush_covers;
	uint64_t flush_ticket;
	uint64_t flush_cursor;
	bool flush_dropped; /* the lease, which goes first */
	/* Changes of policies as of the last update, and the flush of their namespaces. */
	uint64_t policies_begun;
	uint64_t policies_ended;
	uint64_t policies_covered;
	uint64_t flush_policies; /* policies that the flush of everything covers */
	bool policy_flush;
	uint64_t policy_covers; /* policies that the flush of namespaces covers */
	uint64_t policy_cursor;
	/* Prefixes that the guard shall name or forget; the same flush does it. */
	uint64_t names_begun;
	uint64_t names_covered;
	uint64_t flush_names;
	uint64_t policy_names;
	bool policy_waits; /* every second time, deletions go first */
} SsProto;

#endif
