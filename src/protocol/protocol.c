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
 * In RUN each cycle updates the lists from the ledger, deletes what is urgent, then reads rows
 * and fills.
 *
 * Who owns a Redis, and the chain of batches that proves it, is decided in guard.c; the lists,
 * and when a lease may be granted, in worklist.c.  docs/protocol.md lists the rules R1 to R22.
 */
#include <string.h>

#include "protocol/guard.h"
#include "protocol/protocol.h"
#include "protocol/rules.h"
#include "protocol/worklist.h"

#define US_PER_MS INT64_C(1000)
#define PROBE_TIMEOUT_US (1000 * US_PER_MS)
#define TIMEOUT_LEAST_US (100 * US_PER_MS)
#define TIMEOUT_MOST_US (1000 * US_PER_MS)
#define HEARTBEAT_MOST_US (500 * US_PER_MS)
#define BACKOFF_FIRST_US (100 * US_PER_MS)
#define BACKOFF_MOST_US (10000 * US_PER_MS)
#define UNREADABLE_PAUSE_US (20 * US_PER_MS)
#define DOUBT_PAUSE_US (100 * US_PER_MS) /* how often keys in doubt are checked for their age */

/* The drift of two clocks per second, and the resolution of Redis' clock. */
#define DRIFT_US_PER_S (2 * US_PER_MS)
#define CLOCK_GRAIN_US (3 * US_PER_MS)

static int64_t
least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t
most(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static SsMonotonic
earlier(SsMonotonic a, SsMonotonic b)
{
	return a < b ? a : b;
}

static uint64_t
draw(SsProto *p)
{
	/* xorshift64* */
	p->random ^= p->random >> 12;
	p->random ^= p->random << 25;
	p->random ^= p->random >> 27;
	return p->random * UINT64_C(2685821657736338717);
}

/* How long to wait for the answer to a request. */
static int64_t
timeout_us(const SsProto *p)
{
	return least(most(p->lease_us / 2, TIMEOUT_LEAST_US), TIMEOUT_MOST_US);
}

/* The interval at which leases are granted, and an idle connection is checked. */
static int64_t
heartbeat_us(const SsProto *p)
{
	return least(p->lease_us / 4, HEARTBEAT_MOST_US);
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

/*
 * Redis' clock minus ours was at least `low`, because the request was carried out before the
 * answer came, and at most `high`, because it was carried out after it was sent.  A time of
 * ours is converted with the lower bound, so that it ends at that time or earlier (R12).
 */
static void
update_clock(SsProto *p, SsRedisTime time, SsMonotonic now)
{
	int64_t low = ss_clock_offset(time, now);
	int64_t high = ss_clock_offset(time, p->sent_at);
	int64_t drift_us = (now - p->clock_at) * DRIFT_US_PER_S / (1000 * US_PER_MS) + CLOCK_GRAIN_US;

	if (!SS_RULE(12))
	{
		p->clock_low_us = p->clock_high_us = p->own_clock_us;
		p->clock_known = true;
		return;
	}
	if (p->clock_known && (high < p->clock_low_us - drift_us || low > p->clock_high_us + drift_us))
	{
		/* it was set: what ends at a time of Redis' clock ends at another time of ours */
		p->counts.steps++;
		p->flush_wanted = true;
		p->clock_known = false;
	}
	if (p->clock_known)
	{
		low = most(low, p->clock_low_us - drift_us);
		high = least(high, p->clock_high_us + drift_us);
	}
	p->clock_low_us = low;
	p->clock_high_us = most(low, high);
	p->clock_at = now;
	p->clock_known = true;
}

static SsDo
wait_until(SsProto *p, SsMonotonic until)
{
	p->wait_until = until;
	return SS_DO_WAIT;
}

/* Completes the request and sends it; the caller has set request.lease for a batch. */
static SsDo
send(SsProto *p, SsRequestKind kind, SsMonotonic now)
{
	SsRequest *r = &p->request;
	SsLeaseAction lease = r->lease;

	memset(r, 0, sizeof(*r));
	r->kind = kind;
	r->give_up = now + (kind == SS_REQUEST_PROBE ? PROBE_TIMEOUT_US : timeout_us(p));
	r->deadline = SS_RULE(3) && kind != SS_REQUEST_PROBE
					  ? ss_clock_redis(r->give_up, p->clock_low_us)
					  : SS_REDIS_NEVER;
	ss_guard_sign(p);
	if (kind == SS_REQUEST_BATCH)
	{
		r->lease = lease;
		if (lease == SS_LEASE_SET)
		{
			r->lease_until = ss_clock_redis(p->round_at + p->round_lease_us, p->clock_low_us);
			if (!SS_RULE(3))
				r->lease_for_us = p->round_lease_us;
		}
		p->counts.batches++;
	}
	p->sent_at = now;
	p->busy = true;
	return SS_DO_SEND;
}

/* Sends the operations at hand, with a lease if that leaves no old copy behind (R10). */
static SsDo
send_batch(SsProto *p, SsMonotonic now)
{
	p->request.lease = SS_LEASE_KEEP;
	p->lease_sent = false;
	if (p->flush_wanted || p->suspended || p->begun != p->covered || p->begun != p->ended)
	{
		/* and no lease of this round, whose published end is about to be withdrawn */
		p->request.lease = SS_LEASE_DROP;
		ss_worklist_close_round(p);
	}
	else if (p->round_open && now >= p->round_at + p->round_lease_us)
		ss_worklist_close_round(p); /* it took too long: its lease would have ended by now */
	else if (p->round_open && p->policies_covered == p->policies_begun &&
			 ss_worklist_leaves_nothing(p))
	{
		p->request.lease = SS_LEASE_SET;
		p->lease_sent = true;
	}
	return send(p, SS_REQUEST_BATCH, now);
}

static void
to_stage(SsProto *p, SsStage stage)
{
	if (stage != SS_STAGE_RUN)
		ss_worklist_close_round(p);
	p->stage = stage;
}

/*
 * Begins to flush all our keys; the lease is removed first.  Transactions that are unlisted by
 * now are covered, because nothing is filled before all of them have ended.
 */
static void
begin_flush(SsProto *p)
{
	to_stage(p, SS_STAGE_FLUSH);
	p->flush_wanted = false;
	p->partial = false;
	p->flush_dropped = false;
	p->flush_cursor = 0;
	p->flush_covers = p->begun;
	p->flush_policies = p->policies_begun;
	p->flush_names = p->names_begun;
	p->policy_flush = false;
	p->flush_ticket = p->ticket;
	p->removed = 0;
	p->counts.flushes++;
}

/*
 * Begins to flush the keys of one prefix on request.  No copy is wrong, so the lease stays,
 * and so does the state of the ledger.
 */
static void
begin_partial_flush(SsProto *p)
{
	to_stage(p, SS_STAGE_FLUSH);
	p->partial_wanted = false;
	p->partial = p->flush_dropped = true;
	p->flush_cursor = 0;
	p->removed = 0;
}

/* The namespaces of all policies up to this number have no copies. */
static void
cover_policies(SsProto *p, uint64_t number)
{
	p->policies_covered = number;
	p->policy_flush = false;
	__atomic_store_n(&p->control->policies_covered, number, __ATOMIC_SEQ_CST);
}

static void
end_flush(SsProto *p, SsMonotonic now)
{
	if (p->partial)
	{
		p->partial = false;
		to_stage(p, SS_STAGE_RUN);
		return;
	}
	ss_worklist_flushed(p, now);
	if (ss_ledger_count(p->ledger, p->control->member) >
		ss_ledger_allowed(p->ledger, p->control->member) / 2)
		ss_worklist_drop_backlog(p);
	p->covered = p->flush_covers;
	cover_policies(p, p->flush_policies);
	p->names_covered = p->flush_names;
	if (p->covered == p->begun && p->flush_ticket > p->control->passed)
		__atomic_store_n(&p->control->passed, p->flush_ticket, __ATOMIC_SEQ_CST);
	to_stage(p, p->leaving ? SS_STAGE_REMOVE : SS_STAGE_RUN);
	p->renew_at = now;
}

static SsDo
flush(SsProto *p, SsMonotonic now)
{
	if (!p->flush_dropped)
	{
		p->nops = 0;
		p->request.lease = SS_LEASE_DROP;
		p->lease_sent = false;
		return send(p, SS_REQUEST_BATCH, now);
	}
	(void) send(p, SS_REQUEST_FLUSH, now);
	p->request.cursor = p->flush_cursor;
	return SS_DO_SEND;
}

/*
 * A step of the flush of namespaces whose policies change (R14).  The lease stays, but no new
 * one is granted before the flush ends, and nothing is filled until those transactions have
 * ended.  The same flush makes the guard name the prefixes of new namespaces, before they have
 * copies.
 */
static SsDo
flush_policies(SsProto *p, SsMonotonic now)
{
	if (!p->policy_flush)
	{
		p->policy_flush = true;
		p->policy_covers = p->policies_begun;
		p->policy_names = p->names_begun;
		p->policy_cursor = 0;
		if (p->policies_begun != p->policies_covered)
			p->counts.flushes++;
	}
	p->policy_waits = true;
	(void) send(p, SS_REQUEST_FLUSH, now);
	p->request.cursor = p->policy_cursor;
	p->request.policies = true;
	return SS_DO_SEND;
}

/* Is there work for flush_policies? */
static bool
must_flush_policies(const SsProto *p)
{
	return p->policies_begun != p->policies_covered || p->names_begun != p->names_covered;
}

/*
 * Do deletions of PRESENT keys go before fills?  Yes while there is no lease, while rows
 * cannot or must not be read, and when a round takes long.
 */
static bool
delete_first(const SsProto *p, SsMonotonic now)
{
	return (SS_RULE(10) && ss_worklist_lease_lapsed(p, now)) || p->unreadable ||
		   p->policies_begun != p->policies_ended ||
		   (p->round_open && now >= p->round_at + p->round_lease_us / 2);
}

static SsDo
run(SsProto *p, SsMonotonic now)
{
	SsMonotonic next;
	bool fill;

	if (p->suspended != p->was_suspended)
	{
		p->was_suspended = p->suspended;
		p->flush_wanted = true;
	}
	ss_worklist_update(p, now, !p->suspended && !p->flush_wanted);
	if (p->flush_wanted || p->begun != p->covered)
	{
		begin_flush(p);
		return flush(p, now);
	}
	if (p->partial_wanted)
	{
		begin_partial_flush(p);
		return flush(p, now);
	}
	if (must_flush_policies(p) && !p->policy_waits)
		return flush_policies(p, now);
	p->policy_waits = false;
	p->deleting = ss_worklist_take_deletes(p, delete_first(p, now)) > 0;
	if (p->deleting)
		return send_batch(p, now);
	if (must_flush_policies(p))
		return flush_policies(p, now);
	/* delete, then grant the lease, then fill */
	if (p->round_open && p->round_left == 0 && ss_worklist_lease_lapsed(p, now))
		return send_batch(p, now);
	fill = !p->suspended && p->begun == p->ended && p->policies_begun == p->policies_ended &&
		   now >= p->read_at;
	if (fill && ss_worklist_take_fills(p, now) > 0)
	{
		p->reading = true;
		return SS_DO_READ;
	}
	p->nops = 0;
	next = p->renew_at + (p->suspended || p->begun != p->ended ? heartbeat_us(p) : 0);
	if ((p->round_open && p->round_left == 0) || now >= next)
		return send_batch(p, now);
	if (p->read_at > now)
		next = earlier(next, p->read_at);
	if (fill)
		next = earlier(next, ss_worklist_next_wanted(p));
	if (p->lists[SS_LIST_DOUBT].count > 0)
		next = earlier(next, now + DOUBT_PAUSE_US);
	return wait_until(p, next);
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
			return send(p, SS_REQUEST_PROBE, now);
		case SS_STAGE_CLAIM:
			ss_guard_claim(p, draw(p));
			if (SS_RULE(15) &&
				(p->record.marks[0].epoch != p->epoch || p->record.marks[0].token != p->token))
				return SS_DO_RECORD;
			if (SS_RULE(6))
				p->flush_wanted = true;
			return send(p, SS_REQUEST_CLAIM, now);
		case SS_STAGE_FLUSH:
			return flush(p, now);
		case SS_STAGE_RUN:
			if (p->leaving)
				begin_flush(p);
			return p->leaving ? flush(p, now) : run(p, now);
		case SS_STAGE_REMOVE:
			return send(p, SS_REQUEST_REMOVE, now);
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
		return send_batch(p, now);
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

/* A flush was interrupted: begin it again later. */
static void
flush_again(SsProto *p)
{
	p->policy_flush = false;
	if (p->stage != SS_STAGE_FLUSH)
		return;
	if (p->partial)
		p->partial_wanted = true;
	else
		p->flush_wanted = true;
	p->partial = false;
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
	flush_again(p);
	p->busy = p->ready = p->reading = p->connected = false;
	to_stage(p, SS_STAGE_PROBE);
	p->failures++;
	p->counts.failures++;
	pause_us = least(pause_us, BACKOFF_MOST_US);
	p->retry_at = now + pause_us / 2 + (int64_t) (draw(p) % (uint64_t) (pause_us / 2));
}

static void
handle_probe(SsProto *p, const SsGuard *guard, SsMonotonic now)
{
	to_stage(p, ss_guard_decide(p, guard, now));
	/* before the flush, which then also covers what was resolved meanwhile */
	attach_or_detach(p);
	if (p->stage == SS_STAGE_RUN && (p->flush_wanted || p->leaving))
		begin_flush(p);
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
		begin_flush(p);
	else
		to_stage(p, SS_STAGE_RUN);
	p->flush_dropped = true; /* by the claim */
}

static void
batch_done(SsProto *p, SsMonotonic now)
{
	for (int i = 0; i < p->nops; i++)
	{
		SsOp *op = &p->ops[i];

		p->counts.sets += op->kind == SS_OP_SET;
		p->counts.deletes += op->kind == SS_OP_DELETE;
		p->counts.expires += op->kind == SS_OP_EXPIRE;
		if (p->deleting)
			ss_worklist_key_deleted(p, op->slot, now);
		else
			ss_worklist_key_written(p, op, now);
	}
	p->nops = 0;
	if (p->request.lease == SS_LEASE_DROP)
	{
		p->lease_end = now;
		ss_worklist_publish_lease(p, 0);
		p->renew_at = now + heartbeat_us(p);
		if (p->stage == SS_STAGE_FLUSH)
			p->flush_dropped = true;
	}
	else if (p->lease_sent)
	{
		p->counts.leases++;
		p->lease_end = p->round_at + p->round_lease_us;
		p->renew_at = p->round_at + heartbeat_us(p);
		ss_worklist_close_round(p);
	}
	ss_worklist_pass_fence(p);
}

/* The answer to p->request. */
void
ss_proto_reply(SsProto *p, const SsReply *reply, SsMonotonic now)
{
	SsRequest *r = &p->request;

	p->busy = false;
	update_clock(p, reply->time, now);
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
		flush_again(p);
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
		batch_done(p, now);
	else if (r->kind == SS_REQUEST_FLUSH && r->policies)
	{
		p->policy_cursor = reply->cursor;
		if (reply->cursor == 0 && p->policy_flush)
		{
			cover_policies(p, p->policy_covers);
			p->names_covered = p->policy_names;
		}
	}
	else if (r->kind == SS_REQUEST_FLUSH)
	{
		p->removed += reply->removed;
		p->flush_cursor = reply->cursor;
		if (reply->cursor == 0)
			end_flush(p, now);
	}
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
	(void) send(p, SS_REQUEST_BATCH, now);
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
