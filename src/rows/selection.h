/*
 * selection.h
 *		Selects the sessions of a call that works on many.
 */
#ifndef SS_SELECTION_H
#define SS_SELECTION_H

#include "rows/liveness.h"
#include "rows/sessions.h"

/* Conditions on sessions of a namespace; a zero Datum is no condition. */
typedef struct SsSelection
{
	Datum owner;     /* text */
	Datum id_like;   /* text, a LIKE pattern */
	Datum filter;    /* jsonb that the document contains */
	Datum except_id; /* text */
} SsSelection;

/*
 * What a selection covers for the caller.  With owner isolation these are some of the caller's own
 * sessions, to which the selection is then reduced, and some that others have shared with it.
 */
typedef struct SsScope
{
	bool own;      /* the selection covers sessions: the caller's own, or without isolation any */
	char *subject; /* whose shared sessions it covers; NULL: no isolation, or no subject */
} SsScope;

/*
 * SET list of an UPDATE that ends sessions; the same as ss_session_end.  `isolated` is owner_isolation
 * of the namespace: then the owner is kept, because only the owner may reuse the id.  The version
 * saturates as in ss_final_version.
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
extern Datum ss_alive_param(const SsTarget *target);

/* Returns SPI's null flag of a parameter that is a condition. */
static inline char
ss_null_if(Datum value)
{
	return value == (Datum) 0 ? 'n' : ' ';
}

#endif
