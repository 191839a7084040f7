/*
 * nemesis.h
 *		A real Postgres, a real Redis, clients, faults from a seed, and a checker.
 *
 * Words
 *		node		a Postgres: 0 is the first, 1 the standby that may be promoted
 *		key			a session that is watched, and its copy in Redis
 *		op			one change of one key by one client, with the times at which it was sent and
 *					answered; the document holds the op's number, so that whoever reads it
 *					knows which op he sees
 *		rank		where an op stands in the order of its key: node, then version, which
 *					Postgres counts under the row lock
 *		healthy		no fault for a while, and the lease has been there all the time
 *
 * Rules
 *		Times are microseconds of the monotonic clock.  An op counts as overwritten from the
 *		time on at which the client of a later op heard of its success, and a read as done
 *		when it was sent: what is measured is never more than what really was, so that a
 *		slow machine cannot raise a false alarm.
 */
#ifndef NEMESIS_H
#define NEMESIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MS INT64_C(1000)
#define SEC INT64_C(1000000)

/* A stretch of keys in each namespace. */
#define KEYS_REUSED 12 /* no tombstones: an id may be used again at once */
#define KEYS_BURIED 12 /* deleted ids stay dead until begun anew */
#define KEYS_BULK 600  /* for transactions that the ledger has no room for */
#define KEYS_SWITCH 8  /* of a namespace that is switched off and on */
#define KEYS_CLIENTS (KEYS_REUSED + KEYS_BURIED)
#define FIRST_BULK KEYS_CLIENTS
#define FIRST_SWITCH (FIRST_BULK + KEYS_BULK)
#define KEYS (FIRST_SWITCH + KEYS_SWITCH)

#define OPS_MOST 4000000
#define NODES 2

typedef struct Key
{
	const char *ns;
	char id[16];
	char name[24]; /* in Redis */
	int64_t life;  /* the longest that a copy may live */
	bool buried;
} Key;

typedef enum OpKind
{
	OP_SAVE,
	OP_DELETE /* or the old id of a regenerated session */
} OpKind;

typedef enum Outcome
{
	OUTCOME_PENDING, /* no answer yet, or never: it may have happened */
	OUTCOME_DONE,
	OUTCOME_FAILED /* surely nothing happened */
} Outcome;

typedef struct Op
{
	int32_t key;
	uint8_t kind;
	uint8_t outcome;
	uint8_t node;
	bool fenced;
	int64_t version; /* 0: unknown */
	int64_t invoked;
	int64_t completed;
	/* when a read began that saw it, at the latest */
	int64_t seen_plain;
	int64_t seen_strong;
	/* the same in health, which had begun at */
	int64_t seen_healthy;
	int64_t healthy_since;
} Op;

typedef struct Node
{
	char data[200];
	int port;
	pid_t pid;
} Node;

/* What the whole run goes by; set before the threads start, but for what is said to change. */
typedef struct Run
{
	const char *work;
	const char *bindir;
	const char *redis_server;
	const char *faults;
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
	volatile int node;       /* where clients go */
	volatile bool switching; /* they wait for the next node */
	int64_t promoted_at;
	volatile int64_t taken_over_at; /* the new primary was first seen to own Redis */
	volatile int64_t healthy_since; /* 0: not healthy */
	volatile int64_t worst_stall;   /* of a thread of ours that slept too long */
	volatile int64_t leased_at;     /* when the lease was last seen */
	int64_t healthy_for;
	uint64_t reads_plain;
	uint64_t reads_strong;
	uint64_t hits_plain;
	uint64_t hits_strong;
} Run;

extern Run run;
extern Key keys[KEYS];
extern Node nodes[NODES];

/* main.c */
extern int64_t now_us(void);
extern void pause_us(int64_t us);
extern void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
extern uint64_t draw(uint64_t *random);
extern int64_t between(uint64_t *random, int64_t least, int64_t most);
extern bool chance(uint64_t *random, int percent);

/* history.c */
extern void history_init(void);
extern int op_begin(int key, OpKind kind, int node, bool fenced, int count);
extern void op_end(int op, Outcome outcome, int64_t version);
extern void note_read(int key, const char *text, bool strong, int64_t start, int64_t healthy_since);
extern void base_begin(void);
extern void base_row(int key, int value, int64_t version);
extern void violation(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern int history_judge(void);

/* reader.c */
typedef struct redisContext Redis; /* of hiredis */
extern Redis *redis_open(int64_t timeout);
extern bool read_keys(Redis **redis, const int *which, int n, bool strong, int *hits);
extern void *reader_plain(void *arg);
extern void *reader_strong(void *arg);
extern void *monitor(void *arg);
extern bool wait_for_first_lease(int64_t most);
extern int compare_with_table(void);
extern bool redis_simple(const char *command, int64_t timeout);

/* client.c */
typedef struct Client
{
	void *pg; /* PGconn */
	int node; /* where to go */
	int connected_to;
	uint64_t random;
	Redis *redis;
	bool fence_all;
	/* of the last statements: the first column of each one's first row */
	int nvalues;
	char values[8][64];
	char *long_value; /* the last, in full */
	char state[6];
} Client;

extern uint64_t ops_by_kind[16];
extern const char *const op_names[16];
extern bool client_connect(Client *c);
extern void client_close(Client *c);
extern Outcome client_run(Client *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
extern int focus_key(int64_t now);
extern void *writer(void *arg);

/* special.c */
extern void *bulk_writer(void *arg);
extern void *switcher(void *arg);
extern void *filler(void *arg);
extern void *zombie_writer(void *arg);

/* proxy.c */
typedef enum ProxyMode
{
	PROXY_PASS,
	PROXY_DELAY,   /* everything comes later */
	PROXY_SWALLOW, /* answers get lost */
	PROXY_DROP,    /* requests get lost */
	PROXY_HOLD,    /* requests are held back, and delivered when it ends */
	PROXY_REFUSE,  /* new connections are closed, and the old ones */
	PROXY_SHUT,    /* new connections are closed, the old ones go on */
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
extern void standby_make(void);
extern bool node_has(pid_t pid);
extern pid_t pusher_pid(Client *admin);
extern void node_configure(Client *admin);

/* fault.c */
extern void *fault_processes(void *arg);
extern void *fault_network(void *arg);
extern void faults_choose(const char *list);
extern void faults_report(void);
extern bool faults_active(int64_t *last_end);

#endif
