/*
 * direct_purge.c
 *		The rows that the purge is to look at, and their removal without a statement.
 *
 * A statement would lock each row, and log that, before it deletes it: it has to know that the row
 * stays as it was judged.  Here a row is deleted (or locked) as it was seen or not at all, in one step: who
 * has changed it since has made it another, and who has locked it is not waited for.  A row
 * that is passed over so is met again by a later sweep.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "rows/direct_check.h"
#include "rows/direct_purge.h"

SsDirectPurgeHook ss_direct_purge_hook = NULL;

/* Begin with the lowest check_at of from .. to.  False when this way does not lead there. */
bool
ss_direct_purge_open(SsDirectPurge *due, TimestampTz from, TimestampTz to)
{
	ScanKeyData keys[2];

	/* the statement has the right words for who may not write, or not see what others wrote */
	if (XactReadOnly || IsInParallelMode() || IsolationUsesXactSnapshot() ||
		(due->rel = ss_direct_open(RowExclusiveLock, SS_DIRECT_DELETE_DUE)) == NULL)
		return false;
	CheckCmdReplicaIdentity(due->rel, CMD_DELETE);
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	due->index = index_open(ss_direct_check_at_index(), AccessShareLock);
	due->slot = table_slot_create(due->rel, NULL);
	due->locked = table_slot_create(due->rel, NULL);
	/* one for the whole walk, as a statement has: what is changed on its way is not met again */
	due->command = GetCurrentCommandId(true);
	ScanKeyEntryInitialize(&keys[0], 0, 1, BTGreaterEqualStrategyNumber, InvalidOid, InvalidOid,
						   F_TIMESTAMPTZ_GE, TimestampTzGetDatum(from));
	ScanKeyEntryInitialize(&keys[1], 0, 1, BTLessEqualStrategyNumber, InvalidOid, InvalidOid,
						   F_TIMESTAMPTZ_LE, TimestampTzGetDatum(to));
	due->scan = SsIndexBeginScan(due->rel, due->index, GetActiveSnapshot(), 2);
	index_rescan(due->scan, keys, 2, NULL, 0);
	return true;
}

/* Come by the next; false when there is none. */
bool
ss_direct_purge_next(SsDirectPurge *due)
{
	CHECK_FOR_INTERRUPTS();
	if (!index_getnext_slot(due->scan, ForwardScanDirection, due->slot))
		return false;
	ss_row_deform_slot(&due->row, due->slot);
	return true;
}

/* Remove it; false when it is somebody else's, or has been changed. */
bool
ss_direct_purge_remove(SsDirectPurge *due)
{
	TM_FailureData failure;

	if (table_tuple_delete(due->rel, &due->slot->tts_tid, due->command, GetActiveSnapshot(),
						   InvalidSnapshot, false, &failure, false) != TM_Ok)
		return false;
	/* the slot still has it */
	if (ss_direct_purge_hook != NULL)
		ss_direct_purge_hook(&due->row);
	return true;
}

/* Lock it as it was seen, to be raised; false as above. */
bool
ss_direct_purge_lock(SsDirectPurge *due)
{
	TM_FailureData failure;
	ItemPointerData place = due->slot->tts_tid;
	bool locked = table_tuple_lock(due->rel, &place, GetActiveSnapshot(), due->locked, due->command,
								   LockTupleNoKeyExclusive, LockWaitSkip, 0, &failure) == TM_Ok;

	ExecClearTuple(due->locked);
	return locked;
}

/* The locks are kept, as a statement would. */
void
ss_direct_purge_close(SsDirectPurge *due)
{
	index_endscan(due->scan);
	index_close(due->index, NoLock);
	ExecDropSingleTupleTableSlot(due->locked);
	ExecDropSingleTupleTableSlot(due->slot);
	PopActiveSnapshot();
	table_close(due->rel, NoLock);
	CommandCounterIncrement();
}
