/*
 * direct_purge.c
 *		Finds the rows that are due for the purge and deletes or locks them through the table AM.
 *
 * A statement would lock each row, and WAL-log that, before it deletes it, because the row must not
 * change after it was found to be dead.  Here a row is deleted or locked in one step, exactly as the
 * scan read it.  A row that was changed or locked since is skipped, not waited for; a later sweep
 * visits it again.
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
#include "row/direct_check.h"
#include "row/direct_purge.h"

SsDirectPurgeHook ss_direct_purge_hook = NULL;

/*
 * Begins a scan in the order of check_at, from the first to the second time inclusive.  False when
 * rows cannot be deleted directly; the caller then uses statements.  Takes RowExclusiveLock on
 * conversation_sessions and pushes a snapshot until ss_direct_purge_close.
 */
bool
ss_direct_purge_open(SsDirectPurge *due, TimestampTz from, TimestampTz to)
{
	ScanKeyData keys[2];

	/* where a statement would be refused or see other rows, leave it to the statement */
	if (XactReadOnly || IsInParallelMode() || IsolationUsesXactSnapshot() ||
		(due->rel = ss_direct_open(RowExclusiveLock, SS_DIRECT_DELETE_DUE)) == NULL)
		return false;
	CheckCmdReplicaIdentity(due->rel, CMD_DELETE);
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	due->index = index_open(ss_direct_check_at_index(), AccessShareLock);
	due->slot = table_slot_create(due->rel, NULL);
	due->locked = table_slot_create(due->rel, NULL);
	/* one command id for the whole scan, as a statement has, so that it does not see its own changes */
	due->command = GetCurrentCommandId(true);
	ScanKeyEntryInitialize(&keys[0], 0, 1, BTGreaterEqualStrategyNumber, InvalidOid, InvalidOid,
						   F_TIMESTAMPTZ_GE, TimestampTzGetDatum(from));
	ScanKeyEntryInitialize(&keys[1], 0, 1, BTLessEqualStrategyNumber, InvalidOid, InvalidOid,
						   F_TIMESTAMPTZ_LE, TimestampTzGetDatum(to));
	due->scan = SsIndexBeginScan(due->rel, due->index, GetActiveSnapshot(), 2);
	index_rescan(due->scan, keys, 2, NULL, 0);
	return true;
}

/* Advances to the next due row; false at the end.  Checks for interrupts. */
bool
ss_direct_purge_next(SsDirectPurge *due)
{
	CHECK_FOR_INTERRUPTS();
	if (!index_getnext_slot(due->scan, ForwardScanDirection, due->slot))
		return false;
	ss_row_deform_slot(&due->row, due->slot);
	return true;
}

/* Deletes the current row; false when it was changed or locked since the scan read it. */
bool
ss_direct_purge_remove(SsDirectPurge *due)
{
	TM_FailureData failure;

	if (table_tuple_delete(due->rel, &due->slot->tts_tid, due->command, GetActiveSnapshot(),
						   InvalidSnapshot, false, &failure, false) != TM_Ok)
		return false;
	/* session_purged of cache_trigger.c; the slot still holds the deleted row */
	if (ss_direct_purge_hook != NULL)
		ss_direct_purge_hook(&due->row);
	return true;
}

/* Locks the current row FOR NO KEY UPDATE, for an update of check_at; false as above. */
bool
ss_direct_purge_lock(SsDirectPurge *due)
{
	TM_FailureData failure;
	ItemPointerData tid = due->slot->tts_tid;
	bool locked = table_tuple_lock(due->rel, &tid, GetActiveSnapshot(), due->locked, due->command,
								   LockTupleNoKeyExclusive, LockWaitSkip, 0, &failure) == TM_Ok;

	ExecClearTuple(due->locked);
	return locked;
}

/* Ends the scan.  Locks are kept until the transaction ends, as after a statement. */
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
