/*
 * touch_xact.c
 *		Touches of the current transaction, recorded in shared memory when it commits.
 *
 * Some touches must wait for the commit, because they are of a row version that others cannot see
 * yet (a read of what this transaction wrote) or must be undone by a rollback (session_touch,
 * which is a change and not a read).  A rebase must wait as well: if this transaction gave a
 * session a new expiry, touches that others recorded on the old version meanwhile move to the new
 * one.
 *
 * The commit callback must not fail.  So the list is static, and what does not fit is left out;
 * for a touch of session_touch also its slot in shared memory is pinned.  Without either, the
 * caller writes the row instead.  A read that finds no slot at commit is not recorded.
 *
 * This file also says when a row version really ends (ss_touch_effective), because that takes both
 * kinds of touches.
 */
#include "postgres.h"

#include "access/xact.h"

#include "shared/counters.h"
#include "shared/databases.h"
#include "touch/touch_slots.h"
#include "touch/touch_xact.h"

#define MAX_PENDING 64

typedef struct Pending
{
	SubTransactionId subxact; /* in which it was made, or an ancestor once that has committed */
	SsKey key;
	SsTouch touch;
	bool rebase; /* the row version was replaced (ss_touch_rebase); otherwise a touch of it */
	bool pinned; /* its slot is (ss_touch_pin) */
} Pending;

static Pending pending[MAX_PENDING];
static int npending = 0;

/* At commit: record all touches and do all rebases.  Memory writes only. */
static void
publish_all(void)
{
	bool wake = false;

	for (int i = 0; i < npending; i++)
	{
		Pending *p = &pending[i];
		SsTouchResult result;

		if (p->rebase)
		{
			ss_touch_rebase(&p->key, &p->touch);
			continue;
		}
		if (p->pinned)
			result = ss_touch_unpin(&p->key, &p->touch);
		else
			result = ss_touch_record(&p->key, &p->touch, NULL);
		if (result == SS_TOUCH_FULL)
			ss_touch_dropped();
		else
			ss_counter_add(SS_TOUCHES_NOTED, 1);
		wake = wake || result == SS_TOUCH_URGENT;
	}
	if (wake)
		ss_database_wake_keeper();
}

/* Unpin the slot of an entry that was rolled back. */
static void
release_entry(const Pending *p)
{
	if (p->pinned)
		(void) ss_touch_unpin(&p->key, NULL);
}

/*
 * At the end of the transaction (xact.c): records its touches if it has committed.  A prepared one
 * has not: COMMIT PREPARED runs no callback, and may come much later.  Cannot fail.
 */
void
ss_touch_xact_at_end(bool committed)
{
	if (npending == 0)
		return;
	if (committed)
		publish_all();
	else
		for (int i = 0; i < npending; i++)
			release_entry(&pending[i]);
	npending = 0;
}

/* When a subtransaction commits (xact.c): its touches become its parent's.  Cannot fail. */
void
ss_touch_xact_at_subxact_commit(SubTransactionId mine, SubTransactionId parent)
{
	for (int i = 0; i < npending; i++)
		if (pending[i].subxact == mine)
			pending[i].subxact = parent;
}

/* When a subtransaction is rolled back (xact.c): removes its touches.  Cannot fail. */
void
ss_touch_xact_at_subxact_abort(SubTransactionId mine)
{
	int kept = 0;

	for (int i = 0; i < npending; i++)
	{
		if (pending[i].subxact == mine)
			release_entry(&pending[i]);
		else
			pending[kept++] = pending[i];
	}
	npending = kept;
}

/* Append an entry; false if the list is full. */
static bool
add_entry(const SsKey *key, const SsTouch *touch, bool rebase)
{
	Pending *p;

	if (npending == MAX_PENDING)
		return false;
	p = &pending[npending++];
	p->subxact = GetCurrentSubTransactionId();
	ss_key_copy(&p->key, key);
	p->touch = *touch;
	p->rebase = rebase;
	p->pinned = false;
	return true;
}

/* Add a touch, to be recorded at commit.  Returns its entry, NULL if the list is full. */
static Pending *
add_touch(const SsKey *key, const SsTouch *touch)
{
	/* a transaction that reads its own row in a loop needs one entry only */
	for (int i = 0; i < npending; i++)
		if (!pending[i].rebase && pending[i].touch.base == touch->base &&
			pending[i].subxact == GetCurrentSubTransactionId() &&
			ss_key_equal(&pending[i].key, key))
		{
			pending[i].touch.expires_at = Max(pending[i].touch.expires_at, touch->expires_at);
			return &pending[i];
		}
	return add_entry(key, touch, false) ? &pending[npending - 1] : NULL;
}

/* Add a read; false if the list is full. */
bool
ss_touch_xact_read(const SsKey *key, const SsTouch *touch)
{
	return add_touch(key, touch) != NULL;
}

/*
 * Add a session_touch of a row version seen in a snapshot that was taken at read_at or later; false if
 * recording it is not certain, so that the caller must write the row.
 */
bool
ss_touch_xact_touch(const SsKey *key, const SsTouch *touch, TimestampTz read_at)
{
	Pending *p;

	if (!ss_touch_pin(key, touch, read_at))
		return false;
	p = add_touch(key, touch);
	if (p == NULL || p->pinned)
		(void) ss_touch_unpin(key, NULL);
	else
		p->pinned = true;
	return p != NULL;
}

/*
 * Add a rebase: this transaction replaced the row version that ended at touch->base by one that
 * ends at touch->expires_at and has touch->ttl_us.
 */
void
ss_touch_xact_rebase(const SsKey *key, const SsTouch *touch)
{
	if (ss_touch_usable())
		(void) add_entry(key, touch, true);
}

/*
 * When the row version with this expires_at really ends: pending touches are taken into account,
 * those of the current transaction that others do not see yet included.
 */
TimestampTz
ss_touch_effective(const SsKey *key, TimestampTz expires_at)
{
	SsSlotRef ref;
	TimestampTz end = expires_at;

	if (ss_slot_find(&ref, key, expires_at, LW_SHARED))
	{
		end = Max(end, (TimestampTz) pg_atomic_read_u64(&ref.slot->expires));
		ss_slot_close(&ref);
	}
	for (int i = 0; i < npending; i++)
		if (!pending[i].rebase && pending[i].touch.base == expires_at &&
			ss_key_equal(&pending[i].key, key))
			end = Max(end, pending[i].touch.expires_at);
	return end;
}
