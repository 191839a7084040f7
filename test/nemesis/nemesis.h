/*
 * nemesis.h
 *		A real Postgres, a real Redis, clients, faults from a seed, and a checker.
 *
 * Words
 *		node		a Postgres: 0 is the first, 1 the standby that may be promoted
 *		database	one of two in that Postgres, each with a database of Redis of its own and
 *					with clients, readers and health of its own; ids and keys in Redis are
 *					the same in both, so that a copy in the wrong one shows
 *		key			a copy in Redis that is watched: of a session's document, or of its tail
 *		op			one change of one key by one client, with the times at which it was sent and
 *					answered; the document holds the op's number, so that a reader of it
 *					knows which op it sees
 *		rank		where an op stands in the order of its key: node, then version, which
 *					Postgres counts under the row lock; for tails, a sequence that is drawn
 *					from under that lock
 *		healthy		no fault of the database or of all for a while, and its lease has been
 *					there all the time
 *
 * Rules
 *		Times are microseconds of the monotonic clock.  An op counts as overwritten from the
 *		time on at which the client of a later op heard of its success, and a read as done
 *		when it was sent: what is measured is never more than what really was, so that a
 *		slow machine cannot raise a false alarm.
 */
#ifndef NEMESIS_H
#define NEMESIS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MS INT64_C(1000)
#define SEC INT64_C(1000000)

/* A stretch of keys in each namespace; "second" to "dark" are of the second database. */
#define KEYS_REUSED 12 /* no tombstones: an id may be used again at once */
#define KEYS_BURIED 12 /* deleted ids stay dead until they are created again */
#define KEYS_BULK 600  /* for transactions that the ledger has no room for */
#define KEYS_SWITCH 8  /* of a namespace that is switched off and on */
#define KEYS_TAIL 6    /* tails of histories */
#define KEYS_TURN 4    /* sessions with turns: their tails, and their documents at the end */
#define KEYS_LATE 2    /* for changes of redis_url */
#define KEYS_SECOND 6  /* as the first two, in the second database */
#define KEYS_TAIL2 4   /* tails there */
#define KEYS_DARK 6    /* of a namespace there that has no cache for long */
#define KEYS_KEPT 4    /* of a namespace of the first database whose policy changes */
#define KEYS_POLICY 8  /* these, and those of another one that is changed at any time */
#define KEYS_CLIENTS (KEYS_REUSED + KEYS_BURIED)
#define FIRST_BULK KEYS_CLIENTS
#define FIRST_SWITCH (FIRST_BULK + KEYS_BULK)
#define FIRST_TAIL (FIRST_SWITCH + KEYS_SWITCH)
#define FIRST_TURN_TAIL (FIRST_TAIL + KEYS_TAIL)
#define FIRST_LATE (FIRST_TURN_TAIL + KEYS_TURN)
#define FIRST_SECOND (FIRST_LATE + KEYS_LATE)
#define FIRST_TAIL2 (FIRST_SECOND + 2 * KEYS_SECOND)
#define FIRST_DARK (FIRST_TAIL2 + KEYS_TAIL2)
#define FIRST_POLICY (FIRST_DARK + KEYS_DARK)
#define FIRST_TURN (FIRST_POLICY + KEYS_POLICY)
#define KEYS (FIRST_TURN + KEYS_TURN)
#define OTHER_NAME KEYS /* added to a key for read_keys(): read under its other name */

#define LONGEST_LEASE (10 * SEC) /* that any server grants */
#define OPS_MOST 4000000
#define NODES 2
#define DBS 2
#define TAIL_SIZE 4 /* messages in a copy */

typedef struct Key
{
	const char *ns;
	const char *prefix; /* of a document in Redis */
	char id[16];
	char name[24];  /* in Redis */
	char other[24]; /* the same with another key_prefix; empty: it has none */
	char shown[40]; /* for messages */
	int64_t life;   /* the longest that a copy may live */
	int db;
	bool buried;
	bool tail;
} Key;

typedef enum OpKind
{
	OP_SAVE,  /* of a tail: its last message is this op's */
	OP_DELETE /* or the old id of a regenerated session; a history without messages */
} OpKind;

typedef enum Outcome
{
	OUTCOME_PENDING, /* no answer yet, or never: it may have happened */
	OUTCOME_DONE,
	OUTCOME_FAILED /* surely nothing happened */
} Outcome;

typedef struct Op
{
	const char *what; /* for messages */
	int32_t key;
	uint8_t kind;
	uint8_t outcome;
	uint8_t node;
	bool fenced;
	bool clears;     /* no message of an earlier op is left */
	uint32_t text;   /* of a tail: a hash of all that was seen with this op as the last; 0: none */
	int32_t oldest;  /* the op of the first message in it */
	uint8_t taken;   /* bits by node: session_take() returned its value */
	int64_t version; /* 0: unknown */
	int64_t invoked;
	int64_t completed;
	/* when a read began that saw it, at the latest */
	int64_t seen_plain;
	int64_t seen_strong;
	int64_t seen_sql;
	/* the same in health, which had begun at */
	int64_t seen_healthy;
	int64_t healthy_since;
} Op;

/* A database, and what its readers depend on. */
typedef struct Database
{
	const char *name;
	int redis; /* its number there */
	int first; /* its keys that clients change: so many of each of two namespaces, */
	int half;
	int first_tail; /* and its tails */
	int tails;
	int turn_tails; /* behind these: of sessions with turns */
	/* changes */
	volatile int64_t healthy_since; /* 0: not healthy */
	volatile int64_t leased_at;     /* when its lease was last seen */
	volatile int64_t taken_over_at; /* the new primary was first seen to own its Redis */
	int64_t healthy_for;
} Database;

typedef struct Node
{
	char data[200];
	int port;
	pid_t pid;
} Node;

/* The state of the whole run; set before the threads start, except for what is said to change. */
typedef struct Run
{
	const char *work;
	const char *bindir;
	const char *redis_server;
	const char *faults;
	unsigned scenes;  /* bits by SCENE_ */
	char socket[200]; /* of Redis */
	char url[60];     /* by way of the proxy */
	uint64_t seed;
	int64_t seconds;
	int64_t lease; /* microseconds */
	bool failover;
	int64_t started;
	int64_t clock_offset;
	/* changes */
	volatile bool stopping;  /* the clients end */
	volatile bool calm;      /* the faults end */
	volatile int node;       /* the node that clients use */
	volatile bool switching; /* they wait for the next node */
	int64_t promoted_at;
	volatile int64_t worst_stall; /* of a thread of ours that slept too long */
	uint64_t reads_plain;
	uint64_t reads_strong;
	uint64_t hits_plain;
	uint64_t hits_strong;
} Run;

/* What clients do besides changing documents; each can be left out (--scenes). */
typedef enum Scene
{
	SCENE_BULK,   /* transactions that the ledger has no room for */
	SCENE_SWITCH, /* a namespace gets a cache while a transaction is open */
	SCENE_DARK,   /* the same after it had none for long, and the transaction deletes */
	SCENE_TAILS,  /* appends, pops, trims, ends */
	SCENE_HAND,   /* histories that the tables' owner changes by plain SQL (needs tails) */
	SCENE_BURY,   /* dead_until that it sets (needs both) */
	SCENE_FORKS,  /* forks and the like against logouts */
	SCENE_SECOND, /* clients in the second database */
	SCENE_POLICY, /* policies change */
	SCENE_CALLS, /* tokens that are taken, fixed expiries, patches; counters; windows, reads of many */
	SCENE_TURNS, /* holders of turns, some of which go on after their turn */
	SCENES
} Scene;

#define HAS_SCENE(scene) ((run.scenes & 1U << (scene)) != 0)

extern Run run;
extern Key keys[KEYS];
extern Node nodes[NODES];
extern Database dbs[DBS];

/* A thread of the run, in one of the databases. */
typedef struct Task
{
	void *(*body)(void *); /* of this Task */
	int db;
	int scene; /* SCENES: always */
	uint64_t seed;
} Task;

/* main.c */
extern int64_t now_us(void);
extern int64_t wall_us(void);
extern void pause_us(int64_t us);
extern void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
extern uint64_t draw(uint64_t *random);
extern int64_t between(uint64_t *random, int64_t least, int64_t most);
extern bool chance(uint64_t *random, int percent);

extern void start_thread(pthread_t *thread, void *(*body)(void *), Task *task);

/* plan.c */
#define THREADS 48

extern void plan_scenes(const char *list);
extern void plan_keys(void);
extern void plan_draw(void);
extern int plan_cast(Task *tasks);

/* failover.c */
extern void fail_over(void);

/* history.c */
extern void history_init(void);
extern int op_begin(int key, OpKind kind, int node, bool fenced, int count);
extern void op_end(int op, Outcome outcome, int64_t version);
extern Op *op_at(int op);
extern void op_call(int op, const char *what);
extern void base_begin(void);
extern void base_row(int key, int value, int64_t version);
extern void violation(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern int history_judge(void);

/* seen.c */
typedef enum Reader
{
	READER_PLAIN,
	READER_STRONG,
	READER_SQL
} Reader;

extern Op *note_read(int key, const char *text, Reader reader, int64_t start,
					 int64_t healthy_since);

/* reader.c */
typedef struct redisContext Redis; /* of hiredis */
extern Redis *redis_open(int db, int64_t timeout);
extern bool read_keys(Redis **redis, const int *which, int n, bool strong, int *hits);
extern void *reader_plain(void *arg);
extern void *reader_strong(void *arg);
extern void *monitor(void *arg);
extern bool wait_for_first_lease(int db, int64_t most);
extern int compare_with_table(int db);
extern bool redis_simple(int db, const char *command, int64_t timeout);

/* client.c */
typedef struct Client
{
	void *pg; /* PGconn */
	int node; /* the node to use */
	int db;
	int connected_to;
	int connected_db;
	uint64_t random;
	Redis *redis;
	bool fence_all;
	/* of the last statements: the first column of each one's first row */
	int nvalues;
	char values[8][64];
	char *long_value; /* the last, in full */
	char state[6];
} Client;

/* Counts of what was done. */
enum
{
	DO_SAVE,
	DO_UPDATE,
	DO_DELETE,
	DO_REGENERATE,
	DO_TOUCH,
	DO_MANY,
	DO_CREATE_AGAIN,
	DO_BULK_SAVE,
	DO_BULK_DELETE,
	DO_SWITCH,
	DO_FILL,
	DO_ZOMBIE,
	DO_DARK,
	DO_APPEND,
	DO_TAIL_HAND,
	DO_TAIL_END,
	DO_TRUNCATE,
	DO_FORK,
	DO_LOG_OUT,
	DO_POLICY,
	DO_TAKE,
	DO_EXPIRE,
	DO_PATCH,
	DO_REPEAT,
	DO_FORGET,
	DO_HIT,
	DO_READ_MANY,
	DO_TURN,
	DO_TURN_CHANGE,
	OP_NAMES
};

extern uint64_t ops_by_kind[OP_NAMES];
extern const char *const op_names[OP_NAMES];
extern bool client_connect(Client *c);
extern void client_close(Client *c);
extern Outcome client_run(Client *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
extern int64_t number(const Client *c, int value);
extern int focus_of(int64_t now, int count);
extern void look_again(Client *c, int key);
extern void delete_one(Client *c, int key);
extern void check_gone(Client *c, const char *prefix, const char *id);
extern bool client_follow(Client *c);
extern void client_end(Client *c);
extern void *writer(void *arg);

/* calls.c */
extern void take_one(Client *c, int key);
extern void expire_one(Client *c, int key);
extern void patch_one(Client *c, int key);
extern void *sql_reader(void *arg);

/* hits.c */
extern void *hitter(void *arg);
extern void hits_judge(void);

/* tail.c */
extern void *tail_writer(void *arg);

/* turns.c */
extern void *turn_holder(void *arg);
extern void *turn_reader(void *arg);

/* turn_log.c; "wall" times are of the clock that clients and servers share */
typedef struct Turn
{
	int session;
	int node;
	int64_t token;
	int64_t invoked;
	int64_t completed;
	/* unless something ends it, it is held until this wall time at least, and at most; both change */
	int64_t least;
	int64_t most;
	int64_t ended; /* when session_turn_end() had surely ended it; INT64_MAX: never */
	/* of the judge; INT64_MAX: never */
	int64_t superseded; /* when another begin was first answered */
	int64_t gone;       /* when an end of the session was first answered */
	int64_t cut;        /* wall time at which one was first called */
} Turn;

/* A call with the token of a turn, or without one. */
typedef struct TurnUse
{
	const char *what;
	int session;
	int turn; /* 0: none */
	int node;
	bool accepted;
	int64_t rank; /* of a change; 0: it was none */
	int64_t invoked;
	int64_t completed;
	int64_t asked;    /* wall time of the server before it looked at the token */
	int64_t answered; /* wall time of the client after the answer */
	int64_t least;    /* as of then */
	int64_t most;
	int64_t locked; /* wall time at which it surely still held the row lock; 0: unknown */
} TurnUse;

extern int turn_begun(const Turn *turn);
extern Turn *turn_at(int turn);
extern void turn_used(const TurnUse *use);
extern void turn_session_ended(int session, int op, int64_t wall);
extern void turns_judge(void);

/* fork.c */
extern void *forker(void *arg);
extern void *leaver(void *arg);

/* policy.c */
extern const char *const policy_first;
extern void policy_hidden(int64_t since[2]);
extern void policy_seen(int key, bool other, const int64_t before[2], const char *text);
extern void *policy_changer(void *arg);
extern void *policy_writer(void *arg);

/* special.c */
extern bool have_copy(Client *c, int key);
extern void save_one(Client *c, int key);
extern void *dark_switcher(void *arg);
extern void *bulk_writer(void *arg);
extern void *switcher(void *arg);
extern void *filler(void *arg);
extern void *zombie_writer(void *arg);

/* proxy.c */
typedef enum ProxyMode
{
	PROXY_PASS,
	PROXY_DELAY,   /* everything is delayed */
	PROXY_SWALLOW, /* answers are lost */
	PROXY_DROP,    /* requests are lost */
	PROXY_HOLD,    /* requests are held back, and delivered when the mode ends */
	PROXY_REFUSE,  /* new connections are closed, and the old ones */
	PROXY_SHUT,    /* new connections are closed, the old ones continue */
	PROXY_DRIBBLE  /* a few bytes at a time */
} ProxyMode;

extern int proxy_start(void); /* returns the port */
extern void proxy_set(ProxyMode mode, int64_t delay);
extern void proxy_cut(void);

/* server.c */
extern void servers_init(const char *data0, const char *data1);
extern void redis_start(void);
extern void redis_kill(void);
extern void redis_signal(int signal);
extern void redis_forget(void);
extern bool redis_save(void);
extern int64_t redis_saved_at(void);
extern void redis_shift_clock(int64_t by);
extern void node_start(int node);
extern void node_kill(int node);
extern void node_stop(int node, int signal);
extern void standby_make(void);
extern bool node_has(pid_t pid);
extern pid_t pusher_pid(Client *admin);
extern void node_configure(Client *admin);

/* fault.c */
extern void *fault_processes(void *arg);
extern void *fault_network(void *arg);
extern void faults_choose(const char *list);
extern void faults_report(void);
extern bool faults_active(int db, int64_t *last_end);

#endif
