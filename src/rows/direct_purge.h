/*
 * direct_purge.h
 *		The rows that the purge is to look at, and their removal without a statement.
 */
#ifndef SS_DIRECT_PURGE_H
#define SS_DIRECT_PURGE_H

#include "access/genam.h"
#include "datatype/timestamp.h"
#include "executor/tuptable.h"

#include "rows/schema.h"

/* A walk along them. */
typedef struct SsDirectPurge
{
	Relation rel;
	Relation index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	TupleTableSlot *locked;
	CommandId command;
	SsDeformedRow row; /* the one that was come by */
} SsDirectPurge;

extern bool ss_direct_purge_open(SsDirectPurge *due, TimestampTz from, TimestampTz to);
extern bool ss_direct_purge_next(SsDirectPurge *due);
extern bool ss_direct_purge_remove(SsDirectPurge *due);
extern bool ss_direct_purge_lock(SsDirectPurge *due);
extern void ss_direct_purge_close(SsDirectPurge *due);

/* What the trigger on deletes does: cache/cache_trigger.c's, which is above us. */
typedef void (*SsDirectPurgeHook)(const SsDeformedRow *old);
extern SsDirectPurgeHook ss_direct_purge_hook;

#endif
