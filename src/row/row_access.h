/*
 * row_access.h
 *		Restricts what a role that was granted conversation_sessions may write.
 */
#ifndef SS_ROW_ACCESS_H
#define SS_ROW_ACCESS_H

#include "table/catalog.h"
#include "table/schema.h"

extern bool ss_row_access_is_restricted(const SsCatalog *catalog);
extern void ss_row_access_insert(SsDeformedRow *new);
extern void ss_row_access_update(const SsDeformedRow *old, SsDeformedRow *new);
extern void ss_row_access_refuse_return(void);
extern void ss_row_access_lifetime(const SsDeformedRow *old, const SsDeformedRow *new);

#endif
