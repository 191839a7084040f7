/*
 * listing.h
 *		Counting and listing sessions.
 */
#ifndef SS_LISTING_H
#define SS_LISTING_H

#include "rows/selection.h"

/* Where a page of a listing begins. */
typedef struct SsPage
{
	TimestampTz created_at; /* before these two, in descending order */
	Datum session_id;
	int32 size;
} SsPage;

/* Called with each row of a page: session_id .. message_count, as session_summary has them. */
typedef void (*SsSessionSink)(void *arg, HeapTuple row, TupleDesc desc);

extern int64 ss_sessions_count(SsTarget *target, const SsSelection *which);
extern void ss_sessions_page(SsTarget *target, const SsSelection *which, const SsPage *page,
							 SsSessionSink sink, void *arg);

#endif
