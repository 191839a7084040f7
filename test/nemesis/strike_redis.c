/*
 * strike_redis.c
 *		Faults of Redis.
 *
 * Contract: a Redis that comes back without writes that it has acknowledged stays away for
 * one lease.  One that comes back empty need not, for it has no lease; and neither one
 * that is put back in place to a state older than a lease.
 */
#include <signal.h>
#include <stdio.h>

#include "nemesis.h"
#include "strike.h"

void
strike_redis_stop(uint64_t *r)
{
	redis_signal(SIGSTOP);
	last(between(r, 20 * MS, chance(r, 50) ? run.lease / 2 : run.lease * 2));
	redis_signal(SIGCONT);
}

void
strike_redis_empty(uint64_t *r)
{
	redis_kill();
	redis_forget();
	pause_us(between(r, 0, run.lease));
	redis_start();
}

/* From the last RDB file; the lease in it, and the last one, have ended. */
void
strike_redis_old(uint64_t *r)
{
	redis_kill();
	pause_us(run.lease + between(r, 100 * MS, 400 * MS));
	redis_start();
}

/* Back to an RDB file, with the connections kept: a failover behind the same address. */
void
strike_redis_rollback(uint64_t *r)
{
	if (redis_saved_at() == 0 && !redis_save())
		return;
	last(redis_saved_at() + run.lease + 200 * MS - now_us());
	if (run.calm || !redis_simple(0, "DEBUG RELOAD NOSAVE", 3 * SEC))
		return;
	(void) r;
}

void
strike_redis_flush(uint64_t *r)
{
	(void) redis_simple(strike_db, chance(r, 50) ? "FLUSHALL" : "FLUSHDB ASYNC", SEC);
}

void
strike_redis_pause(uint64_t *r)
{
	char command[60];
	int64_t time = between(r, 50 * MS, run.lease + 500 * MS);

	snprintf(command, sizeof(command), "CLIENT PAUSE %d %s", (int) (time / MS),
			 chance(r, 50) ? "ALL" : "WRITE");
	if (redis_simple(0, command, SEC))
		last(time);
}

void
strike_redis_guard(uint64_t *r)
{
	(void) redis_simple(strike_db,
						chance(r, 70) ? "DEL session_store:guard" : "DEL session_store:lease", SEC);
}

/*
 * A step forward can be tolerated at any time; one backward only by a pusher that notices it
 * (R12).
 */
void
strike_redis_clock(uint64_t *r)
{
	redis_shift_clock(between(r, 0, 3 * SEC));
}

/* No memory: writes are refused, or other keys evicted, guard and lease included. */
void
strike_redis_full(uint64_t *r)
{
	static const char *const policies[] = {"noeviction", "allkeys-random", "volatile-random"};
	char command[80];

	snprintf(command, sizeof(command), "CONFIG SET maxmemory-policy %s maxmemory 1mb",
			 policies[between(r, 0, 2)]);
	(void) redis_simple(0, command, SEC);
	last(between(r, 100 * MS, 2 * SEC));
	while (!redis_simple(0, "CONFIG SET maxmemory 0", SEC))
		pause_us(20 * MS);
}
