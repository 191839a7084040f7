/*
 * hits.c
 *		Clients that count hits, and whether each was counted.
 *
 * Words
 *		epoch	from one start of the server, or restart after a crash, to the next
 *		period	of a counter: all hits that returned the same resets_at
 *
 * What is judged, within an epoch, since a crash may lose the last hits (they do not wait for the
 * disk): no two hits of a period returned the same number, so none was lost; a hit that was sent after
 * another one was answered returned a higher number; a period begins after the end of the one before
 * it, so none was extended.
 */
#include <libpq-fe.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "nemesis.h"

#define COUNTERS 3
#define PERIOD (700 * MS)
#define HITS_MOST 1000000

typedef struct Hit
{
	int counter;
	int node;
	int64_t epoch;
	int64_t resets_at; /* of the server's clock */
	int64_t hits;
	int64_t invoked;
	int64_t completed;
} Hit;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Hit *list;
static int nhits = 0;

static void
record(const Hit *hit)
{
	pthread_mutex_lock(&lock);
	if (list == NULL)
		list = malloc(sizeof(Hit) * HITS_MOST);
	if (list != NULL && nhits < HITS_MOST)
		list[nhits++] = *hit;
	pthread_mutex_unlock(&lock);
}

/* A crash ends all connections, so that a connection is within an epoch.  0: unknown. */
static int64_t
epoch_of(Client *c)
{
	if (client_run(c, "SELECT (extract(epoch FROM backend_start) * 1000000)::bigint FROM "
					  "pg_stat_activity WHERE backend_type = 'checkpointer'") != OUTCOME_DONE)
		return 0;
	return number(c, 0);
}

static void
hit(Client *c, int64_t epoch)
{
	Hit hit = {.counter = focus_of(now_us(), COUNTERS), .node = c->node, .epoch = epoch};
	bool held = chance(&c->random, 10);
	Outcome outcome;

	ops_by_kind[DO_HIT]++;
	if (chance(&c->random, 20))
		hit.counter = (int) between(&c->random, 0, COUNTERS - 1);
	hit.invoked = now_us();
	/* some in a transaction that goes on, and some beside one that a savepoint undoes */
	outcome = client_run(
		c,
		"%sSELECT hits || ' ' || (extract(epoch FROM resets_at) * 1000000)::bigint "
		"FROM session_hit('n%d', interval '%d ms', namespace => 'reused')%s",
		held ? "BEGIN; SAVEPOINT s; SELECT count(*) FROM session_hit('n0', '1 s', 7, "
			   "namespace => 'reused'); ROLLBACK TO s; "
			 : "",
		hit.counter, (int) (PERIOD / MS), held ? "; SELECT pg_sleep(0.003); COMMIT" : "");
	hit.completed = now_us();
	if (outcome != OUTCOME_DONE)
	{
		if (outcome == OUTCOME_FAILED)
			(void) client_run(c, "ROLLBACK");
		return;
	}
	if (sscanf(c->values[held ? 1 : 0], "%ld %ld", &hit.hits, &hit.resets_at) == 2)
		record(&hit);
	else
		violation("hits: counter n%d returned %s", hit.counter, c->values[held ? 1 : 0]);
}

/* Counts until the run ends. */
void *
hitter(void *arg)
{
	const Task *task = arg;
	Client c = {.random = task->seed, .db = task->db};
	int pid = 0;
	int64_t epoch = 0;

	while (!run.stopping)
	{
		if (!client_follow(&c))
			continue;
		if (PQbackendPID(c.pg) != pid)
		{
			pid = PQbackendPID(c.pg);
			epoch = epoch_of(&c);
		}
		if (epoch == 0)
			pid = 0;
		else
			hit(&c, epoch);
		pause_us(between(&c.random, 0, 6 * MS));
	}
	client_end(&c);
	return NULL;
}

static int
in_order(const void *a, const void *b)
{
	const Hit *x = a;
	const Hit *y = b;

	if (x->node != y->node)
		return x->node < y->node ? -1 : 1;
	if (x->epoch != y->epoch)
		return x->epoch < y->epoch ? -1 : 1;
	if (x->counter != y->counter)
		return x->counter < y->counter ? -1 : 1;
	if (x->resets_at != y->resets_at)
		return x->resets_at < y->resets_at ? -1 : 1;
	return x->hits < y->hits ? -1 : x->hits > y->hits;
}

/* Everything is over. */
void
hits_judge(void)
{
	int periods = 0;
	int64_t earliest = INT64_MAX; /* when a higher number of the period was returned */

	qsort(list, (size_t) nhits, sizeof(Hit), in_order);
	for (int i = nhits - 1; i >= 0; i--)
	{
		const Hit *h = &list[i];
		const Hit *next = i + 1 < nhits ? h + 1 : NULL;
		bool same_counter = next != NULL && next->node == h->node && next->epoch == h->epoch &&
							next->counter == h->counter;

		if (!same_counter || next->resets_at != h->resets_at)
		{
			earliest = INT64_MAX;
			periods++;
			if (same_counter && next->resets_at - h->resets_at < PERIOD)
				violation("hits: counter n%d has a period that ends %.3f s after the one before",
						  h->counter, (double) (next->resets_at - h->resets_at) / 1e6);
		}
		else if (next->hits == h->hits)
			violation("hits: counter n%d returned %lld twice in a period", h->counter,
					  (long long) h->hits);
		if (earliest < h->invoked)
			violation("hits: counter n%d returned %lld after it had returned a higher number",
					  h->counter, (long long) h->hits);
		if (h->completed < earliest)
			earliest = h->completed;
	}
	if (nhits > 0)
		say("hits: %d in %d periods", nhits, periods);
	free(list);
}
