/*
 * fault.c
 *		What goes wrong, and when: drawn from the seed.
 *
 * Two threads, one for processes and one for the network, so that faults meet.  Every now
 * and then both are quiet for as long as it takes the cache to be in health again.
 *
 * The faults of Redis are in strike_redis.c, those of Postgres in strike_sql.c.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nemesis.h"
#include "strike.h"

#define QUIET_EVERY (20 * SEC)

static uint64_t random_processes, random_network;
static volatile int active = 0;
static volatile int64_t last_end = 0;

bool
faults_active(int64_t *end)
{
	bool any = active > 0;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	*end = last_end;
	return any;
}

/* Sleep, but not past the end of all faults. */
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

typedef struct Fault
{
	const char *name;
	bool network;
	int weight;
	void (*strike)(uint64_t *random);
	bool chosen;
	int struck;
} Fault;

static Fault faults[] = {{"redis-stop", false, 12, strike_redis_stop, false, 0},
						 {"redis-empty", false, 7, strike_redis_empty, false, 0},
						 {"redis-old", false, 8, strike_redis_old, false, 0},
						 {"redis-rollback", false, 8, strike_redis_rollback, false, 0},
						 {"redis-flush", false, 6, strike_redis_flush, false, 0},
						 {"redis-pause", false, 6, strike_redis_pause, false, 0},
						 {"redis-guard", false, 6, strike_redis_guard, false, 0},
						 {"redis-clock", false, 5, strike_redis_clock, false, 0},
						 {"pusher-stop", false, 15, strike_pusher_stop, false, 0},
						 {"pusher-end", false, 6, strike_pusher_end, false, 0},
						 {"pusher-kill", false, 3, strike_pusher_kill, false, 0},
						 {"backend-stop", false, 10, strike_backend_stop, false, 0},
						 {"server-kill", false, 3, strike_server_kill, false, 0},
						 {"cache-flush", false, 5, strike_cache_flush, false, 0},
						 {"redis-full", false, 5, strike_redis_full, false, 0},
						 {"backend-cancel", false, 5, strike_backend_cancel, false, 0},
						 {"table-lock", false, 5, strike_table_lock, false, 0},
						 {"cache-off", false, 4, strike_cache_off, false, 0},
						 {"cache-lease", false, 4, strike_cache_lease, false, 0},
						 {"cache-namespace", false, 5, strike_cache_namespace, false, 0},
						 {"net-delay", true, 10, net_delay, false, 0},
						 {"net-swallow", true, 10, net_swallow, false, 0},
						 {"net-drop", true, 10, net_drop, false, 0},
						 {"net-hold", true, 15, net_hold, false, 0},
						 {"net-refuse", true, 10, net_refuse, false, 0},
						 {"net-dribble", true, 6, net_dribble, false, 0},
						 {"net-cut", true, 10, net_cut, false, 0}};

#define FAULTS ((int) (sizeof(faults) / sizeof(faults[0])))

/* "all", "none", or names with commas between. */
void
faults_choose(const char *list)
{
	char copy[400];
	char *rest;

	snprintf(copy, sizeof(copy), "%s", list);
	random_processes = run.seed * 2 + 1;
	random_network = run.seed * 2 + 1000001;
	for (char *word = strtok_r(copy, ",", &rest); word; word = strtok_r(NULL, ",", &rest))
	{
		bool found = strcmp(word, "none") == 0;

		for (int i = 0; i < FAULTS; i++)
			if (strcmp(word, "all") == 0 || strcmp(word, faults[i].name) == 0)
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
	int total = 0;
	int64_t die;

	for (int i = 0; i < FAULTS; i++)
		if (faults[i].chosen && faults[i].network == network)
			total += faults[i].weight;
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
wait_for_lease(int64_t most)
{
	int64_t from = now_us();

	while (run.leased_at < from && now_us() < from + most && !run.calm)
		pause_us(10 * MS);
}

static void
strike_on(uint64_t *random, bool network)
{
	int64_t save_next = now_us() + SEC;

	while (!run.calm)
	{
		Fault *fault = choose(random, network);

		if (!network && now_us() > save_next)
		{
			/* an RDB file to come back from, taken at any time */
			(void) redis_save();
			save_next = now_us() + between(random, SEC, 4 * SEC);
		}
		if (fault == NULL || quiet() || run.switching)
		{
			pause_us(20 * MS);
			continue;
		}
		__atomic_add_fetch(&active, 1, __ATOMIC_SEQ_CST);
		fault->strike(random);
		fault->struck++;
		last_end = now_us();
		__atomic_sub_fetch(&active, 1, __ATOMIC_SEQ_CST);
		/* what cannot see a fault cannot fail: mostly wait until the pusher is back */
		if (chance(random, network ? 30 : 70))
			wait_for_lease(4 * SEC);
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
