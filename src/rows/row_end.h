/*
 * row_end.h
 *		What a statement of plain SQL makes of a session that has ended, or that it ends.
 */
#ifndef SS_ROW_END_H
#define SS_ROW_END_H

#include "nodes/bitmapset.h"
#include "utils/reltrigger.h"

#include "rows/schema.h"

extern void ss_row_end_init(void);
extern bool ss_row_end_applies(const Trigger *trigger);
extern void ss_row_end_insert(SsDeformedRow *new);
extern void ss_row_end_update(const SsDeformedRow *old, SsDeformedRow *new,
							  const Bitmapset *written, bool bound);

#endif
