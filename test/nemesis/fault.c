/*
 * fault.c
 *		Schedules the faults, which are drawn from the seed.
 *
 * Two threads, one for processes and one for the network, so that faults coincide.  From time to
 * time both pause until the cache is healthy again.
 *
 * The faults of Redis are in strike_redis.c, those of PostgreSQL in strike_sql.c.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nemesis.h"
#include "strike.h"

#define QUIET_EVERY (20 * SEC)

static uint64_t random_processes, random_network;
int strike_db = 0;

/* Of one database, or (the last) of all. */
static volatile int active[DBS + 1];
static volatile int64_t last_end[DBS + 1];

/* Is there a fault that this database may notice, and when did the last one end? */
bool
faults_active(int db, int64_t *end)
{
	bool any = active[db] > 0 || active[DBS] > 0;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	*end = last_end[db] > last_end[DBS] ? last_end[db] : last_end[DBS];
	return any;
}

/* Sleeps, but not beyond the end of all faults. */
void
last(int64_t us)
{
	int64_t until = now_us() + us;

	while (now_us() < until && !run.calm)
		pause_us(until - now_us() < 20 * MS ? until - now_us() : 20 * MS);
}

static void
net_mode(uint64_t *r, ProxyMode mode, int64_t most)
{
	proxy_set(mode, between(r, MS, 250 * MS));
	last(between(r, 30 * MS, most));
	proxy_set(PROXY_PASS, 0);
}

static void
net_delay(uint64_t *r)
{
	net_mode(r, PROXY_DELAY, 2 * SEC);
}

static void
net_swallow(uint64_t *r)
{
	net_mode(r, PROXY_SWALLOW, run.lease * 3 / 2);
}

static void
net_drop(uint64_t *r)
{
	net_mode(r, PROXY_DROP, run.lease * 3 / 2);
}

static void
net_hold(uint64_t *r)
{
	net_mode(r, PROXY_HOLD, run.lease * 2);
}

static void
net_refuse(uint64_t *r)
{
	net_mode(r, PROXY_REFUSE, run.lease * 2);
}

static void
net_dribble(uint64_t *r)
{
	net_mode(r, PROXY_DRIBBLE, SEC);
}

static void
net_cut(uint64_t *r)
{
	for (int times = (int) between(r, 1, 3); times > 0; times--)
	{
		proxy_cut();
		last(between(r, MS, 300 * MS));
	}
}

/* The databases that a fault concerns. */
typedef enum Scope
{
	OF_ALL,
	OF_ONE,  /* one database */
	OF_FIRST /* the first database: policies of the second are never changed */
} Scope;

typedef struct Fault
{
	const char *name;
	void (*strike)(uint64_t *random);
	int weight;
	int once; /* strikes for certain after so many percent of the run; 0: at random only */
	Scope scope;
	bool network;
	bool open; /* finds a defect that is not fixed yet: "all" leaves it out */
	/* changes */
	bool chosen;
	int struck;
} Fault;

static Fault faults[] = {
	{"redis-stop", strike_redis_stop, 12, 0, OF_ALL, false, false, false, 0},
	{"redis-empty", strike_redis_empty, 7, 0, OF_ALL, false, false, false, 0},
	{"redis-old", strike_redis_old, 8, 0, OF_ALL, false, false, false, 0},
	{"redis-rollback", strike_redis_rollback, 8, 0, OF_ALL, false, false, false, 0},
	{"redis-flush", strike_redis_flush, 6, 0, OF_ALL, false, false, false, 0},
	{"redis-pause", strike_redis_pause, 6, 0, OF_ALL, false, false, false, 0},
	{"redis-guard", strike_redis_guard, 6, 0, OF_ONE, false, false, false, 0},
	{"redis-clock", strike_redis_clock, 5, 0, OF_ALL, false, false, false, 0},
	{"pusher-stop", strike_pusher_stop, 15, 0, OF_ALL, false, false, false, 0},
	{"pusher-end", strike_pusher_end, 6, 0, OF_ONE, false, false, false, 0},
	{"pusher-kill", strike_pusher_kill, 3, 0, OF_ALL, false, false, false, 0},
	{"backend-stop", strike_backend_stop, 10, 0, OF_ALL, false, false, false, 0},
	{"server-kill", strike_server_kill, 3, 0, OF_ALL, false, false, false, 0},
	{"cache-flush", strike_cache_flush, 5, 0, OF_ONE, false, false, false, 0},
	{"redis-full", strike_redis_full, 5, 0, OF_ALL, false, false, false, 0},
	{"backend-cancel", strike_backend_cancel, 5, 0, OF_ONE, false, false, false, 0},
	{"table-lock", strike_table_lock, 5, 0, OF_ONE, false, false, false, 0},
	{"cache-off", strike_cache_off, 4, 0, OF_ALL, false, false, false, 0},
	{"cache-lease", strike_cache_lease, 4, 0, OF_ALL, false, false, false, 0},
	{"cache-namespace", strike_cache_namespace, 5, 0, OF_FIRST, false, false, false, 0},
	{"cache-late", strike_cache_late, 1, 60, OF_ALL, false, false, false, 0},
	{"server-url", strike_server_url, 1, 25, OF_ALL, false, false, false, 0},
	{"net-delay", net_delay, 10, 0, OF_ALL, true, false, false, 0},
	{"net-swallow", net_swallow, 10, 0, OF_ALL, true, false, false, 0},
	{"net-drop", net_drop, 10, 0, OF_ALL, true, false, false, 0},
	{"net-hold", net_hold, 15, 0, OF_ALL, true, false, false, 0},
	{"net-refuse", net_refuse, 10, 0, OF_ALL, true, false, false, 0},
	{"net-dribble", net_dribble, 6, 0, OF_ALL, true, false, false, 0},
	{"net-cut", net_cut, 10, 0, OF_ALL, true, false, false, 0}};

#define FAULTS ((int) (sizeof(faults) / sizeof(faults[0])))

/* "all", "none", or names with commas between. */
void
faults_choose(const char *list)
{
	char copy[1000];
	char *rest;

	snprintf(copy, sizeof(copy), "%s", list);
	random_processes = run.seed * 2 + 1;
	random_network = run.seed * 2 + 1000001;
	for (char *word = strtok_r(copy, ",", &rest); word; word = strtok_r(NULL, ",", &rest))
	{
		bool found = strcmp(word, "none") == 0;

		for (int i = 0; i < FAULTS; i++)
			if ((strcmp(word, "all") == 0 && !faults[i].open) || strcmp(word, faults[i].name) == 0)
				found = faults[i].chosen = true;
		if (found)
			continue;
		say("there is no fault \"%s\"; there are: all none", word);
		for (int i = 0; i < FAULTS; i++)
			say("  %s", faults[i].name);
		exit(2);
	}
}

void
faults_report(void)
{
	char line[1000] = "faults:";
	size_t len = strlen(line);

	for (int i = 0; i < FAULTS; i++)
		if (faults[i].chosen)
			len += (size_t) snprintf(line + len, sizeof(line) - len, " %s %d", faults[i].name,
									 faults[i].struck);
	say("%s", line);
}

static bool
quiet(void)
{
	return (now_us() - run.started) % QUIET_EVERY < 2 * run.lease + 4 * SEC;
}

static Fault *
choose(uint64_t *random, bool network)
{
	int64_t percent = (now_us() - run.started) * 100 / (run.seconds * SEC);
	int total = 0;
	int64_t die;

	for (int i = 0; i < FAULTS; i++)
		if (faults[i].chosen && faults[i].network == network)
		{
			if (faults[i].once != 0 && faults[i].struck == 0 && percent >= faults[i].once)
				return &faults[i];
			total += faults[i].weight;
		}
	if (total == 0)
		return NULL;
	die = between(random, 0, total - 1);
	for (int i = 0; i < FAULTS; i++)
	{
		if (!faults[i].chosen || faults[i].network != network)
			continue;
		if (die < faults[i].weight)
			return &faults[i];
		die -= faults[i].weight;
	}
	return NULL;
}

static void
wait_for_lease(int db, int64_t most)
{
	int64_t from = now_us();

	while (dbs[db].leased_at < from && now_us() < from + most && !run.calm)
		pause_us(10 * MS);
}

static void
strike_with(Fault *fault, uint64_t *random)
{
	int whose = DBS;

	if (!fault->network)
	{
		strike_db = fault->scope != OF_FIRST && HAS_SCENE(SCENE_SECOND) && chance(random, 30);
		if (fault->scope != OF_ALL)
			whose = strike_db;
	}
	__atomic_add_fetch(&active[whose], 1, __ATOMIC_SEQ_CST);
	fault->strike(random);
	fault->struck++;
	last_end[whose] = now_us();
	__atomic_sub_fetch(&active[whose], 1, __ATOMIC_SEQ_CST);
}

static void
strike_on(uint64_t *random, bool network)
{
	int64_t save_next = now_us() + SEC;

	while (!run.calm)
	{
		Fault *fault;

		if (!network && now_us() > save_next)
		{
			/* an RDB file to start from, written at any time */
			(void) redis_save();
			save_next = now_us() + between(random, SEC, 4 * SEC);
		}
		fault = quiet() || run.switching ? NULL : choose(random, network);
		if (fault == NULL)
		{
			pause_us(20 * MS);
			continue;
		}
		strike_with(fault, random);
		/* a fault without an effect cannot reveal anything: mostly wait until the pusher is back */
		if (chance(random, network ? 30 : 70))
			wait_for_lease(network ? 0 : strike_db, 4 * SEC);
		last(between(random, 0, chance(random, 50) ? 200 * MS : 1500 * MS));
	}
}

void *
fault_processes(void *arg)
{
	(void) arg;
	strike_on(&random_processes, false);
	strikes_end();
	return NULL;
}

void *
fault_network(void *arg)
{
	(void) arg;
	strike_on(&random_network, true);
	return NULL;
}
