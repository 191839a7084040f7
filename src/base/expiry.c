/*
 * expiry.c
 *		Arithmetic of lifetimes; see expiry.h for the terms.
 *
 * Every sum saturates.  Valid timestamps are far from the limits of 64 bits, but a table may be
 * written by hand, and a clock may be wrong.
 */
#include "base/expiry.h"

/* Add two signed numbers; a result out of range becomes the nearest limit. */
static int64_t
saturating_add(int64_t a, int64_t b)
{
	if (b > 0 && a > INT64_MAX - b)
		return INT64_MAX;
	if (b < 0 && a < INT64_MIN - b)
		return INT64_MIN;
	return a + b;
}

/*
 * Convert an interval's parts to elapsed microseconds, a day being 24 hours,
 * and check it against [least, most].  Months are refused, since they have no
 * length; an infinite interval (PostgreSQL 17) carries INT32_MAX or INT32_MIN
 * months and is refused with them.  *result is set only for SS_DURATION_OK.
 */
SsDurationCheck
ss_duration(int32_t months, int32_t days, int64_t usec, int64_t least, int64_t most,
			int64_t *result)
{
	int64_t whole;
	int64_t total;

	if (months != 0)
		return SS_DURATION_MONTHS;

	/* add up whole days first, so that neither part can overflow by itself */
	whole = days + usec / SS_USEC_PER_DAY;
	usec %= SS_USEC_PER_DAY;
	if (whole > INT64_MAX / SS_USEC_PER_DAY)
		total = INT64_MAX;
	else if (whole < INT64_MIN / SS_USEC_PER_DAY)
		total = INT64_MIN;
	else
		total = saturating_add(whole * SS_USEC_PER_DAY, usec);

	if (total < least)
		return SS_DURATION_TOO_SHORT;
	if (total > most)
		return SS_DURATION_TOO_LONG;
	*result = total;
	return SS_DURATION_OK;
}

/* An expiry, but not later than created_at + max_lifetime (SS_NO_LIMIT if there is none). */
int64_t
ss_expiry_cap(int64_t expiry, int64_t created_at, int64_t max_lifetime_us)
{
	if (max_lifetime_us != SS_NO_LIMIT)
	{
		int64_t limit = saturating_add(created_at, max_lifetime_us);

		if (limit < expiry)
			expiry = limit;
	}
	return expiry;
}

/* The expiry of a session that is used now: now + ttl, within its max_lifetime. */
int64_t
ss_expiry(int64_t now, int64_t ttl_us, int64_t created_at, int64_t max_lifetime_us)
{
	return ss_expiry_cap(saturating_add(now, ttl_us), created_at, max_lifetime_us);
}

/* The expiry of a session that is to end at a given time (SS_FOREVER: never). */
int64_t
ss_expiry_fixed(int64_t at, int64_t created_at, int64_t max_lifetime_us)
{
	int64_t last = saturating_add(created_at, SS_TTL_MAX_US);

	return ss_expiry_cap(at < last ? at : last, created_at, max_lifetime_us);
}

/* Is a session kept until it is deleted? */
bool
ss_expiry_is_forever(int64_t expires_at, int64_t ttl_us, int64_t created_at)
{
	return ttl_us == SS_FIXED && expires_at >= saturating_add(created_at, SS_TTL_MAX_US);
}

/* The precision of sliding expiry: an eighth of the ttl, at most 5 minutes. */
int64_t
ss_slack(int64_t ttl_us)
{
	int64_t slack_us = ttl_us / 8;

	return slack_us < SS_SLACK_MAX_US ? slack_us : SS_SLACK_MAX_US;
}
