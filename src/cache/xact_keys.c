/*
 * xact_keys.c
 *		Which keys a transaction changed, told to the ledger around its commit.
 *
 * Triggers (cache_trigger.c) note the key of each row that changes, in the memory of the
 * backend.  A savepoint that is rolled back takes its own notes with it (xact_key_marks.c), so that they
 * do not count as changes; what it added to a note from before stays, which does no harm.
 *
 * A note says what was done, and whether that would have to wait at the fence.  Whether it really
 * has to is decided at PRE_COMMIT: until then a cache may be configured, a namespace's policy
 * changed, and a copy made of what is about to end.
 *
 * At PRE_COMMIT, where an error still aborts, the keys enter the ledger as in doubt (R7)
 * and a fenced transaction waits (R1).  At COMMIT and ABORT they are settled:
 * memory writes under a lock, for an error there would be a PANIC.  What is noted after
 * PRE_COMMIT (by another extension's callback) enters at once.
 *
 *					trigger		PRE_COMMIT				COMMIT / ABORT
 *		notes		added		enter					settle, then forgotten
 *		too many	overflow	unlisted_begin			unlisted_end
 *
 * A backend that dies hard takes the server, and so the ledger, with it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "cache/ledger.h"
#include "cache/rules.h"
#include "cache/xact_key_marks.h"
#include "cache/xact_keys.h"
#include "cache/xact_policies.h"
#include "rows/namespaces.h"
#include "rows/sql.h"
#include "settings.h"
#include "shared.h"

/* Notes are found again by scanning while they are few. */
#define FEW 8
#define ROOM_FIRST 16
#define ROOM_KEPT 1024

/* So many keys are entered without asking how many may be. */
#define FEW_LISTED 16

typedef struct Note
{
	uint32 hash;
	uint8 what;   /* SS_CHANGED_ and SS_KEY_ */
	uint8 told;   /* what the ledger was told of it */
	bool entered; /* is in the ledger */
	SsKey key;
} Note;

static Note *notes = NULL;
static int nnotes = 0;
static int room = 0;
static int32 *places = NULL; /* of notes, by hash: open addressing, twice the room */
static bool overflow = false;
static int fence_cacheable = 0;       /* what all notes of cacheable namespaces say of the fence, */
static int fence_others = 0;          /* .. and those of others */
static uint64 others_generation = 0;  /* of the policies, when the first of these was noted */
static bool policies_changed = false; /* since then; known from PRE_COMMIT on */
static bool unlisted = false;         /* we have said so */
static bool entering = false;         /* PRE_COMMIT is over */

/* Histories whose tail was noted, and what that note says of the fence. */
static struct
{
	pg_uuid_t id;
	int fence;
} histories[4];
static int nhistories = 0;
static SsDb *db = NULL;

/*
 * On a promoted standby the old primary's lease may be as young as the promotion, of which
 * the first change that is committed here is a sign, and so is the pusher's start.
 */
void
ss_xact_keys_apply_promotion(SsDb *of)
{
	static bool minded = false;
	int64 none = 0;

	if (minded || !ss_shared->began_in_recovery)
		return;
	(void) __atomic_compare_exchange_n(&ss_shared->promoted, &none, ss_monotonic(), false,
									   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	ss_control_promoted(&of->cache.control, ss_shared->promoted);
	minded = true;
}

/* Does a pusher write to a Redis, or will one? */
static bool
is_configured(void)
{
	return ss_redis_url[0] != '\0' || db->cache.control.attached;
}

/*
 * May a strong reader trust some Redis?  Asked when the transaction ends, never when a row
 * changes: it may become true in between.  Also after a start without a URL: an earlier life of
 * this server may have left a lease, in this database's Redis or in one configured before.
 */
static bool
may_be_trusted(void)
{
	ss_xact_keys_apply_promotion(db);
	return is_configured() || ss_control_may_be_leased(&db->cache.control, ss_monotonic());
}

static void
forget(void)
{
	nnotes = 0;
	nhistories = 0;
	fence_cacheable = fence_others = 0;
	overflow = unlisted = entering = policies_changed = false;
	ss_skip_fence = false;
	ss_xact_marks_reset();
	ss_xact_policies_reset();
	if (room > ROOM_KEPT)
	{
		pfree(notes);
		pfree(places);
		notes = NULL;
		places = NULL;
		room = 0;
	}
}

static void
index_note(int n)
{
	uint32 mask = room * 2 - 1;
	uint32 at = notes[n].hash & mask;

	while (places[at] >= 0)
		at = (at + 1) & mask;
	places[at] = n;
}

static void
grow(void)
{
	int more = room == 0 ? ROOM_FIRST : room * 2;
	int32 *more_places = MemoryContextAllocHuge(TopMemoryContext, sizeof(int32) * more * 2);

	/* out of memory or not, what there is fits together */
	if (notes == NULL)
		notes = MemoryContextAlloc(TopMemoryContext, sizeof(Note) * more);
	else
		notes = repalloc_huge(notes, sizeof(Note) * more);
	if (places != NULL)
		pfree(places);
	places = more_places;
	room = more;
	memset(places, 0xff, sizeof(int32) * more * 2);
	for (int i = 0; i < nnotes; i++)
		index_note(i);
}

static Note *
find_note(const SsKey *key, uint32 hash)
{
	if (nnotes <= FEW)
	{
		for (int i = 0; i < nnotes; i++)
			if (notes[i].hash == hash && ss_key_equal(&notes[i].key, key))
				return &notes[i];
		return NULL;
	}
	for (uint32 at = hash & (room * 2 - 1); places[at] >= 0; at = (at + 1) & (room * 2 - 1))
	{
		Note *note = &notes[places[at]];

		if (note->hash == hash && ss_key_equal(&note->key, key))
			return note;
	}
	return NULL;
}

/* Before anything is noted: a savepoint may begin to note here. */
static void
mark(void)
{
	SsXactKeyMark now = {nnotes, overflow, fence_cacheable, fence_others};

	ss_xact_marks_add(&now);
}

/* Remember what a note says of the fence, for the transaction as a whole. */
static void
note_fence(int what)
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
 * Does what a note says have to wait at the fence?  The policies of namespaces without copies may
 * have been changed since they were read; then there may be copies by now.
 */
static bool
has_to_wait(int fence, bool cacheable)
{
	if (!cacheable && !policies_changed)
		return false;
	return (fence & SS_CHANGED_FENCED) ||
		   ((fence & SS_KEY_FENCED_IF_ALL) && ss_fence == SS_FENCE_ALL);
}

/* What the ledger is told of a note. */
static uint8
told_of(int what)
{
	bool fenced = has_to_wait(what, (what & SS_KEY_CACHEABLE) != 0);

	return (what & (SS_CHANGED_EXPIRY | SS_CHANGED_DOCUMENT)) | (fenced ? SS_CHANGED_FENCED : 0);
}

/* Enter one note; without room the transaction is unlisted (R11). */
static void
enter(Note *note)
{
	note->told = told_of(note->what);
	note->entered = ss_ledger_enter(ss_ledger, &db->cache.control, &note->key, note->hash,
									note->told, ss_monotonic());
	if (!note->entered)
	{
		overflow = true;
		if (!unlisted)
			ss_count(SS_UNLISTED_NO_ROOM, 1);
		db->cache.no_room_at = ss_monotonic();
	}
}

static void
begin_unlisted(void)
{
	if (unlisted)
		return;
	ss_ledger_unlisted_begin(&db->cache.control);
	unlisted = true;
}

static void
be_unlisted(void)
{
	if (unlisted || !SS_RULE(11))
		return;
	begin_unlisted();
	ss_count(SS_UNLISTED, 1);
}

/*
 * Everything may have changed: a TRUNCATE, or more than the ledger shall hold.  fence: 0, or flags
 * as for a note.
 */
void
ss_xact_keys_add_all(int fence)
{
	mark();
	overflow = true;
	note_fence(fence);
	if (entering)
		be_unlisted();
}

/* What this transaction does to a key; flags SS_CHANGED_ and SS_KEY_. */
void
ss_xact_key_add(const SsKey *key, int what)
{
	uint32 hash = ss_key_hash(key);
	Note *n;

	mark();
	note_fence(what);
	if (overflow)
		return;
	n = find_note(key, hash);
	if (n == NULL)
	{
		/* what this database may have now is asked at PRE_COMMIT; this bounds our memory */
		if (nnotes >= ss_ledger_room(ss_ledger) / 4)
		{
			ss_xact_keys_add_all(0);
			return;
		}
		if (nnotes == room)
			grow();
		n = &notes[nnotes];
		n->hash = hash;
		n->what = n->told = 0;
		n->entered = false;
		ss_key_copy(&n->key, key);
		index_note(nnotes++);
		/* the table of places outlives the notes */
		if (entering)
		{
			n->what = what;
			enter(n);
		}
	}
	else if (entering && (n->told | told_of(n->what | what)) != n->told)
		ss_xact_keys_add_all(0); /* what the ledger has is too little */
	n->what |= what;
}

/* Forget the places of all notes but the first `kept`: the table of places outlives the notes. */
static void
clear_places(int kept)
{
	uint32 mask = room * 2 - 1;

	if (kept == 0 && nnotes > FEW * 4)
	{
		memset(places, 0xff, sizeof(int32) * room * 2);
		return;
	}
	/* from the last on, so that what lies behind another goes before it */
	for (int i = nnotes - 1; i >= kept; i--)
	{
		uint32 at = notes[i].hash & mask;

		while (places[at] != i)
			at = (at + 1) & mask;
		places[at] = -1;
	}
}

/*
 * Conversations whose tail this transaction has noted.  Their messages come in numbers, and
 * each would ask again whose it is; the last few are remembered.  A tail that was noted for less
 * than `fence` says counts as not noted: after an append, a DELETE by hand has to wait.
 */
bool
ss_xact_keys_have_history(const pg_uuid_t *history, int fence)
{
	for (int i = 0; i < Min(nhistories, (int) lengthof(histories)); i++)
		if (memcmp(&histories[i].id, history, sizeof(*history)) == 0)
			return (fence & ~histories[i].fence) == 0;
	return false;
}

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

/* Is everything noted already? */
bool
ss_xact_keys_overflowed(void)
{
	return overflow;
}

/* Are changes to be noted at all?  Not without shared memory. */
bool
ss_xact_keys_attach(void)
{
	db = ss_shared_my_db();
	return db != NULL;
}

/* What a transaction waits for at the fence. */
typedef struct Fence
{
	bool keys;     /* copies of the keys that it has entered, */
	bool policies; /* .. and of the namespaces whose policies it changes */
	uint64 ticket;
	int64_t lease_until;
} Fence;

/* Can no strong reader see the old values any more, or no lease be left? */
static bool
passes(const Fence *fence, int64 now)
{
	return (!fence->keys ||
			ss_ledger_passes(&db->cache.control, fence->ticket, fence->lease_until, now)) &&
		   (!fence->policies || ss_xact_policies_pass(db, fence->lease_until, now));
}

static void
wait_at_fence(const Fence *fence)
{
	int64 start = ss_monotonic();
	int64 now = start;

	if (passes(fence, now))
		return;
	ConditionVariablePrepareToSleep(&db->cache.changed);
	for (;;)
	{
		long rest;

		ss_wake_pusher(db, true);
		now = ss_monotonic();
		if (passes(fence, now))
			break;
		rest = (long) ((fence->lease_until - now) / 1000 + 1);
		(void) ConditionVariableTimedSleep(&db->cache.changed, Min(rest, 100), PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	ss_count(SS_FENCED, 1);
	ss_count(SS_FENCE_MICROSECONDS, now - start);
	if (now >= fence->lease_until)
		ss_count(SS_FENCE_EXPIRED, 1);
}

/* Does this transaction have to wait at the fence, where there is a Redis that anybody trusts? */
static bool
is_fenced(void)
{
	return (has_to_wait(fence_cacheable, true) || has_to_wait(fence_others, false)) &&
		   may_be_trusted();
}

/* Without a cache: a lease from before may be alive, whose readers nobody will tell of this. */
static void
wait_for_old_leases(void)
{
	Fence fence = {0};

	ss_xact_keys_apply_promotion(db);
	fence.ticket = ss_ledger_ticket(&db->cache.control, &fence.lease_until);
	fence.keys = is_fenced();
	wait_at_fence(&fence);
}

/* More than a quarter of what this database may have in the ledger now?  A few always may try. */
static bool
too_many(void)
{
	return nnotes > FEW_LISTED &&
		   nnotes > ss_ledger_allowed(ss_ledger, db->cache.control.member) / 4;
}

/* For health: when that was, and the namespace of the last key. */
static void
tell_too_large(void)
{
	const SsKey *last = &notes[nnotes - 1].key;

	ss_shared_lock(true);
	db->cache.too_large_at = ss_monotonic();
	memcpy(db->cache.too_large_ns, last->bytes, last->nslen);
	db->cache.too_large_ns[last->nslen] = '\0';
	ss_shared_unlock();
}

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
	/* also without a cache, for one may come meanwhile */
	ss_xact_policies_enter(db);
	if (too_many())
	{
		overflow = true;
		tell_too_large();
	}
	if (overflow)
		be_unlisted();
	for (int i = 0; i < nnotes && !unlisted; i++)
	{
		enter(&notes[i]);
		if (overflow)
			be_unlisted();
	}
	/* a policy that is read from here on finds the keys; one that was read before may not have */
	if (fence_others != 0 && !policies_changed && ss_ns_generation(true) != others_generation)
	{
		policies_changed = true;
		be_unlisted();
	}
	ss_xact_keys_apply_promotion(db);
	fence.ticket = ss_ledger_ticket(control, &fence.lease_until);
	/* only now: a cache that comes after the keys were entered finds them in doubt */
	fence.keys = is_fenced();
	fence.policies = ss_xact_policies_fenced() && may_be_trusted();
	wait_at_fence(&fence);
}

/* At the end of the transaction: nothing here may fail. */
static void
settle_all(void)
{
	SsControl *control = &db->cache.control;

	if (!SS_RULE(7))
		for (int i = 0; i < nnotes; i++)
			enter(&notes[i]);
	for (int i = 0; i < nnotes; i++)
		if (notes[i].entered)
			ss_ledger_resolve(ss_ledger, control, &notes[i].key, notes[i].hash);
	if (unlisted)
		ss_ledger_unlisted_end(control);
	if (entering || unlisted)
		ss_wake_pusher(db, false);
}

/* With a cache a transaction is committed in one phase: COMMIT PREPARED tells nobody. */
static void
refuse_with_cache(void)
{
	if (is_configured())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot prepare a transaction that has changed sessions or policies"),
				 errdetail("The cache in Redis would not learn of its commit."),
				 errhint("Set session_store.redis_url to an empty string, or commit in one "
						 "phase.")));
}

/*
 * A pusher may begin at any time during this, the wait included.  Until the transaction is prepared
 * it is unlisted, so that such a pusher fills nothing; and before it does, it looks at prepared
 * transactions once more (ss_pusher_read_rows).
 */
static void
prepare(void)
{
	/* a refusal must not cause a flush, so this comes first */
	refuse_with_cache();
	begin_unlisted();
	if (ss_xact_policies_any())
		fence_cacheable |= SS_CHANGED_FENCED;
	wait_for_old_leases();
	refuse_with_cache();
}

static void
xact_callback(XactEvent event, void *arg)
{
	if (nnotes == 0 && !overflow && !ss_xact_policies_any())
	{
		if (event == XACT_EVENT_ABORT)
			ss_skip_fence = false;
		/* notes that were rolled back may have taken much memory */
		if (event == XACT_EVENT_ABORT || event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE)
			forget();
		return;
	}
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			enter_all();
			break;
		case XACT_EVENT_PRE_PREPARE:
			prepare();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			settle_all();
			if (room > 0)
				clear_places(0);
			forget();
			break;
		default:
			break;
	}
}

/*
 * A savepoint is rolled back: its locks are gone, and so is what they were to keep in place, and
 * what it noted.  Not after PRE_COMMIT: what has entered the ledger must be settled.
 */
static void
subxact_callback(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	SsXactKeyMark back;

	if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		ss_xact_marks_commit(mine, parent);
		ss_xact_policies_subxact_commit(mine, parent);
	}
	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;
	nhistories = 0;
	ss_skip_fence = false;
	ss_xact_policies_subxact_abort(mine);
	if (!ss_xact_marks_abort(mine, &back) || entering || unlisted)
		return;
	Assert(back.notes <= nnotes);
	clear_places(back.notes);
	nnotes = back.notes;
	overflow = back.overflow;
	fence_cacheable = back.fence_cacheable;
	fence_others = back.fence_others;
}

/* Once, from _PG_init. */
void
ss_xact_keys_init_backend(void)
{
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
	ss_xact_policies_init_backend();
}
