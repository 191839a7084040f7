/*
 * config.c
 *		Parameters of the world of a seed: its size, its pace, and which faults it has.
 *
 * A theme has the faults that endanger one thing, in a world in which an error would persist long
 * enough to be seen.  Each rule of the protocol has at least one theme that needs it.
 */
#include <string.h>

#include "sim.h"

typedef enum Theme
{
	THEME_ALL,
	THEME_NETWORK,
	THEME_REDIS,
	THEME_CLOCK,
	THEME_WORKER,
	THEME_SERVER,
	THEME_FAILOVER,
	THEME_LEDGER,
	THEME_NAMESPACES,
	THEME_PREEMPTION,
	THEME_SETTINGS,
	THEME_STALLS,
	THEME_OWNERS,
	THEME_AWAY,
	THEME_NOTHING,
	THEMES,
	/* themes that need more seeds, because their violations are rare coincidences, occur twice */
	TURNS = THEMES + 4
} Theme;

static void
weigh(Fault first, Fault last, int weight)
{
	for (int fault = first; fault <= (int) last; fault++)
		w.config.weight[fault] += weight;
}

/* Many keys that change rarely, so that stale copies persist. */
static void
slow_down(Config *c)
{
	if (chance(300000))
		return;
	c->keys = (int) between(6, 30);
	c->think = between(300 * MS, 2 * SEC);
	c->lease = spread(200 * MS, SEC);
	c->life = between(8 * SEC, 20 * SEC);
	c->fault_pause = between(SEC, 3 * SEC);
}

/* The parameters of a theme. */
static void
draw_theme(Config *c)
{
	if (c->theme != THEME_NOTHING)
		weigh(0, FAULT_KINDS - 1, c->theme == THEME_ALL || chance(300000) ? 2 : 0);
	switch (c->theme)
	{
		case THEME_NETWORK:
			weigh(FAULT_HANG, FAULT_SWALLOW, 10);
			weigh(FAULT_LATE_DELIVERY, FAULT_LATE_DELIVERY, 20);
			c->lease = spread(SEC, 4 * SEC);
			break;
		case THEME_REDIS:
			weigh(FAULT_KILL_EMPTY, FAULT_LOSE_GUARD, 10);
			weigh(FAULT_OLD_SNAPSHOT, FAULT_OLD_SNAPSHOT, 40);
			slow_down(c);
			break;
		case THEME_CLOCK:
			weigh(FAULT_STEP_FORWARD, FAULT_STEP_BACK, 20);
			weigh(FAULT_HANG, FAULT_SWALLOW, 2);
			break;
		case THEME_WORKER:
			weigh(FAULT_WORKER_STALL, FAULT_WORKER_LEAVE, 10);
			weigh(FAULT_HANG, FAULT_SWALLOW, 2);
			c->stall = 3000;
			break;
		case THEME_SERVER:
			weigh(FAULT_SERVER_CRASH, FAULT_SERVER_CRASH, 20);
			weigh(FAULT_HANG, FAULT_SWALLOW, 2);
			break;
		case THEME_FAILOVER:
			weigh(FAULT_FAILOVER, FAULT_FAILOVER, 20);
			weigh(FAULT_OLD_SNAPSHOT, FAULT_OLD_SNAPSHOT, 20);
			c->lease = spread(200 * MS, 2 * SEC);
			c->fault_pause = between(200 * MS, 2 * SEC);
			weigh(FAULT_HANG, FAULT_SWALLOW, 2);
			break;
		case THEME_LEDGER:
			c->one_partition = true;
			c->ledger_keys = chance(100000) ? 0 : (int) between(1, 100);
			c->big = 300000;
			c->truncate = (int) between(0, 50000);
			c->neighbour = chance(300000);
			weigh(FAULT_HANG, FAULT_SWALLOW, 4);
			break;
		case THEME_NAMESPACES:
			weigh(FAULT_CACHE_SWITCH, FAULT_CACHE_SWITCH, 20);
			weigh(FAULT_PREFIX, FAULT_PREFIX, 5);
			c->policy = chance(500000) ? 100000 : 0;
			slow_down(c);
			c->backend_stall = 150000;
			c->backend_stall_least = 100 * MS;
			c->fault_pause = between(SEC, 4 * SEC);
			break;
		case THEME_PREEMPTION:
			weigh(FAULT_HANG, FAULT_SWALLOW, 10);
			c->preempt = (int) between(5000, 30000);
			c->preempt_least = MS;
			c->preempt_most = chance(500000) ? 30 * MS : SEC;
			c->lease = spread(200 * MS, 400 * MS);
			c->think = between(100 * MS, SEC);
			c->keys = (int) between(8, 40);
			c->batch_keys = OPS_MOST;
			c->fence_all = 1000000;
			c->fault_pause = between(300 * MS, 2 * SEC);
			break;
		case THEME_STALLS:
			/* a pusher and a backend that are both stopped, under a long lease */
			weigh(FAULT_WORKER_STALL, FAULT_WORKER_STALL, 10);
			slow_down(c);
			c->lease = spread(SEC, 6 * SEC);
			c->stall = 50000;
			c->stall_least = 500 * MS;
			c->backend_stall = 150000;
			c->backend_stall_least = SEC;
			c->fenced_delete = 0;
			break;
		case THEME_OWNERS:
			/* who claims Redis after a start, and which leases outlive a server */
			weigh(FAULT_ELSEWHERE, FAULT_COPY, 15);
			weigh(FAULT_SERVER_CRASH, FAULT_FAILOVER, 10);
			weigh(FAULT_KILL_EMPTY, FAULT_LOSE_GUARD, 4);
			weigh(FAULT_WORKER_CRASH, FAULT_WORKER_CRASH, 5);
			c->lease = spread(SEC, 10 * SEC);
			c->life = between(10 * SEC, 20 * SEC);
			c->fault_pause = between(500 * MS, 3 * SEC);
			c->duration = 60 * SEC;
			break;
		case THEME_AWAY:
			/* Redis is away until too many keys wait and are dropped, and has lost nothing */
			weigh(FAULT_HANG, FAULT_HANG, 20);
			weigh(FAULT_PARTITION, FAULT_PARTITION, 20);
			c->keys = KEYS_MOST;
			c->ledger_keys = 1;
			c->big = c->truncate = c->policy = 0;
			c->think = between(20 * MS, 200 * MS);
			c->lease = spread(200 * MS, SEC);
			c->life = 20 * SEC;
			c->fault_pause = between(SEC, 3 * SEC);
			c->fence_all = 0;
			break;
		case THEME_SETTINGS:
			weigh(FAULT_LEASE_CHANGE, FAULT_PARTIAL_FLUSH, 20);
			c->policy = 50000;
			c->lease = spread(200 * MS, 2 * SEC);
			c->fault_pause = spread(50 * MS, 500 * MS);
			weigh(FAULT_HANG, FAULT_SWALLOW, 10);
			break;
		default:
			break;
	}
}

void
config_draw(uint64_t seed)
{
	static const Theme again[] = {THEME_REDIS, THEME_NAMESPACES, THEME_PREEMPTION, THEME_OWNERS};
	Config *c = &w.config;

	memset(c, 0, sizeof(*c));
	c->seed = seed;
	c->theme = (int) (seed % TURNS);
	if (c->theme >= THEMES)
		c->theme = again[c->theme - THEMES];
	c->duration = 25 * SEC;
	c->keys = (int) between(3, 12);
	c->backends = (int) between(5, BACKENDS_MOST);
	c->ledger_keys = (int) between(1, 400);
	c->batch_keys = (int) between(2, 8);
	c->lease = spread(200 * MS, 10 * SEC);
	c->life = between(2 * SEC, 20 * SEC);
	c->latency = spread(100, 20 * MS);
	c->think = spread(4 * MS, 400 * MS);
	c->fault_pause = chance(300000) ? spread(50 * MS, SEC) : between(200 * MS, 4 * SEC);
	c->stall = 100;
	c->stall_least = 2 * MS;
	c->backend_stall = chance(300000) ? 20000 : 500;
	c->backend_stall_least = 5 * MS;
	c->preempt = chance(300000) ? 2000 : 20;
	c->preempt_least = 20;
	c->preempt_most = 3 * SEC;
	c->fence_all = chance(200000) ? 1000000 : chance(200000) ? 300000 : 0;
	c->fenced_delete = chance(700000) ? 1000000 : 500000;
	c->big = chance(300000) ? 200000 : 30000;
	c->truncate = chance(200000) ? 20000 : 0;
	c->policy = chance(200000) ? 20000 : 1000;
	c->unreadable = chance(200000) ? 100000 : 1000;
	c->later = 20000;
	c->connect_fails = chance(200000) ? 300000 : 10000;
	draw_theme(c);
	if (c->theme == THEME_LEDGER && chance(300000))
		c->keys = (int) between(20, KEYS_MOST);
	if (c->theme == THEME_NOTHING)
		c->stall = c->backend_stall = c->connect_fails = c->preempt = 0;
	c->listed_most = chance(150000) ? (int) between(1, 4) : 32;
	c->lease_most = c->weight[FAULT_LEASE_CHANGE] > 0 ? c->lease * 5 : c->lease;
	if (c->lease_most > SS_LEASE_LONGEST_US)
		c->lease_most = SS_LEASE_LONGEST_US;
	for (int fault = 0; fault < FAULT_KINDS; fault++)
		if (c->weight[fault] < 10 && chance(300000))
			c->weight[fault] = 0;
}
