/*
 * listing.h
 *		Counts and lists sessions.
 */
#ifndef SS_LISTING_H
#define SS_LISTING_H

#include "sessions/selection.h"

/* A page of a listing: its size, and the position after which it begins. */
typedef struct SsPage
{
	TimestampTz
		created_at; /* the page has rows below (created_at, session_id), in descending order */
	Datum session_id;
	int32 size;
} SsPage;

/* The columns of a row of a page. */
typedef enum SsPageColumn
{
	SS_PAGE_SESSION_ID = 1,
	SS_PAGE_OWNER_ID,
	SS_PAGE_VERSION,
	SS_PAGE_CREATED_AT,
	SS_PAGE_UPDATED_AT,
	SS_PAGE_EXPIRES_AT,
	SS_PAGE_MESSAGE_COUNT,
	SS_PAGE_COLUMNS = SS_PAGE_MESSAGE_COUNT
} SsPageColumn;

/* Called with each row of a page. */
typedef void (*SsSessionSink)(void *arg, HeapTuple row, TupleDesc desc);

extern int64 ss_sessions_count(SsTarget *target, const SsSelection *which);
extern void ss_sessions_page(SsTarget *target, const SsSelection *which, const SsPage *page,
							 SsSessionSink sink, void *arg);

#endif
