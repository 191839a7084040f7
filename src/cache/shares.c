/*
 * shares.c
 *		How many slots of what all databases share one of them may have.
 *
 * For the ledger and for the noted reads, which are tables in shared memory for all databases.  Half
 * of the slots is divided equally among the members (databases) that have a worker which empties
 * them, a pusher or a keeper: that is their share.
 * The other half is for who needs more.  A member below its share gets any free slot; above it, a
 * slot only if enough stay free for the others to reach their shares.  So a share is a guarantee
 * and not a cap, and a member that needs too much is refused alone.  (With shares of all slots,
 * what is kept for the others would leave nobody more than its share.)  A member without a worker
 * has no share: of its keys in the ledger nothing depends before a pusher attaches, which begins
 * with a flush, and its noted reads would stay.
 *
 * All of that holds for each partition by itself, under its lock (shares are changed under all of
 * them), and so it is exact and costs a
 * member below its share one comparison.  Keys are spread over the partitions by their hash.
 *
 * A member that had more when another got its share keeps that, until its worker is done with it.
 */
#include "cache/shares.h"

/* A member begins to have a share, or has none any more; true if that changes anything. */
bool
ss_shares_set(SsShares *shares, int32_t slots, int member, bool has)
{
	int32_t sharers = 0;

	if (shares->has[member] == has)
		return false;
	shares->has[member] = has;
	for (int i = 0; i < SS_MEMBERS; i++)
		if (shares->has[i])
			shares->sharer[sharers++] = (uint8_t) i;
	shares->sharers = sharers;
	/* half of all, rounded up; but together never more than there is */
	shares->share = sharers > 0 ? (slots / 2 + sharers - 1) / sharers : 0;
	if (shares->share * sharers > slots)
		shares->share = slots / sharers;
	return true;
}

/* How many slots of a partition are kept for the other members that have a share? */
static int32_t
kept_for_others(const SsShares *shares, const int32_t *count, int member)
{
	int32_t kept = 0;

	for (int i = 0; i < shares->sharers; i++)
	{
		int32_t theirs = __atomic_load_n(&count[shares->sharer[i]], __ATOMIC_RELAXED);

		if (shares->sharer[i] != member && theirs < shares->share)
			kept += shares->share - theirs;
	}
	return kept;
}

/* What a member can count on in a partition, whatever others do. */
int32_t
ss_shares_of(const SsShares *shares, int member)
{
	return shares->has[member] ? shares->share : 0;
}

/* May a member have one more slot of a partition, of which so many are free? */
bool
ss_shares_may_take(const SsShares *shares, const int32_t *count, int32_t free, int member)
{
	if (free <= 0)
		return false;
	return count[member] < ss_shares_of(shares, member) ||
		   free > kept_for_others(shares, count, member);
}

/* How many slots of a partition it may have as things are now, with those that it has. */
int32_t
ss_shares_allowed(const SsShares *shares, const int32_t *count, int32_t free, int member)
{
	int32_t rest = free - kept_for_others(shares, count, member);
	int32_t allowed = __atomic_load_n(&count[member], __ATOMIC_RELAXED) + (rest > 0 ? rest : 0);

	return allowed > ss_shares_of(shares, member) ? allowed : ss_shares_of(shares, member);
}
