/*
 * row_guard.h
 *		The trigger that keeps the invariants of conversation_sessions.
 */
#ifndef SS_ROW_GUARD_H
#define SS_ROW_GUARD_H

#include "nodes/bitmapset.h"

#include "rows/home.h"
#include "rows/row.h"

extern void ss_row_guard_update(const SsRowView *old, SsRowView *new, const SsHome *home,
								bool judged, const Bitmapset *written);

#endif
