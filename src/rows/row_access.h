/*
 * row_access.h
 *		What a role that was granted conversation_sessions may write in a row.
 */
#ifndef SS_ROW_ACCESS_H
#define SS_ROW_ACCESS_H

#include "rows/home.h"
#include "rows/row.h"

extern bool ss_row_access_is_bound(const SsHome *home);
extern void ss_row_access_insert(SsRowView *new);
extern void ss_row_access_update(const SsRowView *old, SsRowView *new);
extern void ss_row_access_refuse_return(void);
extern void ss_row_access_lifetime(const SsRowView *old, const SsRowView *new);

#endif
