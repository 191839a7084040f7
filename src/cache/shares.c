/*
 * shares.c
 *		How many slots of the ledger a database may have, so that the others get theirs.
 *
 * Half of the slots is divided equally among the members that have a pusher: that is their share.
 * The other half is for who needs more.  A member below its share gets any free slot; above it, a
 * slot only if enough stay free for the others to reach their shares.  So a share is a guarantee
 * and not a cap, and a member that needs too much is refused alone.  (With shares of all slots,
 * what is kept for the others would leave nobody more than its share.)  A member without a pusher
 * has no share: nothing depends on its keys before a pusher attaches, which begins with a flush.
 *
 * All of that holds for each partition by itself, under its lock, and so it is exact and costs a
 * member below its share one comparison.  Keys are spread over the partitions by their hash.
 *
 * A member that had more when another got its share keeps that, until its pusher is done with it.
 */
#include "cache/shares.h"

/* How many slots of a partition are kept for the other members that have a share? */
static int32_t
kept_for_others(const SsLedger *ledger, const SsLedgerPartition *partition, int member)
{
	int32_t kept = 0;

	for (int i = 0; i < ledger->sharers; i++)
	{
		int32_t count = partition->count[ledger->sharer[i]];

		if (ledger->sharer[i] != member && count < ledger->share)
			kept += ledger->share - count;
	}
	return kept;
}

/* May a member have one more slot of a partition?  The partition's lock is held. */
bool
ss_shares_may_take(const SsLedger *ledger, const SsLedgerPartition *partition, int member)
{
	if (partition->free == SS_NO_SLOT)
		return false;
	if (ledger->shares[member] && partition->count[member] < ledger->share)
		return true;
	return ledger->slots - partition->used > kept_for_others(ledger, partition, member);
}

/* A member begins to have a pusher, or has none any more.  One caller at a time. */
void
ss_shares_set(SsLedger *ledger, int member, bool has_pusher)
{
	int32_t sharers = 0;

	for (int p = 0; p < SS_LEDGER_PARTITIONS; p++)
		ss_ledger_lock(p);
	ledger->shares[member] = has_pusher;
	for (int i = 0; i < SS_LEDGER_MEMBERS; i++)
		if (ledger->shares[i])
			ledger->sharer[sharers++] = (uint8_t) i;
	ledger->sharers = sharers;
	/* half of all, rounded up; but together never more than there is */
	ledger->share = sharers > 0 ? (ledger->slots / 2 + sharers - 1) / sharers : 0;
	if (ledger->share * sharers > ledger->slots)
		ledger->share = ledger->slots / sharers;
	for (int p = 0; p < SS_LEDGER_PARTITIONS; p++)
		ss_ledger_unlock(p);
}

/* What a member can count on, whatever others do. */
int
ss_shares_of(const SsLedger *ledger, int member)
{
	return ledger->shares[member] ? ledger->share * SS_LEDGER_PARTITIONS : 0;
}

/* How many slots a member has. */
int
ss_shares_count(const SsLedger *ledger, int member)
{
	int count = 0;

	for (int p = 0; p < SS_LEDGER_PARTITIONS; p++)
		count += __atomic_load_n(&ledger->partitions[p].count[member], __ATOMIC_RELAXED);
	return count;
}

/* How many slots a member may have as things are now, with those it has; read without locks. */
int
ss_shares_allowed(const SsLedger *ledger, int member)
{
	int allowed = 0;

	for (int p = 0; p < SS_LEDGER_PARTITIONS; p++)
	{
		const SsLedgerPartition *partition = &ledger->partitions[p];
		int32_t mine = __atomic_load_n(&partition->count[member], __ATOMIC_RELAXED);
		int32_t rest = ledger->slots - __atomic_load_n(&partition->used, __ATOMIC_RELAXED) -
					   kept_for_others(ledger, partition, member);

		allowed += mine + (rest > 0 ? rest : 0);
	}
	return allowed > ss_shares_of(ledger, member) ? allowed : ss_shares_of(ledger, member);
}
