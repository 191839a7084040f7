/*
 * xact_keys.c
 *		Keys changed by the current transaction, and the fence in its COMMIT.
 *
 * Triggers (cache_trigger.c) add the key of each row that changes to an array in the memory of
 * the backend, with flags that say what was done and whether the transaction would have to wait
 * at the fence for it.  Whether it really has to is decided at PRE_COMMIT: until then a cache may
 * be configured, the policy of a namespace changed, and a copy made of what is about to end.
 *
 * At PRE_COMMIT, where an error still aborts the transaction, the keys enter the ledger as in
 * doubt (R7), and a fenced transaction waits (R1).  At COMMIT and ABORT they are resolved, which
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
#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "cache/ledger.h"
#include "cache/ledger_shmem.h"
#include "cache/rules.h"
#include "cache/xact_key_marks.h"
#include "cache/xact_keys.h"
#include "cache/xact_policies.h"
#include "clock.h"
#include "counters.h"
#include "databases.h"
#include "rows/namespaces.h"
#include "rows/sql.h"
#include "settings.h"

/* Up to this number keys are searched linearly. */
#define SCAN_MOST 8
#define CAPACITY_FIRST 16
#define CAPACITY_KEPT 1024

/* Up to this number keys enter the ledger without a check of how many may. */
#define ALWAYS_ENTERED 16

typedef struct XactKey
{
	uint32 hash;
	uint8 what;         /* flags SS_CHANGED_ and SS_KEY_ */
	uint8 ledger_flags; /* flags SS_CHANGED_ that the ledger has */
	bool entered;       /* is in the ledger */
	SsKey key;
} XactKey;

static XactKey *keys = NULL;
static int nkeys = 0;
static int capacity = 0;
static int32 *buckets = NULL; /* indexes of keys by hash: open addressing, 2 * capacity */
static bool overflow = false;

/* The fence flags of all keys in cacheable namespaces, and in others. */
static int fence_cacheable = 0;
static int fence_others = 0;

/*
 * Generation of the policies when the first key in another namespace was added, and whether it
 * has changed since; the latter is known from PRE_COMMIT on.
 */
static uint64 others_generation = 0;
static bool policies_changed = false;

static bool unlisted = false; /* ss_ledger_unlisted_begin was called */
static bool entering = false; /* PRE_COMMIT has begun: keys enter the ledger as they are added */

/* Histories whose tail was added, with its fence flags. */
static struct
{
	pg_uuid_t id;
	int fence;
} histories[4];
static int nhistories = 0;
static SsDb *db = NULL;

/*
 * On a promoted standby the old primary's lease may be as recent as the promotion.  The time
 * of the promotion is not known here, so the first commit of a change, or the start of the
 * pusher or the keeper, stands for it.  Does nothing on a server that did not start in
 * recovery.
 */
void
ss_xact_keys_apply_promotion(SsDb *of)
{
	static bool applied = false;
	SsMonotonic none = 0;

	if (applied || !ss_databases->began_in_recovery)
		return;
	(void) __atomic_compare_exchange_n(&ss_databases->promoted, &none, ss_monotonic(), false,
									   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	ss_control_promoted(&of->cache.control, ss_databases->promoted);
	applied = true;
}

/* Does a pusher write to a Redis, or will one? */
static bool
is_configured(void)
{
	return ss_redis_url[0] != '\0' || db->cache.control.attached;
}

/*
 * May a strong reader trust some Redis?  Checked when the transaction ends, never when a row
 * changes, because it may become true in between.  It may also be true after a start without a
 * URL: before its restart this server may have left a lease, in this database's Redis or in an
 * earlier one.
 */
static bool
may_be_trusted(void)
{
	ss_xact_keys_apply_promotion(db);
	return is_configured() || ss_control_may_be_leased(&db->cache.control, ss_monotonic());
}

/* The transaction is over: forgets everything, and frees memory beyond the usual. */
static void
reset_state(void)
{
	nkeys = 0;
	nhistories = 0;
	fence_cacheable = fence_others = 0;
	overflow = unlisted = entering = policies_changed = false;
	ss_xact_marks_reset();
	ss_xact_policies_reset();
	if (capacity > CAPACITY_KEPT)
	{
		pfree(keys);
		pfree(buckets);
		keys = NULL;
		buckets = NULL;
		capacity = 0;
	}
}

/* Adds a key to the index, which has room for it. */
static void
index_key(int n)
{
	uint32 mask = capacity * 2 - 1;
	uint32 at = keys[n].hash & mask;

	while (buckets[at] >= 0)
		at = (at + 1) & mask;
	buckets[at] = n;
}

/* Doubles the capacity.  May fail for lack of memory, with the old contents intact. */
static void
grow(void)
{
	int more = capacity == 0 ? CAPACITY_FIRST : capacity * 2;
	int32 *more_buckets = MemoryContextAllocHuge(TopMemoryContext, sizeof(int32) * more * 2);

	/* the array and its index stay consistent if this runs out of memory */
	if (keys == NULL)
		keys = MemoryContextAlloc(TopMemoryContext, sizeof(XactKey) * more);
	else
		keys = repalloc_huge(keys, sizeof(XactKey) * more);
	if (buckets != NULL)
		pfree(buckets);
	buckets = more_buckets;
	capacity = more;
	memset(buckets, 0xff, sizeof(int32) * more * 2);
	for (int i = 0; i < nkeys; i++)
		index_key(i);
}

/* The entry of a key; NULL if there is none. */
static XactKey *
find_key(const SsKey *key, uint32 hash)
{
	if (nkeys <= SCAN_MOST)
	{
		for (int i = 0; i < nkeys; i++)
			if (keys[i].hash == hash && ss_key_equal(&keys[i].key, key))
				return &keys[i];
		return NULL;
	}
	for (uint32 at = hash & (capacity * 2 - 1); buckets[at] >= 0;
		 at = (at + 1) & (capacity * 2 - 1))
	{
		XactKey *xact_key = &keys[buckets[at]];

		if (xact_key->hash == hash && ss_key_equal(&xact_key->key, key))
			return xact_key;
	}
	return NULL;
}

/*
 * Remembers the present state before something is added, in case this is the first addition of
 * a subtransaction.
 */
static void
mark_subxact(void)
{
	SsXactKeyMark now = {nkeys, overflow, fence_cacheable, fence_others};

	ss_xact_marks_add(&now);
}

/* Adds the fence flags of a key to those of the transaction. */
static void
add_fence(int what)
{
	int fence = what & (SS_CHANGED_FENCED | SS_KEY_FENCED_IF_ALL);

	if (what & SS_KEY_CACHEABLE)
		fence_cacheable |= fence;
	else if (fence != 0)
	{
		if (fence_others == 0)
			others_generation = ss_ns_generation(false);
		fence_others |= fence;
	}
}

/*
 * Do these fence flags require a wait?  The policies of namespaces without copies may have
 * changed since they were read, and then copies may exist by now.
 */
static bool
has_to_wait(int fence, bool cacheable)
{
	if (!cacheable && !policies_changed)
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
enter_key(XactKey *xact_key)
{
	xact_key->ledger_flags = ledger_flags_of(xact_key->what);
	xact_key->entered = ss_ledger_enter(ss_ledger, &db->cache.control, &xact_key->key,
										xact_key->hash, xact_key->ledger_flags, ss_monotonic());
	if (!xact_key->entered)
	{
		overflow = true;
		if (!unlisted)
			ss_counter_add(SS_UNLISTED_NO_ROOM, 1);
		db->cache.no_room_at = ss_monotonic();
	}
}

/* Makes the transaction unlisted, once. */
static void
begin_unlisted(void)
{
	if (unlisted)
		return;
	ss_ledger_unlisted_begin(&db->cache.control);
	unlisted = true;
}

/* The same, and counts it. */
static void
become_unlisted(void)
{
	if (unlisted || !SS_RULE(11))
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
	overflow = true;
	add_fence(fence);
	if (entering)
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
	XactKey *n;

	Assert(db != NULL);
	mark_subxact();
	add_fence(what);
	if (overflow)
		return;
	n = find_key(key, hash);
	if (n == NULL)
	{
		/* how many the ledger allows is checked at PRE_COMMIT; this bounds our memory */
		if (nkeys >= ss_ledger_room(ss_ledger) / 4)
		{
			ss_xact_keys_add_all(0);
			return;
		}
		if (nkeys == capacity)
			grow();
		n = &keys[nkeys];
		n->hash = hash;
		n->what = n->ledger_flags = 0;
		n->entered = false;
		ss_key_copy(&n->key, key);
		index_key(nkeys++);
		if (entering)
		{
			n->what = what;
			enter_key(n);
		}
	}
	else if (entering && (n->ledger_flags | ledger_flags_of(n->what | what)) != n->ledger_flags)
		ss_xact_keys_add_all(0); /* the ledger has fewer flags than the key needs */
	n->what |= what;
}

/* Removes all keys but the first `kept` from the index, which outlives the keys. */
static void
unindex_keys(int kept)
{
	uint32 mask = capacity * 2 - 1;

	if (kept == 0 && nkeys > SCAN_MOST * 4)
	{
		memset(buckets, 0xff, sizeof(int32) * capacity * 2);
		return;
	}
	/* from the last to the first, so that entries displaced by others are removed before them */
	for (int i = nkeys - 1; i >= kept; i--)
	{
		uint32 at = keys[i].hash & mask;

		while (buckets[at] != i)
			at = (at + 1) & mask;
		buckets[at] = -1;
	}
}

/*
 * Was the tail of this history added, with at least these fence flags?  A history has many
 * messages, and each would have to look up its session; the last few histories are remembered.
 * Flags matter: after an append, a DELETE by hand still has to wait.
 */
bool
ss_xact_keys_have_history(const pg_uuid_t *history, int fence)
{
	for (int i = 0; i < Min(nhistories, (int) lengthof(histories)); i++)
		if (memcmp(&histories[i].id, history, sizeof(*history)) == 0)
			return (fence & ~histories[i].fence) == 0;
	return false;
}

/* Remembers that the tail of this history was added with these fence flags. */
void
ss_xact_keys_add_history(const pg_uuid_t *history, int fence)
{
	int at = 0;

	while (at < Min(nhistories, (int) lengthof(histories)) &&
		   memcmp(&histories[at].id, history, sizeof(*history)) != 0)
		at++;
	if (at < Min(nhistories, (int) lengthof(histories)))
	{
		histories[at].fence |= fence;
		return;
	}
	at = nhistories++ % lengthof(histories);
	histories[at].id = *history;
	histories[at].fence = fence;
}

/* Do all keys count as changed already? */
bool
ss_xact_keys_overflowed(void)
{
	return overflow;
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

/* What a transaction waits for at the fence. */
typedef struct Fence
{
	bool keys;     /* deletion of the copies of its keys */
	bool policies; /* .. and of the namespaces whose policies it changes */
	uint64 ticket;
	SsMonotonic lease_until;
} Fence;

/* Is everything reached that the transaction waits for, or can no lease exist? */
static bool
passes(const Fence *fence, SsMonotonic now)
{
	return (!fence->keys ||
			ss_ledger_passes(&db->cache.control, fence->ticket, fence->lease_until, now)) &&
		   (!fence->policies || ss_xact_policies_pass(db, fence->lease_until, now));
}

/* Waits until the transaction may pass.  Interruptible: an error here still aborts it. */
static void
wait_at_fence(const Fence *fence)
{
	SsMonotonic start = ss_monotonic();
	SsMonotonic now = start;

	if (passes(fence, now))
		return;
	ConditionVariablePrepareToSleep(&db->cache.changed);
	for (;;)
	{
		long rest;

		ss_database_wake_pusher(db, true);
		now = ss_monotonic();
		if (passes(fence, now))
			break;
		rest = (long) ((fence->lease_until - now) / 1000 + 1);
		(void) ConditionVariableTimedSleep(&db->cache.changed, Min(rest, 100), PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	ss_counter_add(SS_FENCED, 1);
	ss_counter_add(SS_FENCE_MICROSECONDS, now - start);
	if (now >= fence->lease_until)
		ss_counter_add(SS_FENCE_EXPIRED, 1);
}

/* Does the transaction have to wait, given that some Redis may be trusted? */
static bool
is_fenced(void)
{
	return (has_to_wait(fence_cacheable, true) || has_to_wait(fence_others, false)) &&
		   may_be_trusted();
}

/*
 * For PREPARE, which is refused with a cache: an earlier lease may still be alive, and its
 * readers will not be told of this change.
 */
static void
wait_for_old_leases(void)
{
	Fence fence = {0};

	ss_xact_keys_apply_promotion(db);
	fence.ticket = ss_ledger_ticket(&db->cache.control, &fence.lease_until);
	fence.keys = is_fenced();
	wait_at_fence(&fence);
}

/*
 * Does the transaction have more keys than a quarter of what this database may have in the
 * ledger?  A few keys are always allowed.
 */
static bool
too_many(void)
{
	return nkeys > ALWAYS_ENTERED &&
		   nkeys > ss_ledger_allowed(ss_ledger, db->cache.control.member) / 4;
}

/* Records for health when that happened, and the namespace of the last key. */
static void
report_too_large(void)
{
	const SsKey *last = &keys[nkeys - 1].key;

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
	SsControl *control = &db->cache.control;
	Fence fence = {0};

	if (!SS_RULE(7))
		return;
	if (ss_xact_policies_any() && may_be_trusted())
		ss_xact_policies_throttle(db);
	policies_changed = fence_others != 0 && ss_ns_generation(true) != others_generation;
	entering = true;
	/* also without a cache, because one may be configured meanwhile */
	ss_xact_policies_enter(db);
	if (too_many())
	{
		overflow = true;
		report_too_large();
	}
	if (overflow)
		become_unlisted();
	for (int i = 0; i < nkeys && !unlisted; i++)
	{
		enter_key(&keys[i]);
		if (overflow)
			become_unlisted();
	}
	/* policies read from here on are read with the keys entered; earlier ones may not be */
	if (fence_others != 0 && !policies_changed && ss_ns_generation(true) != others_generation)
	{
		policies_changed = true;
		become_unlisted();
	}
	ss_xact_keys_apply_promotion(db);
	fence.ticket = ss_ledger_ticket(control, &fence.lease_until);
	/* only now: a cache that is configured after the keys were entered finds them in doubt */
	fence.keys = is_fenced();
	fence.policies = ss_xact_policies_fenced() && may_be_trusted();
	wait_at_fence(&fence);
}

/* End of the transaction.  Nothing here may fail. */
static void
resolve_all(void)
{
	SsControl *control = &db->cache.control;

	if (!SS_RULE(7))
		for (int i = 0; i < nkeys; i++)
			enter_key(&keys[i]);
	for (int i = 0; i < nkeys; i++)
		if (keys[i].entered)
			ss_ledger_resolve(ss_ledger, control, &keys[i].key, keys[i].hash);
	if (unlisted)
		ss_ledger_unlisted_end(control);
	if (entering || unlisted)
		ss_database_wake_pusher(db, false);
}

/* With a cache, two-phase commit is refused: COMMIT PREPARED calls no callback of ours. */
static void
refuse_with_cache(void)
{
	if (is_configured())
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
	begin_unlisted();
	if (ss_xact_policies_any())
		fence_cacheable |= SS_CHANGED_FENCED;
	wait_for_old_leases();
	refuse_with_cache();
}

/* Has the transaction changed nothing that a copy depends on? */
static bool
is_empty(void)
{
	return nkeys == 0 && !overflow && !ss_xact_policies_any();
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
	{
		resolve_all();
		if (capacity > 0)
			unindex_keys(0);
	}
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

	nhistories = 0;
	ss_xact_policies_subxact_abort(mine);
	if (!ss_xact_marks_abort(mine, &back) || entering || unlisted)
		return;
	Assert(back.keys <= nkeys);
	unindex_keys(back.keys);
	nkeys = back.keys;
	overflow = back.overflow;
	fence_cacheable = back.fence_cacheable;
	fence_others = back.fence_others;
}
