/*
 * redis.c
 *		A Redis, and the network to it.
 *
 * A request is carried out at one instant, like a script.  While Redis hangs (SIGSTOP), packets wait
 * in its sockets and are carried out in order when it continues, including those of connections that
 * were closed meanwhile.  A packet sent to a process that has ended is lost with its connection.
 */
#include <stdlib.h>
#include <string.h>

#include "sim.h"

int64_t
redis_now(void)
{
	return w.now + w.redis.offset;
}

int64_t
latency(void)
{
	return between(w.config.latency / 2, w.config.latency) +
		   (chance(5000) ? spread(MS, 50 * MS) : 0);
}

void
redis_start(void)
{
	w.redis.up = true;
	w.redis.hung = false;
	w.redis.life++;
}

void
redis_drop_queue(void)
{
	for (int i = 0; i < w.redis.queued; i++)
		free(w.redis.queue[i]);
	w.redis.queued = 0;
}

/* The process ends, and so do its connections. */
void
redis_stop(void)
{
	w.redis.up = w.redis.hung = false;
	w.redis.life++;
	redis_drop_queue();
	for (int i = 0; i < 2; i++)
		if (w.node[i].place == 0)
			pusher_broken(&w.node[i]);
}

static RedisData *
data_at(int place)
{
	return place == 0 ? &w.redis.data : &w.elsewhere;
}

bool
data_leased(const RedisData *data)
{
	return data->lease > redis_now();
}

bool
redis_leased(void)
{
	return data_leased(&w.redis.data);
}

/* Redis removes what has expired, unasked. */
void
redis_expire(void)
{
	for (int i = 0; i < KEYS_MOST * PREFIXES; i++)
		if (w.redis.data.entry[i].expires <= redis_now())
			w.redis.data.entry[i].value = 0;
	if (!redis_leased())
		w.redis.data.lease = 0;
}

int64_t
redis_get(int key, int prefix)
{
	return data_get(&w.redis.data, key, prefix);
}

/* What GET returns; 0: nothing. */
int64_t
data_get(const RedisData *data, int key, int prefix)
{
	const Entry *entry = &data->entry[key * PREFIXES + prefix];

	return entry->value != 0 && entry->expires > redis_now() ? entry->value : 0;
}

static bool
same_owner(const SsOwner *a, const SsOwner *b)
{
	return a->system == b->system && a->database == b->database && a->timeline == b->timeline;
}

static bool
same_id(const SsBatchId *a, const SsBatchId *b)
{
	return a->token == b->token && a->number == b->number;
}

/* Is the guard as the request expects it? */
static bool
fits(const Packet *packet)
{
	const SsGuard *guard = &data_at(packet->place)->guard;
	const SsRequest *r = &packet->request;

	if (!guard->present || !same_owner(&guard->owner, &packet->owner) || guard->epoch != r->epoch)
		return false;
	for (int i = 0; i < r->nprevious; i++)
		if (same_id(&r->previous[i], &guard->last))
			return true;
	return r->nprevious == 0; /* the mutant of R5 */
}

static SsAnswer
claim(const Packet *packet)
{
	RedisData *data = data_at(packet->place);
	SsGuard *guard = &data->guard;
	const SsGuard *expected = &packet->request.expected;

	if (guard->present != expected->present)
		return SS_ANSWER_LOST;
	if (guard->present &&
		(!same_owner(&guard->owner, &expected->owner) || guard->epoch != expected->epoch ||
		 !same_id(&guard->last, &expected->last)))
		return SS_ANSWER_LOST;
	if (packet->place == 0)
		check_claim(&w.node[packet->node], packet->takeover);
	if (packet->place == 0 && data->writer != packet->writer)
	{
		w.redis.before_takeover = *data;
		w.redis.before_takeover.lease = 0;
	}
	guard->present = true;
	guard->owner = packet->owner;
	guard->epoch = packet->request.epoch;
	guard->last = packet->request.id;
	data->lease = 0;
	if (data->writer != packet->writer)
		data->claimed_at = w.now;
	data->writer = packet->writer;
	totals.happened[HAPPENED_CLAIM]++;
	say("redis %d: claimed by node %d, %u, epoch %d", packet->place, packet->node, packet->writer,
		(int) guard->epoch);
	return SS_ANSWER_OK;
}

static void
batch(Packet *packet)
{
	RedisData *data = data_at(packet->place);
	const SsRequest *r = &packet->request;

	for (int i = 0; i < packet->nops; i++)
	{
		const PacketOp *op = &packet->op[i];
		Entry *entry = &data->entry[op->key * PREFIXES + op->prefix];

		if (op->kind == SS_OP_DELETE)
			entry->value = 0;
		else if (op->kind == SS_OP_SET)
		{
			entry->value = op->value;
			entry->expires = op->expires;
		}
		else if (op->kind == SS_OP_EXPIRE)
		{
			packet->missing[i] = data_get(data, op->key, op->prefix) == 0;
			if (!packet->missing[i])
				entry->expires = op->expires;
		}
		say("redis: batch %d, key %d op %d value %d", (int) r->id.number, op->key, op->kind,
			(int) op->value);
	}
	if (r->lease == SS_LEASE_DROP)
		data->lease = 0;
	else if (r->lease == SS_LEASE_SET)
	{
		data->lease = r->lease_for_us > 0 ? redis_now() + r->lease_for_us : r->lease_until;
		totals.happened[HAPPENED_LEASE]++;
		check_lease(&w.node[packet->node], data);
		say("redis: batch %d, lease for %.3f ms", (int) r->id.number,
			(double) (data->lease - redis_now()) / 1e3);
	}
	data->guard.last = r->id;
}

/* Like SCAN: some keys per call, and where to continue. */
static void
flush_some(Packet *packet)
{
	RedisData *data = data_at(packet->place);
	uint64_t at = packet->request.cursor;
	uint64_t all = (uint64_t) w.config.keys * PREFIXES;

	for (int64_t n = between(3, 12); n > 0 && at < all; n--, at++)
	{
		if (packet->request.policies &&
			packet->prefix[namespace_of((int) at / PREFIXES)] != (int) at % PREFIXES)
			continue;
		packet->reply.removed += data->entry[at].value != 0;
		data->entry[at].value = 0;
	}
	packet->reply.cursor = at < all ? at : 0;
	data->guard.last = packet->request.id;
	say("redis: flush to %d", (int) packet->reply.cursor);
}

static void
carry_out(Packet *packet)
{
	const SsRequest *r = &packet->request;
	SsReply *reply = &packet->reply;
	RedisData *data = data_at(packet->place);

	memset(reply, 0, sizeof(*reply));
	reply->time = redis_now();
	if (r->kind == SS_REQUEST_PROBE)
	{
		reply->guard = data->guard;
		reply->guard.leased = data_leased(data);
	}
	else if (redis_now() > r->deadline)
		reply->answer = SS_ANSWER_LATE;
	else if (r->kind == SS_REQUEST_CLAIM)
		reply->answer = claim(packet);
	else if (!fits(packet))
		reply->answer = SS_ANSWER_LOST;
	else if (r->kind == SS_REQUEST_BATCH)
		batch(packet);
	else if (r->kind == SS_REQUEST_FLUSH)
		flush_some(packet);
	else
	{
		data->guard.present = false;
		data->lease = 0;
	}
	if (reply->answer != SS_ANSWER_OK)
	{
		totals.happened[reply->answer == SS_ANSWER_LATE ? HAPPENED_LATE : HAPPENED_LOST]++;
		say("redis: request %d kind %d is %s", (int) r->id.number, r->kind,
			reply->answer == SS_ANSWER_LATE ? "late" : "lost");
	}
	check_all();
}

/* The answer is sent back, if the connection still exists. */
static void
answer(Packet *packet)
{
	Node *node = &w.node[packet->node];
	Pusher *pusher = &node->pusher;
	int64_t at = w.now + latency();

	if (!pusher->open || pusher->connection != packet->connection || w.now < node->swallow_until ||
		(w.now < node->partition_until && chance(500000)))
	{
		if (pusher->connection == packet->connection)
			pusher->deaf = true;
		free(packet);
		return;
	}
	if (at < node->partition_until)
		at = node->partition_until + latency();
	if (at <= pusher->last_reply)
		at = pusher->last_reply + 1;
	pusher->last_reply = at;
	post(at, EVENT_REPLY, packet->node, packet->serial, 0, packet);
}

void
redis_arrive(Packet *packet)
{
	if (packet->place == 0 && packet->redis_life != w.redis.life)
	{
		free(packet);
		return;
	}
	if (packet->place == 0 && w.redis.hung)
	{
		if (w.redis.queued == w.redis.room)
		{
			w.redis.room = w.redis.room == 0 ? 16 : w.redis.room * 2;
			w.redis.queue = realloc(w.redis.queue, sizeof(Packet *) * w.redis.room);
		}
		w.redis.queue[w.redis.queued++] = packet;
		return;
	}
	carry_out(packet);
	answer(packet);
}

void
redis_resume(void)
{
	w.redis.hung = false;
	check_all();
	for (int i = 0; i < w.redis.queued; i++)
	{
		carry_out(w.redis.queue[i]);
		answer(w.redis.queue[i]);
	}
	w.redis.queued = 0;
}
