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
 * for a touch of session_touch also a slot in shared memory is reserved.  Without either, the
 * caller writes the row instead.  A read that finds no slot at commit is not recorded.
 */
#include "postgres.h"

#include "access/xact.h"

#include "counters.h"
#include "databases.h"
#include "rows/touch_xact.h"

#define MAX_PENDING 64

typedef struct Pending
{
	SubTransactionId subxact; /* in which it was made, or an ancestor once that has committed */
	SsKey key;
	int64 base;
	int64 ttl;
	int64 expires;
	bool rebase;     /* a rebase from base to expires; otherwise a touch */
	int reservation; /* of a slot, or SS_NO_RESERVATION */
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
			ss_touch_rebase(&p->key, p->base, p->expires, p->ttl);
			continue;
		}
		if (p->reservation != SS_NO_RESERVATION)
			result = ss_touch_record_reserved(&p->key, p->base, p->ttl, p->expires, p->reservation);
		else
			result = ss_touch_record(&p->key, p->base, p->ttl, p->expires, true);
		if (result == SS_TOUCH_FULL)
			ss_touch_dropped();
		else
			ss_counter_add(SS_TOUCHES_NOTED, 1);
		wake = wake || result == SS_TOUCH_URGENT;
	}
	if (wake)
		ss_database_wake_keeper();
}

/* Release the reservation of an entry that was rolled back. */
static void
release_entry(const Pending *p)
{
	if (p->reservation != SS_NO_RESERVATION)
		ss_touch_unreserve(&p->key, p->reservation);
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
add_entry(const SsKey *key, int64 base, int64 ttl, int64 expires, bool rebase)
{
	Pending *p;

	if (npending == MAX_PENDING)
		return false;
	p = &pending[npending++];
	p->subxact = GetCurrentSubTransactionId();
	ss_key_copy(&p->key, key);
	p->base = base;
	p->ttl = ttl;
	p->expires = expires;
	p->rebase = rebase;
	p->reservation = SS_NO_RESERVATION;
	return true;
}

/*
 * Add a touch: at commit the row version that ends at `base` shall end at `expires`.  Returns its
 * entry, NULL if the list is full.
 */
static Pending *
add_touch(const SsKey *key, int64 base, int64 ttl, int64 expires)
{
	/* a transaction that reads its own row in a loop needs one entry only */
	for (int i = 0; i < npending; i++)
		if (!pending[i].rebase && pending[i].base == base &&
			pending[i].subxact == GetCurrentSubTransactionId() &&
			ss_key_equal(&pending[i].key, key))
		{
			pending[i].expires = Max(pending[i].expires, expires);
			return &pending[i];
		}
	return add_entry(key, base, ttl, expires, false) ? &pending[npending - 1] : NULL;
}

/* Add a read; false if the list is full. */
bool
ss_touch_xact_read(const SsKey *key, int64 base, int64 ttl, int64 expires)
{
	return add_touch(key, base, ttl, expires) != NULL;
}

/*
 * Add a session_touch; false if recording it is not certain, so that the caller must write the
 * row.
 */
bool
ss_touch_xact_touch(const SsKey *key, int64 base, int64 ttl, int64 expires)
{
	int reservation = ss_touch_reserve(key);
	Pending *p;

	if (reservation == SS_NO_RESERVATION)
		return false;
	p = add_touch(key, base, ttl, expires);
	if (p == NULL || p->reservation != SS_NO_RESERVATION)
		ss_touch_unreserve(key, reservation);
	else
		p->reservation = reservation;
	return p != NULL;
}

/*
 * Add a rebase: the row version that ended at `base` was replaced by one that ends at `expires`.
 */
void
ss_touch_xact_rebase(const SsKey *key, int64 base, int64 ttl, int64 expires)
{
	if (ss_touch_usable())
		(void) add_entry(key, base, ttl, expires, true);
}

/*
 * For ss_touch_effective: the later of `expires` and the touches that this transaction has added
 * to the version ending at `base`.
 */
int64
ss_touch_xact_effective(const SsKey *key, int64 base, int64 expires)
{
	for (int i = 0; i < npending; i++)
		if (!pending[i].rebase && pending[i].base == base && ss_key_equal(&pending[i].key, key))
			expires = Max(expires, pending[i].expires);
	return expires;
}
