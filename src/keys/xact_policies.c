/*
 * xact_policies.c
 *		Namespaces whose policy the current transaction changes so that sessions or copies end
 *		earlier.
 *
 * The trigger on session_namespaces adds them, by ss_xact_keys_add_policy.  Such a change touches no
 * row of a session, so the ledger gets no keys; the pusher is told the namespace (R14):
 *
 *		trigger			add: remembered in the memory of the backend
 *		PRE_COMMIT		throttle: a namespace is flushed once in POLICY_PAUSE_US, however often its
 *							policy changes.  Nothing is held meanwhile that readers or the pusher
 *							wait for
 *						enter: the namespace and a number go into shared memory.  From here on the
 *							pusher fills nothing and grants no lease before it has flushed the
 *							namespace
 *						wait, until that is done or no lease can exist
 *		COMMIT, ABORT	end: the pusher may fill again
 *
 * The end is reported after the invalidation messages were sent that make other backends read the
 * policies again, which is later than the callback of COMMIT.  So a pusher that sees the end reads
 * the new policy.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "utils/wait_event.h"

#include "base/clock.h"
#include "keys/xact_policies.h"
#include "protocol/ledger.h"

#define POLICY_PAUSE_US INT64CONST(5000000)

/* More namespaces than this in one transaction flush everything. */
#define POLICIES_MAX 8

typedef struct XactPolicy
{
	char ns[SS_NAMESPACE_MAX + 1];
	SubTransactionId subxact;
	bool fenced;
} XactPolicy;

static XactPolicy policies[POLICIES_MAX];
static int npolicies = 0;
static uint64 entered_number = 0; /* of the policies entered and not ended yet; 0: none */

/*
 * Adds a namespace whose policy the transaction changes (ss_xact_keys_add_policy).  With `fenced`,
 * COMMIT waits until none of its copies is visible.  False, if there are too many, or it is too late
 * because the others were entered already; then every key has to count as changed.
 */
bool
ss_xact_policies_add(const char *ns, bool fenced)
{
	for (int i = 0; i < npolicies; i++)
		if (strcmp(policies[i].ns, ns) == 0 && (policies[i].fenced || !fenced))
			return true;
	if (npolicies == POLICIES_MAX || entered_number != 0)
		return false;
	strlcpy(policies[npolicies].ns, ns, sizeof(policies[npolicies].ns));
	policies[npolicies].subxact = GetCurrentSubTransactionId();
	policies[npolicies].fenced = fenced;
	npolicies++;
	return true;
}

/* Does the transaction change any policy? */
bool
ss_xact_policies_any(void)
{
	return npolicies > 0;
}

/* The slot of a namespace in shared memory; NULL if it has none.  The main lock is held. */
static SsPolicyChange *
find_change(SsCache *cache, const char *ns)
{
	for (int i = 0; i < SS_POLICY_CHANGES; i++)
		if (cache->policy_changes[i].number != 0 && strcmp(cache->policy_changes[i].ns, ns) == 0)
			return &cache->policy_changes[i];
	return NULL;
}

/*
 * How long the namespaces have to wait for their next flush, in microseconds; 0 or less: no
 * wait.
 */
static int64
pause_left(SsCache *cache)
{
	SsMonotonic now = ss_monotonic();
	int64 left_us = 0;

	ss_databases_lock(false);
	for (int i = 0; i < npolicies; i++)
	{
		const SsPolicyChange *change = find_change(cache, policies[i].ns);

		if (change != NULL)
			left_us = Max(left_us, change->at + POLICY_PAUSE_US - now);
	}
	ss_databases_unlock();
	return left_us;
}

/*
 * At PRE_COMMIT, where a cancel still aborts the transaction: waits until each namespace may
 * be flushed again.
 */
void
ss_xact_policies_throttle(SsDb *db)
{
	int64 left_us;

	while ((left_us = pause_left(&db->cache)) > 0)
	{
		ConditionVariablePrepareToSleep(&db->cache.changed);
		(void) ConditionVariableTimedSleep(&db->cache.changed, left_us / 1000 + 1,
										   PG_WAIT_EXTENSION);
		ConditionVariableCancelSleep();
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * A slot for a namespace: its own, a free one, or that of a namespace already flushed.  NULL
 * if there is none.  The main lock is held exclusively.
 */
static SsPolicyChange *
make_slot(SsCache *cache, const char *ns)
{
	SsPolicyChange *slot = find_change(cache, ns);

	if (slot != NULL)
		return slot;
	/* the one that was flushed longest ago; a free one has the time 0 */
	for (int i = 0; i < SS_POLICY_CHANGES; i++)
	{
		SsPolicyChange *change = &cache->policy_changes[i];

		if (change->number <= cache->control.policies_covered &&
			(slot == NULL || change->at < slot->at))
			slot = change;
	}
	return slot;
}

/*
 * At PRE_COMMIT: stores the namespaces in shared memory and then takes a number, so that a
 * pusher that sees the number finds the namespaces.  False if there is no room for them; then every
 * key has to count as changed.
 */
bool
ss_xact_policies_enter(SsDb *db)
{
	SsCache *cache = &db->cache;
	bool room = true;

	if (npolicies == 0)
		return true;
	ss_databases_lock(true);
	for (int i = 0; i < npolicies; i++)
	{
		SsPolicyChange *change = make_slot(cache, policies[i].ns);

		if (change == NULL)
		{
			room = false;
			break;
		}
		strlcpy(change->ns, policies[i].ns, sizeof(change->ns));
		change->number = cache->control.policies_begun + 1;
		change->at = ss_monotonic();
	}
	entered_number = ss_control_policy_begin(&cache->control);
	ss_databases_unlock();
	return room;
}

/* Does COMMIT wait for any of the namespaces? */
bool
ss_xact_policies_fenced(void)
{
	for (int i = 0; i < npolicies; i++)
		if (policies[i].fenced)
			return true;
	return false;
}

/* Are the namespaces flushed, or can no lease exist? */
bool
ss_xact_policies_pass(const SsDb *db, SsMonotonic lease_until, SsMonotonic now)
{
	return ss_control_policy_passes(&db->cache.control, entered_number, lease_until, now);
}

/* A subtransaction commits: its namespaces become its parent's. */
void
ss_xact_policies_subxact_commit(SubTransactionId mine, SubTransactionId parent)
{
	for (int i = 0; i < npolicies; i++)
		if (policies[i].subxact == mine)
			policies[i].subxact = parent;
}

/* A subtransaction is rolled back: forgets its namespaces, unless they were entered already. */
void
ss_xact_policies_subxact_abort(SubTransactionId mine)
{
	int kept = 0;

	if (entered_number != 0)
		return;
	for (int i = 0; i < npolicies; i++)
		if (policies[i].subxact != mine)
			policies[kept++] = policies[i];
	npolicies = kept;
}

/* The transaction is over.  What was entered ends a little later; see above. */
void
ss_xact_policies_reset(void)
{
	npolicies = 0;
}

/*
 * At the end of the transaction, after its invalidation messages were sent (xact.c): what was
 * entered has ended.  Cannot fail.
 */
void
ss_xact_policies_after_end(void)
{
	SsDb *db;

	if (entered_number == 0)
		return;
	entered_number = 0;
	db = ss_database_mine();
	ss_control_policy_end(&db->cache.control);
	ss_database_wake_pusher(db, false);
}
