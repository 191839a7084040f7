/*
 * liveness.c
 *		Unit test of the pure part of src/row/liveness.h: is a row alive, expired or dead, and when
 *		may it be removed?
 *
 * Every combination of edges is compared with the rules as the comment of liveness.h words them.
 */
#include "row/liveness.h"

#include "check.h"

static void
fixed_cases(void)
{
	/* a session is alive until its end, and at its end it is not */
	CHECK(ss_liveness_state(100, SS_NEVER, 99) == SS_ALIVE);
	CHECK(ss_liveness_state(100, SS_NEVER, 100) == SS_EXPIRED);
	/* an id is dead until dead_until, whatever the expiry says */
	CHECK(ss_liveness_state(50, 100, 99) == SS_DEAD);
	CHECK(ss_liveness_state(200, 100, 99) == SS_DEAD);
	CHECK(ss_liveness_state(50, 100, 100) == SS_EXPIRED);
	/* the purge removes a row at its end, a tombstone not before it has run out */
	CHECK(ss_liveness_purge_at(100, SS_NEVER) == 100);
	CHECK(ss_liveness_purge_at(100, 200) == 200);
	CHECK(ss_liveness_purge_at(200, 100) == 200);
	/* check_at of a session: lowered to its expiry, never raised */
	CHECK(ss_liveness_check_at(100, 50, SS_NEVER) == 50);
	CHECK(ss_liveness_check_at(50, 100, SS_NEVER) == 50);
	/* a tombstone is checked when it may be removed */
	CHECK(ss_liveness_check_at(300, 50, 200) == 200);
	CHECK(ss_liveness_check_at(100, 50, 200) == 100);
	CHECK(ss_liveness_created_after(1000, SS_NO_LIMIT) == INT64_MIN);
	CHECK(ss_liveness_created_after(1000, 400) == 600);
}

/* The states and times of all rows with these times. */
static void
all_cases(void)
{
	static const int64_t times[] = {INT64_MIN, INT64_MIN + 1, -7, 0, 7, INT64_MAX - 1, INT64_MAX};
	const int n = sizeof(times) / sizeof(times[0]);

	for (int i = 0; i < n * n * n; i++)
	{
		int64_t end = times[i % n];
		int64_t dead_until = times[i / n % n];
		int64_t now = times[i / n / n];
		SsState state = ss_liveness_state(end, dead_until, now);
		int64_t purge_at = ss_liveness_purge_at(end, dead_until);

		CHECK((state == SS_DEAD) == (dead_until > now));
		CHECK((state == SS_ALIVE) == (dead_until <= now && now < end));
		CHECK((state == SS_EXPIRED) == (dead_until <= now && end <= now));
		/* what is removed without regard to a max_lifetime has expired */
		CHECK(ss_liveness_has_ended(purge_at, now) == (state == SS_EXPIRED));
		CHECK(ss_liveness_check_at(now, end, dead_until) == (now < purge_at ? now : purge_at));
	}
}

/*
 * SS_SQL_ALIVE compares created_at with ss_liveness_created_after, code in C compares the end with the
 * clock: both must find that the max_lifetime has passed.
 */
static void
max_lifetimes(void)
{
	const int64_t now = INT64_C(800000000) * SS_USEC_PER_SEC;
	static const int64_t limits[] = {SS_TTL_MIN_US, SS_USEC_PER_SEC, SS_USEC_PER_DAY,
									 SS_TTL_MAX_US};

	for (int i = 0; i < (int) (sizeof(limits) / sizeof(limits[0])); i++)
		for (int64_t off = -2; off <= 2; off++)
		{
			int64_t created_at = now - limits[i] + off;
			int64_t end = ss_expiry_cap(now + SS_TTL_MAX_US, created_at, limits[i]);

			CHECK((ss_liveness_state(end, SS_NEVER, now) == SS_ALIVE) ==
				  (created_at > ss_liveness_created_after(now, limits[i])));
		}
}

int
main(void)
{
	fixed_cases();
	all_cases();
	max_lifetimes();
	return report();
}
