/*
 * strike_url.c
 *		redis_url changes: by a reload while a transaction is open, and by a restart.
 *
 * Both are seeded steps: they end a session of their own, with a copy that a lease vouches for, and
 * look whether it still shows.  Clients and readers go on meanwhile, and readers always
 * read the Redis that was there first, as applications do that have not heard.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "nemesis.h"
#include "strike.h"

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
	/* until no lease can be left, and that is known */
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

/*
 * The server is stopped, and comes back without the Redis that it had: with none, another
 * database in it, or one that is not there.  Strong readers have not heard, and a lease
 * may still be good.
 */
void
strike_server_url(uint64_t *r)
{
	static const int stops[] = {SIGINT, SIGINT, SIGQUIT, SIGKILL};
	int key = FIRST_LATE + 1;
	int node = run.node;
	int how = stops[between(r, 0, 3)];
	int64_t version = 0;
	char url[100];
	Outcome outcome;
	int op;

	/* while a standby is still to be promoted, the first node is not to be restarted */
	if (run.failover && run.promoted_at == 0)
		return;
	switch (between(r, 0, 2))
	{
		case 0:
			url[0] = '\0';
			break;
		case 1:
			snprintf(url, sizeof(url), "%s/7", run.url);
			break;
		default:
			snprintf(url, sizeof(url), "redis://127.0.0.1:1");
			break;
	}
	if (!both())
		return;
	save_one(&outside, key);
	(void) have_copy(&outside, key);
	if (client_run(&outside, "ALTER SYSTEM SET session_store.redis_url = '%s'", url) !=
		OUTCOME_DONE)
		return;
	say("%.3f s: stop by signal %d, start with redis_url = '%s'",
		(double) (now_us() - run.started) / 1e6, how, url);
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
	say("%.3f s: the log-out %s", (double) (now_us() - run.started) / 1e6,
		outcome == OUTCOME_DONE ? "has returned" : "has failed");
	for (int64_t until = now_us() + run.lease; outcome == OUTCOME_DONE && now_us() < until;)
	{
		look_again(&outside, key);
		pause_us(10 * MS);
	}
	set_for_sure("redis_url", run.url);
	if (chance(r, 50))
	{
		node_stop(node, stops[between(r, 0, 3)]);
		node_start(node);
	}
	close_both();
}
