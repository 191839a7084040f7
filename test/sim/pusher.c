/*
 * pusher.c
 *		The process around SsProto: it connects, sends, reads rows and waits, as protocol.h says,
 *		and may be stopped for a while between any two of these.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

static void cycle(Node *node);

static int
number_of(const Node *node)
{
	return (int) (node - w.node);
}

/* The next event of the pusher gets a serial, which makes events expected before void. */
static void
expect(Node *node, PusherState state, EventKind kind, int64_t at)
{
	node->pusher.state = state;
	node->pusher.serial = ++w.serials;
	post(at, kind, number_of(node), node->pusher.serial, 0, NULL);
}

static void
enter_protocol(Node *node)
{
	w.running = number_of(node);
}

/* Each list has the length that it says, and its members are linked correctly. */
static void
check_lists(const Node *node)
{
	for (int list = SS_LIST_NONE + 1; list < SS_LISTS; list++)
	{
		const SsList *l = &node->proto.lists[list];
		int32_t before = SS_NO_SLOT;
		int32_t slot = l->first;
		int n = 0;

		for (; slot != SS_NO_SLOT && n <= l->count; n++)
		{
			const SsLedgerSlot *s = ss_ledger_slot(node->ledger, slot);

			if (!s->used || s->list != list || s->list_prev != before)
				violation("lists: slot %d stands wrongly in list %d", slot, list);
			before = slot;
			slot = s->list_next;
		}
		if (n != l->count || before != l->last)
			violation("lists: list %d is broken", list);
	}
}

static void
leave_protocol(Node *node)
{
	w.running = -1;
	check_lists(node);
}

void
pusher_start(Node *node)
{
	Pusher *pusher = &node->pusher;
	SsRecord record;

	enter_protocol(node);
	ss_proto_init(&node->proto, node->ledger, &node->control, DATABASE, &node->owner, draw(),
				  w.now);
	leave_protocol(node);
	node->proto.lease_us = w.config.lease;
	node->proto.batch_keys = w.config.batch_keys;
	node->proto.promoted = node->promoted;
	node->proto.remembered = pusher->remembered;
	node->proto.copied = pusher->copied;
	node->me.timeline = node->owner.timeline;
	(void) snprintf(node->me.redis, sizeof(node->me.redis), "%d", node->place);
	ss_standing_judge(&node->claim, node->has_claim ? 1 : 0, &node->me, node->was_standby, &record);
	if (record.standing == SS_STANDING_NEW)
		ss_control_never_leased(&node->control, 0);
	ss_proto_set_record(&node->proto, &record);
	pusher->open = false;
	pusher->woken = false;
	pusher->unreadable = false;
	memcpy(pusher->on, node->on, sizeof(pusher->on));
	memcpy(pusher->prefix, node->prefix, sizeof(pusher->prefix));
	say("node %d: a worker starts", number_of(node));
	expect(node, PUSHER_WAITING, EVENT_CYCLE, w.now);
}

static void
come_back(Node *node, int64_t pause)
{
	node->pusher.state = PUSHER_NONE;
	node->pusher.open = false;
	node->pusher.serial = ++w.serials;
	if (node->proto.token != 0)
		node->pusher.remembered = node->proto.token;
	node->pusher.copied = node->proto.copied;
	if (node->place_next != node->place)
		node->place = node->place_next;
	enter_protocol(node);
	ss_ledger_detach(node->ledger, &node->control, DATABASE);
	w.running = -1;
	post(w.now + pause, EVENT_START_WORKER, number_of(node), node->life, 0, NULL);
}

/* The worker ends with an error.  The next one knows its token, which is in shared memory. */
void
pusher_crash(Node *node)
{
	if (node->pusher.state != PUSHER_NONE)
		come_back(node, spread(3 * MS, 2 * SEC));
}

void
pusher_wake(Node *node)
{
	Pusher *pusher = &node->pusher;

	if (pusher->woken || pusher->state == PUSHER_NONE)
		return;
	pusher->woken = true;
	if (pusher->state == PUSHER_WAITING)
		post(w.now + between(5, 200), EVENT_CYCLE, number_of(node), pusher->serial, 0, NULL);
}

/* The connection is broken; the pusher notices it soon. */
void
pusher_broken(Node *node)
{
	if (!node->pusher.open)
		return;
	node->pusher.open = false;
	post(w.now + between(10, 2 * MS), EVENT_BROKEN, number_of(node), node->pusher.connection, 0,
		 NULL);
}

static void
failed(Node *node)
{
	node->pusher.open = node->pusher.deaf = false;
	enter_protocol(node);
	ss_proto_failed(&node->proto, w.now);
	leave_protocol(node);
	cycle(node);
}

/* If the namespaces have changed, everything of ours is flushed before anything is written. */
static bool
check_namespaces(Node *node)
{
	Pusher *pusher = &node->pusher;

	if (memcmp(pusher->on, node->on, sizeof(pusher->on)) == 0 &&
		memcmp(pusher->prefix, node->prefix, sizeof(pusher->prefix)) == 0)
		return false;
	memcpy(pusher->on, node->on, sizeof(pusher->on));
	memcpy(pusher->prefix, node->prefix, sizeof(pusher->prefix));
	ss_proto_flush(&node->proto);
	say("node %d: namespaces changed", number_of(node));
	return true;
}

static void
cycle(Node *node)
{
	Pusher *pusher = &node->pusher;
	SsProto *p = &node->proto;
	int64_t at;
	SsDo what;

	pusher->state = PUSHER_RUNNING;
	pusher->woken = false;
	if (p->record.moved && p->stage == SS_STAGE_RUN && !ss_proto_moved(p, w.now))
		p->record.moved = node->claim.moved = false;
	(void) check_namespaces(node);
	enter_protocol(node);
	what = ss_proto_next(p, w.now);
	leave_protocol(node);
	switch (what)
	{
		case SS_DO_WAIT:
			at = p->wait_until > w.now ? p->wait_until + between(0, 200) : w.now + 10;
			if (pusher->woken)
				at = w.now + 10;
			expect(node, PUSHER_WAITING, EVENT_CYCLE, at);
			break;
		case SS_DO_CONNECT:
			expect(node, PUSHER_CONNECTING, EVENT_CONNECTED,
				   w.now < node->partition_until ? w.now + between(100 * MS, SEC)
												 : w.now + 2 * latency());
			break;
		case SS_DO_SEND:
			expect(node, PUSHER_SENDING, EVENT_SENT, w.now + between(2, 30));
			break;
		case SS_DO_READ:
			pusher->unreadable = false;
			pusher->lock_patience = w.now + 50 * MS;
			expect(node, PUSHER_READING, EVENT_SNAPSHOT, w.now + between(50, 500));
			break;
		case SS_DO_RECORD:
			expect(node, PUSHER_RECORDING, EVENT_RECORDED, w.now + spread(200, 20 * MS));
			break;
		case SS_DO_LEAVE:
			say("node %d: the worker leaves", number_of(node));
			come_back(node, spread(10 * MS, 4 * SEC));
			break;
	}
}

static void
connected(Node *node)
{
	Pusher *pusher = &node->pusher;

	if ((node->place == 0 && !w.redis.up) || w.now < node->partition_until ||
		(!w.quiet && chance(w.config.connect_fails)))
	{
		totals.happened[HAPPENED_CONNECT_FAILED]++;
		failed(node);
		return;
	}
	pusher->open = true;
	pusher->connection = ++w.serials;
	pusher->last_arrival = pusher->last_reply = 0;
	enter_protocol(node);
	ss_proto_connected(&node->proto, w.now);
	leave_protocol(node);
	cycle(node);
}

/*
 * Which keys a flush of namespaces deletes: those whose policies were about to change when it
 * began.
 */
static void
name_prefixes(Node *node, Packet *packet)
{
	Pusher *pusher = &node->pusher;

	for (int ns = 0; ns < NAMESPACES; ns++)
	{
		if (packet->request.cursor == 0)
			pusher->flushes[ns] = node->policy[ns] > node->proto.policies_covered;
		packet->prefix[ns] = pusher->flushes[ns] ? pusher->prefix[ns] : -1;
	}
}

static Packet *
make_packet(Node *node)
{
	const SsProto *p = &node->proto;
	Packet *packet = calloc(1, sizeof(*packet));

	packet->node = number_of(node);
	packet->serial = node->pusher.serial;
	packet->connection = node->pusher.connection;
	packet->redis_life = w.redis.life;
	packet->place = node->place;
	packet->writer = writer_of(node);
	packet->takeover = p->takeover;
	packet->owner = p->me;
	packet->request = p->request;
	packet->nops = p->request.kind == SS_REQUEST_BATCH ? p->nops : 0;
	for (int i = 0; i < packet->nops; i++)
	{
		const SsLedgerSlot *slot = ss_ledger_slot(node->ledger, p->ops[i].slot);
		PacketOp *op = &packet->op[i];

		for (op->key = 0; w.hash[op->key] != slot->hash; op->key++)
			;
		op->prefix = node->pusher.prefix[namespace_of(op->key)];
		op->kind = p->ops[i].kind;
		op->value = node->pusher.values[i];
		op->expires = p->ops[i].expires;
	}
	if (packet->request.kind == SS_REQUEST_FLUSH && packet->request.policies)
		name_prefixes(node, packet);
	return packet;
}

/* Would this packet do harm if it were carried out late? */
static bool
writes(const Packet *packet)
{
	for (int i = 0; i < packet->nops; i++)
		if (packet->op[i].kind == SS_OP_SET)
			return true;
	return false;
}

/* The request is sent, and the fate of the packet is drawn. */
static void
sent(Node *node)
{
	Pusher *pusher = &node->pusher;
	Packet *packet;
	int64_t at = w.now + latency();

	if (!pusher->open)
	{
		failed(node);
		return;
	}
	expect(node, PUSHER_AWAITING, EVENT_TIMEOUT, node->proto.request.give_up);
	packet = make_packet(node);
	if (node->cut_next && writes(packet))
	{
		/* under way for long, while the connection breaks and others are made */
		node->cut_next = false;
		packet->delayed = true;
		say("node %d: batch %d is delayed, and the connection cut", packet->node,
			(int) packet->request.id.number);
		post(w.now + spread(20 * MS, 3 * SEC), EVENT_ARRIVE, packet->node, 0, 0, packet);
		pusher_broken(node);
		return;
	}
	if (w.now < node->partition_until)
	{
		if (chance(300000))
		{
			pusher->deaf = true;
			free(packet);
			return;
		}
		at = node->partition_until + latency();
	}
	if (at <= pusher->last_arrival)
		at = pusher->last_arrival + 1;
	pusher->last_arrival = at;
	post(at, EVENT_ARRIVE, packet->node, 0, 0, packet);
}

static void
replied(Node *node, const Packet *packet)
{
	SsProto *p = &node->proto;

	const SsBatchId *last = &packet->reply.guard.last;

	for (int i = 0; i < packet->nops; i++)
		p->ops[i].missing = packet->missing[i];
	if (node->copy != COPY_NONE && p->request.kind == SS_REQUEST_PROBE)
	{
		if (p->watching && last->token == node->witness.token &&
			last->number > node->witness.number && w.now > p->connected_at + 4 * SEC)
			node->witnessed = true;
		node->witness = *last;
	}
	enter_protocol(node);
	ss_proto_reply(p, &packet->reply, w.now);
	leave_protocol(node);
	cycle(node);
}

/* One snapshot: the state of each row at this instant. */
static void
take_snapshot(Node *node)
{
	Pusher *pusher = &node->pusher;
	SsProto *p = &node->proto;
	bool full = false;

	if (node->table_locker >= 0 && w.now < pusher->lock_patience)
	{
		post(w.now + 5 * MS, EVENT_SNAPSHOT, number_of(node), pusher->serial, 0, NULL);
		return;
	}
	pusher->unreadable = node->table_locker >= 0 || (!calm() && chance(w.config.unreadable));
	if (check_namespaces(node))
		pusher->unreadable = true;
	for (int i = 0; i < p->nops && !pusher->unreadable; i++)
	{
		SsOp *op = &p->ops[i];
		const SsLedgerSlot *slot = ss_ledger_slot(node->ledger, op->slot);
		const Version *version;
		int key = 0;

		while (w.hash[key] != slot->hash)
			key++;
		version = row_now(node, key);
		full = full || (i > 0 && chance(w.config.later));
		op->found = full ? SS_FOUND_LATER : SS_FOUND_NONE;
		if (full || version == NULL || !pusher->on[namespace_of(key)])
			continue;
		op->found = SS_FOUND_COPY;
		op->until = w.now + w.config.life < version->ends ? w.now + w.config.life : version->ends;
		pusher->values[i] = version->value;
		say("node %d: key %d is read, %d", number_of(node), key, (int) version->value);
	}
	expect(node, PUSHER_READING, EVENT_ROWS, w.now + between(20, 300));
}

static void
rows(Node *node)
{
	enter_protocol(node);
	if (node->pusher.unreadable)
	{
		totals.happened[HAPPENED_UNREADABLE]++;
		ss_proto_unreadable(&node->proto, w.now);
	}
	else
		ss_proto_rows(&node->proto, w.now);
	leave_protocol(node);
	cycle(node);
}

/* The claim is on disk, or could not be written. */
static void
recorded(Node *node)
{
	SsProto *p = &node->proto;
	SsClaim claim = node->me;

	if (!w.quiet && chance(20000))
	{
		totals.happened[HAPPENED_UNRECORDED]++;
		ss_proto_not_recorded(p, w.now);
		cycle(node);
		return;
	}
	claim.moved = ss_proto_moved(p, w.now);
	ss_proto_recorded(p, claim.moved);
	memcpy(claim.marks, p->record.marks, sizeof(claim.marks));
	node->claim_before = node->claim;
	node->had_claim = node->has_claim;
	node->claim = claim;
	node->has_claim = true;
	node->claim_at = w.now;
	cycle(node);
}

/* The worker is stopped now and then; its events wait. */
static bool
stalled(Node *node, const Event *event)
{
	Pusher *pusher = &node->pusher;

	if (pusher->stalled_until <= w.now && !calm() && chance(w.config.stall))
	{
		note_fault(FAULT_WORKER_STALL);
		pusher->stalled_until = w.now + spread(w.config.stall_least, 4 * SEC);
		say("node %d: the worker stalls for %.3f s", number_of(node),
			(double) (pusher->stalled_until - w.now) / 1e6);
	}
	if (pusher->stalled_until <= w.now)
		return false;
	post(pusher->stalled_until + between(0, 3), event->kind, event->node, event->a, event->b,
		 event->p);
	return true;
}

void
pusher_event(const Event *event)
{
	Node *node = &w.node[event->node];
	Pusher *pusher = &node->pusher;

	if (event->kind == EVENT_START_WORKER)
	{
		if (node->up && node->life == event->a && pusher->state == PUSHER_NONE && node->place >= 0)
			pusher_start(node);
		return;
	}
	if (event->kind == EVENT_BROKEN)
	{
		/* while it reads rows it does not check its socket */
		if (node->up && pusher->connection == event->a && !pusher->open &&
			(pusher->state == PUSHER_WAITING || pusher->state == PUSHER_AWAITING) &&
			node->proto.connected && !stalled(node, event))
			failed(node);
		return;
	}
	if (!node->up || event->a != pusher->serial)
	{
		if (event->kind == EVENT_REPLY)
			free(event->p);
		return;
	}
	if (stalled(node, event))
		return;
	switch (event->kind)
	{
		case EVENT_CYCLE:
			cycle(node);
			break;
		case EVENT_CONNECTED:
			connected(node);
			break;
		case EVENT_SENT:
			sent(node);
			break;
		case EVENT_REPLY:
			replied(node, event->p);
			free(event->p);
			break;
		case EVENT_TIMEOUT:
			failed(node);
			break;
		case EVENT_SNAPSHOT:
			take_snapshot(node);
			break;
		case EVENT_RECORDED:
			recorded(node);
			break;
		default:
			rows(node);
	}
}
