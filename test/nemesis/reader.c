/*
 * reader.c
 *		Readers of Redis, plain and strong, and threads that monitor the run.
 *
 * Readers connect to Redis directly, not through the proxy.  A read that fails says nothing.
 */
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nemesis.h"

#define PATIENCE (400 * MS)
#define AT_ONCE 80
#define LOOK_EVERY (10 * MS)
#define LEASE_GAP (200 * MS) /* a flush drops the lease for a moment, which is no fault */

static struct timeval
timeval_of(int64_t us)
{
	struct timeval t = {us / SEC, us % SEC};

	return t;
}

/* A connection to the Redis of a database, or NULL. */
Redis *
redis_open(int db, int64_t timeout)
{
	redisContext *c = redisConnectUnixWithTimeout(run.socket, timeval_of(timeout));
	redisReply *reply;

	if (c != NULL && c->err == 0 && redisSetTimeout(c, timeval_of(timeout)) == REDIS_OK)
	{
		/* hiredis 0.14 does not set it, and the servers that we start would inherit the socket */
		(void) fcntl(c->fd, F_SETFD, FD_CLOEXEC);
		if (dbs[db].redis == 0)
			return c;
		reply = redisCommand(c, "SELECT %d", dbs[db].redis);
		if (reply != NULL && reply->type == REDIS_REPLY_STATUS)
		{
			freeReplyObject(reply);
			return c;
		}
		if (reply != NULL)
			freeReplyObject(reply);
	}
	if (c != NULL)
		redisFree(c);
	return NULL;
}

/* Runs one command on a connection of its own; true if it answered without an error. */
bool
redis_simple(int db, const char *command, int64_t timeout)
{
	Redis *c = redis_open(db, timeout);
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

/* Since when is the database healthy?  A fault ends that before it can be noticed. */
static int64_t
healthy_since(int db)
{
	int64_t end;

	if (faults_active(db, &end) || end + 2 * run.lease + SEC > dbs[db].healthy_since)
		return 0;
	return dbs[db].healthy_since;
}

static bool
is_other(int which)
{
	return which >= OTHER_NAME;
}

static int
key_of(int which)
{
	return is_other(which) ? which - OTHER_NAME : which;
}

static const char *
name_of(int which)
{
	return is_other(which) ? keys[key_of(which)].other : keys[which].name;
}

/*
 * Reads some keys of one database at once, strong with the lease, and records what they show.
 * False when Redis did not answer; the connection is then closed, and made again at the next call.
 */
bool
read_keys(Redis **redis, const int *which, int n, bool strong, int *hits)
{
	const char *argv[AT_ONCE + 2] = {"MGET", "session_store:lease"};
	int db = keys[key_of(which[0])].db;
	int64_t healthy = healthy_since(db);
	int64_t hidden[2];
	int64_t start;
	redisReply *reply;
	int lead = strong ? 2 : 1;
	bool leased;

	*hits = 0;
	if (*redis == NULL)
		*redis = redis_open(db, PATIENCE);
	if (*redis == NULL)
		return false;
	for (int i = 0; i < n; i++)
		argv[lead + i] = name_of(which[i]);
	policy_hidden(hidden);
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
	if (healthy != healthy_since(db))
		healthy = 0;
	leased = !strong || reply->element[0]->type == REDIS_REPLY_STRING;
	for (int i = 0; i < n && leased; i++)
	{
		const redisReply *value = reply->element[lead - 1 + i];

		if (value->type != REDIS_REPLY_STRING)
			continue;
		(*hits)++;
		(void) note_read(key_of(which[i]), value->str, strong ? READER_STRONG : READER_PLAIN, start,
						 healthy);
		if (strong)
			policy_seen(key_of(which[i]), is_other(which[i]), hidden, value->str);
	}
	freeReplyObject(reply);
	return true;
}

/* Adds the keys of a stretch, as far as there is room. */
static int
add_keys(int *which, int n, int most, int first, int count)
{
	for (int k = first; k < first + count && n < most; k++)
		which[n++] = k;
	return n;
}

/* The keys to read next: those that are being changed, then perhaps others. */
static int
choose(int db, uint64_t *random, int *which, bool all)
{
	const Database *d = &dbs[db];
	int n = add_keys(which, 0, AT_ONCE, d->first, 2 * d->half);

	n = add_keys(which, n, AT_ONCE, d->first_tail, d->tails + d->turn_tails);
	if (db == 0)
		n = add_keys(which, n, AT_ONCE, FIRST_TURN, KEYS_TURN);
	if (!all)
		return n;
	if (db == 1)
		return add_keys(which, n, AT_ONCE, FIRST_DARK, KEYS_DARK);
	n = add_keys(which, n, AT_ONCE, FIRST_SWITCH, KEYS_SWITCH);
	n = add_keys(which, n, AT_ONCE, FIRST_LATE, KEYS_LATE);
	n = add_keys(which, n, AT_ONCE, FIRST_POLICY, KEYS_POLICY);
	n = add_keys(which, n, AT_ONCE, OTHER_NAME + FIRST_POLICY, KEYS_POLICY);
	return add_keys(which, n, AT_ONCE,
					FIRST_BULK + (int) between(random, 0, KEYS_BULK - (AT_ONCE - n)), AT_ONCE);
}

/* One key that is being changed, or was a moment ago. */
static int
choose_one(int db, uint64_t *random)
{
	const Database *d = &dbs[db];
	bool tail = chance(random, 20);
	int first = tail ? d->first_tail : d->first;
	int count = tail ? d->tails : 2 * d->half;

	if (db == 0 && HAS_SCENE(SCENE_TURNS) && chance(random, 20))
	{
		first = tail ? FIRST_TURN_TAIL : FIRST_TURN;
		count = KEYS_TURN;
	}
	return first +
		   (chance(random, 50) ? focus_of(now_us(), count) : (int) between(random, 0, count - 1));
}

static void
read_on(bool strong, const Task *task)
{
	uint64_t random = task->seed;
	Redis *redis = NULL;
	uint64_t reads = 0;
	uint64_t hit = 0;

	while (!run.stopping)
	{
		int which[AT_ONCE];
		int n = 1;
		int hits;

		if (!strong && chance(&random, 70))
			which[0] = choose_one(task->db, &random);
		else
			n = choose(task->db, &random, which, !strong || chance(&random, 50));
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
	read_on(false, arg);
	return NULL;
}

void *
reader_strong(void *arg)
{
	read_on(true, arg);
	return NULL;
}

/* Is the lease there, and who owns Redis? */
static bool
look(int db, Redis **redis, int *timeline)
{
	redisReply *reply;
	bool leased = false;

	if (*redis == NULL)
		*redis = redis_open(db, PATIENCE);
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

/* What the monitor knows of a database. */
typedef struct Watch
{
	Redis *redis;
	int64_t leased_since;
	int64_t leased_last;
} Watch;

static void
watch(Watch *w, int db, int64_t before)
{
	int timeline = 0;
	int64_t fault;
	int64_t since;

	if (look(db, &w->redis, &timeline))
		dbs[db].leased_at = w->leased_last = now_us();
	else if (now_us() - w->leased_last > LEASE_GAP)
		w->leased_since = now_us();
	if (timeline > 1 && dbs[db].taken_over_at == 0)
		dbs[db].taken_over_at = now_us();
	since = w->leased_since;
	if (faults_active(db, &fault) || run.switching)
		since = INT64_MAX;
	else if (fault > since)
		since = fault;
	if (since == INT64_MAX || now_us() - since < 2 * run.lease + SEC)
		dbs[db].healthy_since = 0;
	else
		dbs[db].healthy_since = since + 2 * run.lease + SEC;
	if (dbs[db].healthy_since != 0)
		dbs[db].healthy_for += now_us() - before;
}

/*
 * Keeps up to date what changes in Database, and run.worst_stall.  A database is healthy if it had
 * no fault and always a lease for two leases and a second: then the pusher has certainly
 * recovered.
 */
void *
monitor(void *arg)
{
	Watch watches[DBS] = {{NULL, 0, 0}};

	(void) arg;
	for (int db = 0; db < DBS; db++)
		watches[db].leased_since = watches[db].leased_last = now_us();
	while (!run.stopping)
	{
		int64_t before = now_us();
		int64_t stall;

		pause_us(LOOK_EVERY);
		stall = now_us() - before - LOOK_EVERY;
		if (stall > run.worst_stall)
			run.worst_stall = stall;
		for (int db = 0; db < DBS; db++)
			watch(&watches[db], db, before);
	}
	for (int db = 0; db < DBS; db++)
		if (watches[db].redis != NULL)
			redisFree(watches[db].redis);
	return NULL;
}

/* Waits until the pusher has found Redis and granted a lease. */
bool
wait_for_first_lease(int db, int64_t most)
{
	int64_t until = now_us() + most;
	Redis *redis = NULL;
	int timeline = 0;
	bool leased = false;

	while (!leased && now_us() < until)
	{
		leased = look(db, &redis, &timeline);
		pause_us(20 * MS);
	}
	if (redis != NULL)
		redisFree(redis);
	return leased;
}

/*
 * Has copies made by reading every session by SQL; returns when there are many, or it takes long.
 */
static void
fill_copies(Client *c, Redis *redis)
{
	int64_t until = now_us() + 3 * SEC;
	long long copies = 0;
	long long enough = c->db == 0 ? KEYS_BULK / 4 : KEYS_SECOND;

	while (copies < enough && now_us() < until)
	{
		redisReply *reply;

		(void) client_run(c, "SELECT count(session_get(session_id, namespace)) FROM "
							 "conversation_sessions WHERE namespace <> 'forks'");
		(void) client_run(c, "SELECT session_cache_sync('1 s')");
		reply = redisCommand(redis, "DBSIZE");
		if (reply != NULL)
			copies = reply->integer;
		freeReplyObject(reply);
		pause_us(50 * MS);
	}
}

/* After all changes have ended: does every copy equal its row?  Returns how many there are. */
int
compare_with_table(int db)
{
	Client c = {.node = run.node, .db = db};
	Redis *redis = NULL;
	PGresult *rows;
	int copies = 0;

	if (!client_connect(&c))
		die("no connection for the last comparison");
	redis = redis_open(db, 5 * SEC);
	if (redis != NULL)
		fill_copies(&c, redis);
	for (int k = 0; k < KEYS && redis != NULL; k++)
	{
		char sql[250];
		redisReply *reply;
		const char *row;

		if (keys[k].db != db)
			continue;
		if (keys[k].tail)
			snprintf(sql, sizeof(sql), "SELECT coalesce(session_tail('%s', '%s'), '[]')::text",
					 keys[k].id, keys[k].ns);
		else
			snprintf(sql, sizeof(sql), "SELECT session_get('%s', '%s')::text", keys[k].id,
					 keys[k].ns);
		reply = redisCommand(redis, "GET %s", keys[k].name);
		rows = PQexec(c.pg, sql);
		if (PQresultStatus(rows) != PGRES_TUPLES_OK || reply == NULL)
			die("the last comparison failed: %s", PQerrorMessage(c.pg));
		row = PQgetisnull(rows, 0, 0) ? "no session" : PQgetvalue(rows, 0, 0);
		if (reply->type == REDIS_REPLY_STRING)
			copies++;
		if (reply->type == REDIS_REPLY_STRING && strcmp(reply->str, row) != 0)
			violation("at the end: key %s shows %.60s, the table has %.60s", keys[k].shown,
					  reply->str, row);
		freeReplyObject(reply);
		PQclear(rows);
		if (keys[k].other[0] != '\0' &&
			(reply = redisCommand(redis, "GET %s", keys[k].other)) != NULL)
		{
			if (reply->type == REDIS_REPLY_STRING)
				violation("at the end: %s shows %.60s, and no namespace has that prefix",
						  keys[k].other, reply->str);
			freeReplyObject(reply);
		}
	}
	if (redis == NULL)
		violation("at the end: Redis does not answer");
	else
		redisFree(redis);
	client_close(&c);
	return copies;
}
