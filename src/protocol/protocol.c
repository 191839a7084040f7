/*
 * protocol.c
 *		The protocol of the pusher as a state machine: events and a clock in, actions out.
 *
 * A connection begins with a probe, which asks for the guard and for Redis' clock.  Then:
 *
 *		PROBE --> RUN						the guard's last batch is in our chain: continue
 *		PROBE --> CLAIM --> FLUSH --> RUN	it lost something, or never was ours (R5, R6)
 *		PROBE --> REFUSED --> PROBE			it is another's, or this database is a copy
 *
 * A claim is recorded in this database before it is sent (R15): a claim that was carried out but
 * not recorded would look like the claim of a copy after a crash.
 *
 * One request is under way at a time.  If it is unknown whether it was carried out (no answer,
 * broken connection), its work is repeated.
 *
 * This file has the stages and the events.  Who owns a Redis, and the chain of batches that proves
 * it, is decided in guard.c; what is done in RUN in cycle.c; flushes are in flush.c, the lists of keys,
 * and when a lease may be granted, in worklist.c.  docs/protocol.md lists the rules R1 to R22.
 */
#include <string.h>

#include "protocol/cycle.h"
#include "protocol/flush.h"
#include "protocol/guard.h"
#include "protocol/protocol.h"
#include "protocol/request.h"
#include "protocol/rules.h"
#include "protocol/worklist.h"

#define US_PER_MS INT64_C(1000)
#define BACKOFF_FIRST_US (100 * US_PER_MS)
#define BACKOFF_MOST_US (10000 * US_PER_MS)
#define UNREADABLE_PAUSE_US (20 * US_PER_MS)

static uint64_t
draw(SsProto *p)
{
	/* xorshift64* */
	p->random ^= p->random >> 12;
	p->random ^= p->random << 25;
	p->random ^= p->random >> 27;
	return p->random * UINT64_C(2685821657736338717);
}

/*
 * Initializes the state machine for a new pusher.  The ledger and the control outlive it;
 * `seed` is for tokens and the jitter of retries.  Leases of the predecessor become foreign
 * leases.
 */
void
ss_proto_init(SsProto *p, SsLedger *ledger, SsControl *control, uint32_t database,
			  const SsOwner *me, uint64_t seed, SsMonotonic now)
{
	memset(p, 0, sizeof(*p));
	p->ledger = ledger;
	p->control = control;
	p->database = database;
	p->me = *me;
	p->lease_us = 2000 * US_PER_MS;
	p->batch_keys = SS_BATCH_MAX;
	p->random = seed | 1;
	p->retry_at = now;
	/* of an earlier pusher's lease only its published end is known */
	p->lease_end = now;
	ss_worklist_init(p);
	ss_control_keep_lease(control);
	/* the flush covers what was unlisted or resolved before we started */
	p->flush_wanted = true;
	(void) draw(p);
}

static SsDo
wait_until(SsProto *p, SsMonotonic until)
{
	p->wait_until = until;
	return SS_DO_WAIT;
}

static void
to_stage(SsProto *p, SsStage stage)
{
	if (stage != SS_STAGE_RUN)
		ss_worklist_close_round(p);
	p->stage = stage;
}

/* The next action when we are connected and nothing is under way. */
static SsDo
act(SsProto *p, SsMonotonic now)
{
	switch (p->stage)
	{
		case SS_STAGE_REFUSED:
			ss_worklist_update(p, now, false);
			if (p->leaving)
				break;
			if (now < p->probe_at)
				return wait_until(p, p->probe_at);
			/* FALLTHROUGH */
		case SS_STAGE_PROBE:
			return ss_request_send(p, SS_REQUEST_PROBE, now);
		case SS_STAGE_CLAIM:
			ss_guard_claim(p, draw(p));
			if (SS_RULE(15) &&
				(p->record.marks[0].epoch != p->epoch || p->record.marks[0].token != p->token))
				return SS_DO_RECORD;
			if (SS_RULE(6))
				p->flush_wanted = true;
			return ss_request_send(p, SS_REQUEST_CLAIM, now);
		case SS_STAGE_FLUSH:
			return ss_flush_step(p, now);
		case SS_STAGE_RUN:
			if (p->leaving)
				ss_flush_begin(p);
			return p->leaving ? ss_flush_step(p, now) : ss_cycle_run(p, now);
		case SS_STAGE_REMOVE:
			return ss_request_send(p, SS_REQUEST_REMOVE, now);
		case SS_STAGE_LEFT:
			break;
	}
	p->stage = SS_STAGE_LEFT;
	return SS_DO_LEAVE;
}

/*
 * Resolved keys stay in the ledger only while we may write to Redis, or may once it is back;
 * and while it is away, at most a quarter of what this database may have (R13).  No operation
 * may be at hand.
 */
static void
attach_or_detach(SsProto *p)
{
	bool ours = p->stage == SS_STAGE_CLAIM || p->stage == SS_STAGE_FLUSH ||
				p->stage == SS_STAGE_RUN;
	int waiting = p->lists[SS_LIST_PRESENT].count + p->lists[SS_LIST_ABSENT].count +
				  p->lists[SS_LIST_WANTED].count;
	bool may;

	if (ours)
		p->backlog_dropped = false;
	else if (p->attached && waiting > 0 &&
			 waiting > ss_ledger_allowed(p->ledger, p->control->member) / 4)
		p->backlog_dropped = true;
	may = !p->suspended && !p->backlog_dropped && p->stage != SS_STAGE_REFUSED &&
		  (ours || p->refusal == SS_REFUSED_NONE);
	if (may && !p->attached)
		ss_worklist_attach(p);
	else if (!may && p->attached)
		ss_worklist_detach(p);
}

/* Returns the next action; see protocol.h. */
SsDo
ss_proto_next(SsProto *p, SsMonotonic now)
{
	if (p->busy)
		return wait_until(p, p->request.give_up);
	if (p->reading)
		return wait_until(p, now);
	if (p->ready)
	{
		p->ready = false;
		return ss_cycle_send_batch(p, now);
	}
	attach_or_detach(p);
	if (p->connected || p->stage == SS_STAGE_LEFT)
		return act(p, now);

	/* one failure may be ours, such as a table that was dropped while its rows were read */
	if (p->leaving && (p->counts.connects == 0 || p->failures > 1))
	{
		/* Redis does not answer: the lease ends by itself */
		p->stage = SS_STAGE_LEFT;
		return SS_DO_LEAVE;
	}
	ss_worklist_update(p, now, false);
	if (now < p->retry_at)
		return wait_until(p, p->retry_at);
	return SS_DO_CONNECT;
}

/* A connection was made. */
void
ss_proto_connected(SsProto *p, SsMonotonic now)
{
	p->connected = true;
	if (p->counts.connects++ == 0)
		p->connected_at = now;
	to_stage(p, SS_STAGE_PROBE);
}

/*
 * There is no connection, no answer, or an invalid one.  The request may have been carried
 * out, or may still be until its deadline.  The connection must not be used any more.
 */
void
ss_proto_failed(SsProto *p, SsMonotonic now)
{
	int64_t pause_us = BACKOFF_FIRST_US << (p->failures < 7 ? p->failures : 7);

	if (p->busy)
		ss_guard_unanswered(p);
	if (p->ready || p->reading || (p->busy && p->request.kind == SS_REQUEST_BATCH))
		ss_worklist_restore(p, 0, now);
	ss_flush_interrupted(p);
	p->busy = p->ready = p->reading = p->connected = false;
	to_stage(p, SS_STAGE_PROBE);
	p->failures++;
	p->counts.failures++;
	if (pause_us > BACKOFF_MOST_US)
		pause_us = BACKOFF_MOST_US;
	p->retry_at = now + pause_us / 2 + (int64_t) (draw(p) % (uint64_t) (pause_us / 2));
}

static void
handle_probe(SsProto *p, const SsGuard *guard, SsMonotonic now)
{
	to_stage(p, ss_guard_decide(p, guard, now));
	/* before the flush, which then also covers what was resolved meanwhile */
	attach_or_detach(p);
	if (p->stage == SS_STAGE_RUN && (p->flush_wanted || p->leaving))
		ss_flush_begin(p);
}

static void
handle_claim(SsProto *p)
{
	bool ends_foreign = p->ends_foreign || !SS_RULE(18);

	ss_guard_claimed(p);
	/* with the guard, the claim has removed whatever lease this Redis held */
	ss_worklist_publish_lease(p, 0);
	if (ends_foreign)
		ss_control_end_foreign(p->control);
	if (p->flush_wanted)
		ss_flush_begin(p);
	else
		to_stage(p, SS_STAGE_RUN);
	p->flush_dropped = true; /* by the claim */
}

/* The answer to p->request. */
void
ss_proto_reply(SsProto *p, const SsReply *reply, SsMonotonic now)
{
	SsRequest *r = &p->request;

	p->busy = false;
	ss_request_update_clock(p, reply->time, now);
	if (r->kind == SS_REQUEST_PROBE)
	{
		handle_probe(p, &reply->guard, now);
		return;
	}
	p->failures = 0;
	if (reply->answer != SS_ANSWER_OK)
	{
		if (r->kind == SS_REQUEST_BATCH)
			ss_worklist_restore(p, 0, now);
		if (reply->answer == SS_ANSWER_LATE)
		{
			p->counts.late++;
			return; /* the clock is known now, so the next request will not be late */
		}
		p->counts.lost++;
		if (r->kind == SS_REQUEST_CLAIM)
		{
			to_stage(p, ss_guard_outrun(p, now));
			return;
		}
		ss_flush_interrupted(p);
		to_stage(p, SS_STAGE_PROBE);
		return;
	}
	if (r->kind == SS_REQUEST_CLAIM)
	{
		handle_claim(p);
		return;
	}
	ss_guard_carried_out(p);
	if (r->kind == SS_REQUEST_BATCH)
		ss_cycle_batch_done(p, now);
	else if (r->kind == SS_REQUEST_FLUSH)
		ss_flush_answered(p, reply, now);
	else
		p->stage = SS_STAGE_LEFT;
}

/* The rows of p->ops were read, and the transaction has ended. */
void
ss_proto_rows(SsProto *p, SsMonotonic now)
{
	int n = 0;
	bool anything = false;

	p->reading = p->unreadable = false;
	if (!SS_RULE(8))
	{
		ss_worklist_update(p, now, false);
		ss_worklist_retake(p);
	}
	/* what did not fit goes back to the front of its list */
	while (n < p->nops && p->ops[n].found != SS_FOUND_LATER)
		n++;
	ss_worklist_restore(p, n, now);
	for (int i = 0; i < p->nops; i++)
	{
		SsOp *op = &p->ops[i];
		SsLedgerSlot *s = ss_ledger_slot(p->ledger, op->slot);

		op->expires = ss_clock_redis(op->until, p->clock_low_us);
		if (op->found == SS_FOUND_NONE || op->until <= now)
			op->kind = s->absent ? SS_OP_NONE : SS_OP_DELETE;
		else
			op->kind = op->document ? SS_OP_SET : SS_OP_EXPIRE;
		if (op->kind == SS_OP_SET)
			s->absent = false;
		anything = anything || op->kind != SS_OP_NONE;
	}
	p->deleting = false;
	if (!anything)
	{
		for (int i = 0; i < p->nops; i++)
			ss_worklist_key_written(p, &p->ops[i], now);
		p->nops = 0;
		return;
	}
	p->ready = true;
}

/* The table is locked: the keys are deleted, and filled when it can be read again. */
void
ss_proto_unreadable(SsProto *p, SsMonotonic now)
{
	ss_worklist_restore(p, 0, now);
	p->reading = false;
	p->unreadable = true;
	p->read_at = now + UNREADABLE_PAUSE_US;
}

/* Requests that all our keys are deleted. */
void
ss_proto_flush(SsProto *p)
{
	p->flush_wanted = true;
}

/* Requests that the guard names new prefixes and forgets abandoned ones before more is filled. */
void
ss_proto_flush_names(SsProto *p)
{
	p->names_begun++;
}

/* Requests that the keys of one prefix are deleted; the driver knows which. */
void
ss_proto_flush_partly(SsProto *p)
{
	p->partial_wanted = true;
}

/* Is a flush requested or under way? */
bool
ss_proto_flushing(const SsProto *p)
{
	return p->flush_wanted || p->partial_wanted || p->stage == SS_STAGE_FLUSH ||
		   p->stage == SS_STAGE_CLAIM;
}

/* Requests to take over this Redis from its present owner. */
void
ss_proto_takeover(SsProto *p, SsMonotonic now)
{
	p->takeover = true;
	p->probe_at = now;
	p->retry_at = now;
}

/* Withdraws that request.  A claim that was not sent yet depends on what the guard says. */
void
ss_proto_no_takeover(SsProto *p)
{
	if (!p->takeover)
		return;
	p->takeover = false;
	if (p->stage == SS_STAGE_CLAIM && !p->busy)
		to_stage(p, SS_STAGE_PROBE);
}

/* Redis is elsewhere, or has another password: connect immediately. */
void
ss_proto_reconnect(SsProto *p, SsMonotonic now)
{
	if (p->connected)
		ss_proto_failed(p, now);
	p->clock_known = false;
	p->failures = 0;
	p->retry_at = now;
}

/*
 * Requests to flush, to remove guard and lease, and to end; if Redis does not answer, only to
 * end.
 */
void
ss_proto_leave(SsProto *p)
{
	p->leaving = true;
}

/*
 * What the claims recorded in this database say.  Called before the first probe, and whenever
 * they are read again.
 */
void
ss_proto_set_record(SsProto *p, const SsRecord *record)
{
	p->record = *record;
	p->base_epoch = record->marks[0].epoch;
}

/* Once the claim at hand is recorded, may another Redis still hold a lease of ours? */
bool
ss_proto_moved(const SsProto *p, SsMonotonic now)
{
	return (p->record.moved || p->record.elsewhere) &&
		   now < __atomic_load_n(&p->control->foreign_until, __ATOMIC_SEQ_CST);
}

/* The claim at hand is recorded and may be sent; `moved` is what ss_proto_moved returned. */
void
ss_proto_recorded(SsProto *p, bool moved)
{
	ss_record_add(&p->record, p->token, p->epoch);
	p->record.moved = moved;
	p->record.elsewhere = false;
}

/* The claim at hand could not be recorded: it is not sent, and tried again later. */
void
ss_proto_not_recorded(SsProto *p, SsMonotonic now)
{
	to_stage(p, ss_guard_unrecorded(p, now));
}

/*
 * The pusher's process is about to end while Redis stays ours: fills p->request with a batch
 * that removes the lease and changes nothing else.  It must be sent on a new connection: a
 * request under way on the old one is then carried out either before it or never.  Returns
 * false if there is nothing to remove, or if the lease is not ours.
 */
bool
ss_proto_stop(SsProto *p, SsMonotonic now, SsMonotonic give_up)
{
	if (!p->claimed || p->pending || p->superseded || p->refusal != SS_REFUSED_NONE ||
		p->stage >= SS_STAGE_REMOVE || p->control->lease_until <= now)
		return false;
	if (p->busy)
		ss_guard_unanswered(p);
	if (p->nchain == 0)
		return false; /* without a chain it would be carried out even if another server owned this Redis by now */
	p->nops = 0;
	p->deleting = false;
	ss_worklist_close_round(p);
	p->request.lease = SS_LEASE_DROP;
	(void) ss_request_send(p, SS_REQUEST_BATCH, now);
	p->request.give_up = give_up;
	p->request.deadline = ss_clock_redis(give_up, p->clock_low_us);
	return true;
}

/*
 * The answer to that batch: if it was carried out there is no lease, and waiting transactions
 * may continue.
 */
void
ss_proto_stopped(SsProto *p, const SsReply *reply)
{
	p->busy = false;
	if (reply->answer != SS_ANSWER_OK)
		return;
	p->lease_end = 0;
	ss_worklist_publish_lease(p, 0);
}

/* Since when the key that has waited longest waits; 0 if none does. */
SsMonotonic
ss_proto_oldest(const SsProto *p)
{
	SsMonotonic oldest = 0;

	for (int list = SS_LIST_DOUBT; list <= SS_LIST_ABSENT; list++)
	{
		SsLedgerView view;

		if (p->lists[list].count == 0)
			continue;
		ss_ledger_read(p->ledger, p->lists[list].first, &view);
		if (oldest == 0 || view.since < oldest)
			oldest = view.since;
	}
	return oldest;
}
