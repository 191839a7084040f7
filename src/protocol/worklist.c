/*
 * worklist.c
 *		The lists of keys that the pusher has to delete or to write.
 *
 * Each key of the ledger that the pusher has read is on one list:
 *
 *	DOUBT		in doubt, and can wait
 *	URGENT		in doubt, and its copy must be deleted: a transaction waits for that at the
 *				fence, or the key is dirty from an earlier change, or it has been in doubt for
 *				long, or there is no lease and none can be granted before (R10)
 *	PRESENT		dirty, and Redis may hold a copy: delete or rewrite it
 *	ABSENT		dirty, and Redis holds no copy: write one if there shall be one
 *	WANTED		not dirty, but the session is read
 *
 * or on none while it is part of the batch under way.  Three things are counted along:
 *
 *	round		A lease is granted by the batch after which nothing is left of what was on the
 *				lists URGENT and PRESENT when the round was opened (R10).  The lease runs from
 *				the opening of the round, not from when it is granted.
 *	fence		All transactions whose tickets had been issued at an update of the lists may
 *				pass once everything that was URGENT after that update is deleted.
 *	sync		The same for session_cache_sync and what was on any list.
 */
#include <string.h>

#include "protocol/rules.h"
#include "protocol/worklist.h"

/*
 * A committed change may stay in doubt for this long, because its backend was stopped between
 * commit and callback, before its copy is deleted.
 */
#define OLD_DOUBT_US INT64_C(250000)

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

/* Assigns a key to the round and the sync that have to wait for it, according to its list. */
static void
assign_round(SsProto *p, int32_t slot, SsListId where)
{
	SsLedgerSlot *s = slot_of(p, slot);

	if ((where == SS_LIST_URGENT || where == SS_LIST_PRESENT) && s->round == 0)
		s->round = p->round + 1;
	if (where != SS_LIST_WANTED && s->sync == 0)
		s->sync = p->sync + 1;
}

/* Puts a key on a list, unless it is there. */
static void
put_slot(SsProto *p, int32_t slot, SsListId where, SsMonotonic now)
{
	SsLedgerSlot *s = slot_of(p, slot);

	if (s->list == where)
		return;
	unlink_slot(p, slot);
	/* what is wanted now goes before what is wanted later */
	link_slot(p, slot, where, where == SS_LIST_WANTED && s->since <= now);
	if (where == SS_LIST_DOUBT)
		s->listed_at = now;
	if (where == SS_LIST_URGENT)
		s->order = ++p->order;
	assign_round(p, slot, where);
}

/* The copy is deleted or rewritten: no lease has to wait for the key any more. */
static void
fulfil_round(SsProto *p, SsLedgerSlot *s)
{
	if (s->round != 0 && p->round_open && s->round <= p->round)
		p->round_left--;
	s->round = 0;
}

/* The same for session_cache_sync. */
static void
fulfil_sync(SsProto *p, SsLedgerSlot *s)
{
	if (s->sync != 0 && p->sync_left > 0 && s->sync <= p->sync)
		p->sync_left--;
	s->sync = 0;
}

/*
 * Nothing is left to do about a key in the state `view`.  If it has changed since, the ledger
 * keeps it, and the next update finds it on the list of changed slots.
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

/* Has the last lease certainly ended? */
bool
ss_worklist_lease_lapsed(const SsProto *p, SsMonotonic now)
{
	return now >= p->lease_end;
}

/* Reads a key from the ledger and puts it on the list on which it belongs now. */
static void
classify(SsProto *p, int32_t slot, SsMonotonic now)
{
	SsLedgerSlot *s = slot_of(p, slot);
	SsLedgerView view;

	ss_ledger_read(p->ledger, slot, &view);
	if (view.doubt > 0 && (SS_RULE(2) || !view.dirty))
	{
		/* it may have aged since the last update, and a lease must not add to that */
		bool urgent = view.fenced || view.dirty || s->list == SS_LIST_URGENT ||
					  now - view.since >= OLD_DOUBT_US / 2 ||
					  (SS_RULE(10) && ss_worklist_lease_lapsed(p, now));

		put_slot(p, slot, urgent && !s->absent ? SS_LIST_URGENT : SS_LIST_DOUBT, now);
	}
	else if (view.dirty)
		put_slot(p, slot, s->absent ? SS_LIST_ABSENT : SS_LIST_PRESENT, now);
	else if (view.wanted || s->refill)
		put_slot(p, slot, SS_LIST_WANTED, now);
	else
		/* it was resolved before we read it, while no pusher was attached */
		release_slot(p, slot, &view);
}

/* Makes all lists empty. */
void
ss_worklist_init(SsProto *p)
{
	for (int i = 0; i < SS_LISTS; i++)
	{
		p->lists[i].first = p->lists[i].last = SS_NO_SLOT;
		p->lists[i].count = 0;
	}
}

/* Publishes that each lease we have asked for has ended by `until`; 0: there is none. */
void
ss_worklist_publish_lease(SsProto *p, SsMonotonic until)
{
	if (until == 0 || until > p->control->lease_until)
		__atomic_store_n(&p->control->lease_until, until, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Moves keys from DOUBT to URGENT that cannot wait any longer. */
static void
promote_old_doubt(SsProto *p, SsMonotonic now)
{
	bool all = SS_RULE(10) && ss_worklist_lease_lapsed(p, now);
	int32_t slot = p->lists[SS_LIST_DOUBT].first;

	while (slot != SS_NO_SLOT)
	{
		SsLedgerSlot *s = slot_of(p, slot);
		int32_t next = s->list_next;

		if (!all && now - s->listed_at < OLD_DOUBT_US)
			break;
		if (!s->absent)
			put_slot(p, slot, SS_LIST_URGENT, now);
		slot = next;
	}
}

/* Lets the transactions pass the fence whose copies have all been deleted. */
void
ss_worklist_pass_fence(SsProto *p)
{
	const SsList *urgent = &p->lists[SS_LIST_URGENT];

	/* what is in doubt is not known */
	if (!p->attached)
		return;
	/* unlisted transactions wait for a flush, and it is not known which tickets are theirs */
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

/* Reports what has been synced, and starts to count for the next calls of session_cache_sync. */
static void
update_sync(SsProto *p)
{
	/* while Redis is away, its contents are not known */
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
 * Reads what changed in the ledger, if we are attached.  With may_open, opens a round if one
 * is due.  The time until which its lease would run is published before the ledger is read
 * (R4): a transaction that we do not see here has seen that time.
 */
void
ss_worklist_update(SsProto *p, SsMonotonic now, bool may_open)
{
	bool open = may_open && p->attached && !p->round_open && now >= p->renew_at;
	SsMonotonic until = now + p->lease_us + p->lease_us / 100 + 10000;
	int32_t changed[64];
	int partition = 0;
	int n;

	if (open && SS_RULE(4))
		ss_worklist_publish_lease(p, until);
	p->ticket = __atomic_load_n(&p->control->tickets, __ATOMIC_SEQ_CST);
	if (SS_RULE(11))
	{
		/* read `ended` first: what has ended had begun before */
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
		p->round_lease_us = p->lease_us;
		p->round_left = p->lists[SS_LIST_URGENT].count + p->lists[SS_LIST_PRESENT].count;
		if (!SS_RULE(4))
			ss_worklist_publish_lease(p, until);
	}
	ss_worklist_pass_fence(p);
	update_sync(p);
}

/* Takes a key off its list in its present state: later changes are left to another batch. */
static void
mark_taken(SsProto *p, int32_t slot, SsLedgerView *view)
{
	SsLedgerSlot *s = slot_of(p, slot);

	unlink_slot(p, slot);
	ss_ledger_read(p->ledger, slot, view);
	s->taken = view->generation;
	s->taken_ended = view->ended;
}

/* Makes a key the next operation of p->ops. */
static void
take_key(SsProto *p, int32_t slot)
{
	SsLedgerSlot *s = slot_of(p, slot);
	SsOp *op = &p->ops[p->nops++];
	SsLedgerView view;

	mark_taken(p, slot, &view);
	memset(op, 0, sizeof(*op));
	op->slot = slot;
	op->document = view.document || s->refill || s->absent;
}

/* Fills p->ops with keys whose copies are to be deleted, and returns their number. */
int
ss_worklist_take_deletes(SsProto *p, bool dirty_too)
{
	p->nops = 0;
	for (int list = SS_LIST_URGENT; list <= (dirty_too ? SS_LIST_PRESENT : SS_LIST_URGENT); list++)
		while (p->lists[list].count > 0 && p->nops < p->batch_keys)
		{
			take_key(p, p->lists[list].first);
			p->ops[p->nops - 1].kind = SS_OP_DELETE;
		}
	return p->nops;
}

/* Fills p->ops with keys whose rows are to be read, and returns their number. */
int
ss_worklist_take_fills(SsProto *p, SsMonotonic now)
{
	p->nops = 0;
	for (int list = SS_LIST_PRESENT; list <= SS_LIST_WANTED; list++)
		while (p->lists[list].count > 0 && p->nops < p->batch_keys)
		{
			int32_t slot = p->lists[list].first;

			if (list == SS_LIST_WANTED && slot_of(p, slot)->since > now)
				break;
			take_key(p, slot);
		}
	return p->nops;
}

/* When the next key becomes wanted; SS_MONOTONIC_NEVER if there is none. */
SsMonotonic
ss_worklist_next_wanted(SsProto *p)
{
	int32_t slot = p->lists[SS_LIST_WANTED].first;

	return slot == SS_NO_SLOT ? SS_MONOTONIC_NEVER : slot_of(p, slot)->since;
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

/*
 * Operations from `from` on were not carried out, or it is unknown whether they were: puts
 * their keys back on the lists.
 */
void
ss_worklist_restore(SsProto *p, int from, SsMonotonic now)
{
	for (int i = p->nops - 1; i >= from; i--)
	{
		int32_t slot = p->ops[i].slot;
		SsLedgerSlot *s = slot_of(p, slot);
		SsLedgerView view;

		ss_ledger_read(p->ledger, slot, &view);
		if (view.doubt > 0 && s->order != 0)
			/* to the front, because its order is lower than that of the keys behind it */
			link_slot(p, slot, SS_LIST_URGENT, true);
		else if (view.doubt > 0)
			put_slot(p, slot, SS_LIST_URGENT, now);
		else if (view.dirty)
		{
			link_slot(p, slot, s->absent ? SS_LIST_ABSENT : SS_LIST_PRESENT, true);
			assign_round(p, slot, s->list); /* it may have been only WANTED when it was taken */
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

/* The copy of a key was deleted.  The key stays, to be filled when that is allowed. */
void
ss_worklist_key_deleted(SsProto *p, int32_t slot, SsMonotonic now)
{
	SsLedgerSlot *s = slot_of(p, slot);

	s->absent = true;
	s->order = 0;
	fulfil_round(p, s);
	classify(p, slot, now);
}

/* A key was written, or was deleted because its row says so. */
void
ss_worklist_key_written(SsProto *p, const SsOp *op, SsMonotonic now)
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

/* If the operations at hand are carried out, would a lease leave no old copy behind? */
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

/* Ends the round, with or without a lease. */
void
ss_worklist_close_round(SsProto *p)
{
	p->round_open = false;
	p->round_left = 0;
}

/* A flush has removed all our copies from Redis. */
void
ss_worklist_flushed(SsProto *p, SsMonotonic now)
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
 * After a flush, in a ledger that fills up: drops the keys that have no copy in Redis.  While
 * unlisted transactions follow each other nothing is filled, so these keys would stay.
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
 * From now on keys stay in the ledger until Redis has them.  Those that are in doubt at this
 * moment are read first; anything resolved earlier may be wrong in Redis, so it is flushed
 * (R13).
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
 * Removes all keys from the ledger that are not in doubt (R13): we may not write to Redis, or
 * it has been away for too long.  No operation may be at hand.  Transactions at the fence wait
 * for the end of the lease.
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
