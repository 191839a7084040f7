/*
 * request.c
 *		Completes a request of the protocol: its deadline, the end of a lease, its place in the chain.
 *
 * Times that are sent are in Redis' clock (R3, R12), whose difference to ours each answer renews.
 */
#include <string.h>

#include "protocol/guard.h"
#include "protocol/request.h"
#include "protocol/rules.h"

#define US_PER_MS INT64_C(1000)
#define PROBE_TIMEOUT_US (1000 * US_PER_MS)
#define TIMEOUT_LEAST_US (100 * US_PER_MS)
#define TIMEOUT_MOST_US (1000 * US_PER_MS)

/* The drift of two clocks per second, and the resolution of Redis' clock. */
#define DRIFT_US_PER_S (2 * US_PER_MS)
#define CLOCK_GRAIN_US (3 * US_PER_MS)

static int64_t
least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t
most(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* How long to wait for the answer to a request. */
static int64_t
timeout_us(const SsProto *p)
{
	return least(most(p->lease_us / 2, TIMEOUT_LEAST_US), TIMEOUT_MOST_US);
}

/*
 * Redis' clock minus ours was at least `low`, because the request was carried out before the
 * answer came, and at most `high`, because it was carried out after it was sent.  A time of
 * ours is converted with the lower bound, so that it ends at that time or earlier (R12).
 */
void
ss_request_update_clock(SsProto *p, SsRedisTime time, SsMonotonic now)
{
	int64_t low = ss_clock_offset(time, now);
	int64_t high = ss_clock_offset(time, p->sent_at);
	int64_t drift_us = (now - p->clock_at) * DRIFT_US_PER_S / (1000 * US_PER_MS) + CLOCK_GRAIN_US;

	if (!SS_RULE(12))
	{
		p->clock_low_us = p->clock_high_us = p->own_clock_us;
		p->clock_known = true;
		return;
	}
	if (p->clock_known && (high < p->clock_low_us - drift_us || low > p->clock_high_us + drift_us))
	{
		/* it was set: what ends at a time of Redis' clock ends at another time of ours */
		p->counts.steps++;
		p->flush_wanted = true;
		p->clock_known = false;
	}
	if (p->clock_known)
	{
		low = most(low, p->clock_low_us - drift_us);
		high = least(high, p->clock_high_us + drift_us);
	}
	p->clock_low_us = low;
	p->clock_high_us = most(low, high);
	p->clock_at = now;
	p->clock_known = true;
}

/* Completes the request and sends it; the caller has set request.lease for a batch. */
SsDo
ss_request_send(SsProto *p, SsRequestKind kind, SsMonotonic now)
{
	SsRequest *r = &p->request;
	SsLeaseAction lease = r->lease;

	memset(r, 0, sizeof(*r));
	r->kind = kind;
	r->give_up = now + (kind == SS_REQUEST_PROBE ? PROBE_TIMEOUT_US : timeout_us(p));
	r->deadline = SS_RULE(3) && kind != SS_REQUEST_PROBE
					  ? ss_clock_redis(r->give_up, p->clock_low_us)
					  : SS_REDIS_NEVER;
	ss_guard_sign(p);
	if (kind == SS_REQUEST_BATCH)
	{
		r->lease = lease;
		if (lease == SS_LEASE_SET)
		{
			r->lease_until = ss_clock_redis(p->round_at + p->round_lease_us, p->clock_low_us);
			if (!SS_RULE(3))
				r->lease_for_us = p->round_lease_us;
		}
		p->counts.batches++;
	}
	p->sent_at = now;
	p->busy = true;
	return SS_DO_SEND;
}
