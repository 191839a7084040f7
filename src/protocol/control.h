/*
 * control.h
 *		What the transactions of a database and its pusher tell each other, apart from keys.
 *
 * The terms and the order of calls are in ledger.h.  Pure C, for the simulator.
 */
#ifndef SS_CONTROL_H
#define SS_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"

/*
 * The longest lease that the setting allows, and so the longest that another server can have
 * granted.
 */
#define SS_LEASE_LONGEST_US INT64_C(10000000)

/*
 * What the transactions of a database and its pusher tell each other.  Every field is read and
 * written atomically, except `member`, which does not change.
 */
typedef struct SsControl
{
	SsMonotonic lease_until;   /* by then each lease granted by the present pusher has ended */
	SsMonotonic foreign_until; /* the same for earlier leases, perhaps in another Redis (R9) */
	SsMonotonic first_until;   /* value of foreign_until at the start of the server */
	uint32_t promotion;        /* 1: foreign_until covers the promotion of this server */
	uint64_t tickets;          /* number of tickets issued */
	uint64_t passed;           /* tickets up to this one may pass the fence */
	uint64_t synced;           /* Redis has what transactions up to this ticket committed */
	uint64_t unlisted_begun;   /* number of transactions that became unlisted */
	uint64_t unlisted_ended;   /* .. and have ended */
	uint64_t policies_begun;   /* number of transactions that end sessions by a policy (R14) */
	uint64_t policies_ended;   /* .. and have ended */
	uint64_t policies_covered; /* policies up to this number have no copies left */
	uint32_t attached;
	uint8_t member;
} SsControl;

/* For the pusher, and at the start of the server. */
extern void ss_control_init(SsControl *control, int member, SsMonotonic now);
extern void ss_control_promoted(SsControl *control, SsMonotonic when);
extern void ss_control_never_leased(SsControl *control, SsMonotonic promoted);
extern void ss_control_keep_lease(SsControl *control);
extern void ss_control_end_foreign(SsControl *control);
extern bool ss_control_may_be_leased(const SsControl *control, SsMonotonic now);

/* For transactions. */
extern void ss_control_unlisted_begin(SsControl *control);
extern void ss_control_unlisted_end(SsControl *control);
extern uint64_t ss_control_unlisted_ended(const SsControl *control);
extern uint64_t ss_control_policy_begin(SsControl *control);
extern void ss_control_policy_end(SsControl *control);
extern bool ss_control_policy_passes(const SsControl *control, uint64_t number,
									 SsMonotonic lease_until, SsMonotonic now);
extern uint64_t ss_control_ticket(SsControl *control, SsMonotonic *lease_until);
extern bool ss_control_passes(const SsControl *control, uint64_t ticket, SsMonotonic lease_until,
							  SsMonotonic now);

#endif
