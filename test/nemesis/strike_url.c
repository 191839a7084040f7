/*
 * strike_url.c
 *		Changes of session_store.redis_url: by a reload while a transaction is open, and by a
 *		restart.
 *
 * Both are steps drawn from the seed: they end a session of their own whose copy is covered by a
 * lease, and check whether it is still visible.  Clients and readers continue meanwhile; readers
 * always read the first Redis, as applications do that do not know of the change.
 */
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "nemesis.h"
#include "strike.h"

#define ELSEWHERE 7 /* a database of Redis that is not used otherwise */

static Client inside;
static Client outside;

/* Are both clients connected, to the first database? */
static bool
both(void)
{
	inside.node = outside.node = run.node;
	return client_connect(&inside) && client_connect(&outside);
}

static void
close_both(void)
{
	client_end(&inside);
	client_end(&outside);
}

/* A statement that ends a session; its version, or 0. */
static Outcome
delete_it(Client *c, int key, int64_t *version)
{
	const Key *k = &keys[key];
	Outcome outcome = client_run(
		c,
		"SELECT session_delete('%s', '%s'); SELECT version FROM conversation_sessions WHERE "
		"namespace = '%s' AND session_id = '%s'",
		k->id, k->ns, k->ns, k->id);

	if (outcome == OUTCOME_DONE && c->values[0][0] != 't')
		outcome = OUTCOME_FAILED;
	*version = outcome == OUTCOME_DONE ? number(c, 1) : 0;
	return outcome;
}

/*
 * A transaction deletes while there is no cache; before it ends, there is one, and the session
 * has a copy.
 */
void
strike_cache_late(uint64_t *r)
{
	int key = FIRST_LATE;
	Outcome outcome = OUTCOME_FAILED;
	int64_t version = 0;
	int op = 0;
	bool copy;

	set_for_sure("redis_url", "");
	if (both())
		save_one(&outside, key);
	/* until no lease can exist, and that is known */
	last(run.lease + between(r, 600 * MS, 900 * MS));
	if (both())
	{
		outcome = client_run(&inside, "BEGIN");
		op = op_begin(key, OP_DELETE, inside.node, true, 1);
		op_call(op, "delete while redis_url is reloaded");
		if (outcome == OUTCOME_DONE)
			outcome = delete_it(&inside, key, &version);
	}
	set_for_sure("redis_url", run.url);
	if (op == 0)
		return;
	if (outcome == OUTCOME_DONE)
	{
		copy = have_copy(&outside, key);
		say("%.3f s: redis_url was empty, and is set again; the session that is being deleted has "
			"%s copy",
			(double) (now_us() - run.started) / 1e6, copy ? "a" : "no");
		outcome = client_run(&inside, "COMMIT");
	}
	else
		(void) client_run(&inside, "ROLLBACK");
	op_end(op, outcome, version);
	if (outcome == OUTCOME_DONE)
		look_again(&outside, key);
	close_both();
}

/* The settings with which a server may come back. */
typedef struct Other
{
	const char *what;
	const char *setting;
	const char *back; /* its value before and afterwards */
	char value[100];
	int redis_db; /* a database of our Redis, or -1 */
} Other;

static void
draw_other(uint64_t *r, Other *other)
{
	other->setting = "redis_url";
	other->back = run.url;
	other->redis_db = -1;
	other->value[0] = '\0';
	switch (between(r, 0, 3))
	{
		case 0:
			other->what = "no Redis";
			break;
		case 1:
			other->what = "another database of Redis in redis_url";
			other->redis_db = ELSEWHERE;
			snprintf(other->value, sizeof(other->value), "%s/%d", run.url, ELSEWHERE);
			break;
		case 2:
			other->what = "another redis_db";
			other->setting = "redis_db";
			other->back = "-1";
			other->redis_db = ELSEWHERE;
			snprintf(other->value, sizeof(other->value), "%d", ELSEWHERE);
			break;
		default:
			other->what = "a Redis that is not there";
			snprintf(other->value, sizeof(other->value), "redis://127.0.0.1:1");
			break;
	}
}

static int
draw_stop(uint64_t *r)
{
	static const int stops[] = {SIGINT, SIGINT, SIGQUIT, SIGKILL};

	return stops[between(r, 0, 3)];
}

/*
 * Stays there for a while, and reads: the key that was ended, in the Redis that is no longer
 * written to, and as a strong reader of the new one, if there is one.
 */
static void
look_around(int ended, int redis_db, int64_t time)
{
	const Database *d = &dbs[0];
	Redis *elsewhere = redis_db < 0 ? NULL : redis_open(0, SEC);
	redisReply *reply;
	int which[KEYS_CLIENTS];
	int hits;

	for (int i = 0; i < 2 * d->half; i++)
		which[i] = d->first + i;
	if (elsewhere != NULL)
	{
		reply = redisCommand(elsewhere, "SELECT %d", redis_db);
		freeReplyObject(reply);
	}
	for (int64_t until = now_us() + time; now_us() < until; pause_us(10 * MS))
	{
		if (ended >= 0)
			look_again(&outside, ended);
		if (elsewhere != NULL)
			(void) read_keys(&elsewhere, which, 2 * d->half, true, &hits);
	}
	if (elsewhere != NULL)
		redisFree(elsewhere);
}

/*
 * The server is stopped, and comes back without the Redis that it had.  Strong readers do not know
 * that, and a lease may still be valid.
 */
void
strike_server_url(uint64_t *r)
{
	int key = FIRST_LATE + 1;
	int node = run.node;
	int how = draw_stop(r);
	int64_t version = 0;
	int64_t started;
	Other other;
	Outcome outcome;
	int op;

	/* while a standby is still to be promoted, the first node must not be restarted */
	if (run.failover && run.promoted_at == 0)
		return;
	draw_other(r, &other);
	if (!both())
		return;
	save_one(&outside, key);
	(void) have_copy(&outside, key);
	if (client_run(&outside, "ALTER SYSTEM SET session_store.%s = '%s'", other.setting,
				   other.value) != OUTCOME_DONE)
		return;
	started = now_us();
	node_stop(node, how);
	client_close(&inside);
	client_close(&outside);
	node_start(node);
	while (!both())
		pause_us(10 * MS);
	op = op_begin(key, OP_DELETE, node, true, 1);
	op_call(op, "delete after a start with another redis_url");
	outcome = delete_it(&outside, key, &version);
	op_end(op, outcome, version);
	say("%.3f s: stopped by signal %d, started with %s; %.3f s later a log-out %s",
		(double) (started - run.started) / 1e6, how, other.what,
		(double) (now_us() - started) / 1e6,
		outcome == OUTCOME_DONE ? "has returned" : "has failed");
	look_around(outcome == OUTCOME_DONE ? key : -1, other.redis_db,
				between(r, run.lease / 2, 2 * run.lease));
	/* back: by a reload, by a restart, or by both */
	if (chance(r, 60) && both() &&
		client_run(&outside, "ALTER SYSTEM SET session_store.%s = '%s'", other.setting,
				   other.back) == OUTCOME_DONE)
	{
		node_stop(node, draw_stop(r));
		node_start(node);
	}
	set_for_sure(other.setting, other.back);
	close_both();
}
