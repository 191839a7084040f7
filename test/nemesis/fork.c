/*
 * fork.c
 *		Ends of all sessions against calls that make sessions out of sessions.
 *
 * Guaranteed: once session_delete_all() or session_clear() has returned, no session is alive that
 * existed when it was called, or that was made out of one that did by a call that began before it
 * returned.  Not guaranteed: a login at the same moment, that is a session that was not made out
 * of another.
 *
 * Therefore it is known of each session when it, or the first session that it descends from,
 * certainly existed (`rooted`), and when the call that made it began.  Both err towards reporting
 * nothing, as does forgetting what a primary has seen when another server takes its place.
 *
 * A session counts as alive if the table says so, or if a strong reader sees it.
 *
 * session_forget() guarantees the same, and that no message is left of such a session, in whichever
 * history: a message names the session to which it was appended.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nemesis.h"

#define OWNERS 3
#define RECENT 12 /* sessions of an owner that are worked with */
#define NAMED 400000
#define RANDOM 20000
#define LOG_OUTS 20000
#define NEVER INT64_MAX

typedef struct Made
{
	char id[44]; /* empty: f and its number */
	int node;
	int owner;
	int64_t rooted;
	int64_t began;
	int64_t appended; /* when it surely had a message; 0: never */
} Made;

typedef struct LogOut
{
	int node;
	int owner; /* -1: all */
	bool forget;
	int64_t called;
	int64_t returned;
} LogOut;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Made named[NAMED];
static Made random_ids[RANDOM];
static LogOut log_outs[LOG_OUTS];
static int nnamed = 0, nrandom = 0, nlog_outs = 0;
static Made *recent[OWNERS][RECENT];

static const char *
id_of(const Made *m, char *out)
{
	if (m->id[0] != '\0')
		return m->id;
	snprintf(out, 44, "f%d", (int) (m - named));
	return out;
}

/* A session that a call which is about to be sent makes: out of a parent, or of none. */
static Made *
begin(int node, int owner, const Made *parent)
{
	Made *m;

	pthread_mutex_lock(&lock);
	m = nnamed < NAMED ? &named[nnamed++] : NULL;
	if (m != NULL)
	{
		m->node = node;
		m->owner = owner;
		m->rooted = parent == NULL ? NEVER : parent->rooted;
		m->began = now_us();
	}
	pthread_mutex_unlock(&lock);
	return m;
}

/* It exists: others may work with it. */
static void
made(Made *m, uint64_t *random)
{
	pthread_mutex_lock(&lock);
	if (m->rooted == NEVER)
		m->rooted = now_us();
	recent[m->owner][between(random, 0, RECENT - 1)] = m;
	pthread_mutex_unlock(&lock);
}

/* The same session under another id, which the server has drawn. */
static void
renamed(const Made *m, const char *id, int64_t began, uint64_t *random)
{
	Made *n = NULL;

	pthread_mutex_lock(&lock);
	if (nrandom < RANDOM)
	{
		n = &random_ids[nrandom++];
		*n = *m;
		n->began = began;
		snprintf(n->id, sizeof(n->id), "%.43s", id);
	}
	pthread_mutex_unlock(&lock);
	if (n != NULL)
		made(n, random);
}

/* One of the owner's sessions, or NULL. */
static Made *
pick(const Client *c, int owner, uint64_t *random)
{
	Made *m;

	pthread_mutex_lock(&lock);
	m = recent[owner][between(random, 0, RECENT - 1)];
	pthread_mutex_unlock(&lock);
	return m == NULL || m->node != c->node ? NULL : m;
}

static Made *
find(const char *id)
{
	Made *found = NULL;
	char *end = NULL;
	long n = id[0] == 'f' ? strtol(id + 1, &end, 10) : -1;

	pthread_mutex_lock(&lock);
	if (end != NULL && *end == '\0' && n >= 0 && n < nnamed)
		found = &named[n];
	for (int i = nrandom - 1; i >= 0 && found == NULL; i--)
		if (strcmp(random_ids[i].id, id) == 0)
			found = &random_ids[i];
	pthread_mutex_unlock(&lock);
	return found;
}

/*
 * One call, perhaps in a transaction that stays open for a moment.  Returns its first value; an
 * empty string unless it certainly succeeded and returned one.
 */
static const char *
call(Client *c, const char *sql)
{
	static __thread char value[64];
	Outcome outcome;

	value[0] = '\0';
	if (chance(&c->random, 50))
	{
		outcome = client_run(c, "BEGIN; %s", sql);
		if (outcome == OUTCOME_DONE)
			snprintf(value, sizeof(value), "%s", c->values[0]);
		pause_us(between(&c->random, 0, 30 * MS));
		outcome = client_run(c, outcome == OUTCOME_DONE ? "COMMIT" : "ROLLBACK");
	}
	else
	{
		outcome = client_run(c, "%s", sql);
		if (outcome == OUTCOME_DONE)
			snprintf(value, sizeof(value), "%s", c->values[0]);
	}
	if (outcome != OUTCOME_DONE)
		value[0] = '\0';
	return value;
}

static void
make_one(Client *c, int owner)
{
	Made *parent = chance(&c->random, 80) ? pick(c, owner, &c->random) : NULL;
	Made *other = pick(c, owner, &c->random);
	Made *m;
	int64_t die = between(&c->random, 0, 99);
	int64_t began = now_us();
	const char *value;
	char sql[300];
	char a[44];
	char b[44];

	ops_by_kind[DO_FORK]++;
	if (parent == NULL)
		snprintf(sql, sizeof(sql), "SELECT 1");
	else if (die < 20)
		snprintf(sql, sizeof(sql), "SELECT session_regenerate('%s', 'forks')", id_of(parent, a));
	else if (die < 35 && other != NULL && other != parent)
		snprintf(sql, sizeof(sql), "SELECT session_absorb('%s', '%s', 'forks')", id_of(parent, a),
				 id_of(other, b));
	else if (die < 50)
		/* over a dead session this is refused: it makes none */
		snprintf(sql, sizeof(sql),
				 "SELECT session_save('%s', '{\"again\": %d}', namespace => 'forks')",
				 id_of(parent, a), (int) die);
	else
		die = 99;
	if (parent != NULL && die < 99)
	{
		value = call(c, sql);
		if (die < 20 && value[0] != '\0')
			renamed(parent, value, began, &c->random);
		return;
	}
	m = begin(c->node, owner, parent);
	if (m == NULL)
		return;
	if (parent == NULL)
		snprintf(sql, sizeof(sql),
				 "SELECT session_save('%s', '{}', owner => 'o%d', namespace => 'forks')",
				 id_of(m, a), owner);
	else
		snprintf(sql, sizeof(sql), "SELECT session_fork('%s', '%s', namespace => 'forks')",
				 id_of(parent, a), id_of(m, b));
	if (call(c, sql)[0] != '\0')
		made(m, &c->random);
}

/* A message to one of the owner's sessions. */
static void
append_one(Client *c, int owner)
{
	Made *m = pick(c, owner, &c->random);
	char sql[300];
	char a[44];

	if (m == NULL)
		return;
	snprintf(sql, sizeof(sql),
			 "SELECT session_append('%s', '{\"of\": \"%s\"}', namespace => 'forks') "
			 "WHERE session_exists('%s', 'forks')",
			 id_of(m, a), id_of(m, a), id_of(m, a));
	if (call(c, sql)[0] == '\0')
		return;
	pthread_mutex_lock(&lock);
	if (m->appended == 0)
		m->appended = now_us();
	pthread_mutex_unlock(&lock);
}

/* Makes sessions, mostly of the owner that all clients use at present. */
void *
forker(void *arg)
{
	const Task *task = arg;
	Client c = {.random = task->seed, .db = task->db};

	while (!run.stopping)
	{
		int owner;

		if (!client_follow(&c))
			continue;
		owner = chance(&c.random, 70) ? focus_of(now_us(), OWNERS)
									  : (int) between(&c.random, 0, OWNERS - 1);
		if (HAS_SCENE(SCENE_CALLS) && chance(&c.random, 20))
			append_one(&c, owner);
		else
			make_one(&c, owner);
		pause_us(between(&c.random, 0, 15 * MS));
	}
	client_end(&c);
	return NULL;
}

/* The last logout that certainly ended this session, before `now`; NULL if there is none. */
static const LogOut *
ended_by(const Made *m, int64_t now)
{
	for (int i = nlog_outs - 1; i >= 0; i--)
	{
		const LogOut *l = &log_outs[i];

		if (l->node == m->node && (l->owner < 0 || l->owner == m->owner) && l->returned < now &&
			m->rooted < l->called && m->began < l->returned)
			return l;
	}
	return NULL;
}

/* How it was ended, in words. */
static const char *
name_of(const LogOut *l)
{
	return l->owner < 0 ? "session_clear" : (l->forget ? "session_forget" : "session_delete_all");
}

/* Which sessions are alive and must not be? */
static void
check_alive(Client *c, int owner)
{
	int64_t start = now_us();
	char *rest;

	if (client_run(c,
				   "SELECT string_agg(session_id, ',') FROM conversation_sessions WHERE namespace "
				   "= 'forks' AND owner_id = 'o%d' AND dead_until IS NULL AND expires_at > "
				   "clock_timestamp()",
				   owner) != OUTCOME_DONE ||
		c->long_value == NULL)
		return;
	for (char *id = strtok_r(c->long_value, ",", &rest); id; id = strtok_r(NULL, ",", &rest))
	{
		Made *m = find(id);
		LogOut l = {0};

		/* what the primary before this one had may be lost */
		if (m == NULL || m->node != c->node)
			continue;
		pthread_mutex_lock(&lock);
		if (ended_by(m, start) != NULL)
			l = *ended_by(m, start);
		if (l.returned != 0)
			m->rooted = NEVER; /* it is reported once */
		pthread_mutex_unlock(&lock);
		if (l.returned != 0)
			violation("log-out: session %s of owner o%d lives at %.3f s; the call that made it "
					  "began at %.3f s, and %s, called at %.3f s, returned at %.3f s",
					  id, owner, (double) (start - run.started) / 1e6,
					  (double) (m->began - run.started) / 1e6, name_of(&l),
					  (double) (l.called - run.started) / 1e6,
					  (double) (l.returned - run.started) / 1e6);
	}
}

/* Is a message left that was there when all of its owner was forgotten? */
static void
check_forgotten(Client *c, const LogOut *l)
{
	char *rest;

	if (client_run(c, "SELECT string_agg(DISTINCT message ->> 'of', ',') FROM conversation_history "
					  "WHERE message ->> 'of' IS NOT NULL") != OUTCOME_DONE ||
		c->long_value == NULL)
		return;
	for (char *id = strtok_r(c->long_value, ",", &rest); id; id = strtok_r(NULL, ",", &rest))
	{
		const Made *m = find(id);

		if (m != NULL && m->node == l->node && m->owner == l->owner && m->appended != 0 &&
			m->appended < l->called)
			violation("forgotten: a message to session %s of owner o%d is there; it was there at "
					  "%.3f s, and session_forget, called at %.3f s, returned at %.3f s",
					  id, m->owner, (double) (m->appended - run.started) / 1e6,
					  (double) (l->called - run.started) / 1e6,
					  (double) (l->returned - run.started) / 1e6);
	}
}

/*
 * Ends all sessions of an owner, or all; then strong readers must see none of those that existed.
 */
static void
log_out(Client *c, int owner)
{
	LogOut l = {.node = c->node, .owner = chance(&c->random, 15) ? -1 : owner};
	Made *there[RECENT];
	bool repeatable = chance(&c->random, 30);
	char sql[120];
	Outcome outcome;
	char a[44];

	pthread_mutex_lock(&lock);
	for (int i = 0; i < RECENT; i++)
		there[i] = recent[owner][i] != NULL && recent[owner][i]->node == c->node ? recent[owner][i]
																				 : NULL;
	pthread_mutex_unlock(&lock);
	l.forget = l.owner >= 0 && HAS_SCENE(SCENE_CALLS) && chance(&c->random, 40);
	if (l.owner < 0)
		snprintf(sql, sizeof(sql), "SELECT session_clear('forks')");
	else if (l.forget)
		snprintf(sql, sizeof(sql), "SELECT session_forget('o%d', namespace => 'forks')", owner);
	else
		snprintf(sql, sizeof(sql), "SELECT session_delete_all('o%d', namespace => 'forks')", owner);
	ops_by_kind[l.forget ? DO_FORGET : DO_LOG_OUT]++;
	l.called = now_us();
	outcome = repeatable ? client_run(c, "BEGIN ISOLATION LEVEL REPEATABLE READ; %s; COMMIT", sql)
						 : client_run(c, "%s", sql);
	l.returned = now_us();
	if (outcome == OUTCOME_FAILED && repeatable)
		(void) client_run(c, "ROLLBACK");
	if (outcome != OUTCOME_DONE)
		return;
	pthread_mutex_lock(&lock);
	if (nlog_outs < LOG_OUTS)
		log_outs[nlog_outs++] = l;
	pthread_mutex_unlock(&lock);
	if (l.forget)
		check_forgotten(c, &l);
	for (int i = 0; i < RECENT; i++)
		if (there[i] != NULL && there[i]->rooted < l.called && there[i]->began < l.returned)
			check_gone(c, "nf:", id_of(there[i], a));
}

void *
leaver(void *arg)
{
	const Task *task = arg;
	Client c = {.random = task->seed, .db = task->db};

	while (!run.stopping)
	{
		int owner = focus_of(now_us(), OWNERS);

		if (!client_follow(&c))
			continue;
		log_out(&c, owner);
		if (client_connect(&c))
			check_alive(&c, owner);
		pause_us(between(&c.random, 10 * MS, 200 * MS));
		/* transactions that were open then have ended by now */
		if (client_connect(&c))
			check_alive(&c, owner);
	}
	client_end(&c);
	return NULL;
}
