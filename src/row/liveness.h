/*
 * liveness.h
 *		Decides whether a session is alive, and until when, in C and as SQL.
 *
 * This is the only place that says so.  A row of conversation_sessions is
 *
 *	- dead, a tombstone, while dead_until is in the future: the id cannot be used.
 *	- alive before its end: its expiry (ss_liveness_expiry, which knows pending touches), but not
 *	  later than created_at plus the max_lifetime of the namespace (ss_expiry_cap).
 *	- expired from its end on.  The id is free.
 *
 * dead_until is null (SS_NEVER) in the row of a session.  A row that has it is a tombstone also after
 * that time, and no pending touch extends it.  Nor does one extend a session with a fixed expiry, whose
 * ttl is null.
 *
 * What is not alive may not be removed yet: the purge goes by ss_liveness_purge_at, which knows no
 * policy, so that a mistyped max_lifetime hides sessions and does not erase them.
 *
 * The SQL condition must say the same as the C code; test/sql/alive.sql compares them.  Apart
 * from the SQL, this is pure C without server headers, tested by test/unit.  Times are in the unit
 * and scale of TimestampTz.  For a row in memory, ss_row_set_state (row.c) applies these rules.
 */
#ifndef SS_LIVENESS_H
#define SS_LIVENESS_H

#include "base/expiry.h"
#include "base/key.h"

#define SS_NEVER INT64_MIN /* dead_until of a row that is no tombstone */

typedef enum SsState
{
	SS_ABSENT,  /* there is no row */
	SS_ALIVE,   /* the session may be read */
	SS_EXPIRED, /* past its end, or a tombstone that has run out: the id is free */
	SS_DEAD     /* a tombstone: the id cannot be used yet */
} SsState;

/* Has something that ends at `end` ended?  At its end it has. */
static inline bool
ss_liveness_has_ended(int64_t end, int64_t now)
{
	return end <= now;
}

/* Returns the state of a row. */
static inline SsState
ss_liveness_state(int64_t end, int64_t dead_until, int64_t now)
{
	if (!ss_liveness_has_ended(dead_until, now))
		return SS_DEAD;
	return ss_liveness_has_ended(end, now) ? SS_EXPIRED : SS_ALIVE;
}

/* Returns when the purge may remove a row, whose expiry includes its pending touch. */
static inline int64_t
ss_liveness_purge_at(int64_t expiry, int64_t dead_until)
{
	return expiry > dead_until ? expiry : dead_until;
}

/*
 * Lowers check_at, the time at which the purge checks a row, to the time at which it may remove it.
 * Never raises it; only the purge does, by passing another check_at.
 */
static inline int64_t
ss_liveness_check_at(int64_t check_at, int64_t expires_at, int64_t dead_until)
{
	int64_t purge_at = ss_liveness_purge_at(expires_at, dead_until);

	return check_at < purge_at ? check_at : purge_at;
}

/*
 * Returns the time such that sessions created at or before it have exceeded max_lifetime: the
 * parameter of SS_SQL_ALIVE.
 */
static inline int64_t
ss_liveness_created_after(int64_t now, int64_t max_lifetime_us)
{
	return max_lifetime_us == SS_NO_LIMIT ? INT64_MIN : now - max_lifetime_us;
}

/*
 * SQL condition: the session of a row is alive.  `created_after` is the number of a parameter of type
 * timestamptz, whose value is ss_liveness_created_after.
 */
#define SS_SQL_ALIVE(created_after)                                             \
	"created_at {>} " created_after                                             \
	" AND (dead_until IS NULL OR dead_until {<=} pg_catalog.clock_timestamp())" \
	" AND (expires_at {>} pg_catalog.clock_timestamp()"                         \
	" OR (dead_until IS NULL AND ttl IS NOT NULL"                               \
	" AND {effective}(namespace, session_id, expires_at) {>} pg_catalog.clock_timestamp()))"

/* SQL expression: the expiry of a row, as ss_liveness_expiry. */
#define SS_SQL_EXPIRY                                                 \
	"CASE WHEN ttl IS NULL OR dead_until IS NOT NULL THEN expires_at" \
	" ELSE {effective}(namespace, session_id, expires_at) END"

extern int64_t ss_liveness_expiry(const SsKey *key, int64_t expires_at, bool fixed,
								  int64_t dead_until);

#endif
