/*
 * lifetime.h
 *		How long a call lets a session live.
 */
#ifndef SS_LIFETIME_H
#define SS_LIFETIME_H

#include "row/session.h"

/* The lifetime that a call gives a session. */
typedef struct SsLifetime
{
	bool given;             /* otherwise the session keeps its own */
	int64 ttl_us;           /* SS_FIXED: the session ends at expires_at */
	TimestampTz expires_at; /* SS_FOREVER: it is kept until it is deleted */
} SsLifetime;

/* Does a call end the session at once? */
static inline bool
ss_lifetime_has_ended(const SsLifetime *lifetime, TimestampTz now)
{
	return lifetime->given && lifetime->ttl_us == SS_FIXED &&
		   ss_liveness_has_ended(lifetime->expires_at, now);
}

extern void ss_lifetime_set(SsRow *row, const SsLifetime *lifetime);
extern void ss_lifetime_restart(SsRow *row, const SsPolicy *policy, TimestampTz now);
extern void ss_lifetime_write(SsTarget *target, SsRow *row, TimestampTz base);

#endif
