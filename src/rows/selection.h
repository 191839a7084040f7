/*
 * selection.h
 *		Which sessions a call about many of them means.
 */
#ifndef SS_SELECTION_H
#define SS_SELECTION_H

#include "rows/sessions.h"

/* Which sessions; a zero Datum is no condition. */
typedef struct SsSelection
{
	Datum owner;
	Datum id_like;
	Datum filter;
	Datum except_id;
} SsSelection;

/*
 * With owner isolation, what a selection means to the caller: some of its own sessions, which
 * are then all that is left in the selection, and some that others have shared with it.
 */
typedef struct SsScope
{
	bool own;
	char *subject; /* NULL: no isolation */
} SsScope;

/* A living row, in SQL. */
#define SS_SQL_ALIVE                                                       \
	"(dead_until IS NULL OR dead_until {<=} pg_catalog.clock_timestamp())" \
	" AND (expires_at {>} pg_catalog.clock_timestamp()"                    \
	" OR (dead_until IS NULL"                                              \
	" AND {effective}(namespace, session_id, expires_at) {>} pg_catalog.clock_timestamp()))"

/* Beyond max_lifetime a row is over as well, whatever its expires_at says. */
#define SS_SQL_CREATED_AFTER(param) "created_at {>} " param

/*
 * What the row of a session becomes when it ends.  Where owners are kept apart its owner stays, who
 * alone may then use the id again (isolated: the owner_isolation of the namespace).  The version
 * saturates, as in ss_final_version.
 */
#define SS_SQL_END(tombstone, isolated)                                                 \
	"session_data = '{}'::pg_catalog.jsonb,"                                            \
	" owner_id = CASE WHEN " isolated " THEN owner_id END,"                             \
	" version = CASE WHEN version {<} 9223372036854775807::pg_catalog.int8"             \
	" THEN version {+} 1::pg_catalog.int8 ELSE version END,"                            \
	" updated_at = pg_catalog.clock_timestamp(),"                                       \
	" expires_at = pg_catalog.clock_timestamp(), message_count = 0, history_id = NULL," \
	" dead_until = pg_catalog.clock_timestamp() {+} " tombstone

extern SsScope ss_scope_of(const SsTarget *target, SsSelection *which);
extern Datum ss_max_lifetime_cutoff(const SsTarget *target);

/* For a parameter that is no condition. */
static inline char
ss_null_if(Datum value)
{
	return value == (Datum) 0 ? 'n' : ' ';
}

#endif
