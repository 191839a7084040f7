/*
 * due.h
 *		The rows that the purge is to look at, and their removal without a statement.
 */
#ifndef SS_DUE_H
#define SS_DUE_H

#include "access/genam.h"
#include "datatype/timestamp.h"
#include "executor/tuptable.h"

#include "rows/row.h"

/* A walk along them. */
typedef struct SsDue
{
	Relation rel;
	Relation index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	TupleTableSlot *locked;
	CommandId command;
	SsRowView row; /* the one that was come by */
} SsDue;

extern bool ss_due_open(SsDue *due, TimestampTz from, TimestampTz to);
extern bool ss_due_next(SsDue *due);
extern bool ss_due_remove(SsDue *due);
extern bool ss_due_lock(SsDue *due);
extern void ss_due_close(SsDue *due);

/* What the trigger on deletes does: cache/cache_trigger.c's, which is above us. */
typedef void (*SsDueHook)(const SsRowView *old);
extern SsDueHook ss_due_removed;

#endif
