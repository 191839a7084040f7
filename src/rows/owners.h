/*
 * owners.h
 *		Many sessions at once: of an owner, of a namespace.
 */
#ifndef SS_OWNERS_H
#define SS_OWNERS_H

#include "rows/sessions.h"

/* Which sessions; a zero Datum is no condition. */
typedef struct SsSelection
{
	Datum owner;
	Datum id_like;
	Datum filter;
	Datum except_id;
} SsSelection;

/* Where a page of a listing begins. */
typedef struct SsPage
{
	TimestampTz created_at; /* before these two, in descending order */
	Datum session_id;
	int32 size;
} SsPage;

/* Called with each row of a page: session_id .. message_count, as session_summary has them. */
typedef void (*SsSessionSink)(void *arg, HeapTuple row, TupleDesc desc);

extern void ss_owner_enforce_quota(SsTarget *target, Datum owner);
extern int64 ss_sessions_delete(SsTarget *target, const SsSelection *which);
extern int64 ss_sessions_count(SsTarget *target, const SsSelection *which);
extern void ss_sessions_page(SsTarget *target, const SsSelection *which, const SsPage *page,
							 SsSessionSink sink, void *arg);

#endif
