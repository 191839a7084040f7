/*
 * row_end.h
 *		Rules for plain SQL that ends a session, or changes one that has ended.
 */
#ifndef SS_ROW_END_H
#define SS_ROW_END_H

#include "nodes/bitmapset.h"
#include "utils/reltrigger.h"

#include "table/schema.h"

extern bool ss_row_end_applies(const Trigger *trigger);
extern bool ss_row_is_written(const SsDeformedRow *old, const SsDeformedRow *new,
							  const Bitmapset *written, int column);
extern void ss_row_end_insert(SsDeformedRow *new);
extern void ss_row_end_update(const SsDeformedRow *old, SsDeformedRow *new,
							  const Bitmapset *written, bool restricted);

#endif
