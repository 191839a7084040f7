/*
 * client.c
 *		Clients that change sessions, each over a connection of its own.
 *
 * Several clients change the same key for a moment; then the key rests for some seconds, so that a
 * copy that was left wrong is not corrected by the next change.
 *
 * An op is recorded before it is sent.  Without an answer its outcome is unknown; an error on a
 * connection that stays alive means that it did not happen.
 */
#include <hiredis/hiredis.h>
#include <libpq-fe.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nemesis.h"

#define FOCUS_FOR (300 * MS)

const char *const op_names[OP_NAMES] = {
	"save",         "update",        "delete",       "regenerate",  "touch",         "transaction",
	"create again", "bulk save",     "bulk delete",  "switch",      "read by SQL",   "zombie",
	"dark switch",  "append",        "tail by hand", "end of tail", "truncate",      "fork etc.",
	"log out",      "policy change", "take",         "expire",      "patch",         "repeated",
	"forget",       "hit",           "read many",    "turn",        "change in turn"};
uint64_t ops_by_kind[OP_NAMES];

/* The key, of so many, that all clients use at present. */
int
focus_of(int64_t now, int count)
{
	uint64_t slot = (uint64_t) ((now - run.started) / FOCUS_FOR);

	return (int) ((slot * 7 + run.seed) % (uint64_t) count);
}

static int
focus_key(const Client *c)
{
	return dbs[c->db].first + focus_of(now_us(), 2 * dbs[c->db].half);
}

void
client_close(Client *c)
{
	if (c->pg != NULL)
		PQfinish(c->pg);
	c->pg = NULL;
	free(c->long_value);
	c->long_value = NULL;
}

static void
no_notice(void *arg, const char *message)
{
	(void) arg;
	(void) message;
}

/*
 * Connects to the client's database on its node, unless it is connected; false when that cannot be
 * reached.
 */
bool
client_connect(Client *c)
{
	char info[400];

	if (c->pg != NULL && PQstatus(c->pg) == CONNECTION_OK && c->connected_to == c->node &&
		c->connected_db == c->db)
		return true;
	client_close(c);
	c->connected_to = c->node;
	c->connected_db = c->db;
	snprintf(info, sizeof(info),
			 "host='%s' port=%d user=postgres dbname=%s connect_timeout=5 "
			 "application_name=nemesis",
			 run.work, nodes[c->node].port, dbs[c->db].name);
	c->pg = PQconnectdb(info);
	if (PQstatus(c->pg) != CONNECTION_OK)
	{
		client_close(c);
		return false;
	}
	(void) PQsetNoticeProcessor(c->pg, no_notice, NULL);
	if (c->fence_all && client_run(c, "SET session_store.fence = 'all'") != OUTCOME_DONE)
	{
		client_close(c);
		return false;
	}
	return true;
}

/* Runs statements, sent at once: one transaction, unless they say otherwise. */
Outcome
client_run(Client *c, const char *format, ...)
{
	va_list arguments;
	char sql[1000];
	PGresult *result;
	Outcome outcome = OUTCOME_DONE;

	va_start(arguments, format);
	vsnprintf(sql, sizeof(sql), format, arguments);
	va_end(arguments);
	c->nvalues = 0;
	c->state[0] = '\0';
	if (PQsendQuery(c->pg, sql) != 1)
		return OUTCOME_PENDING;
	while ((result = PQgetResult(c->pg)) != NULL)
	{
		ExecStatusType status = PQresultStatus(result);

		if (status == PGRES_TUPLES_OK && c->nvalues < 8)
		{
			const char *value = PQntuples(result) == 0 || PQgetisnull(result, 0, 0)
									? ""
									: PQgetvalue(result, 0, 0);

			snprintf(c->values[c->nvalues++], sizeof(c->values[0]), "%s", value);
			free(c->long_value);
			c->long_value = strdup(value);
		}
		else if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
		{
			const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

			snprintf(c->state, sizeof(c->state), "%s", state == NULL ? "" : state);
			outcome = OUTCOME_FAILED;
		}
		else if (strcmp(PQcmdStatus(result), "ROLLBACK") == 0)
			outcome = OUTCOME_FAILED;
		PQclear(result);
	}
	return PQstatus(c->pg) == CONNECTION_OK ? outcome : OUTCOME_PENDING;
}

int64_t
number(const Client *c, int value)
{
	return value < c->nvalues ? atoll(c->values[value]) : 0;
}

/* The client that logs a session out reads it at once, which is the strictest check. */
void
look_again(Client *c, int key)
{
	int hits;

	(void) read_keys(&c->redis, &key, 1, true, &hits);
}

static void
save(Client *c, int key, bool reuse)
{
	const Key *k = &keys[key];
	int op = op_begin(key, OP_SAVE, c->node, c->fence_all, 1);
	Outcome outcome;

	outcome = client_run(c,
						 "SELECT session_save('%s', '{\"k\": %d, \"v\": %d}', namespace => '%s'%s)",
						 k->id, key, op, k->ns, reuse ? ", if_version => 0" : "");
	op_end(op, outcome, outcome == OUTCOME_DONE ? number(c, 0) : 0);
	if (outcome == OUTCOME_FAILED && strcmp(c->state, "SST10") == 0 && chance(&c->random, 60))
	{
		ops_by_kind[DO_CREATE_AGAIN]++;
		save(c, key, true);
	}
	else if (c->fence_all && outcome == OUTCOME_DONE)
		look_again(c, key);
}

/* Plain SQL, which the cache must notice as well. */
static void
update(Client *c, int key)
{
	const Key *k = &keys[key];
	int op = op_begin(key, OP_SAVE, c->node, c->fence_all, 1);
	Outcome outcome;

	outcome = client_run(c,
						 "UPDATE conversation_sessions SET session_data = '{\"k\": %d, \"v\": %d}'"
						 " WHERE namespace = '%s' AND session_id = '%s' AND dead_until IS NULL"
						 " RETURNING version",
						 key, op, k->ns, k->id);
	if (outcome == OUTCOME_DONE && c->values[0][0] == '\0')
		outcome = OUTCOME_FAILED;
	op_end(op, outcome, outcome == OUTCOME_DONE ? number(c, 0) : 0);
}

void
delete_one(Client *c, int key)
{
	const Key *k = &keys[key];
	int op = op_begin(key, OP_DELETE, c->node, true, 1);
	Outcome outcome;

	outcome = client_run(c,
						 "SELECT session_delete('%s', '%s'); SELECT version FROM "
						 "conversation_sessions WHERE namespace = '%s' AND session_id = '%s'",
						 k->id, k->ns, k->ns, k->id);
	if (outcome == OUTCOME_DONE && c->values[0][0] != 't')
		outcome = OUTCOME_FAILED;
	op_end(op, outcome, outcome == OUTCOME_DONE ? number(c, 1) : 0);
	if (outcome == OUTCOME_DONE)
		look_again(c, key);
}

/* Is there a copy under this id with the lease?  There must not be any more. */
void
check_gone(Client *c, const char *prefix, const char *id)
{
	redisReply *reply;

	if (c->redis == NULL)
		c->redis = redis_open(c->db, 400 * MS);
	if (c->redis == NULL)
		return;
	reply = redisCommand(c->redis, "MGET session_store:lease %s%s", prefix, id);
	if (reply == NULL)
	{
		redisFree(c->redis);
		c->redis = NULL;
		return;
	}
	if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
		reply->element[0]->type == REDIS_REPLY_STRING &&
		reply->element[1]->type == REDIS_REPLY_STRING)
		violation("strong: %s%s shows %.60s after its fenced end", prefix, id,
				  reply->element[1]->str);
	freeReplyObject(reply);
}

/* A login: the old id is dead; the new one lives for a moment. */
static void
regenerate(Client *c, int key)
{
	const Key *k = &keys[key];
	int op = op_begin(key, OP_DELETE, c->node, true, 1);
	Outcome outcome;
	char id[64];

	outcome = client_run(c,
						 "SELECT session_regenerate('%s', '%s'); SELECT version FROM "
						 "conversation_sessions WHERE namespace = '%s' AND session_id = '%s'",
						 k->id, k->ns, k->ns, k->id);
	if (outcome == OUTCOME_DONE && c->values[0][0] == '\0')
		outcome = OUTCOME_FAILED;
	snprintf(id, sizeof(id), "%.63s", c->nvalues > 0 ? c->values[0] : "");
	op_end(op, outcome, outcome == OUTCOME_DONE ? number(c, 1) : 0);
	if (outcome != OUTCOME_DONE)
		return;
	look_again(c, key);
	if (client_run(c, "SELECT session_get('%s', '%s')", id, k->ns) != OUTCOME_DONE)
		return;
	if (client_run(c, "SELECT session_delete('%s', '%s')", id, k->ns) == OUTCOME_DONE &&
		c->values[0][0] == 't')
		check_gone(c, k->prefix, id);
}

static void
touch(Client *c, int key)
{
	const Key *k = &keys[key];

	(void) client_run(c, "SELECT session_touch('%s', %s, '%s')", k->id,
					  chance(&c->random, 30) ? "interval '81 s'" : "NULL", k->ns);
}

/* A few keys in one transaction, in order; some undone by a savepoint, some rolled back. */
static void
many(Client *c)
{
	int first = dbs[c->db].first;
	int at = focus_key(c);
	int op[KEYS_CLIENTS];
	int which[KEYS_CLIENTS];
	int64_t version[KEYS_CLIENTS];
	bool undone[KEYS_CLIENTS];
	int n = 0;
	bool keep = chance(&c->random, 70);
	Outcome outcome = client_run(c, "BEGIN");

	for (int key = first; key < first + 2 * dbs[c->db].half && outcome == OUTCOME_DONE; key++)
	{
		const Key *k = &keys[key];

		if (key != at && !chance(&c->random, key < first + 2 ? 50 : 4))
			continue;
		which[n] = key;
		undone[n] = chance(&c->random, 25);
		if (undone[n])
			outcome = client_run(c, "SAVEPOINT s");
		op[n] = op_begin(key, OP_SAVE, c->node, c->fence_all, 1);
		if (outcome == OUTCOME_DONE)
			outcome = client_run(
				c, "SELECT session_save('%s', '{\"k\": %d, \"v\": %d}', namespace => '%s')", k->id,
				key, op[n], k->ns);
		version[n] = outcome == OUTCOME_DONE ? number(c, 0) : 0;
		if (undone[n] && outcome != OUTCOME_PENDING)
			outcome = client_run(c, "ROLLBACK TO s") == OUTCOME_PENDING ? OUTCOME_PENDING
																		: OUTCOME_DONE;
		n++;
	}
	/* a transaction whose COMMIT was not sent has certainly failed, even if the connection is lost */
	if (outcome == OUTCOME_DONE && keep)
		outcome = client_run(c, "COMMIT");
	else
	{
		if (c->pg != NULL && PQstatus(c->pg) == CONNECTION_OK)
			(void) client_run(c, "ROLLBACK");
		outcome = OUTCOME_FAILED;
	}
	for (int i = 0; i < n; i++)
		op_end(op[i], undone[i] ? OUTCOME_FAILED : outcome, undone[i] ? 0 : version[i]);
	for (int i = 0; i < n && c->fence_all && outcome == OUTCOME_DONE; i++)
		look_again(c, which[i]);
}

static void
change(Client *c)
{
	static const int shares[] = {45, 5, 22, 5, 8, 15};
	static void (*const calls[])(Client *, int) = {take_one, expire_one, patch_one};
	int key = chance(&c->random, 75) ? focus_key(c)
									 : dbs[c->db].first + (int) between(&c->random, 0, 1) +
										   (chance(&c->random, 50) ? dbs[c->db].half : 0);
	int64_t die = between(&c->random, 0, 99);
	int what = 0;

	if (HAS_SCENE(SCENE_CALLS) && chance(&c->random, 25))
	{
		what = (int) between(&c->random, 0, 2);
		ops_by_kind[DO_TAKE + what]++;
		calls[what](c, key);
		return;
	}
	while (die >= shares[what])
		die -= shares[what++];
	ops_by_kind[what]++;
	switch (what)
	{
		case DO_SAVE:
			save(c, key, false);
			break;
		case DO_UPDATE:
			update(c, key);
			break;
		case DO_DELETE:
			delete_one(c, key);
			break;
		case DO_REGENERATE:
			regenerate(c, key);
			break;
		case DO_TOUCH:
			touch(c, key);
			break;
		case DO_MANY:
			many(c);
			break;
	}
}

/* Goes to the node that clients use now; false, after a moment, while they wait. */
bool
client_follow(Client *c)
{
	if (run.switching || c->node != run.node)
	{
		client_close(c);
		c->node = run.node;
	}
	if (!run.switching && client_connect(c))
		return true;
	pause_us(50 * MS);
	return false;
}

/* Closes the connections of a client. */
void
client_end(Client *c)
{
	client_close(c);
	if (c->redis != NULL)
		redisFree(c->redis);
	c->redis = NULL;
}

/* Changes sessions until the run ends; follows the primary. */
void *
writer(void *arg)
{
	const Task *task = arg;
	Client c = {.random = task->seed, .db = task->db};

	c.fence_all = chance(&c.random, 25);
	while (!run.stopping)
	{
		if (!client_follow(&c))
			continue;
		change(&c);
		pause_us(between(&c.random, 0, 4 * MS));
	}
	client_end(&c);
	return NULL;
}
