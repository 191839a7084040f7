/*
 * lifetime.c
 *		Gives a session another lifetime, and restarts the one that it has.
 *
 * A session either has a ttl, which every change restarts, or a fixed expiry (SS_FIXED), which no
 * pending touch extends (liveness.c).
 */
#include "postgres.h"

#include "base/expiry.h"
#include "row/row.h"
#include "sessions/lifetime.h"
#include "touch/touch_xact.h"

/* Sets the ttl or the fixed expiry of a row in memory.  The caller restarts the lifetime afterwards. */
void
ss_lifetime_set(SsRow *row, const SsLifetime *lifetime)
{
	if (!lifetime->given)
		return;
	if (lifetime->ttl_us == SS_FIXED)
		row->expires_at = lifetime->expires_at;
	row->ttl_us = lifetime->ttl_us;
}

/* Restarts the lifetime of a row in memory.  A fixed expiry stays, unless max_lifetime is shorter. */
void
ss_lifetime_restart(SsRow *row, const SsPolicy *policy, TimestampTz now)
{
	row->expires_at = row->ttl_us == SS_FIXED
						  ? ss_expiry_fixed(row->expires_at, row->created_at,
											policy->max_lifetime_us)
						  : ss_expiry(now, row->ttl_us, row->created_at, policy->max_lifetime_us);
}

/*
 * Writes expiry and ttl of a locked row, and moves a pending touch of the version that it replaces,
 * whose expiry was `base`.
 */
void
ss_lifetime_write(SsTarget *target, SsRow *row, TimestampTz base)
{
	SsTouch touch = {.base = base, .ttl_us = row->ttl_us, .expires_at = row->expires_at};

	(void) ss_row_write(target, row, SS_WRITE_EXPIRY);
	ss_touch_xact_rebase(&target->key, &touch);
}
