/*
 * expiry.c
 *		Unit test of src/base/expiry.c: the arithmetic of lifetimes, at its limits and against a
 *		wider type.
 *
 * Besides fixed cases, random ones are compared with the same sums in 128 bits.  The seed is
 * printed; pass it as an argument, or in SESSION_STORE_SEED, to repeat a run.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/expiry.h"

#include "check.h"

static uint64_t state;

static int64_t
any(void)
{
	/* xorshift; now and then an edge */
	static const int64_t edges[] = {INT64_MIN, INT64_MIN + 1, -1, 0, 1, INT64_MAX - 1, INT64_MAX};

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	if (state % 5 == 0)
		return edges[state % 7];
	return (int64_t) (state >> (state % 60));
}

static int64_t
clamp(__int128 value)
{
	return value > INT64_MAX ? INT64_MAX : value < INT64_MIN ? INT64_MIN : (int64_t) value;
}

static SsDurationCheck
ttl(int32_t months, int32_t days, int64_t usec, int64_t *result)
{
	return ss_duration(months, days, usec, SS_TTL_MIN_US, SS_TTL_MAX_US, result);
}

static void
durations(void)
{
	int64_t result = 42;

	CHECK(ttl(0, 0, 1000, &result) == SS_DURATION_OK && result == 1000);
	CHECK(ttl(0, 0, 999, &result) == SS_DURATION_TOO_SHORT && result == 1000);
	CHECK(ttl(0, 0, 0, &result) == SS_DURATION_TOO_SHORT);
	CHECK(ttl(0, 0, -1, &result) == SS_DURATION_TOO_SHORT);
	CHECK(ttl(0, 1, 0, &result) == SS_DURATION_OK && result == SS_USEC_PER_DAY);
	CHECK(ttl(0, 1, -SS_USEC_PER_DAY + 1000, &result) == SS_DURATION_OK && result == 1000);
	CHECK(ttl(1, 0, 0, &result) == SS_DURATION_MONTHS);
	CHECK(ttl(-1, 100, 0, &result) == SS_DURATION_MONTHS);
	CHECK(ttl(INT32_MAX, INT32_MAX, INT64_MAX, &result) == SS_DURATION_MONTHS);
	CHECK(ttl(0, 36525, 0, &result) == SS_DURATION_OK && result == SS_TTL_MAX_US);
	CHECK(ttl(0, 36525, 1, &result) == SS_DURATION_TOO_LONG);
	CHECK(ttl(0, INT32_MAX, INT64_MAX, &result) == SS_DURATION_TOO_LONG);
	CHECK(ttl(0, INT32_MIN, INT64_MIN, &result) == SS_DURATION_TOO_SHORT);
	CHECK(ss_duration(0, 0, 0, 0, SS_TTL_MAX_US, &result) == SS_DURATION_OK && result == 0);
	CHECK(ss_duration(0, 0, -1, 0, SS_TTL_MAX_US, &result) == SS_DURATION_TOO_SHORT);
}

static void
fixed_cases(void)
{
	CHECK(ss_expiry(100, 50, 0, SS_NO_LIMIT) == 150);
	CHECK(ss_expiry(100, 50, 90, 20) == 110);
	CHECK(ss_expiry(100, 50, 90, 60) == 150);
	CHECK(ss_expiry(100, 50, 90, 61) == 150);
	CHECK(ss_expiry(INT64_MAX - 1, 50, 0, SS_NO_LIMIT) == INT64_MAX);
	CHECK(ss_expiry_fixed(150, 0, SS_NO_LIMIT) == 150);
	CHECK(ss_expiry_fixed(150, 90, 20) == 110);
	CHECK(ss_expiry_fixed(150, 90, 60) == 150);
	CHECK(ss_expiry_fixed(-150, 90, 60) == -150);
	CHECK(ss_expiry_fixed(SS_FOREVER, 90, SS_NO_LIMIT) == 90 + SS_TTL_MAX_US);
	CHECK(ss_expiry_fixed(SS_FOREVER, INT64_MAX - 1, SS_NO_LIMIT) == INT64_MAX);
	CHECK(ss_expiry_is_forever(90 + SS_TTL_MAX_US, SS_FIXED, 90));
	CHECK(!ss_expiry_is_forever(89 + SS_TTL_MAX_US, SS_FIXED, 90));
	CHECK(!ss_expiry_is_forever(90 + SS_TTL_MAX_US, SS_TTL_MAX_US, 90));
	CHECK(ss_slack(SS_FIXED) == 0);
	CHECK(ss_slack(80) == 10);
	CHECK(ss_slack(SS_TTL_MIN_US) == 125);
	CHECK(ss_slack(8 * SS_SLACK_MAX_US) == SS_SLACK_MAX_US);
	CHECK(ss_slack(8 * SS_SLACK_MAX_US - 8) == SS_SLACK_MAX_US - 1);
	CHECK(ss_slack(SS_TTL_MAX_US) == SS_SLACK_MAX_US);
}

static void
random_cases(long n)
{
	for (long i = 0; i < n; i++)
	{
		int64_t now = any();
		int64_t life = any();
		int64_t created = any();
		int64_t limit = any();
		int64_t expiry = ss_expiry(now, life, created, limit);
		int64_t uncapped = clamp((__int128) now + life);
		int64_t cap = clamp((__int128) created + limit);
		int32_t days = (int32_t) any();
		int64_t total = clamp((__int128) days * SS_USEC_PER_DAY + life);
		int64_t result = 0;
		SsDurationCheck check = ss_duration(0, days, life, INT64_MIN, INT64_MAX, &result);

		CHECK(expiry == (limit == SS_NO_LIMIT || uncapped < cap ? uncapped : cap));
		CHECK(check == SS_DURATION_OK && result == total);
		CHECK(ss_expiry_cap(now, created, limit) ==
			  (limit == SS_NO_LIMIT || now < cap ? now : cap));
	}
}

int
main(int argc, char **argv)
{
	const char *given = argc > 1 ? argv[1] : getenv("SESSION_STORE_SEED");
	uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t) time(NULL);

	printf("seed %" PRIu64 "\n", seed);
	state = seed | 1;
	durations();
	fixed_cases();
	random_cases(200000);
	return report();
}
