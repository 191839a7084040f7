/*
 * shares.c
 *		How many slots of a table that all databases share one of them may use.
 *
 * Used for the ledger and for the touch slots, which are tables in shared memory for all databases.
 * Half of the slots is divided equally among the members (databases) that have a worker which
 * empties their slots, a pusher or a keeper.  That is their share.  The other half is for members
 * that need more.  A member below its share gets any free slot; a member above it gets a slot only
 * if enough stay free for the others to reach their shares.  So a share is a guarantee and not a
 * limit, and only the member that needs too much is refused.  (If shares divided all of the slots,
 * no member could ever exceed its share.)
 *
 * A member without a worker has no share: nothing depends on its keys in the ledger before a pusher
 * attaches, which starts with a flush, and its pending touches would never be written.
 *
 * All of this applies to each partition separately, under its lock (shares change under all of
 * them).  So it is exact, and costs a member below its share one comparison.  Keys are spread over
 * the partitions by their hash.
 *
 * A member that used more when another got its share keeps its slots until its worker frees them.
 */
#include "protocol/shares.h"

/*
 * Gives a member a share, or takes it away; returns true if that changes anything.  The locks
 * of all partitions are held.
 */
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
	/* half of the slots, rounded up, but together never more than there are */
	shares->share = sharers > 0 ? (slots / 2 + sharers - 1) / sharers : 0;
	if (shares->share * sharers > slots)
		shares->share = slots / sharers;
	return true;
}

/* Number of slots of a partition that are kept for other members with a share. */
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

/* Number of slots of a partition that are reserved for a member. */
int32_t
ss_shares_of(const SsShares *shares, int member)
{
	return shares->has[member] ? shares->share : 0;
}

/* May a member take one of the `free` slots of a partition?  The lock of the partition is held. */
bool
ss_shares_may_take(const SsShares *shares, const int32_t *count, int32_t free, int member)
{
	if (free <= 0)
		return false;
	return count[member] < ss_shares_of(shares, member) ||
		   free > kept_for_others(shares, count, member);
}

/*
 * Number of slots of a partition that a member may use at present, including those that it
 * uses.  Without the lock the result is an estimate.
 */
int32_t
ss_shares_allowed(const SsShares *shares, const int32_t *count, int32_t free, int member)
{
	int32_t rest = free - kept_for_others(shares, count, member);
	int32_t allowed = __atomic_load_n(&count[member], __ATOMIC_RELAXED) + (rest > 0 ? rest : 0);

	return allowed > ss_shares_of(shares, member) ? allowed : ss_shares_of(shares, member);
}
