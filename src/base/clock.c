/*
 * clock.c
 *		The monotonic clock.
 */
#include "postgres.h"

#include <time.h>

#include "datatype/timestamp.h"

#include "base/clock.h"

/*
 * The time in microseconds of a clock that is never set and that all processes share.  Not
 * comparable across a restart of the operating system.
 */
SsMonotonic
ss_monotonic(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (SsMonotonic) ((int64) now.tv_sec * USECS_PER_SEC + now.tv_nsec / 1000);
}
