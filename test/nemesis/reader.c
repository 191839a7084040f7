/*
 * reader.c
 *		Who reads Redis: plain, strong, and those who look after the run.
 *
 * Readers speak to Redis itself, not by way of the proxy.  A read that fails tells nothing.
 */
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nemesis.h"

#define PATIENCE (400 * MS)
#define AT_ONCE 64
#define LOOK_EVERY (10 * MS)
#define LEASE_GAP (200 * MS) /* a flush drops the lease for a moment, and that is no fault */

static struct timeval
timeval_of(int64_t us)
{
	struct timeval t = {us / SEC, us % SEC};

	return t;
}

/* A connection to Redis, or NULL. */
Redis *
redis_open(int64_t timeout)
{
	redisContext *c = redisConnectUnixWithTimeout(run.socket, timeval_of(timeout));

	if (c != NULL && c->err == 0 && redisSetTimeout(c, timeval_of(timeout)) == REDIS_OK)
	{
		/* hiredis 0.14 would lend it to the servers that we start */
		(void) fcntl(c->fd, F_SETFD, FD_CLOEXEC);
		return c;
	}
	if (c != NULL)
		redisFree(c);
	return NULL;
}

/* One command on a connection of its own; did it answer without an error? */
bool
redis_simple(const char *command, int64_t timeout)
{
	Redis *c = redis_open(timeout);
	redisReply *reply;
	bool fine;

	if (c == NULL)
		return false;
	reply = redisCommand(c, command);
	fine = reply != NULL && reply->type != REDIS_REPLY_ERROR;
	if (reply != NULL)
		freeReplyObject(reply);
	redisFree(c);
	return fine;
}

/* Since when is all well?  A fault ends that before anybody has noticed it. */
static int64_t
healthy_since(void)
{
	int64_t end;

	if (faults_active(&end) || end + 2 * run.lease + SEC > run.healthy_since)
		return 0;
	return run.healthy_since;
}

/*
 * Read some keys at once, strong with the lease beside them, and note what they show.
 * False when Redis did not answer; the connection is then gone, and made anew at the next
 * call.
 */
bool
read_keys(Redis **redis, const int *which, int n, bool strong, int *hits)
{
	const char *argv[AT_ONCE + 2] = {"MGET", "session_store:lease"};
	int64_t healthy = healthy_since();
	int64_t start;
	redisReply *reply;
	int lead = strong ? 2 : 1;
	bool leased;

	*hits = 0;
	if (*redis == NULL)
		*redis = redis_open(PATIENCE);
	if (*redis == NULL)
		return false;
	for (int i = 0; i < n; i++)
		argv[lead + i] = keys[which[i]].name;
	start = now_us();
	reply = redisCommandArgv(*redis, lead + n, argv, NULL);
	if (reply == NULL || reply->type != REDIS_REPLY_ARRAY || (int) reply->elements != n + lead - 1)
	{
		if (reply != NULL)
			freeReplyObject(reply);
		redisFree(*redis);
		*redis = NULL;
		return false;
	}
	if (healthy != healthy_since())
		healthy = 0;
	leased = !strong || reply->element[0]->type == REDIS_REPLY_STRING;
	for (int i = 0; i < n && leased; i++)
	{
		const redisReply *value = reply->element[lead - 1 + i];

		if (value->type != REDIS_REPLY_STRING)
			continue;
		(*hits)++;
		note_read(which[i], value->str, strong, start, healthy);
	}
	freeReplyObject(reply);
	return true;
}

/* The keys to look at next: what is being fought over, then some others. */
static int
choose(uint64_t *random, int *which, int most)
{
	int n = 0;
	int bulk = FIRST_BULK + (int) between(random, 0, KEYS_BULK - most);

	for (int k = 0; k < KEYS_CLIENTS && n < most; k++)
		which[n++] = k;
	for (int k = FIRST_SWITCH; k < KEYS && n < most; k++)
		which[n++] = k;
	while (n < most)
		which[n++] = bulk++;
	return n;
}

static void
read_on(bool strong, uint64_t seed)
{
	uint64_t random = seed;
	Redis *redis = NULL;
	uint64_t reads = 0;
	uint64_t hit = 0;

	while (!run.stopping)
	{
		int which[AT_ONCE];
		int n = 1;
		int hits;

		if (!strong && chance(&random, 70))
			which[0] = chance(&random, 50) ? focus_key(now_us())
										   : (int) between(&random, 0, KEYS_CLIENTS - 1);
		else
			n = choose(&random, which, strong && chance(&random, 50) ? KEYS_CLIENTS : AT_ONCE);
		if (read_keys(&redis, which, n, strong, &hits))
		{
			reads += (uint64_t) n;
			hit += (uint64_t) hits;
		}
		pause_us(between(&random, 200, 1500));
	}
	if (redis != NULL)
		redisFree(redis);
	__atomic_add_fetch(strong ? &run.reads_strong : &run.reads_plain, reads, __ATOMIC_SEQ_CST);
	__atomic_add_fetch(strong ? &run.hits_strong : &run.hits_plain, hit, __ATOMIC_SEQ_CST);
}

void *
reader_plain(void *arg)
{
	read_on(false, (uint64_t) (uintptr_t) arg);
	return NULL;
}

void *
reader_strong(void *arg)
{
	read_on(true, (uint64_t) (uintptr_t) arg);
	return NULL;
}

/* Is the lease there, and who owns Redis? */
static bool
look(Redis **redis, int *timeline)
{
	redisReply *reply;
	bool leased = false;

	if (*redis == NULL)
		*redis = redis_open(PATIENCE);
	if (*redis == NULL)
		return false;
	reply = redisCommand(*redis, "MGET session_store:lease");
	leased = reply != NULL && reply->type == REDIS_REPLY_ARRAY && reply->elements == 1 &&
			 reply->element[0]->type == REDIS_REPLY_STRING;
	if (reply != NULL)
		freeReplyObject(reply);
	reply = reply == NULL ? NULL : redisCommand(*redis, "HGET session_store:guard owner");
	if (reply == NULL)
	{
		redisFree(*redis);
		*redis = NULL;
		return false;
	}
	if (reply->type == REDIS_REPLY_STRING && strrchr(reply->str, '/') != NULL)
		*timeline = atoi(strrchr(reply->str, '/') + 1);
	freeReplyObject(reply);
	return leased;
}

/*
 * Keeps run.healthy_since, taken_over_at and worst_stall.  Healthy is who has had no fault
 * and always a lease for two leases and a second: then the pusher has surely found back.
 */
void *
monitor(void *arg)
{
	Redis *redis = NULL;
	int64_t leased_since = now_us();
	int64_t leased_last = leased_since;
	int timeline = 0;

	(void) arg;
	while (!run.stopping)
	{
		int64_t before = now_us();
		int64_t fault;
		int64_t since;
		int64_t stall;

		pause_us(LOOK_EVERY);
		stall = now_us() - before - LOOK_EVERY;
		if (stall > run.worst_stall)
			run.worst_stall = stall;
		if (look(&redis, &timeline))
			run.leased_at = leased_last = now_us();
		else if (now_us() - leased_last > LEASE_GAP)
			leased_since = now_us();
		if (timeline > 1 && run.taken_over_at == 0)
			run.taken_over_at = now_us();
		since = leased_since;
		if (faults_active(&fault) || run.switching)
			since = INT64_MAX;
		else if (fault > since)
			since = fault;
		if (since == INT64_MAX || now_us() - since < 2 * run.lease + SEC)
			run.healthy_since = 0;
		else
			run.healthy_since = since + 2 * run.lease + SEC;
		if (run.healthy_since != 0)
			run.healthy_for += now_us() - before;
	}
	if (redis != NULL)
		redisFree(redis);
	return NULL;
}

/* Wait until the pusher has found Redis and granted a lease. */
bool
wait_for_first_lease(int64_t most)
{
	int64_t until = now_us() + most;
	Redis *redis = NULL;
	int timeline = 0;
	bool leased = false;

	while (!leased && now_us() < until)
	{
		leased = look(&redis, &timeline);
		pause_us(20 * MS);
	}
	if (redis != NULL)
		redisFree(redis);
	return leased;
}

/* Have copies made by reading every session by SQL; done when there are many, or it takes long. */
static void
fill_copies(Client *c, Redis *redis)
{
	int64_t until = now_us() + 3 * SEC;
	long long copies = 0;

	while (copies < KEYS_BULK / 4 && now_us() < until)
	{
		redisReply *reply;

		(void) client_run(c, "SELECT count(session_get(session_id, namespace)) FROM "
							 "conversation_sessions");
		(void) client_run(c, "SELECT session_cache_sync('1 s')");
		reply = redisCommand(redis, "DBSIZE");
		if (reply != NULL)
			copies = reply->integer;
		freeReplyObject(reply);
		pause_us(50 * MS);
	}
}

/* With nobody changing anything any more: does every copy equal its row?  How many there are. */
int
compare_with_table(void)
{
	Client c = {.node = run.node};
	Redis *redis = NULL;
	PGresult *rows;
	int copies = 0;

	if (!client_connect(&c))
		die("no connection for the last comparison");
	redis = redis_open(5 * SEC);
	if (redis != NULL)
		fill_copies(&c, redis);
	for (int k = 0; k < KEYS && redis != NULL; k++)
	{
		char sql[200];
		redisReply *reply;
		const char *row;

		snprintf(sql, sizeof(sql), "SELECT session_get('%s', '%s')::text", keys[k].id, keys[k].ns);
		reply = redisCommand(redis, "GET %s", keys[k].name);
		rows = PQexec(c.pg, sql);
		if (PQresultStatus(rows) != PGRES_TUPLES_OK || reply == NULL)
			die("the last comparison failed: %s", PQerrorMessage(c.pg));
		row = PQgetisnull(rows, 0, 0) ? "no session" : PQgetvalue(rows, 0, 0);
		if (reply->type == REDIS_REPLY_STRING)
			copies++;
		if (reply->type == REDIS_REPLY_STRING && strcmp(reply->str, row) != 0)
			violation("at the end: key %s shows %.60s, the table has %.60s", keys[k].name,
					  reply->str, row);
		freeReplyObject(reply);
		PQclear(rows);
	}
	if (redis == NULL)
		violation("at the end: Redis does not answer");
	else
		redisFree(redis);
	client_close(&c);
	return copies;
}
