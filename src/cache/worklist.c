/*
 * worklist.c
 *		The pusher's work: which keys are to be deleted, and which written.
 *
 * Each key of the ledger that the pusher has looked at stands in one list:
 *
 *	DOUBT		in doubt, and that can wait
 *	URGENT		in doubt, and its copy must be deleted: somebody waits for that, or it
 *				is dirty from before, or has been in doubt for long, or there is no
 *				lease and none can be granted before (R10)
 *	PRESENT		dirty, and Redis may hold a copy: delete or rewrite it
 *	ABSENT		dirty, and Redis holds none: write one, or none
 *	WANTED		clean, and somebody reads it
 *
 * or in none while a batch is about it.  Three obligations are counted along:
 *
 *	the round	A lease is granted by the batch after which nothing is left of what was in
 *				URGENT and PRESENT when the round was opened (R10).  The lease runs from then
 *				on, not from when it is granted.
 *	the fence	All who wait with a ticket that was out at a look may pass when what was in
 *				URGENT after that look is deleted.
 *	the sync	Likewise session_cache_sync, for all that was in any list.
 */
#include <string.h>

#include "cache/rules.h"
#include "cache/worklist.h"

/*
 * So long may a committed change stay in doubt (its backend was stopped between commit
 * and callback) before its copy is deleted.
 */
#define OLD_DOUBT INT64_C(250000)

static SsLedgerSlot *
slot_of(SsProto *p, int32_t slot)
{
	return ss_ledger_slot(p->ledger, slot);
}

static void
unlink_slot(SsProto *p, int32_t slot)
{
	SsLedgerSlot *s = slot_of(p, slot);
	SsList *list = &p->lists[s->list];

	if (s->list == SS_LIST_NONE)
		return;
	if (s->list_prev == SS_NO_SLOT)
		list->first = s->list_next;
	else
		slot_of(p, s->list_prev)->list_next = s->list_next;
	if (s->list_next == SS_NO_SLOT)
		list->last = s->list_prev;
	else
		slot_of(p, s->list_next)->list_prev = s->list_prev;
	s->list_prev = s->list_next = SS_NO_SLOT;
	s->list = SS_LIST_NONE;
	list->count--;
}

static void
link_slot(SsProto *p, int32_t slot, SsListId list_id, bool in_front)
{
	SsLedgerSlot *s = slot_of(p, slot);
	SsList *list = &p->lists[list_id];

	s->list = list_id;
	s->list_prev = in_front ? SS_NO_SLOT : list->last;
	s->list_next = in_front ? list->first : SS_NO_SLOT;
	if (s->list_prev == SS_NO_SLOT)
		list->first = slot;
	else
		slot_of(p, s->list_prev)->list_next = slot;
	if (s->list_next == SS_NO_SLOT)
		list->last = slot;
	else
		slot_of(p, s->list_next)->list_prev = slot;
	list->count++;
}

/* What comes with a place: the next lease has to wait for it, and the next sync. */
static void
assign_round(SsProto *p, int32_t slot, SsListId where)
{
	SsLedgerSlot *s = slot_of(p, slot);

	if ((where == SS_LIST_URGENT || where == SS_LIST_PRESENT) && s->round == 0)
		s->round = p->round + 1;
	if (where != SS_LIST_WANTED && s->sync == 0)
		s->sync = p->sync + 1;
}

/* Put a key where it belongs, with the obligations that come with the place. */
static void
put_slot(SsProto *p, int32_t slot, SsListId where, int64_t now)
{
	SsLedgerSlot *s = slot_of(p, slot);

	if (s->list == where)
		return;
	unlink_slot(p, slot);
	/* what is wanted now stands before what is wanted later */
	link_slot(p, slot, where, where == SS_LIST_WANTED && s->since <= now);
	if (where == SS_LIST_DOUBT)
		s->listed_at = now;
	if (where == SS_LIST_URGENT)
		s->order = ++p->order;
	assign_round(p, slot, where);
}

/* Its copy is deleted or rewritten: no lease has to wait for it any more. */
static void
fulfil_round(SsProto *p, SsLedgerSlot *s)
{
	if (s->round != 0 && p->round_open && s->round <= p->round)
		p->round_left--;
	s->round = 0;
}

static void
fulfil_sync(SsProto *p, SsLedgerSlot *s)
{
	if (s->sync != 0 && p->sync_left > 0 && s->sync <= p->sync)
		p->sync_left--;
	s->sync = 0;
}

/*
 * Nothing is left to do about a key, as it was seen.  Should it have changed since, the next
 * look finds it in the list of what changed.
 */
static void
release_slot(SsProto *p, int32_t slot, const SsLedgerView *view)
{
	SsLedgerSlot *s = slot_of(p, slot);

	unlink_slot(p, slot);
	fulfil_round(p, s);
	fulfil_sync(p, s);
	(void) ss_ledger_finish(p->ledger, slot, view->generation, view->ended);
}

/* Is there surely no lease in Redis? */
bool
ss_worklist_lease_lapsed(const SsProto *p, int64_t now)
{
	return now >= p->lease_end;
}

/* Where does a key belong now? */
static void
classify(SsProto *p, int32_t slot, int64_t now)
{
	SsLedgerSlot *s = slot_of(p, slot);
	SsLedgerView view;

	ss_ledger_read(p->ledger, slot, &view);
	if (view.doubt > 0 && (SS_RULE(2) || !view.dirty))
	{
		/* it may have got old while we did not look, and a lease must not add to that */
		bool urgent = view.fenced || view.dirty || s->list == SS_LIST_URGENT ||
					  now - view.since >= OLD_DOUBT / 2 ||
					  (SS_RULE(10) && ss_worklist_lease_lapsed(p, now));

		put_slot(p, slot, urgent && !s->absent ? SS_LIST_URGENT : SS_LIST_DOUBT, now);
	}
	else if (view.dirty)
		put_slot(p, slot, s->absent ? SS_LIST_ABSENT : SS_LIST_PRESENT, now);
	else if (view.wanted || s->refill)
		put_slot(p, slot, SS_LIST_WANTED, now);
	else
		/* entered, and not even in doubt any more: it was settled before we came */
		release_slot(p, slot, &view);
}

void
ss_worklist_init(SsProto *p)
{
	for (int i = 0; i < SS_LISTS; i++)
	{
		p->lists[i].first = p->lists[i].last = SS_NO_SLOT;
		p->lists[i].count = 0;
	}
}

/* By `until` any lease that we have asked for has surely ended.  0: there is none. */
void
ss_worklist_publish_lease(SsProto *p, int64_t until)
{
	if (until == 0 || until > p->control->lease_until)
		__atomic_store_n(&p->control->lease_until, until, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* What is in doubt and cannot wait any more. */
static void
promote_old_doubt(SsProto *p, int64_t now)
{
	bool all = SS_RULE(10) && ss_worklist_lease_lapsed(p, now);
	int32_t slot = p->lists[SS_LIST_DOUBT].first;

	while (slot != SS_NO_SLOT)
	{
		SsLedgerSlot *s = slot_of(p, slot);
		int32_t next = s->list_next;

		if (!all && now - s->listed_at < OLD_DOUBT)
			break;
		if (!s->absent)
			put_slot(p, slot, SS_LIST_URGENT, now);
		slot = next;
	}
}

/* Those who wait may pass, as far as all is deleted that they wait for. */
void
ss_worklist_pass_fence(SsProto *p)
{
	const SsList *urgent = &p->lists[SS_LIST_URGENT];

	/* what is in doubt is not known */
	if (!p->attached)
		return;
	/* unlisted transactions wait for a flush, and do not say which tickets are theirs */
	if (p->covered != p->begun)
		return;
	if (urgent->count > 0 && slot_of(p, urgent->first)->order <= p->fence_order)
		return;
	if (p->fence_ticket > p->control->passed)
		__atomic_store_n(&p->control->passed, p->fence_ticket, __ATOMIC_SEQ_CST);
	p->fence_ticket = p->ticket;
	p->fence_order = p->order;
	if (urgent->count == 0 && p->fence_ticket > p->control->passed)
		__atomic_store_n(&p->control->passed, p->fence_ticket, __ATOMIC_SEQ_CST);
}

static void
update_sync(SsProto *p)
{
	/* while Redis is away, nobody knows what it has */
	if (p->stage != SS_STAGE_RUN || !p->connected || p->sync_left > 0 || p->covered != p->begun ||
		p->flush_wanted)
		return;
	if (p->sync_ticket > p->control->synced)
		__atomic_store_n(&p->control->synced, p->sync_ticket, __ATOMIC_SEQ_CST);
	if (p->ticket == p->sync_ticket)
		return;
	p->sync++;
	p->sync_ticket = p->ticket;
	p->sync_left = p->lists[SS_LIST_DOUBT].count + p->lists[SS_LIST_URGENT].count +
				   p->lists[SS_LIST_PRESENT].count + p->lists[SS_LIST_ABSENT].count;
	if (p->sync_left == 0)
		__atomic_store_n(&p->control->synced, p->sync_ticket, __ATOMIC_SEQ_CST);
}

/*
 * Look at what changed in the ledger, if we are attached; with may_open, begin a round if one is due.  Until
 * when the lease would run is published before the look (R4): a transaction that
 * we do not see has seen it.
 */
void
ss_worklist_update(SsProto *p, int64_t now, bool may_open)
{
	bool open = may_open && p->attached && !p->round_open && now >= p->renew_at;
	int64_t until = now + p->lease + p->lease / 100 + 10000;
	int32_t changed[64];
	int partition = 0;
	int n;

	if (open && SS_RULE(4))
		ss_worklist_publish_lease(p, until);
	p->ticket = __atomic_load_n(&p->control->tickets, __ATOMIC_SEQ_CST);
	if (SS_RULE(11))
	{
		/* what has ended has begun before */
		p->ended = __atomic_load_n(&p->control->unlisted_ended, __ATOMIC_SEQ_CST);
		p->begun = __atomic_load_n(&p->control->unlisted_begun, __ATOMIC_SEQ_CST);
	}
	if (SS_RULE(14))
	{
		p->policies_ended = __atomic_load_n(&p->control->policies_ended, __ATOMIC_SEQ_CST);
		p->policies_begun = __atomic_load_n(&p->control->policies_begun, __ATOMIC_SEQ_CST);
	}
	if (!p->attached)
		return;
	do
	{
		n = ss_ledger_changed(p->ledger, p->database, &partition, changed, 64);
		for (int i = 0; i < n; i++)
			classify(p, changed[i], now);
	} while (n == 64);
	promote_old_doubt(p, now);
	if (p->begun != p->covered || p->begun != p->ended || p->policies_begun != p->policies_covered)
		open = false;
	if (open)
	{
		p->round++;
		p->round_open = true;
		p->round_at = now;
		p->round_lease = p->lease;
		p->round_left = p->lists[SS_LIST_URGENT].count + p->lists[SS_LIST_PRESENT].count;
		if (!SS_RULE(4))
			ss_worklist_publish_lease(p, until);
	}
	ss_worklist_pass_fence(p);
	update_sync(p);
}

/* Out of its list, as it is now: what changes from here on is for another batch. */
static void
mark_taken(SsProto *p, int32_t slot, SsLedgerView *view)
{
	SsLedgerSlot *s = slot_of(p, slot);

	unlink_slot(p, slot);
	ss_ledger_read(p->ledger, slot, view);
	s->taken = view->generation;
	s->taken_ended = view->ended;
}

static void
take(SsProto *p, int32_t slot)
{
	SsLedgerSlot *s = slot_of(p, slot);
	SsOp *op = &p->ops[p->nops++];
	SsLedgerView view;

	mark_taken(p, slot, &view);
	memset(op, 0, sizeof(*op));
	op->slot = slot;
	op->document = view.document || s->refill || s->absent;
}

/* Keys whose copies are to be deleted, into p->ops. */
int
ss_worklist_take_deletes(SsProto *p, bool dirty_too)
{
	p->nops = 0;
	for (int list = SS_LIST_URGENT; list <= (dirty_too ? SS_LIST_PRESENT : SS_LIST_URGENT); list++)
		while (p->lists[list].count > 0 && p->nops < p->batch_keys)
		{
			take(p, p->lists[list].first);
			p->ops[p->nops - 1].kind = SS_OP_DELETE;
		}
	return p->nops;
}

/* Keys whose rows are to be read, into p->ops. */
int
ss_worklist_take_fills(SsProto *p, int64_t now)
{
	p->nops = 0;
	for (int list = SS_LIST_PRESENT; list <= SS_LIST_WANTED; list++)
		while (p->lists[list].count > 0 && p->nops < p->batch_keys)
		{
			int32_t slot = p->lists[list].first;

			if (list == SS_LIST_WANTED && slot_of(p, slot)->since > now)
				break;
			take(p, slot);
		}
	return p->nops;
}

/* When the next key is wanted; INT64_MAX for none. */
int64_t
ss_worklist_next_wanted(SsProto *p)
{
	int32_t slot = p->lists[SS_LIST_WANTED].first;

	return slot == SS_NO_SLOT ? INT64_MAX : slot_of(p, slot)->since;
}

/* For the mutant of R8 only: take the keys after their rows were read. */
void
ss_worklist_retake(SsProto *p)
{
	for (int i = 0; i < p->nops; i++)
	{
		SsLedgerView view;

		mark_taken(p, p->ops[i].slot, &view);
	}
}

/* Operations from `from` on were not carried out, or who knows: back into the lists. */
void
ss_worklist_restore(SsProto *p, int from, int64_t now)
{
	for (int i = p->nops - 1; i >= from; i--)
	{
		int32_t slot = p->ops[i].slot;
		SsLedgerSlot *s = slot_of(p, slot);
		SsLedgerView view;

		ss_ledger_read(p->ledger, slot, &view);
		if (view.doubt > 0 && s->order != 0)
			/* in front, for its order is lower than that of those behind */
			link_slot(p, slot, SS_LIST_URGENT, true);
		else if (view.doubt > 0)
			put_slot(p, slot, SS_LIST_URGENT, now);
		else if (view.dirty)
		{
			link_slot(p, slot, s->absent ? SS_LIST_ABSENT : SS_LIST_PRESENT, true);
			assign_round(p, slot, s->list); /* it may have been but wanted when it was taken */
		}
		else
		{
			fulfil_round(p, s);
			fulfil_sync(p, s);
			link_slot(p, slot, SS_LIST_WANTED, true);
		}
	}
	p->nops = from;
}

/* The copy of a key is deleted: it stays, to be filled when that may be. */
void
ss_worklist_key_deleted(SsProto *p, int32_t slot, int64_t now)
{
	SsLedgerSlot *s = slot_of(p, slot);

	s->absent = true;
	s->order = 0;
	fulfil_round(p, s);
	classify(p, slot, now);
}

/* A key was written, or deleted because its row says so. */
void
ss_worklist_key_written(SsProto *p, const SsOp *op, int64_t now)
{
	SsLedgerSlot *s = slot_of(p, op->slot);
	bool missing = op->kind == SS_OP_EXPIRE && op->missing;

	unlink_slot(p, op->slot);
	s->absent = op->kind == SS_OP_DELETE || (op->kind == SS_OP_NONE && s->absent) || missing;
	s->refill = missing;
	s->order = 0;
	fulfil_round(p, s);
	fulfil_sync(p, s);
	if (missing || !ss_ledger_finish(p->ledger, op->slot, s->taken, s->taken_ended))
		classify(p, op->slot, now);
}

/* With the operations at hand carried out, would a lease leave anything behind? */
bool
ss_worklist_leaves_nothing(const SsProto *p)
{
	int left = p->round_left;

	if (!SS_RULE(10))
		return true;
	for (int i = 0; i < p->nops; i++)
	{
		uint32_t round = ss_ledger_slot(p->ledger, p->ops[i].slot)->round;

		if (round != 0 && round <= p->round)
			left--;
	}
	return left == 0;
}

void
ss_worklist_close_round(SsProto *p)
{
	p->round_open = false;
	p->round_left = 0;
}

/* A flush has left no copy of ours in Redis. */
void
ss_worklist_flushed(SsProto *p, int64_t now)
{
	for (int list = SS_LIST_DOUBT; list <= SS_LIST_PRESENT; list++)
	{
		int32_t slot = p->lists[list].first;

		while (slot != SS_NO_SLOT)
		{
			int32_t next = slot_of(p, slot)->list_next;

			slot_of(p, slot)->absent = true;
			if (list != SS_LIST_DOUBT)
			{
				unlink_slot(p, slot);
				ss_worklist_key_deleted(p, slot, now);
			}
			slot = next;
		}
	}
}

/*
 * After a flush, in a ledger that fills up: what Redis has no copy of need not wait for one.  While
 * one transaction after another is unlisted nothing is filled, and what waits would stay.
 */
void
ss_worklist_drop_backlog(SsProto *p)
{
	for (int list = SS_LIST_ABSENT; list <= SS_LIST_WANTED; list++)
		while (p->lists[list].count > 0)
		{
			int32_t slot = p->lists[list].first;
			SsLedgerView view;

			ss_ledger_read(p->ledger, slot, &view);
			release_slot(p, slot, &view);
		}
}

/*
 * From now on keys are kept in the ledger until Redis has them.  First of all those that are in
 * doubt by now are looked at; of what was settled before, everything in Redis may be wrong, so
 * it is flushed (R13).
 */
void
ss_worklist_attach(SsProto *p)
{
	p->attached = true;
	if (SS_RULE(22))
		p->flush_wanted = true;
	ss_ledger_attach(p->ledger, p->control, p->database);
}

/*
 * Keep no key in the ledger that is not in doubt (R13): we may not write to Redis, or it has been away
 * for too long.  No operation is at hand.  Who waits at the fence waits for the end of the lease.
 */
void
ss_worklist_detach(SsProto *p)
{
	p->attached = false;
	p->nops = 0;
	ss_worklist_close_round(p);
	ss_ledger_detach(p->ledger, p->control, p->database);
	ss_worklist_init(p);
	p->fence_ticket = 0;
	p->sync_left = 0;
}
