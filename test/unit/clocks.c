/*
 * clocks.c
 *		With SS_CHECK_CLOCKS this file compiles, but not with MISTAKE 1 to 7 (make clock-check).
 */
#include "base/clock.h"

SsMonotonic now;
SsMonotonic deadline;
SsRedisTime redis;
int64_t wall;
int64_t offset;

int check(void);

int
check(void)
{
	int64_t left = deadline - now;

	deadline = now + 1000;
	if (deadline == 0 || now >= deadline - left)
		deadline = SS_MONOTONIC_NEVER;
	redis = ss_clock_redis(now, offset);
	offset = ss_clock_offset(redis, now);
	wall = ss_time_number(now);
#if MISTAKE == 1
	deadline = wall + 1000;
#elif MISTAKE == 2
	wall = now;
#elif MISTAKE == 3
	left = wall - now;
#elif MISTAKE == 4
	redis = now;
#elif MISTAKE == 5
	left = now > redis;
#elif MISTAKE == 6
	left = now > wall;
#elif MISTAKE == 7
	left = redis - now;
#endif
	return left > 0;
}
