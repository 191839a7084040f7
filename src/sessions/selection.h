/*
 * selection.h
 *		Selects the sessions of a call that works on many.
 */
#ifndef SS_SELECTION_H
#define SS_SELECTION_H

#include "row/session.h"

/* Conditions on sessions of a namespace; a zero Datum is no condition. */
typedef struct SsSelection
{
	Datum owner;     /* text */
	Datum id_like;   /* text, a LIKE pattern */
	Datum id_prefix; /* text that the id begins with, compared bytewise */
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

extern SsScope ss_scope_of(const SsTarget *target, SsSelection *which);
extern Datum ss_alive_param(const SsTarget *target);
extern Datum ss_id_range_end(Datum prefix);

/* Returns SPI's null flag of a parameter that is a condition. */
static inline char
ss_null_if(Datum value)
{
	return value == (Datum) 0 ? 'n' : ' ';
}

#endif
