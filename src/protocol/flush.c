/*
 * flush.c
 *		The flushes: deleting all our keys, those of one prefix, or those of namespaces whose policies
 *		change.
 *
 *		everything	a stage of its own (SS_STAGE_FLUSH).  The lease goes first, and nothing is filled
 *					before the end.  It covers the transactions that are unlisted when it begins (R11)
 *		one prefix	the same stage, on request.  No copy is wrong, so the lease stays
 *		policies	in stage RUN, between other requests (R14).  The lease stays, no new one is
 *					granted, and nothing is filled before those transactions have ended
 *
 * Each is a sequence of requests that continue at a cursor.  One that was interrupted begins again.
 * A flush of everything covers the other two.
 */
#include "protocol/flush.h"
#include "protocol/request.h"
#include "protocol/worklist.h"

static void
enter_stage(SsProto *p)
{
	ss_worklist_close_round(p);
	p->stage = SS_STAGE_FLUSH;
}

/*
 * Begins to flush all our keys; the lease is removed first.  Transactions that are unlisted by
 * now are covered, because nothing is filled before all of them have ended.
 */
void
ss_flush_begin(SsProto *p)
{
	enter_stage(p);
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
void
ss_flush_begin_partial(SsProto *p)
{
	enter_stage(p);
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

/* All keys were visited.  No round was opened meanwhile. */
static void
end_flush(SsProto *p, SsMonotonic now)
{
	if (p->partial)
	{
		p->partial = false;
		p->stage = SS_STAGE_RUN;
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
	p->stage = p->leaving ? SS_STAGE_REMOVE : SS_STAGE_RUN;
	p->renew_at = now;
}

/* The next request of the flush under way. */
SsDo
ss_flush_step(SsProto *p, SsMonotonic now)
{
	if (!p->flush_dropped)
	{
		p->nops = 0;
		p->request.lease = SS_LEASE_DROP;
		p->lease_sent = false;
		return ss_request_send(p, SS_REQUEST_BATCH, now);
	}
	(void) ss_request_send(p, SS_REQUEST_FLUSH, now);
	p->request.cursor = p->flush_cursor;
	return SS_DO_SEND;
}

/*
 * A step of the flush of namespaces whose policies change (R14).  The lease stays, but no new
 * one is granted before the flush ends, and nothing is filled until those transactions have
 * ended.  The same flush makes the guard name the prefixes of new namespaces, before they have
 * copies.
 */
SsDo
ss_flush_policies(SsProto *p, SsMonotonic now)
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
	(void) ss_request_send(p, SS_REQUEST_FLUSH, now);
	p->request.cursor = p->policy_cursor;
	p->request.policies = true;
	return SS_DO_SEND;
}

/* Is there work for ss_flush_policies? */
bool
ss_flush_policies_due(const SsProto *p)
{
	return p->policies_begun != p->policies_covered || p->names_begun != p->names_covered;
}

/* The answer to a request of a flush, which was carried out. */
void
ss_flush_answered(SsProto *p, const SsReply *reply, SsMonotonic now)
{
	if (p->request.policies)
	{
		p->policy_cursor = reply->cursor;
		if (reply->cursor == 0 && p->policy_flush)
		{
			cover_policies(p, p->policy_covers);
			p->names_covered = p->policy_names;
		}
		return;
	}
	p->removed += reply->removed;
	p->flush_cursor = reply->cursor;
	if (reply->cursor == 0)
		end_flush(p, now);
}

/* A flush was interrupted: begin it again later. */
void
ss_flush_interrupted(SsProto *p)
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
