/*
 * xact_keys.c
 *		Keys changed by the current transaction, from its triggers to the end of its COMMIT.
 *
 * Triggers (cache_trigger.c) add the key of each row that changes to a list in the memory of the
 * backend, with flags that say what was done and whether the transaction would have to wait at the
 * fence for it.  Whether it really has to is decided at PRE_COMMIT: until then a cache may be
 * configured, the policy of a namespace changed, and a copy made of what is about to end.
 *
 * At PRE_COMMIT, where an error still aborts the transaction, the keys enter the ledger as in doubt
 * (R7), and a fenced transaction waits (fence.c, R1).  At COMMIT and ABORT they are resolved, which
 * only writes to memory under a lock, because an error at that point would be a PANIC.  A key that
 * is added after PRE_COMMIT (by a callback of another extension) enters the ledger immediately.
 *
 *					trigger		PRE_COMMIT				COMMIT / ABORT
 *		keys		added		entered					resolved, then forgotten
 *		too many	overflow	unlisted_begin			unlisted_end
 *
 * A savepoint that is rolled back takes back the keys that it added (xact_key_marks.c), so that
 * they do not count as changes.  Flags that it added to an earlier key stay, which is harmless.
 *
 * If a backend crashes, the postmaster reinitializes shared memory, and so the ledger.
 */
#include "postgres.h"

#include "access/xact.h"

#include "base/clock.h"
#include "keys/fence.h"
#include "keys/xact_key_list.h"
#include "keys/xact_key_marks.h"
#include "keys/xact_keys.h"
#include "keys/xact_policies.h"
#include "protocol/rules.h"
#include "settings.h"
#include "shared/counters.h"
#include "shared/databases.h"
#include "shared/ledger_shmem.h"
#include "table/namespaces.h"

/* Up to this number keys enter the ledger without a check of how many may. */
#define ALWAYS_ENTERED 16

/* The state of the present transaction; all zero outside of one, but for memory that is kept. */
static struct
{
	SsXactKeyList list;
	bool overflow; /* every key counts as changed */

	/* The fence flags of all keys in cacheable namespaces, and in others. */
	int fence_cacheable;
	int fence_others;

	/*
	 * Generation of the policies when the first key in another namespace was added, and whether it
	 * has changed since; the latter is known from PRE_COMMIT on.
	 */
	uint64 others_generation;
	bool policies_changed;

	bool unlisted; /* ss_control_unlisted_begin was called */
	bool entering; /* PRE_COMMIT has begun: keys enter the ledger as they are added */

	/* Histories whose tail was added, with its fence flags. */
	struct
	{
		pg_uuid_t id;
		int fence;
	} histories[4];
	int nhistories;
} xact;

/* The entry of our database, once ss_xact_keys_attach has found it. */
static SsDb *db = NULL;

/* The transaction is over: forgets everything, and frees memory beyond the usual. */
static void
reset_state(void)
{
	ss_xact_key_list_clear(&xact.list);
	xact.nhistories = 0;
	xact.fence_cacheable = xact.fence_others = 0;
	xact.overflow = xact.unlisted = xact.entering = xact.policies_changed = false;
	ss_xact_marks_reset();
	ss_xact_policies_reset();
}

/*
 * Remembers the present state before something is added, in case this is the first addition of
 * a subtransaction.
 */
static void
mark_subxact(void)
{
	SsXactKeyMark now = {xact.list.n, xact.overflow, xact.fence_cacheable, xact.fence_others};

	ss_xact_marks_add(&now);
}

/* Adds the fence flags of a key to those of the transaction. */
static void
add_fence(int what)
{
	int fence = what & (SS_CHANGED_FENCED | SS_KEY_FENCED_IF_ALL);

	if (what & SS_KEY_CACHEABLE)
		xact.fence_cacheable |= fence;
	else if (fence != 0)
	{
		if (xact.fence_others == 0)
			xact.others_generation = ss_ns_generation(false);
		xact.fence_others |= fence;
	}
}

/*
 * Do these fence flags require a wait?  The policies of namespaces without copies may have
 * changed since they were read, and then copies may exist by now.
 */
static bool
has_to_wait(int fence, bool cacheable)
{
	if (!cacheable && !xact.policies_changed)
		return false;
	return (fence & SS_CHANGED_FENCED) ||
		   ((fence & SS_KEY_FENCED_IF_ALL) && ss_fence == SS_FENCE_ALL);
}

/* The flags that the ledger gets for a key. */
static uint8
ledger_flags_of(int what)
{
	bool fenced = has_to_wait(what, (what & SS_KEY_CACHEABLE) != 0);

	return (what & (SS_CHANGED_EXPIRY | SS_CHANGED_DOCUMENT)) | (fenced ? SS_CHANGED_FENCED : 0);
}

/* Enters one key.  If there is no room the transaction has to become unlisted (R11). */
static void
enter_key(SsXactKey *xact_key)
{
	xact_key->ledger_flags = ledger_flags_of(xact_key->what);
	xact_key->entered = ss_ledger_enter(ss_ledger, &db->cache.control, &xact_key->key,
										xact_key->hash, xact_key->ledger_flags, ss_monotonic());
	if (!xact_key->entered)
	{
		xact.overflow = true;
		if (!xact.unlisted)
			ss_counter_add(SS_UNLISTED_NO_ROOM, 1);
		db->cache.no_room_at = ss_monotonic();
	}
}

/* Makes the transaction unlisted, once. */
static void
begin_unlisted(void)
{
	if (xact.unlisted)
		return;
	ss_control_unlisted_begin(&db->cache.control);
	xact.unlisted = true;
}

/* The same, and counts it. */
static void
become_unlisted(void)
{
	if (xact.unlisted || !SS_RULE(11))
		return;
	begin_unlisted();
	ss_counter_add(SS_UNLISTED, 1);
}

/*
 * Every key may have changed: TRUNCATE, or more keys than the ledger can take.  `fence` is 0
 * or fence flags as for a key.  The database must be attached.
 */
void
ss_xact_keys_add_all(int fence)
{
	Assert(db != NULL);
	mark_subxact();
	xact.overflow = true;
	add_fence(fence);
	if (xact.entering)
		become_unlisted();
}

/*
 * The transaction changes what a key stands for.  `what` are flags SS_CHANGED_ and SS_KEY_.
 * The database must be attached (ss_xact_keys_attach).  May raise an error, for lack of
 * memory.
 */
void
ss_xact_key_add(const SsKey *key, int what)
{
	uint32 hash = ss_key_hash(key);
	SsXactKey *n;

	Assert(db != NULL);
	mark_subxact();
	add_fence(what);
	if (xact.overflow)
		return;
	n = ss_xact_key_list_find(&xact.list, key, hash);
	if (n == NULL)
	{
		/* how many the ledger allows is checked at PRE_COMMIT; this bounds our memory */
		if (xact.list.n >= ss_ledger_room(ss_ledger) / 4)
		{
			ss_xact_keys_add_all(0);
			return;
		}
		n = ss_xact_key_list_append(&xact.list, key, hash);
		if (xact.entering)
		{
			n->what = what;
			enter_key(n);
		}
	}
	else if (xact.entering &&
			 (n->ledger_flags | ledger_flags_of(n->what | what)) != n->ledger_flags)
		ss_xact_keys_add_all(0); /* the ledger has fewer flags than the key needs */
	n->what |= what;
}

/*
 * Was the tail of this history added, with at least these fence flags?  A history has many
 * messages, and each would have to look up its session; the last few histories are remembered.
 * Flags matter: after an append, a DELETE by hand still has to wait.
 */
bool
ss_xact_keys_have_history(const pg_uuid_t *history, int fence)
{
	for (int i = 0; i < Min(xact.nhistories, (int) lengthof(xact.histories)); i++)
		if (memcmp(&xact.histories[i].id, history, sizeof(*history)) == 0)
			return (fence & ~xact.histories[i].fence) == 0;
	return false;
}

/* Remembers that the tail of this history was added with these fence flags. */
void
ss_xact_keys_add_history(const pg_uuid_t *history, int fence)
{
	int at = 0;

	while (at < Min(xact.nhistories, (int) lengthof(xact.histories)) &&
		   memcmp(&xact.histories[at].id, history, sizeof(*history)) != 0)
		at++;
	if (at < Min(xact.nhistories, (int) lengthof(xact.histories)))
	{
		xact.histories[at].fence |= fence;
		return;
	}
	at = xact.nhistories++ % lengthof(xact.histories);
	xact.histories[at].id = *history;
	xact.histories[at].fence = fence;
}

/* Do all keys count as changed already? */
bool
ss_xact_keys_overflowed(void)
{
	return xact.overflow;
}

/*
 * Looks up the shared entry of this database for the other functions.  False without shared
 * memory or without an entry; then changes are not recorded.
 */
bool
ss_xact_keys_attach(void)
{
	db = ss_database_mine();
	return db != NULL;
}

/*
 * The transaction changes the policy of a namespace so that sessions or copies end earlier.  With
 * `fenced`, COMMIT waits until none of its copies is visible.
 */
void
ss_xact_keys_add_policy(const char *ns, bool fenced)
{
	if (ss_xact_keys_attach() && !ss_xact_policies_add(ns, fenced))
		ss_xact_keys_add_all(fenced ? SS_CHANGED_FENCED | SS_KEY_CACHEABLE : 0);
}

/* Does the transaction have to wait, given that some Redis may be trusted? */
static bool
is_fenced(void)
{
	return (has_to_wait(xact.fence_cacheable, true) || has_to_wait(xact.fence_others, false)) &&
		   ss_fence_may_be_trusted(db);
}

/*
 * For PREPARE, which is refused with a cache: an earlier lease may still be alive, and its
 * readers will not be told of this change.
 */
static void
wait_for_old_leases(void)
{
	SsFenceWait fence = {0};

	ss_fence_take_ticket(db, &fence);
	fence.keys = is_fenced();
	ss_fence_wait(db, &fence);
}

/*
 * Does the transaction have more keys than a quarter of what this database may have in the
 * ledger?  A few keys are always allowed.
 */
static bool
too_many(void)
{
	return xact.list.n > ALWAYS_ENTERED &&
		   xact.list.n > ss_ledger_allowed(ss_ledger, db->cache.control.member) / 4;
}

/* Records for health when that happened, and the namespace of the last key. */
static void
report_too_large(void)
{
	const SsKey *last = &xact.list.keys[xact.list.n - 1].key;

	ss_databases_lock(true);
	db->cache.too_large_at = ss_monotonic();
	memcpy(db->cache.too_large_ns, last->bytes, last->nslen);
	db->cache.too_large_ns[last->nslen] = '\0';
	ss_databases_unlock();
}

/* PRE_COMMIT. */
static void
enter_all(void)
{
	SsFenceWait fence = {0};

	if (!SS_RULE(7))
		return;
	ss_fence_apply_promotion(db);
	if (ss_xact_policies_any() && ss_fence_may_be_trusted(db))
		ss_xact_policies_throttle(db);
	xact.policies_changed = xact.fence_others != 0 &&
							ss_ns_generation(true) != xact.others_generation;
	xact.entering = true;
	/* also without a cache, because one may be configured meanwhile */
	if (!ss_xact_policies_enter(db))
		ss_xact_keys_add_all(SS_CHANGED_FENCED | SS_KEY_CACHEABLE);
	if (too_many())
	{
		xact.overflow = true;
		report_too_large();
	}
	if (xact.overflow)
		become_unlisted();
	for (int i = 0; i < xact.list.n && !xact.unlisted; i++)
	{
		enter_key(&xact.list.keys[i]);
		if (xact.overflow)
			become_unlisted();
	}
	/* policies read from here on are read with the keys entered; earlier ones may not be */
	if (xact.fence_others != 0 && !xact.policies_changed &&
		ss_ns_generation(true) != xact.others_generation)
	{
		xact.policies_changed = true;
		become_unlisted();
	}
	ss_fence_take_ticket(db, &fence);
	/* only now: a cache that is configured after the keys were entered finds them in doubt */
	fence.keys = is_fenced();
	fence.policies = ss_xact_policies_fenced() && ss_fence_may_be_trusted(db);
	ss_fence_wait(db, &fence);
}

/* End of the transaction.  Nothing here may fail. */
static void
resolve_all(void)
{
	SsControl *control = &db->cache.control;

	if (!SS_RULE(7))
		for (int i = 0; i < xact.list.n; i++)
			enter_key(&xact.list.keys[i]);
	for (int i = 0; i < xact.list.n; i++)
		if (xact.list.keys[i].entered)
			ss_ledger_resolve(ss_ledger, control, &xact.list.keys[i].key, xact.list.keys[i].hash);
	if (xact.unlisted)
		ss_control_unlisted_end(control);
	if (xact.entering || xact.unlisted)
		ss_database_wake_pusher(db, false);
}

/* With a cache, two-phase commit is refused: COMMIT PREPARED calls no callback of ours. */
static void
refuse_with_cache(void)
{
	if (ss_fence_is_configured(db))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot prepare a transaction that has changed sessions or policies"),
				 errdetail("COMMIT PREPARED would not be reported to the cache in Redis."),
				 errhint("Use COMMIT instead of PREPARE TRANSACTION, or set "
						 "session_store.redis_url to an empty string.")));
}

/*
 * PRE_PREPARE.  A pusher may start at any time during this, also during the wait.  Until the
 * transaction is prepared it is unlisted, so that such a pusher fills nothing; and before it
 * fills anything it checks for prepared transactions again (ss_pusher_read_rows).
 */
static void
prepare(void)
{
	/* first, because a refusal must not cause a flush */
	refuse_with_cache();
	ss_fence_apply_promotion(db);
	begin_unlisted();
	if (ss_xact_policies_any())
		xact.fence_cacheable |= SS_CHANGED_FENCED;
	wait_for_old_leases();
	refuse_with_cache();
}

/* Has the transaction changed nothing that a copy depends on? */
static bool
is_empty(void)
{
	return xact.list.n == 0 && !xact.overflow && !ss_xact_policies_any();
}

/* At PRE_COMMIT (xact.c): enters the keys and waits at the fence.  An error aborts. */
void
ss_xact_keys_at_pre_commit(void)
{
	if (!is_empty())
		enter_all();
}

/* At PRE_PREPARE (xact.c): refused with a cache, else waits for earlier leases.  An error aborts. */
void
ss_xact_keys_at_pre_prepare(void)
{
	if (!is_empty())
		prepare();
}

/* At the end of the transaction (xact.c): resolves the keys and forgets them.  Cannot fail. */
void
ss_xact_keys_at_end(void)
{
	if (!is_empty())
		resolve_all();
	/* in any case, because keys that were rolled back may have taken much memory */
	reset_state();
}

/* When a subtransaction commits (xact.c): its keys become its parent's.  Cannot fail. */
void
ss_xact_keys_at_subxact_commit(SubTransactionId mine, SubTransactionId parent)
{
	ss_xact_marks_commit(mine, parent);
	ss_xact_policies_subxact_commit(mine, parent);
}

/*
 * When a subtransaction is rolled back (xact.c): removes its keys, whose row locks are released.
 * After PRE_COMMIT they stay, because what has entered the ledger must be resolved.  Cannot fail.
 */
void
ss_xact_keys_at_subxact_abort(SubTransactionId mine)
{
	SsXactKeyMark back;

	xact.nhistories = 0;
	ss_xact_policies_subxact_abort(mine);
	if (!ss_xact_marks_abort(mine, &back) || xact.entering || xact.unlisted)
		return;
	ss_xact_key_list_truncate(&xact.list, back.keys);
	xact.overflow = back.overflow;
	xact.fence_cacheable = back.fence_cacheable;
	xact.fence_others = back.fence_others;
}
