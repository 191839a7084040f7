/*
 * fuzz.h
 *		A seeded generator of SQL statements against session_store, and what must hold.
 *
 * Words
 *	tag		every generated document and message says where it belongs: "_t": "namespace.family".
 *			Sessions of one family share the first byte of their id; fork, absorb and
 *			regenerate stay in the family. An answer with another tag than the statement
 *			may see is a failure.
 *	model	each client has sessions of its own in the namespace "m", whose document, version
 *			and number of messages it predicts.
 *	wipe	a statement that removes all sessions (TRUNCATE, DELETE without WHERE): models
 *			do not hold across it.
 *
 * Each client is a process with its own connection and its own stream of random numbers, made of
 * the seed and its number.  What it sends is logged before it is sent, so a failure can be replayed
 * with psql; the interleaving of clients is not determined by the seed.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* A growing string. */
typedef struct Text
{
	char *data;
	size_t len;
	size_t room;
} Text;

/* What a result may contain. NULL: anything. */
typedef struct Expect
{
	const char *ns;  /* only tags of this namespace */
	char family;     /* .. and of this family; 0: any */
	char iso_family; /* tags of the isolated namespace are of this family; 0: any */
} Expect;

typedef struct Shared
{
	volatile int wipes_active;
	volatile int wipes_done;
	volatile int failures;
	volatile long statements;
	volatile long errors;
	volatile long cancels;
	volatile long model_checks;
	volatile long tags_seen;
	volatile long reconnects;
	volatile long states[64]; /* how often each error class was seen */
	char state_names[64][6];
	volatile int nstates;
} Shared;

typedef struct Client
{
	int number;
	uint64_t rng;
	const char *conninfo;
	const char *role;
	char iso_family; /* the family that it is in the isolated namespace; 0: it sees all */
	bool superuser;
	PGconn *pg;
	FILE *log;
	bool in_transaction;
	bool wiping;
	bool cancel_next;
	bool half_open; /* its transaction cannot be ended; see of_server in client.c */
	/* ids that calls have returned, with their namespace and family */
	struct
	{
		char id[201];
		char ns[8];
		char family;
	} made[16];
	int nmade;
	/* the model */
	int model_serial;
	int model_wipes;
	bool model_exists;
	int64_t model_version;
	int64_t model_messages;
	Text model_document;
	/* the last result */
	char state[6];
	bool ok;
	char value[300];
	bool value_null;
	int ntuples;
} Client;

extern Shared *shared;

/* text.c */
extern void text_clear(Text *t);
extern void text_add(Text *t, const char *data, size_t len);
extern void text_puts(Text *t, const char *s);
extern void text_printf(Text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
extern void text_literal(Text *t, const char *data, size_t len);
extern uint64_t rnd(Client *c);
extern int below(Client *c, int n);
extern bool chance(Client *c, int one_in);

/* values.c */
extern const char *pick_ns(Client *c);
extern char pick_family(Client *c, const char *ns);
extern void gen_id(Client *c, const char *ns, char family, Text *out);
extern void gen_document(Client *c, const char *ns, char family, Text *out);
extern void gen_messages(Client *c, const char *ns, char family, Text *out);
extern const char *gen_interval(Client *c);
extern const char *gen_timestamp(Client *c);
extern const char *gen_numeric(Client *c);
extern const char *gen_int8(Client *c);
extern const char *gen_int4(Client *c);
extern const char *gen_policy(Client *c, const char *column);

/* statements.c */
extern void step_call(Client *c);

/* plain.c */
extern void step_plain(Client *c);
extern void step_setting(Client *c);
extern void step_transaction(Client *c);
extern void step_owner(Client *c);

/* model.c */
extern void step_model(Client *c);

/* client.c */
extern bool run_sql(Client *c, const char *sql, const Expect *expect);
extern bool run_format(Client *c, const Expect *expect, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
extern void failure(Client *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
extern int client_main(Client *c, int64_t until_ms);
extern int64_t now_ms(void);
extern bool client_connect(Client *c);

#endif
