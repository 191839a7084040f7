/*
 * sim.h
 *		A simulated world that tests the protocol of the cache: one process, one seed.
 *
 * Real: src/protocol/.  Modelled: PostgreSQL servers with their rows, transactions and workers, a
 * network, a Redis, and time.
 *
 * Terms
 *	node		a PostgreSQL server; after a failover there may be two for a while
 *	judged		the node that applications use; the other one is a zombie: an old primary that was
 *				not told of the failover
 *	version		the contents of a row from some time on; value 0 means no session
 *	theme		the kind of faults of which a seed has more than others
 *	calm		a time without faults, which some faults need in order to be fair
 *	quiet		the end of a run, in which everything must recover
 *	elsewhere	a second Redis, which has no faults, and which readers read as well
 *	copy		a second server made from the judged one.  A copy of the block device equals the
 *				original in everything it can know, and may be the first to claim Redis
 *	stolen		Redis was claimed by such a copy, and the judged node waits for an operator
 *
 * Times are microseconds of the clock that all nodes share, unless they are said to be in Redis'
 * clock.  Everything happens in events.  In addition a pusher may be preempted where it takes a lock
 * of the ledger; then other events happen inside its own.
 */
#ifndef SIM_H
#define SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/protocol.h"
#include "protocol/rules.h"

#define MS INT64_C(1000)
#define SEC INT64_C(1000000)
#define NEVER INT64_MAX

#define KEYS_MOST 48
#define BACKENDS_MOST 10
#define NAMESPACES 2
#define PREFIXES 2
#define OPS_MOST 16
#define DATABASE 5
#define MEMBER 3 /* its number in the ledger */
#define SYSTEM 77

typedef enum Fault
{
	FAULT_HANG,
	FAULT_CUT,
	FAULT_LATE_DELIVERY,
	FAULT_PARTITION,
	FAULT_SWALLOW,
	FAULT_KILL_EMPTY,
	FAULT_OLD_SNAPSHOT,
	FAULT_FLUSHALL,
	FAULT_EVICT_KEY,
	FAULT_EVICT_LEASE,
	FAULT_LOSE_GUARD,
	FAULT_STEP_FORWARD,
	FAULT_STEP_BACK,
	FAULT_WORKER_STALL,
	FAULT_WORKER_CRASH,
	FAULT_WORKER_LEAVE,
	FAULT_SERVER_CRASH,
	FAULT_FAILOVER,
	FAULT_CACHE_SWITCH,
	FAULT_PREFIX,
	FAULT_LEASE_CHANGE,
	FAULT_SUSPEND,
	FAULT_PARTIAL_FLUSH, /* no fault, but a request */
	FAULT_ELSEWHERE,     /* the server is started with another Redis, or none, and returns later */
	FAULT_MOVE,          /* the same by reload */
	FAULT_COPY,          /* a copy of the server, or of its database, is started */
	FAULT_KINDS,

	/* Counted, but not drawn by fault.c. */
	HAPPENED_BACKEND_STALL = FAULT_KINDS,
	HAPPENED_PREEMPTION,
	HAPPENED_CONNECT_FAILED,
	HAPPENED_UNREADABLE,
	HAPPENED_ABORT,
	HAPPENED_UNLISTED,
	HAPPENED_TRUNCATE,
	HAPPENED_POLICY,
	HAPPENED_FENCE_BY_ACK,
	HAPPENED_FENCE_BY_TIME,
	HAPPENED_LATE,
	HAPPENED_LOST,
	HAPPENED_CLAIM,
	HAPPENED_LEASE,
	HAPPENED_SYNC,
	HAPPENED_UNRECORDED,
	HAPPENED_KINDS
} Fault;

typedef enum EventKind
{
	EVENT_BACKEND,
	EVENT_READER,
	EVENT_FAULT,
	EVENT_RESTORE, /* a fault ends; a: which one, b: in which life */
	EVENT_SAVE,    /* Redis writes a snapshot of itself to disk */
	EVENT_ARRIVE,  /* a packet arrives at Redis */
	EVENT_STOP_ZOMBIE,
	EVENT_START_SERVER,
	/* All from here on concern a pusher, and wait while it is stalled. */
	EVENT_CYCLE,
	EVENT_CONNECTED,
	EVENT_SENT,
	EVENT_REPLY,
	EVENT_TIMEOUT,
	EVENT_BROKEN,
	EVENT_SNAPSHOT,
	EVENT_ROWS,
	EVENT_RECORDED,
	EVENT_START_WORKER
} EventKind;

typedef struct Event
{
	int64_t at;
	uint64_t order;
	EventKind kind;
	int node;
	uint64_t a; /* whose event it is: compared with what the receiver expects at that time */
	uint64_t b;
	void *p;
} Event;

/* Parameters of the world of a seed. */
typedef struct Config
{
	uint64_t seed;
	int theme;
	int64_t duration;
	int keys;
	int backends;
	int ledger_keys;
	int listed_most; /* a transaction with more keys is unlisted */
	bool one_partition;
	bool neighbour; /* another database uses all of the ledger that it may */
	int batch_keys;
	int64_t lease;
	int64_t lease_most; /* longest lease of this run */
	int64_t life;
	int64_t latency;
	int64_t think;
	int64_t fault_pause;
	int weight[FAULT_KINDS];
	/* Probabilities per million. */
	int stall;
	int64_t stall_least;
	int backend_stall;
	int64_t backend_stall_least;
	int preempt;
	int64_t preempt_least;
	int64_t preempt_most;
	int fence_all;
	int fenced_delete;
	int big;
	int truncate;
	int policy;
	int unreadable;
	int later;
	int connect_fails;
} Config;

typedef struct Version
{
	int64_t value;
	int64_t ends;
	int64_t at;
	bool fenced;
} Version;

typedef struct Row
{
	Version *versions;
	int count;
	int room;
	int locker; /* a backend, or -1 */
} Row;

typedef enum BackendState
{
	BACKEND_IDLE,
	BACKEND_LOCK,
	BACKEND_ENTER,
	BACKEND_TICKET,
	BACKEND_FENCE,
	BACKEND_COMMIT,
	BACKEND_CALLBACK
} BackendState;

typedef enum Change
{
	CHANGE_SAVE,
	CHANGE_DELETE,
	CHANGE_TOUCH,
	CHANGE_POLICY /* of a namespace; ends all its sessions */
} Change;

typedef struct Backend
{
	BackendState state;
	uint64_t serial;
	int waits_for; /* a key, or -1 */
	Change change;
	bool truncates;
	int ns; /* of a change of policy */
	uint64_t policy;
	bool aborts;
	bool visible;
	bool fenced;
	bool unlisted;
	bool recorded[KEYS_MOST];
	bool entered[KEYS_MOST];
	bool key_fenced[KEYS_MOST];
	int key[KEYS_MOST];
	int keys;
	int next;
	uint64_t ticket;
	int64_t ticket_at;
	int64_t lease_until;
} Backend;

typedef enum PusherState
{
	PUSHER_NONE,
	PUSHER_RUNNING,
	PUSHER_WAITING,
	PUSHER_CONNECTING,
	PUSHER_SENDING,
	PUSHER_AWAITING,
	PUSHER_READING,
	PUSHER_RECORDING
} PusherState;

typedef struct Pusher
{
	PusherState state;
	uint64_t serial;     /* of the event that it expects */
	uint64_t remembered; /* in shared memory: the token of the last claim */
	bool copied;         /* the same: a copy of this server was seen */
	bool woken;
	int64_t stalled_until;
	bool unreadable;
	int64_t lock_patience;
	int64_t values[SS_BATCH_MAX];
	/* The namespaces as it last read them. */
	bool on[NAMESPACES];
	int prefix[NAMESPACES];
	bool flushes[NAMESPACES]; /* covered by the flush of namespaces under way */
	/* Its connection. */
	uint64_t connection;
	bool open;
	bool deaf; /* the answer that it waits for will not arrive */
	int64_t last_arrival;
	int64_t last_reply;
} Pusher;

typedef enum Copy
{
	COPY_NONE,
	COPY_DATABASE, /* CREATE DATABASE .. TEMPLATE */
	COPY_FILES,    /* of the data directory */
	COPY_BLOCKS    /* of the block device */
} Copy;

typedef struct Node
{
	bool up;
	uint64_t life;
	SsOwner owner;
	bool promoted;
	int64_t promoted_at;
	Copy copy;
	bool witnessed;    /* it has seen the original at work (R20) */
	SsBatchId witness; /* the guard as it last saw it */
	int place;         /* its Redis: 0, 1 elsewhere, -1 none */
	int place_next;
	/* On its disk. */
	SsClaim me; /* who it is */
	bool was_standby;
	SsClaim claim; /* session_cache_claims: the row, if there is one */
	bool has_claim;
	int64_t claim_at;
	SsClaim
		claim_before; /* the row before that, for a standby that has not replayed the last one */
	bool had_claim;
	SsLedger *ledger;
	SsControl control;
	SsProto proto;
	Pusher pusher;
	Row row[KEYS_MOST];
	int table_locker; /* a backend that truncates, or -1 */
	bool on[NAMESPACES];
	int prefix[NAMESPACES];
	uint64_t policy[NAMESPACES]; /* the number of the last change that ends sessions */
	Backend backend[BACKENDS_MOST];
	/* Its network. */
	int64_t partition_until;
	int64_t swallow_until;
	bool cut_next;
} Node;

typedef struct PacketOp
{
	int key;
	int prefix;
	SsOpKind kind;
	int64_t value;
	int64_t expires;
} PacketOp;

typedef struct Packet
{
	int node;
	uint64_t serial;
	uint64_t connection;
	uint64_t redis_life;
	bool delayed;
	int place;
	uint32_t writer;
	bool takeover; /* an operator has told it to */
	SsOwner owner;
	SsRequest request;
	int nops;
	PacketOp op[OPS_MOST];
	/* of a flush of namespaces; -1: no keys of this one */
	int prefix[NAMESPACES];
	/* The answer. */
	SsReply reply;
	bool missing[OPS_MOST];
} Packet;

typedef struct Entry
{
	int64_t value; /* 0: none */
	int64_t expires;
} Entry;

typedef struct RedisData
{
	Entry entry[KEYS_MOST * PREFIXES];
	SsGuard guard;
	int64_t lease;   /* its end in Redis' clock, 0: none */
	uint32_t writer; /* who last claimed it: see writer_of */
	int64_t claimed_at;
} RedisData;

typedef struct Redis
{
	bool up;
	bool hung;
	uint64_t life;
	int64_t offset;
	RedisData data;
	RedisData saved;
	RedisData before_takeover;
	Packet **queue;
	int queued;
	int room;
} Redis;

typedef struct Totals
{
	uint64_t happened[HAPPENED_KINDS];
	uint64_t events;
	uint64_t commits;
	uint64_t reads;
	uint64_t strong_hits;
	uint64_t violations;
	int64_t plain_most;
	int64_t plain_bound;
	int64_t strong_most;
	int64_t strong_bound;
	int64_t strong_excess; /* maximum by which strong staleness exceeded the lease */
	int64_t healthy_plain_most;
	int64_t healthy_strong_most;
	int64_t recovery_most;
} Totals;

typedef struct World
{
	Config config;
	int64_t now;
	uint64_t random;
	uint64_t serials;
	int64_t values;
	uint8_t *committed; /* by value */
	int64_t committed_room;
	Node node[2];
	int judged;
	Redis redis;
	RedisData elsewhere;
	bool pair;         /* there is, or was, a copy of the block device of the judged node */
	int pair_claimant; /* which of the two has claimed since; -1: none */
	uint32_t pair_timeline;
	bool stolen;
	SsKey key[KEYS_MOST];
	uint32_t hash[KEYS_MOST];
	int running; /* the node whose pusher runs, or -1 */
	bool nested;
	int preempted; /* then, whose pusher is preempted */
	bool quiet;
	int64_t last_fault;
	bool holding; /* no faults until the pusher has seen a step of Redis' clock */
	int64_t hold_until;
	uint64_t hold_steps;
	bool violated;
	char complaint[200];
	/* For a waiting session_cache_sync. */
	bool syncing;
	uint64_t sync_ticket;
	int64_t sync_since;
	int64_t forgot_at;     /* when Redis last lost something */
	int64_t foreign_until; /* until then copies may exist that another node wrote */
} World;

extern World w;
extern Totals totals;
extern bool verbose;

/* world.c: random numbers, time and events */
extern uint64_t draw(void);
extern int64_t between(int64_t low, int64_t high);
extern int64_t spread(int64_t low, int64_t high);
extern bool chance(int in_a_million);
extern void post(int64_t at, EventKind kind, int node, uint64_t a, uint64_t b, void *p);
extern void run_until(int64_t until);
extern void events_clear(void);
extern void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern void note_fault(Fault kind);
extern bool calm(void);

/* redis.c */
extern void redis_start(void);
extern int64_t redis_now(void);
extern bool redis_leased(void);
extern bool data_leased(const RedisData *data);
extern void redis_expire(void);
extern int64_t redis_get(int key, int prefix);
extern int64_t data_get(const RedisData *data, int key, int prefix);
extern void redis_arrive(Packet *packet);
extern void redis_resume(void);
extern void redis_stop(void);
extern void redis_drop_queue(void);
extern int64_t latency(void);

/* backend.c */
extern void node_start(Node *node);
extern void node_stop(Node *node);
extern void node_free(Node *node);
extern void backend_step(Node *node, int number);
extern bool backend_save_all(Node *node);
extern const Version *row_now(const Node *node, int key);
extern int namespace_of(int key);
#define WRITER_COPY 1000 /* from here on: copies */
extern uint32_t writer_of(const Node *node);
extern void add_version(Node *node, int key, int64_t value, int64_t ends, bool fenced);

/* pusher.c */
extern void pusher_start(Node *node);
extern void pusher_crash(Node *node);
extern void pusher_wake(Node *node);
extern void pusher_event(const Event *event);
extern void pusher_broken(Node *node);

/* config.c */
extern void config_draw(uint64_t seed);

/* fault.c */
extern void fault_strike(void);
extern void fault_restore(const Event *event);
extern void fault_end_all(void);
extern void zombie_stop(void);
extern void operate(void);

/* check.c */
extern void violation(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern void check_key(int key);
extern void check_all(void);
extern void check_lease(const Node *node, const RedisData *data);
extern void check_claim(const Node *node, bool takeover);
extern void check_reader(void);
extern bool check_recovered(bool filled);

#endif
