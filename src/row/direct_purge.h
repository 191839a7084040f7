/*
 * direct_purge.h
 *		Finds the rows that are due for the purge and deletes or locks them through the table AM.
 */
#ifndef SS_DIRECT_PURGE_H
#define SS_DIRECT_PURGE_H

#include "access/genam.h"
#include "datatype/timestamp.h"
#include "executor/tuptable.h"

#include "table/schema.h"

/* A scan of the rows that are due.  Opened, advanced and closed in one transaction. */
typedef struct SsDirectPurge
{
	Relation rel;
	Relation index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	TupleTableSlot *locked;
	CommandId command;
	SsDeformedRow row; /* the current row; valid until the next call */
} SsDirectPurge;

extern bool ss_direct_purge_open(SsDirectPurge *due, TimestampTz from, TimestampTz to);
extern bool ss_direct_purge_next(SsDirectPurge *due);
extern bool ss_direct_purge_remove(SsDirectPurge *due);
extern bool ss_direct_purge_lock(SsDirectPurge *due);
extern void ss_direct_purge_close(SsDirectPurge *due);

/*
 * Called with each row that was deleted; does what the trigger for DELETE would.  Set once, at load,
 * by triggers/cache_trigger.c, which this file must not include.
 */
typedef void (*SsDirectPurgeHook)(const SsDeformedRow *old);
extern SsDirectPurgeHook ss_direct_purge_hook;

#endif
