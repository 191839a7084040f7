/*
 * protocol.h
 *		What the pusher does: events and a clock in, actions out.
 *
 * Pure C: no Postgres, no hiredis, no allocation.  The pusher (pusher.c) links it, and so
 * does the simulator (test/sim).  Whoever drives it does what ss_proto_next says:
 *
 *		SS_DO_CONNECT	connect; then ss_proto_connected, or ss_proto_failed
 *		SS_DO_SEND		send p->request; then ss_proto_reply, or ss_proto_failed when there
 *						is no answer by request.give_up or the connection breaks (after
 *						which it is never used again)
 *		SS_DO_READ		read the rows of p->ops in one new snapshot, fill in what was found,
 *						end the transaction; then ss_proto_rows, or ss_proto_unreadable
 *		SS_DO_RECORD	write p->epoch and p->token durably into this database, before they are
 *						claimed; then ss_proto_recorded, or ss_proto_not_recorded
 *		SS_DO_WAIT		sleep until p->wait_until, or until somebody wakes us
 *		SS_DO_LEAVE		the end, after ss_proto_leave
 *
 * Times are microseconds of the monotonic clock that all processes of this machine
 * share, unless they are said to be in Redis' clock.
 */
#ifndef SS_PROTOCOL_H
#define SS_PROTOCOL_H

#include "cache/ledger.h"
#include "cache/standing.h"

#define SS_BATCH_MAX 256
#define SS_CHAIN_MAX 8

/* Who writes to a Redis. */
typedef struct SsOwner
{
	uint64_t system; /* the system identifier */
	uint32_t database;
	uint32_t timeline;
} SsOwner;

/* A link of the chain.  A token is drawn anew with each claim. */
typedef struct SsBatchId
{
	uint64_t token;
	uint64_t number;
} SsBatchId;

/* What Redis says of its owner. */
typedef struct SsGuard
{
	bool present;
	bool leased; /* the lease is there */
	SsOwner owner;
	uint64_t epoch;
	SsBatchId last;
} SsGuard;

typedef enum SsRequestKind
{
	SS_REQUEST_PROBE,  /* reply with the guard and the time */
	SS_REQUEST_CLAIM,  /* if the guard is `expected`: become its owner, drop the lease */
	SS_REQUEST_BATCH,  /* the operations, then the lease */
	SS_REQUEST_FLUSH,  /* delete some of our keys, from a cursor on */
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
 * All but the probe do nothing (LATE) after the deadline.  All but probe and claim do
 * nothing (LOST) unless the guard names this owner, epoch, and one of `previous`.
 */
typedef struct SsRequest
{
	SsRequestKind kind;
	int64_t give_up;  /* when to stop waiting for the answer */
	int64_t deadline; /* in Redis' clock */
	SsBatchId id;     /* what the guard shall say afterwards */
	SsBatchId previous[SS_CHAIN_MAX];
	int nprevious;
	SsLeaseAction lease;
	int64_t lease_until; /* in Redis' clock */
	int64_t lease_for;   /* for the mutant of R3 only: from when the request is carried out */
	uint64_t cursor;     /* of a flush */
	bool policies;       /* a flush of the namespaces whose policies change, not of everything */
	uint64_t epoch;      /* of all but the probe: ours */
	SsGuard expected;    /* of a claim */
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
	int64_t time;    /* Redis' clock while it carried the request out */
	SsGuard guard;   /* of a probe */
	uint64_t cursor; /* of a flush; 0 is the end */
	uint64_t removed;
} SsReply;

typedef enum SsFound
{
	SS_FOUND_NONE, /* no session, or one that shall have no copy, or that cannot be read */
	SS_FOUND_COPY, /* has one, until `until` */
	SS_FOUND_LATER /* did not fit into the batch any more */
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
	/* for SS_DO_READ */
	bool document; /* is the document needed, or only when it ends? */
	SsFound found;
	int64_t until;
	/* for SS_DO_SEND */
	SsOpKind kind;
	int64_t expires; /* in Redis' clock */
	bool missing;    /* the answer to SS_OP_EXPIRE: there was no copy */
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
	SS_STAGE_PROBE,   /* whose is this Redis? */
	SS_STAGE_REFUSED, /* another's */
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
	SS_REFUSED_NEWER,         /* a later timeline of ours does: this server was superseded */
	SS_REFUSED_OLDER,         /* an earlier timeline does, and is alive */
	SS_REFUSED_SAME_IDENTITY, /* a server that says it is this one does, and is alive */
	SS_REFUSED_RIVAL,         /* a server that says it is this one has claimed it since */
	SS_REFUSED_COPY,          /* this database is a copy of the one that had a Redis: see record */
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
	uint64_t takeovers; /* claims from others */
	uint64_t flushes;
	uint64_t steps; /* of Redis' clock */
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

	/* what the driver may change at any time */
	SsOwner me;
	int64_t lease;
	int batch_keys;
	bool promoted;       /* take over from an earlier timeline, alive or not */
	bool takeover;       /* take over from anybody, once */
	bool suspended;      /* the tables cannot be trusted: no copies, no lease */
	int64_t own_clock;   /* our wall clock less the monotonic one, for the mutant of R12 only */
	uint64_t remembered; /* the token last confirmed, by this pusher or the one before it */
	bool copied;         /* a copy of this server was seen to write: claim nothing by ourselves */

	/* what it may read */
	int64_t wait_until;
	SsRequest request;
	SsOp ops[SS_BATCH_MAX];
	int nops;
	SsStage stage;
	SsRefusal refusal;
	SsGuard guard;   /* as last seen */
	SsRecord record; /* as last read from this database, or written to it */
	uint64_t token;
	int64_t lease_end;
	int64_t retry_at;
	int failures;     /* in a row */
	uint64_t removed; /* by the last flush */
	SsProtoCounts counts;

	/* its own */
	bool connected;
	bool attached;        /* keys are kept in the ledger until Redis has them (R13) */
	bool backlog_dropped; /* not while Redis is away: there were too many */
	bool busy;            /* a request is under way */
	bool reading;         /* rows are being read */
	bool ready;           /* what was read is to be sent */
	bool deleting;        /* the batch deletes, whatever the rows say */
	bool leaving;
	bool flush_wanted;
	bool partial_wanted; /* a flush of some prefix */
	bool partial;        /* which is under way */
	bool claimed;        /* at least once */
	bool pending;        /* the claim of this token was not confirmed yet */
	bool ends_foreign;   /* that claim finds the guard of our last lease */
	uint64_t base_epoch; /* what a claim must exceed */
	bool superseded;     /* a later timeline was seen: never claim by ourselves again */
	bool yielded;        /* refused, and not claimed since */
	bool was_suspended;
	int64_t guard_seen_at;
	bool unreadable;
	int64_t sent_at;
	int64_t probe_at;
	int64_t read_at; /* not before */
	uint64_t random;
	uint64_t epoch;
	uint64_t number;
	SsBatchId chain[SS_CHAIN_MAX];
	int nchain;
	SsBatchId watched; /* the last of a foreign guard, */
	int64_t watched_since;
	bool watching;
	int64_t connected_at; /* for the first time */
	/* Redis' clock less ours is between these */
	bool clock_known;
	int64_t clock_low;
	int64_t clock_high;
	int64_t clock_at;
	/* lists of slots by SsListId */
	SsList lists[SS_LISTS];
	/* the round: what has to be done before the next lease */
	bool round_open;
	uint32_t round;
	int32_t round_left;
	int64_t round_at;
	int64_t round_lease; /* what was published; `lease` may change meanwhile */
	int64_t renew_at;
	bool lease_sent;
	/* the fence: when all up to this order are deleted, this ticket passes */
	uint32_t order;
	uint32_t fence_order;
	uint64_t fence_ticket;
	/* session_cache_sync: when all of these are done, this ticket is synced */
	uint32_t sync;
	int32_t sync_left;
	uint64_t sync_ticket;
	/* as of the last look */
	uint64_t ticket;
	uint64_t begun;
	uint64_t ended;
	/* flushes */
	uint64_t covered; /* unlisted transactions up to this one are flushed away */
	uint64_t flush_covers;
	uint64_t flush_ticket;
	uint64_t flush_cursor;
	bool flush_dropped; /* the lease, first of all */
	/* changes of policies, as of the last look, and the flush of their namespaces */
	uint64_t policies_begun;
	uint64_t policies_ended;
	uint64_t policies_covered;
	uint64_t flush_policies; /* those that the flush of everything covers */
	bool policy_flush;
	uint64_t policy_covers; /* likewise, by the flush of namespaces */
	uint64_t policy_cursor;
	uint64_t
		names_begun; /* prefixes that the guard is to name or to forget: the same flush does it */
	uint64_t names_covered;
	uint64_t flush_names;
	uint64_t policy_names;
	bool policy_waits; /* it lets deletions go first, every second time */
} SsProto;

extern void ss_proto_init(SsProto *p, SsLedger *ledger, SsControl *control, uint32_t database,
						  const SsOwner *me, uint64_t seed, int64_t now);
extern SsDo ss_proto_next(SsProto *p, int64_t now);
extern void ss_proto_connected(SsProto *p, int64_t now);
extern void ss_proto_failed(SsProto *p, int64_t now);
extern void ss_proto_reply(SsProto *p, const SsReply *reply, int64_t now);
extern void ss_proto_rows(SsProto *p, int64_t now);
extern void ss_proto_unreadable(SsProto *p, int64_t now);
extern void ss_proto_flush(SsProto *p);
extern void ss_proto_flush_names(SsProto *p);
extern void ss_proto_flush_partly(SsProto *p);
extern void ss_proto_takeover(SsProto *p, int64_t now);
extern void ss_proto_no_takeover(SsProto *p);
extern void ss_proto_reconnect(SsProto *p, int64_t now);
extern void ss_proto_leave(SsProto *p);
extern void ss_proto_set_record(SsProto *p, const SsRecord *record);
extern bool ss_proto_moved(const SsProto *p, int64_t now);
extern void ss_proto_recorded(SsProto *p, bool moved);
extern void ss_proto_not_recorded(SsProto *p, int64_t now);
extern bool ss_proto_stop(SsProto *p, int64_t now, int64_t give_up);
extern void ss_proto_stopped(SsProto *p, const SsReply *reply);
extern bool ss_proto_flushing(const SsProto *p);
extern int64_t ss_proto_oldest(const SsProto *p);

#endif
