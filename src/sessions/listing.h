/*
 * listing.h
 *		Counts and lists sessions.
 */
#ifndef SS_LISTING_H
#define SS_LISTING_H

#include "sessions/selection.h"

/* The order of a listing. */
typedef enum SsListOrder
{
	SS_NEWEST_FIRST, /* by created_at, then by session_id, both descending */
	SS_BY_ID         /* by session_id, bytewise; if the selection has an id_prefix */
} SsListOrder;

/* A page of a listing: its size, and the position behind which it begins. */
typedef struct SsPage
{
	SsListOrder order;
	TimestampTz created_at; /* DT_NOEND for the first page; only in the order SS_NEWEST_FIRST */
	Datum session_id;       /* empty for the first page */
	int32 size;
	bool with_data; /* the documents are wanted */
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
	SS_PAGE_SESSION_DATA, /* possibly toasted; null unless the page has with_data */
	SS_PAGE_COLUMNS = SS_PAGE_SESSION_DATA
} SsPageColumn;

/* Called with each row of a page. */
typedef void (*SsSessionSink)(void *arg, HeapTuple row, TupleDesc desc);

extern int64 ss_sessions_count(SsTarget *target, const SsSelection *which);
extern void ss_sessions_page(SsTarget *target, const SsSelection *which, const SsPage *page,
							 SsSessionSink sink, void *arg);

#endif
