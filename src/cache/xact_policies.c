/*
 * xact_policies.c
 *		Which namespaces a transaction makes end sessions or copies earlier.
 *
 * The trigger on session_namespaces notes them.  Rows of sessions are not touched by that, so no
 * key can be told to the ledger; what is told is the namespace (R14):
 *
 *		trigger			noted, in the memory of the backend
 *		PRE_COMMIT		take a turn: a namespace is flushed once in POLICY_PAUSE, however often
 *						its policy changes; nothing is held meanwhile that readers or the pusher wait for
 *						enter: the namespace and a number into shared memory; from here on the
 *						pusher fills nothing and grants no lease before it has flushed the namespace
 *						wait: until that is done, or no lease can be left
 *		COMMIT, ABORT	end: the pusher may fill again
 *
 * The end is told when the messages that make others read policies again have been sent, which
 * is after the callback of COMMIT: a pusher that sees the end reads the new policy.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "utils/resowner.h"
#include "utils/wait_event.h"

#include "cache/ledger.h"
#include "cache/xact_keys.h"
#include "cache/xact_policies.h"

#define POLICY_PAUSE INT64CONST(5000000)

/* More namespaces than that in one transaction flush everything. */
#define NOTES 8

typedef struct PolicyNote
{
	char ns[SS_NAMESPACE_MAX + 1];
	SubTransactionId subxact;
	bool fenced;
} PolicyNote;

static PolicyNote notes[NOTES];
static int nnotes = 0;
static uint64 number = 0; /* of what was entered, and has not ended; 0: nothing */

/* A namespace's policy changes; fenced: COMMIT waits until no copy can be seen. */
void
ss_xact_policy_add(const char *ns, bool fenced)
{
	SubTransactionId mine = GetCurrentSubTransactionId();

	if (!ss_xact_keys_attach())
		return;
	for (int i = 0; i < nnotes; i++)
		if (strcmp(notes[i].ns, ns) == 0 && (notes[i].fenced || !fenced))
			return;
	if (nnotes == NOTES || number != 0)
	{
		/* too many, or too late: by another extension's callback of PRE_COMMIT */
		ss_xact_keys_add_all(fenced ? SS_CHANGED_FENCED | SS_KEY_CACHEABLE : 0);
		return;
	}
	strlcpy(notes[nnotes].ns, ns, sizeof(notes[nnotes].ns));
	notes[nnotes].subxact = mine;
	notes[nnotes].fenced = fenced;
	nnotes++;
}

bool
ss_xact_policies_any(void)
{
	return nnotes > 0;
}

static SsPolicyChange *
find(SsCache *cache, const char *ns)
{
	for (int i = 0; i < SS_POLICY_CHANGES; i++)
		if (cache->policy_changes[i].number != 0 && strcmp(cache->policy_changes[i].ns, ns) == 0)
			return &cache->policy_changes[i];
	return NULL;
}

/* How long the namespaces at hand have to wait for their next flush. */
static int64
pause_left(SsCache *cache)
{
	int64 now = ss_monotonic();
	int64 left = 0;

	ss_shared_lock(false);
	for (int i = 0; i < nnotes; i++)
	{
		const SsPolicyChange *change = find(cache, notes[i].ns);

		if (change != NULL)
			left = Max(left, change->at + POLICY_PAUSE - now);
	}
	ss_shared_unlock();
	return left;
}

/* At PRE_COMMIT, while a cancel still ends the transaction: wait for our turn. */
void
ss_xact_policies_throttle(SsDb *db)
{
	int64 left;

	while ((left = pause_left(&db->cache)) > 0)
	{
		ConditionVariablePrepareToSleep(&db->cache.changed);
		(void) ConditionVariableTimedSleep(&db->cache.changed, left / 1000 + 1, PG_WAIT_EXTENSION);
		ConditionVariableCancelSleep();
		CHECK_FOR_INTERRUPTS();
	}
}

/* A place for a namespace: its own, or one of a namespace that was flushed; NULL: there is none. */
static SsPolicyChange *
make_place(SsCache *cache, const char *ns)
{
	SsPolicyChange *place = find(cache, ns);

	if (place != NULL)
		return place;
	/* what was flushed longest ago; those that are free are from the begin of time */
	for (int i = 0; i < SS_POLICY_CHANGES; i++)
	{
		SsPolicyChange *change = &cache->policy_changes[i];

		if (change->number <= cache->control.policies_covered &&
			(place == NULL || change->at < place->at))
			place = change;
	}
	return place;
}

/* Tell the pusher, which knows of all of them when it sees the number. */
void
ss_xact_policies_enter(SsDb *db)
{
	SsCache *cache = &db->cache;
	bool room = true;

	if (nnotes == 0)
		return;
	ss_shared_lock(true);
	for (int i = 0; i < nnotes; i++)
	{
		SsPolicyChange *change = make_place(cache, notes[i].ns);

		if (change == NULL)
		{
			room = false;
			break;
		}
		strlcpy(change->ns, notes[i].ns, sizeof(change->ns));
		change->number = cache->control.policies_begun + 1;
		change->at = ss_monotonic();
	}
	number = ss_ledger_policy_begin(&cache->control);
	ss_shared_unlock();
	if (!room)
		ss_xact_keys_add_all(SS_CHANGED_FENCED | SS_KEY_CACHEABLE);
}

/* Does COMMIT wait for the namespaces at hand? */
bool
ss_xact_policies_fenced(void)
{
	for (int i = 0; i < nnotes; i++)
		if (notes[i].fenced)
			return true;
	return false;
}

/* Can no strong reader see a copy of what was entered any more? */
bool
ss_xact_policies_pass(SsDb *db, int64 lease_until, int64 now)
{
	return ss_ledger_policy_passes(&db->cache.control, number, lease_until, now);
}

/* What a savepoint noted becomes its parent's, or is forgotten; not once it was entered. */
void
ss_xact_policies_subxact_commit(SubTransactionId mine, SubTransactionId parent)
{
	for (int i = 0; i < nnotes; i++)
		if (notes[i].subxact == mine)
			notes[i].subxact = parent;
}

void
ss_xact_policies_subxact_abort(SubTransactionId mine)
{
	int kept = 0;

	if (number != 0)
		return;
	for (int i = 0; i < nnotes; i++)
		if (notes[i].subxact != mine)
			notes[kept++] = notes[i];
	nnotes = kept;
}

/* The transaction is over; what was entered ends a little later (see above). */
void
ss_xact_policies_reset(void)
{
	nnotes = 0;
}

/* The end of a transaction, after its messages to others. */
static void
released(ResourceReleasePhase phase, bool is_commit, bool is_top, void *arg)
{
	SsDb *db;

	if (phase != RESOURCE_RELEASE_AFTER_LOCKS || !is_top || number == 0)
		return;
	number = 0;
	db = ss_shared_my_db();
	ss_ledger_policy_end(&db->cache.control);
	ss_wake_pusher(db, false);
}

/* Once, from _PG_init. */
void
ss_xact_policies_init_backend(void)
{
	RegisterResourceReleaseCallback(released, NULL);
}
