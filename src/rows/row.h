/*
 * row.h
 *		The columns of conversation_sessions and conversation_history, by attribute number.
 *
 * Shared by the triggers that read such a row, and by who writes one as they would have it; the
 * install script has the same order.
 */
#ifndef SS_ROW_H
#define SS_ROW_H

#include "access/htup_details.h"
#include "executor/tuptable.h"
#include "utils/datum.h"

enum
{
	SS_ROW_CREATED_AT = 1,
	SS_ROW_CHECK_AT,
	SS_ROW_TTL,
	SS_ROW_NAMESPACE,
	SS_ROW_SESSION_ID,
	SS_ROW_OWNER_ID,
	SS_ROW_LAST_SEQ,
	SS_ROW_MESSAGE_COUNT,
	SS_ROW_VERSION,
	SS_ROW_UPDATED_AT,
	SS_ROW_EXPIRES_AT,
	SS_ROW_SESSION_DATA,
	SS_ROW_HISTORY_ID,
	SS_ROW_DEAD_UNTIL,
	SS_ROW_ATTRS = SS_ROW_DEAD_UNTIL
};

/* Of a message the trigger needs no more than this. */
#define SS_HISTORY_ROW_ID 1

/* A version of a row, by attribute number. */
typedef struct SsDeformedRow
{
	TupleDesc desc;
	uint32 replaced; /* a bit for each column that is not as it was found */
	Datum values[SS_ROW_ATTRS + 1];
	bool nulls[SS_ROW_ATTRS + 1];
} SsDeformedRow;

/* The columns before session_data are cheap to reach, and all are needed. */
static inline void
ss_row_deform(SsDeformedRow *row, HeapTuple tuple, TupleDesc desc)
{
	row->desc = desc;
	row->replaced = 0;
	for (int i = 1; i <= SS_ROW_ATTRS; i++)
		row->values[i] = heap_getattr(tuple, i, desc, &row->nulls[i]);
}

/* The same of what is in a slot; good for as long as that is. */
static inline void
ss_row_deform_slot(SsDeformedRow *row, TupleTableSlot *slot)
{
	slot_getallattrs(slot);
	row->desc = slot->tts_tupleDescriptor;
	row->replaced = 0;
	memcpy(&row->values[1], slot->tts_values, sizeof(Datum) * SS_ROW_ATTRS);
	memcpy(&row->nulls[1], slot->tts_isnull, sizeof(bool) * SS_ROW_ATTRS);
}

static inline void
ss_row_replace(SsDeformedRow *row, int column, Datum value)
{
	row->values[column] = value;
	row->nulls[column] = false;
	row->replaced |= (uint32) 1 << column;
}

/* Has a column other bytes?  An unchanged toasted document has the same pointer. */
static inline bool
ss_row_differs(const SsDeformedRow *a, const SsDeformedRow *b, int column)
{
	if (a->nulls[column] || b->nulls[column])
		return a->nulls[column] != b->nulls[column];
	return !datumIsEqual(a->values[column], b->values[column],
						 TupleDescAttr(a->desc, column - 1)->attbyval,
						 TupleDescAttr(a->desc, column - 1)->attlen);
}

#endif
