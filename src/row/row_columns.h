/*
 * row_columns.h
 *		Converts between SsRow and the columns of conversation_sessions.
 */
#ifndef SS_ROW_COLUMNS_H
#define SS_ROW_COLUMNS_H

#include "row/session.h"
#include "table/schema.h"

extern const AttrNumber *ss_row_columns_of(int fields);
extern void ss_row_from_columns(SsRow *row, const SsDeformedRow *columns);
extern TimestampTz ss_row_expiry(const SsDeformedRow *columns);
extern Datum ss_row_column(const SsRow *row, AttrNumber column, bool *null);
extern void ss_row_deform_result(SsDeformedRow *columns, HeapTuple tuple, TupleDesc desc,
								 const AttrNumber *list);

#endif
