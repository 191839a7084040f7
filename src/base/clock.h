/*
 * clock.h
 *		The clocks, and points in time of each as types of their own.
 *
 * There are three clocks, all in microseconds:
 *
 *	- the server's wall clock, a TimestampTz (GetCurrentTimestamp).  Expiries, and everything that is
 *	  shown or stored, are in it.  It can be set.
 *	- the monotonic clock, SsMonotonic, which is never set, and which all processes of a machine
 *	  share.  Leases, and whatever else processes wait for, are in it.  Its points in time mean
 *	  nothing after a restart of the operating system.
 *	- the clock of Redis, SsRedisTime, since 1970.  Absolute times that are sent to Redis are in it (R12).
 *
 * A duration is an integer.  Points in time are integers as well, which C would let us mix, so they
 * have names, and there is a check: with SS_CHECK_CLOCKS defined they are pointers to structs of one
 * byte.  For pointers a compiler admits exactly what makes sense for points in time: their
 * difference is a number, a number may be added, and points of one clock are compared with each other,
 * but not with those of another or with numbers.  Such code is compiled (./dev test unit), and not
 * run.  0 is no point in time, and can be assigned and compared in both.
 *
 * Pure C, because the simulator uses it.
 */
#ifndef SS_CLOCK_H
#define SS_CLOCK_H

#include <stdint.h>

#ifdef SS_CHECK_CLOCKS
struct SsMonotonicByte
{
	char byte;
};
struct SsRedisByte
{
	char byte;
};
typedef struct SsMonotonicByte *SsMonotonic;
typedef struct SsRedisByte *SsRedisTime;
#else
typedef int64_t SsMonotonic;
typedef int64_t SsRedisTime;
#endif

/* A point in time as a number: to print it, to derive a seed, or to convert it to another clock. */
#define ss_time_number(time) ((int64_t) (time))

/* The time of one clock minus that of another; and a point in time of Redis' clock from it. */
#define ss_clock_offset(time, from) (ss_time_number(time) - ss_time_number(from))
#define ss_clock_redis(time, offset) ((SsRedisTime) (ss_time_number(time) + (offset)))

/* Later than every other point in time. */
#define SS_MONOTONIC_NEVER ((SsMonotonic) INT64_MAX)
#define SS_REDIS_NEVER ((SsRedisTime) INT64_MAX)

extern SsMonotonic ss_monotonic(void);

#endif
