/*
 * cycle.c
 *		What the pusher does while Redis is ours: a cycle reads the ledger, deletes, grants the lease
 *		and fills, in this order (R10).
 *
 * The lists of keys, and what a lease has to wait for, are in worklist.c.  Keys are deleted or written
 * in batches; after a batch that deletes, the cycle begins again.
 */
#include "protocol/cycle.h"
#include "protocol/flush.h"
#include "protocol/request.h"
#include "protocol/rules.h"
#include "protocol/worklist.h"

#define US_PER_MS INT64_C(1000)
#define HEARTBEAT_MOST_US (500 * US_PER_MS)
#define DOUBT_PAUSE_US (100 * US_PER_MS) /* how often keys in doubt are checked for their age */

static SsMonotonic
earlier(SsMonotonic a, SsMonotonic b)
{
	return a < b ? a : b;
}

/* The interval at which leases are granted, and an idle connection is checked. */
static int64_t
heartbeat_us(const SsProto *p)
{
	return p->lease_us / 4 < HEARTBEAT_MOST_US ? p->lease_us / 4 : HEARTBEAT_MOST_US;
}

/* Sends the operations at hand, with a lease if that leaves no old copy behind (R10). */
SsDo
ss_cycle_send_batch(SsProto *p, SsMonotonic now)
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
	return ss_request_send(p, SS_REQUEST_BATCH, now);
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

/*
 * The next action in stage RUN.  A cycle deletes what is urgent, grants the lease if it leaves no old
 * copy behind, and then fills.
 */
SsDo
ss_cycle_run(SsProto *p, SsMonotonic now)
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
		ss_flush_begin(p);
		return ss_flush_step(p, now);
	}
	if (p->partial_wanted)
	{
		ss_flush_begin_partial(p);
		return ss_flush_step(p, now);
	}
	if (ss_flush_policies_due(p) && !p->policy_waits)
		return ss_flush_policies(p, now);
	p->policy_waits = false;
	p->deleting = ss_worklist_take_deletes(p, delete_first(p, now)) > 0;
	if (p->deleting)
		return ss_cycle_send_batch(p, now);
	if (ss_flush_policies_due(p))
		return ss_flush_policies(p, now);
	/* delete, then grant the lease, then fill */
	if (p->round_open && p->round_left == 0 && ss_worklist_lease_lapsed(p, now))
		return ss_cycle_send_batch(p, now);
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
		return ss_cycle_send_batch(p, now);
	if (p->read_at > now)
		next = earlier(next, p->read_at);
	if (fill)
		next = earlier(next, ss_worklist_next_wanted(p));
	if (p->lists[SS_LIST_DOUBT].count > 0)
		next = earlier(next, now + DOUBT_PAUSE_US);
	p->wait_until = next;
	return SS_DO_WAIT;
}

/* The batch was carried out. */
void
ss_cycle_batch_done(SsProto *p, SsMonotonic now)
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
