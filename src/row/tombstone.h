/*
 * tombstone.h
 *		What a session becomes when it ends: the contents of a tombstone.
 */
#ifndef SS_TOMBSTONE_H
#define SS_TOMBSTONE_H

#include "row/session.h"
#include "table/schema.h"

/*
 * The part of the SET list of an UPDATE that empties rows; their owner and the time of their end
 * are not in it.
 */
#define SS_SQL_EMPTY_ROW                                                    \
	"session_data = '{}'::pg_catalog.jsonb,"                                \
	" version = CASE WHEN version {<} 9223372036854775807::pg_catalog.int8" \
	" THEN version {+} 1::pg_catalog.int8 ELSE version END,"                \
	" updated_at = pg_catalog.clock_timestamp(),"                           \
	" message_count = 0, history_id = NULL,"                                \
	" turn_until = NULL, turn_holder = NULL,"                               \
	" summary = NULL, summary_up_to = NULL"

/*
 * SET list of an UPDATE that turns rows into tombstones, as described in tombstone.c.  The arguments
 * are numbers of parameters: the tombstone time of the namespace, an interval, and its
 * owner_isolation.
 */
#define SS_SQL_TOMBSTONE(duration_us, isolated)              \
	SS_SQL_EMPTY_ROW                                         \
	", owner_id = CASE WHEN " isolated " THEN owner_id END," \
	" expires_at = pg_catalog.clock_timestamp(),"            \
	" dead_until = pg_catalog.clock_timestamp() {+} " duration_us

extern int64 ss_tombstone_version(int64 version);
extern void ss_tombstone_make(SsRow *row, const SsPolicy *policy, TimestampTz now,
							  int64 duration_us);
extern void ss_tombstone_from_update(const SsDeformedRow *old, SsDeformedRow *new, TimestampTz now);

#endif
