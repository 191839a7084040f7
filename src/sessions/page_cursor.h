/*
 * page_cursor.h
 *		The text that says where the next page of a listing begins.
 */
#ifndef SS_PAGE_CURSOR_H
#define SS_PAGE_CURSOR_H

#include "sessions/listing.h"

extern Datum ss_page_cursor_make(SsListOrder order, Datum id_prefix, TimestampTz created_at,
								 Datum session_id);
extern void ss_page_cursor_read(Datum cursor, Datum id_prefix, SsPage *page);

#endif
