/*
 * fault.c
 *		The faults.
 *
 * Some faults no protocol can tolerate, and they are excluded here:
 *	- Redis' clock is set back while the pusher cannot notice it: the lease, which is an absolute
 *	  time, gets longer.  So this happens only while the pusher is connected, and no other fault
 *	  begins until it has noticed the step and flushed; no snapshot from before it comes back, and
 *	  what had expired before does not either.
 *	- Redis forgets (FLUSHALL, an old snapshot, ..) that it was taken over, or its owner leaves it,
 *	  while an old primary is alive that has never noticed the new one.
 *	- Redis comes back without writes that it acknowledged, before a lease could end.
 *	- Redis forgets while a copy of the block device runs that has not seen the original at work, or
 *	  after such a copy has claimed it: nothing is left that distinguishes the two.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

static Node *
judged(void)
{
	return &w.node[w.judged];
}

static void
restore_later(Fault what, uint64_t life, int64_t pause)
{
	post(w.now + pause, EVENT_RESTORE, w.judged, what, life, NULL);
}

/* May the other node write to a Redis that forgets what that node has not seen? */
static bool
other_may_seize(void)
{
	const Node *other = &w.node[1 - w.judged];

	/* a copy may be about to start; a stopped one does not count */
	if (!other->up && other->copy != COPY_BLOCKS)
		return false;
	switch (other->copy)
	{
		case COPY_NONE:
			return !other->proto.superseded;
		case COPY_BLOCKS:
			return !other->proto.copied;
		default:
			return false;
	}
}

/* Would every node that may write to Redis notice that it forgot? */
static bool
may_forget(void)
{
	return w.redis.up && !w.redis.hung && !w.stolen && !other_may_seize();
}

static void
forget(void)
{
	memset(w.redis.data.entry, 0, sizeof(w.redis.data.entry));
	memset(&w.redis.data.guard, 0, sizeof(w.redis.data.guard));
	w.redis.data.lease = 0;
	w.forgot_at = w.now;
}

/* The clock may be set back only when the pusher certainly notices it. */
static bool
may_step_back(void)
{
	const Node *node = judged();
	const Pusher *pusher = &node->pusher;

	return w.redis.up && !w.redis.hung && redis_leased() && !data_leased(&w.elsewhere) &&
		   node->place == 0 && node->place_next == 0 && w.now < node->proto.lease_end && node->up &&
		   !w.node[1 - w.judged].up && pusher->open && !pusher->deaf &&
		   pusher->stalled_until <= w.now && !node->cut_next && node->proto.stage == SS_STAGE_RUN &&
		   node->proto.clock_known && w.now >= node->partition_until &&
		   w.now >= node->swallow_until &&
		   (pusher->state == PUSHER_WAITING || pusher->state == PUSHER_AWAITING) &&
		   !node->proto.leaving;
}

static bool
step_back(void)
{
	if (!may_step_back())
		return false;
	redis_expire();
	memset(w.elsewhere.entry, 0, sizeof(w.elsewhere.entry));
	w.redis.offset -= spread(300 * MS, 3600 * SEC);
	w.holding = true;
	w.hold_until = w.now + 5 * SEC;
	w.hold_steps = judged()->proto.counts.steps;
	return true;
}

/* Copies the rows of a node as they were at a time. */
static void
copy_rows(Node *to, const Node *from, int64_t at)
{
	memcpy(to->on, from->on, sizeof(to->on));
	memcpy(to->prefix, from->prefix, sizeof(to->prefix));
	for (int key = 0; key < w.config.keys; key++)
	{
		const Row *old = &from->row[key];
		Row *new = &to->row[key];

		while (new->count < old->count && old->versions[new->count].at <= at)
			new->count++;
		new->room = new->count;
		new->versions = malloc(sizeof(Version) * (new->room + 1));
		if (new->count > 0)
			memcpy(new->versions, old->versions, sizeof(Version) * new->count);
	}
	to->has_claim = from->claim_at <= at ? from->has_claim : from->had_claim;
	to->claim = from->claim_at <= at ? from->claim : from->claim_before;
}

/* Another server is promoted, perhaps without the last commits of this one. */
static bool
fail_over(void)
{
	Node *old = judged();
	Node *new = &w.node[1 - w.judged];
	int64_t cut = w.now - (chance(500000) ? 0 : spread(MS, SEC));
	int64_t pause = spread(10 * MS, SEC);
	uint32_t timeline = old->owner.timeline + 1;
	bool zombie = old->up && chance(600000);

	if (new->up || old->place != 0 || old->place_next != 0 || w.stolen)
		return false;
	node_free(new);
	new->owner = old->owner;
	new->owner.timeline = timeline;
	new->promoted = zombie || chance(500000);
	new->promoted_at = w.now + pause;
	new->me = old->me;
	(void) snprintf(new->me.directory, sizeof(new->me.directory), "%u", timeline);
	new->was_standby = true;
	copy_rows(new, old, cut);
	new->life = ++w.serials;
	post(w.now + pause, EVENT_START_SERVER, 1 - w.judged, new->life, 0, NULL);
	if (zombie)
		post(w.now + pause + spread(100 * MS, 8 * SEC), EVENT_STOP_ZOMBIE, w.judged, old->life, 0,
			 NULL);
	else if (old->up)
		node_stop(old);
	else
		old->life = ++w.serials;
	w.judged = 1 - w.judged;
	w.foreign_until = NEVER;
	w.syncing = false;
	return true;
}

/* The server or its database is copied, and the copy started with the same redis_url. */
static bool
copy_server(void)
{
	const Node *old = judged();
	Node *new = &w.node[1 - w.judged];
	int64_t pause = spread(10 * MS, SEC);

	/* a copy made before its original ever had a Redis is no copy in this sense */
	if (new->up || w.stolen || old->place != 0 || old->place_next != 0 || !old->has_claim)
		return false;
	node_free(new);
	new->copy = chance(500000) ? COPY_BLOCKS : chance(500000) ? COPY_FILES : COPY_DATABASE;
	new->owner = old->owner;
	new->me = old->me;
	if (new->copy == COPY_DATABASE)
		new->owner.database = new->me.database = DATABASE + 1;
	else if (new->copy == COPY_FILES)
		(void) snprintf(new->me.directory, sizeof(new->me.directory), "copy %d", (int) ++w.serials);
	new->was_standby = old->was_standby &&new->copy != COPY_FILES;
	copy_rows(new, old, w.now);
	if (new->copy == COPY_BLOCKS)
	{
		w.pair = true;
		w.pair_claimant = -1;
		w.pair_timeline = old->owner.timeline;
	}
	new->life = ++w.serials;
	say("copy of kind %d", new->copy);
	post(w.now + pause, EVENT_START_SERVER, 1 - w.judged, new->life, 0, NULL);
	post(w.now + pause + between(2 * SEC, 15 * SEC), EVENT_STOP_ZOMBIE, 1 - w.judged, 0, 0, NULL);
	return true;
}

/* The judged server is stopped, and started with another Redis, or none. */
static void
restart_at(int place)
{
	Node *node = judged();

	if (node->up)
		node_stop(node);
	node->place = node->place_next = place;
	w.syncing = false;
	post(w.now + spread(20 * MS, SEC), EVENT_START_SERVER, w.judged, node->life, 0, NULL);
}

/*
 * What an operator does after a copy of the block device was the first to claim Redis: stop
 * the copy, and have the original take over.
 */
void
operate(void)
{
	Node *node = judged();

	if (!w.stolen || !node->up || w.nested || node->proto.stage != SS_STAGE_REFUSED ||
		node->proto.refusal != SS_REFUSED_RIVAL)
		return;
	zombie_stop();
	say("the operator has node %d take over", w.judged);
	ss_proto_takeover(&node->proto, w.now);
	pusher_wake(node);
}

void
zombie_stop(void)
{
	Node *other = &w.node[1 - w.judged];

	if (other->up)
		node_stop(other);
	other->copy = COPY_NONE;
	other->life = ++w.serials; /* so that it does not start any more */
}

/* Faults of Redis. */
static bool
strike_redis(Fault fault)
{
	RedisData *data = &w.redis.data;

	switch (fault)
	{
		case FAULT_HANG:
			if (!w.redis.up || w.redis.hung)
				return false;
			w.redis.hung = true;
			restore_later(fault, w.redis.life, spread(5 * MS, 4 * SEC));
			return true;
		case FAULT_KILL_EMPTY:
			if (!may_forget())
				return false;
			redis_stop();
			forget();
			restore_later(fault, w.redis.life, spread(MS, 2 * SEC));
			return true;
		case FAULT_OLD_SNAPSHOT:
			if (!may_forget())
				return false;
			redis_stop();
			restore_later(fault, w.redis.life, w.config.lease_most + spread(MS, SEC));
			return true;
		case FAULT_FLUSHALL:
			if (!may_forget())
				return false;
			forget();
			return true;
		case FAULT_EVICT_KEY:
			for (int n = (int) between(1, 4); n > 0; n--)
				data->entry[between(0, w.config.keys * PREFIXES - 1)].value = 0;
			return true;
		case FAULT_EVICT_LEASE:
			data->lease = 0;
			return true;
		case FAULT_LOSE_GUARD:
			if (!may_forget())
				return false;
			memset(&data->guard, 0, sizeof(data->guard));
			return true;
		case FAULT_STEP_FORWARD:
			w.redis.offset += spread(300 * MS, 3600 * SEC);
			return true;
		default:
			return step_back();
	}
}

/* Faults of the network or of PostgreSQL. */
static bool
strike_node(Fault fault)
{
	Node *node = chance(800000) || !w.node[1 - w.judged].up ? judged() : &w.node[1 - w.judged];
	int ns = (int) between(0, NAMESPACES - 1);

	if (!node->up && fault != FAULT_FAILOVER)
		return false;
	switch (fault)
	{
		case FAULT_CUT:
			pusher_broken(node);
			return true;
		case FAULT_LATE_DELIVERY:
			node->cut_next = true;
			return true;
		case FAULT_PARTITION:
			node->partition_until = w.now + spread(20 * MS, 6 * SEC);
			if (chance(300000))
				pusher_broken(node);
			return true;
		case FAULT_SWALLOW:
			node->swallow_until = w.now + spread(MS, SEC);
			return true;
		case FAULT_WORKER_STALL:
			node->pusher.stalled_until = w.now + spread(10 * MS, 6 * SEC);
			return true;
		case FAULT_WORKER_CRASH:
			/* not of a zombie: its new worker would not know that it is one, see above */
			pusher_crash(judged());
			return true;
		case FAULT_WORKER_LEAVE:
			if (judged()->pusher.state == PUSHER_NONE || !may_forget())
				return false;
			ss_proto_leave(&judged()->proto);
			pusher_wake(judged());
			return true;
		case FAULT_SERVER_CRASH:
			if (!judged()->up)
				return false;
			node_stop(judged());
			w.syncing = false;
			post(w.now + spread(20 * MS, 3 * SEC), EVENT_START_SERVER, w.judged, judged()->life, 0,
				 NULL);
			return true;
		case FAULT_FAILOVER:
			return fail_over();
		case FAULT_CACHE_SWITCH:
			if (!judged()->on[ns])
				return false;
			judged()->on[ns] = false;
			pusher_wake(judged());
			restore_later(fault, ns, chance(500000) ? spread(MS, 3 * SEC) : between(50 * MS, SEC));
			return true;
		case FAULT_PREFIX:
			judged()->prefix[ns] = 1 - judged()->prefix[ns];
			pusher_wake(judged());
			return true;
		case FAULT_LEASE_CHANGE:
			judged()->proto.lease_us = spread(200 * MS, w.config.lease_most);
			return true;
		case FAULT_PARTIAL_FLUSH:
			ss_proto_flush_partly(&judged()->proto);
			pusher_wake(judged());
			return true;
		case FAULT_ELSEWHERE:
			if (!judged()->up || judged()->place != 0)
				return false;
			restart_at(chance(500000) ? 1 : -1);
			restore_later(fault, 0, spread(500 * MS, 12 * SEC));
			return true;
		case FAULT_MOVE:
			if (judged()->pusher.state == PUSHER_NONE || judged()->place < 0 || !may_forget())
				return false;
			judged()->place_next = 1 - judged()->place;
			ss_proto_leave(&judged()->proto);
			pusher_wake(judged());
			if (judged()->place_next == 1)
				restore_later(FAULT_ELSEWHERE, 0, spread(500 * MS, 12 * SEC));
			return true;
		case FAULT_COPY:
			return copy_server();
		default:
			if (judged()->proto.suspended)
				return false;
			judged()->proto.suspended = true;
			pusher_wake(judged());
			restore_later(fault, 0, spread(MS, 3 * SEC));
			return true;
	}
}

void
fault_strike(void)
{
	int all = 0;
	int fault = 0;
	bool of_redis;

	if (w.quiet)
		return;
	post(w.now + between(w.config.fault_pause / 8, w.config.fault_pause * 2), EVENT_FAULT, 0, 0, 0,
		 NULL);
	for (int i = 0; i < FAULT_KINDS; i++)
		all += w.config.weight[i];
	if (calm() || all == 0)
		return;
	for (int64_t n = between(0, all - 1); n >= w.config.weight[fault]; fault++)
		n -= w.config.weight[fault];
	of_redis = fault == FAULT_HANG || (fault >= FAULT_KILL_EMPTY && fault <= FAULT_STEP_BACK);
	if (of_redis ? strike_redis(fault) : strike_node(fault))
	{
		static const char *const names[] = {"redis hangs",
											"cut",
											"late delivery",
											"partition",
											"answers swallowed",
											"redis killed, empty",
											"redis killed, old snapshot",
											"flushall",
											"key evicted",
											"lease evicted",
											"guard lost",
											"clock steps forward",
											"clock steps back",
											"worker stalls",
											"worker crashes",
											"worker leaves",
											"server crashes",
											"failover",
											"cache switched off",
											"prefix changed",
											"lease changed",
											"suspended",
											"partial flush",
											"starts elsewhere",
											"moves",
											"copied"};

		note_fault(fault);
		say("fault: %s", names[fault]);
	}
}

void
fault_restore(const Event *event)
{
	Node *node = &w.node[event->node];

	w.last_fault = w.now;
	switch (event->a)
	{
		case FAULT_HANG:
			if (w.redis.hung && w.redis.life == event->b)
				redis_resume();
			break;
		case FAULT_OLD_SNAPSHOT:
			if (w.redis.up || w.redis.life != event->b)
				break;
			if (w.stolen || other_may_seize())
			{
				/* a copy, or an old primary, that has noticed nothing: see above */
				restore_later(FAULT_OLD_SNAPSHOT, event->b, 100 * MS);
				break;
			}
			w.redis.data = w.node[1 - w.judged].up && w.node[1 - w.judged].copy == COPY_NONE &&
								   chance(500000)
							   ? w.redis.before_takeover
							   : w.redis.saved;
			w.forgot_at = w.now;
			if (w.redis.data.writer != writer_of(judged()))
				w.foreign_until = NEVER;
			/* what a copy had claimed belongs to the copy again, until an operator acts */
			w.stolen = w.redis.data.writer >= WRITER_COPY;
			redis_start();
			break;
		case FAULT_KILL_EMPTY:
			if (!w.redis.up && w.redis.life == event->b)
				redis_start();
			break;
		case FAULT_CACHE_SWITCH:
			judged()->on[event->b] = true;
			pusher_wake(judged());
			break;
		case FAULT_ELSEWHERE:
			if (w.nested)
				post(w.now + MS, EVENT_RESTORE, event->node, event->a, event->b, NULL);
			else if (judged()->place != 0)
				restart_at(0);
			break;
		default:
			/* a process does not change its own settings while it is working */
			if (w.nested)
				post(w.now + MS, EVENT_RESTORE, event->node, event->a, event->b, NULL);
			else
				node->proto.suspended = false;
			pusher_wake(node);
	}
}

/* Ends all faults. */
void
fault_end_all(void)
{
	w.quiet = true;
	w.holding = false;
	zombie_stop();
	if (judged()->place != 0 || judged()->place_next != 0)
		restart_at(0);
	if (w.redis.hung)
		redis_resume();
	if (!w.redis.up)
		redis_start();
	for (int ns = 0; ns < NAMESPACES; ns++)
		judged()->on[ns] = true;
	for (int i = 0; i < 2; i++)
	{
		w.node[i].partition_until = w.node[i].swallow_until = 0;
		w.node[i].cut_next = false;
		w.node[i].proto.suspended = false;
	}
	pusher_wake(judged());
}
