/*
 * control.c
 *		What the transactions of a database and its pusher tell each other, apart from keys: until
 *		when leases may last, who may pass the fence, and how many transactions are unlisted or
 *		change a policy.
 *
 * No locks: each field is an atomic, and where the order of two of them matters the code says so.
 * Nothing here allocates memory or fails.
 */
#include <string.h>

#include "protocol/control.h"
#include "protocol/rules.h"

/*
 * Leases that this pusher did not grant may last until the given time, or longer if that is
 * known already.
 */
static void
raise_foreign(SsControl *control, SsMonotonic until)
{
	SsMonotonic old = __atomic_load_n(&control->foreign_until, __ATOMIC_SEQ_CST);

	while (SS_RULE(9) && old < until &&
		   !__atomic_compare_exchange_n(&control->foreign_until, &old, until, false,
										__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
}

/*
 * Initializes the control of a database, before a pusher can be attached.  This server may
 * have left a lease before its restart, not necessarily in the Redis that is configured now,
 * and the lease may be as long as any (R9).
 */
void
ss_control_init(SsControl *control, int member, SsMonotonic now)
{
	memset(control, 0, sizeof(*control));
	control->member = (uint8_t) member;
	raise_foreign(control, now + SS_LEASE_LONGEST_US);
	control->first_until = control->foreign_until;
}

/*
 * The server started as a standby and was promoted at the given time, which for leases of the
 * old primary counts as its start.  May be called more than once; the time that
 * ss_control_end_foreign has cleared stays cleared.
 */
void
ss_control_promoted(SsControl *control, SsMonotonic when)
{
	if (__atomic_load_n(&control->promotion, __ATOMIC_SEQ_CST) != 0)
		return;
	/* order matters: a reader of promotion = 1 must find the time raised */
	raise_foreign(control, when + SS_LEASE_LONGEST_US);
	__atomic_store_n(&control->promotion, 1, __ATOMIC_SEQ_CST);
}

/*
 * This database never claimed a Redis, so that it left no lease before its restart; nor did
 * its primary, if it was promoted (0: it was not).
 */
void
ss_control_never_leased(SsControl *control, SsMonotonic promoted)
{
	SsMonotonic first = promoted != 0 ? promoted + SS_LEASE_LONGEST_US : control->first_until;

	/* unless it was raised for another reason meanwhile */
	(void) __atomic_compare_exchange_n(&control->foreign_until, &first, 0, false, __ATOMIC_SEQ_CST,
									   __ATOMIC_SEQ_CST);
}

/*
 * A new pusher starts.  The lease of its predecessor may be in another Redis, so claiming the
 * one configured now does not end it.
 */
void
ss_control_keep_lease(SsControl *control)
{
	raise_foreign(control, __atomic_load_n(&control->lease_until, __ATOMIC_SEQ_CST));
	__atomic_store_n(&control->lease_until, 0, __ATOMIC_SEQ_CST);
}

/* The only Redis that may have held a lease was claimed, and the lease removed. */
void
ss_control_end_foreign(SsControl *control)
{
	__atomic_store_n(&control->foreign_until, 0, __ATOMIC_SEQ_CST);
}

/* May some Redis hold a lease, or be granted one soon? */
bool
ss_control_may_be_leased(const SsControl *control, SsMonotonic now)
{
	return __atomic_load_n(&control->attached, __ATOMIC_SEQ_CST) ||
		   __atomic_load_n(&control->lease_until, __ATOMIC_SEQ_CST) > now ||
		   __atomic_load_n(&control->foreign_until, __ATOMIC_SEQ_CST) > now;
}

/*
 * A transaction becomes unlisted (R11).  The pusher flushes everything, and until the
 * transaction has ended it fills nothing and grants no lease.
 */
void
ss_control_unlisted_begin(SsControl *control)
{
	__atomic_add_fetch(&control->unlisted_begun, 1, __ATOMIC_SEQ_CST);
}

/* The transaction has ended.  Called once for each ss_control_unlisted_begin. */
void
ss_control_unlisted_end(SsControl *control)
{
	__atomic_add_fetch(&control->unlisted_ended, 1, __ATOMIC_SEQ_CST);
}

/* Number of unlisted transactions that have ended. */
uint64_t
ss_control_unlisted_ended(const SsControl *control)
{
	return __atomic_load_n(&control->unlisted_ended, __ATOMIC_SEQ_CST);
}

/*
 * Returns the number of a transaction that is about to change a policy so that sessions or
 * copies end earlier.  The caller has already stored the names of its namespaces where the
 * pusher finds them.
 */
uint64_t
ss_control_policy_begin(SsControl *control)
{
	return __atomic_add_fetch(&control->policies_begun, 1, __ATOMIC_SEQ_CST);
}

/* That transaction has ended, and policies that are read from now on are the new ones. */
void
ss_control_policy_end(SsControl *control)
{
	__atomic_add_fetch(&control->policies_ended, 1, __ATOMIC_SEQ_CST);
}

/*
 * Returns the ticket of a transaction that has entered its keys, and until when Redis may hold
 * a lease that was granted without knowledge of them.
 */
uint64_t
ss_control_ticket(SsControl *control, SsMonotonic *lease_until)
{
	uint64_t ticket = __atomic_add_fetch(&control->tickets, 1, __ATOMIC_SEQ_CST);
	SsMonotonic foreign;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	/* order matters: ss_control_keep_lease moves a lease from the first field to the second */
	*lease_until = __atomic_load_n(&control->lease_until, __ATOMIC_SEQ_CST);
	foreign = __atomic_load_n(&control->foreign_until, __ATOMIC_SEQ_CST);
	if (foreign > *lease_until)
		*lease_until = foreign;
	return ticket;
}

/*
 * Has the counter that a transaction waits for reached its value, or can no lease exist (R1)?
 * The counter says something about the present Redis only: a lease that may be in another one
 * is waited for in any case.
 */
static bool
is_reached(const SsControl *control, const uint64_t *reached, uint64_t wanted,
		   SsMonotonic lease_until, SsMonotonic now)
{
	if (!SS_RULE(1))
		return true;
	return now >= lease_until ||
		   ((__atomic_load_n(reached, __ATOMIC_SEQ_CST) >= wanted ||
			 now >= __atomic_load_n(&control->lease_until, __ATOMIC_SEQ_CST)) &&
			now >= __atomic_load_n(&control->foreign_until, __ATOMIC_SEQ_CST));
}

/*
 * May a fenced transaction commit?  Yes, once its copies are deleted or no lease can exist.  A
 * lease that is granted later was granted with knowledge of its keys, so the time that
 * ss_control_ticket returned remains an upper bound; the pusher may lower it.
 */
bool
ss_control_passes(const SsControl *control, uint64_t ticket, SsMonotonic lease_until,
				  SsMonotonic now)
{
	return is_reached(control, &control->passed, ticket, lease_until, now);
}

/*
 * The same for a change of a policy: yes, once its namespaces are flushed or no lease can
 * exist.  No lease is granted before the policy is covered (R14).
 */
bool
ss_control_policy_passes(const SsControl *control, uint64_t number, SsMonotonic lease_until,
						 SsMonotonic now)
{
	return is_reached(control, &control->policies_covered, number, lease_until, now);
}
