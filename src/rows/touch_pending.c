/*
 * touch_pending.c
 *		What the present transaction has to say to the notes when it commits.
 *
 * Two things.  A use of a row version that nobody else can see yet, or that a rollback
 * must undo: a read of what this transaction wrote itself, and session_touch, which
 * is a change and not a read.  And a rebase: this transaction gave a session a new
 * expiry, and what others noted on the old version meanwhile goes over to the new one.
 *
 * At commit nothing may fail: the list has its memory from the start, and what does not
 * fit is left out.  A touch has a slot reserved in the shared table as well; without both, the caller
 * writes the row instead.  A read may find no slot at commit, and then is not noted.
 */
#include "postgres.h"

#include "access/xact.h"

#include "rows/touch_pending.h"
#include "shared.h"

#define MAX_PENDING 64

typedef struct Pending
{
	SubTransactionId subxact; /* where it was made, or what that became part of */
	SsKey key;
	int64 base;
	int64 ttl;
	int64 expires;
	bool rebase;     /* from base to expires, else a use */
	int reservation; /* of a slot, for a touch; or SS_NO_RESERVATION */
} Pending;

static Pending pending[MAX_PENDING];
static int npending = 0;

static void
tell_all(void)
{
	bool wake = false;

	for (int i = 0; i < npending; i++)
	{
		Pending *p = &pending[i];
		SsNoted noted;

		if (p->rebase)
		{
			ss_touch_rebase(&p->key, p->base, p->expires, p->ttl);
			continue;
		}
		if (p->reservation != SS_NO_RESERVATION)
			noted = ss_touch_note_reserved(&p->key, p->base, p->ttl, p->expires, p->reservation);
		else
			noted = ss_touch_note(&p->key, p->base, p->ttl, p->expires, true);
		if (noted == SS_KEY_FULL)
			ss_touch_dropped();
		else
			ss_counter_add(SS_TOUCHES_NOTED, 1);
		wake = wake || noted == SS_NOTED_URGENT;
	}
	npending = 0;
	if (wake)
		ss_wake_keeper();
}

/* The entry is not going to be told: it was rolled back. */
static void
discard(const Pending *p)
{
	if (p->reservation != SS_NO_RESERVATION)
		ss_touch_unreserve(&p->key, p->reservation);
}

static void
xact_callback(XactEvent event, void *arg)
{
	if (npending == 0)
		return;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			tell_all();
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE: /* COMMIT PREPARED may come much later */
			for (int i = 0; i < npending; i++)
				discard(&pending[i]);
			npending = 0;
			break;
		default:
			break;
	}
}

static void
subxact_callback(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	int kept = 0;

	if (npending == 0 || (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB))
		return;
	for (int i = 0; i < npending; i++)
	{
		if (pending[i].subxact == mine)
		{
			if (event == SUBXACT_EVENT_ABORT_SUB)
			{
				discard(&pending[i]);
				continue;
			}
			pending[i].subxact = parent;
		}
		pending[kept++] = pending[i];
	}
	npending = kept;
}

/* Once, from _PG_init. */
void
ss_pending_init_backend(void)
{
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
}

static bool
add(const SsKey *key, int64 base, int64 ttl, int64 expires, bool rebase)
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

/* Used: at commit the row version that ends at `base` shall end at `expires`.  Returns the entry, or NULL. */
static Pending *
add_use(const SsKey *key, int64 base, int64 ttl, int64 expires)
{
	/* a transaction that reads its own row in a loop has one use of it */
	for (int i = 0; i < npending; i++)
		if (!pending[i].rebase && pending[i].base == base &&
			pending[i].subxact == GetCurrentSubTransactionId() &&
			ss_key_equal(&pending[i].key, key))
		{
			pending[i].expires = Max(pending[i].expires, expires);
			return &pending[i];
		}
	return add(key, base, ttl, expires, false) ? &pending[npending - 1] : NULL;
}

/* A read.  False if it cannot be noted. */
bool
ss_pending_use(const SsKey *key, int64 base, int64 ttl, int64 expires)
{
	return add_use(key, base, ttl, expires) != NULL;
}

/* A touch.  False if it cannot be noted for sure: the caller must write the row. */
bool
ss_pending_touch(const SsKey *key, int64 base, int64 ttl, int64 expires)
{
	int reservation = ss_touch_reserve(key);
	Pending *p;

	if (reservation == SS_NO_RESERVATION)
		return false;
	p = add_use(key, base, ttl, expires);
	if (p == NULL || p->reservation != SS_NO_RESERVATION)
		ss_touch_unreserve(key, reservation);
	else
		p->reservation = reservation;
	return p != NULL;
}

/* Prolonged: the row version that ended at `base` was replaced by one that ends at `expires`. */
void
ss_pending_rebase(const SsKey *key, int64 base, int64 ttl, int64 expires)
{
	if (ss_touch_usable())
		(void) add(key, base, ttl, expires, true);
}

/* As ss_touch_effective, for what this transaction has used itself. */
int64
ss_pending_effective(const SsKey *key, int64 base, int64 expires)
{
	for (int i = 0; i < npending; i++)
		if (!pending[i].rebase && pending[i].base == base && ss_key_equal(&pending[i].key, key))
			expires = Max(expires, pending[i].expires);
	return expires;
}
