/*
 * direct.c
 *		Reads, locks and updates a session's row through the table AM instead of SPI.
 *
 * One probe of the primary key does what the executor would do for the same statement: with the
 * same snapshots, the same locks kept to the end of the transaction, and the predicate locks of
 * the access methods for serializable transactions.  The result is the same as well: the tables'
 * owner is exempt from row-level policies, reads fire no triggers, and an update calls our
 * triggers as functions.
 *
 * Eligibility is rechecked on every use (direct_check.c); callers fall back to SPI.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "storage/procarray.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

#include "compat.h"
#include "row/direct.h"
#include "row/direct_check.h"
#include "row/row_columns.h"
#include "row/session_trigger.h"
#include "table/catalog.h"
#include "table/schema.h"
#include "table/sql.h"

SsDirectHook ss_direct_updated = NULL;

/* Copy a by-reference value, which must outlive the buffer pin of its slot; 0 stays 0. */
static Datum
copy_value(Datum value, int len)
{
	return value == (Datum) 0 ? value : datumCopy(value, false, len);
}

/* Fill *row from a slot, in the current memory context. */
static void
fill_row(TupleTableSlot *slot, bool document, SsRow *row)
{
	SsDeformedRow columns;
	bool null;

	ss_row_deform_slot(&columns, slot);
	ss_row_from_columns(row, &columns);
	row->data = document ? copy_value(row->data, -1) : (Datum) 0;
	row->owner = copy_value(row->owner, -1);
	row->history = copy_value(row->history, UUID_LEN);
	row->turn_holder = copy_value(row->turn_holder, -1);
	row->summary = copy_value(row->summary, -1);
	row->own_xact = TransactionIdIsCurrentTransactionId(
		DatumGetTransactionId(slot_getsysattr(slot, MinTransactionIdAttributeNumber, &null)));
}

/*
 * Store the row of a key, a namespace and an id, that is visible to a snapshot in a slot; false if there
 * is none.  The primary key is one that ss_direct_is_key accepts.
 */
bool
ss_direct_find(Relation rel, Oid pkey, Datum ns, Datum id, Snapshot snapshot, TupleTableSlot *slot)
{
	Relation index = index_open(pkey, AccessShareLock);
	IndexScanDesc scan;
	ScanKeyData keys[2];
	bool found;

	ScanKeyEntryInitialize(&keys[0], 0, 1, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID,
						   F_TEXTEQ, ns);
	ScanKeyEntryInitialize(&keys[1], 0, 2, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID,
						   F_TEXTEQ, id);
	scan = SsIndexBeginScan(rel, index, snapshot, 2);
	index_rescan(scan, keys, 2, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, slot);
	index_endscan(scan);
	/* keep the lock to the end of the transaction, as a statement would */
	index_close(index, NoLock);
	return found;
}

/* The same for a session. */
static bool
find_row(Relation rel, const SsTarget *target, Snapshot snapshot, TupleTableSlot *slot)
{
	return ss_direct_find(rel, ss_direct_pkey(), target->ns, target->id, snapshot, slot);
}

/*
 * Read a session as of the active snapshot; *found tells whether there is one.  Its values are
 * allocated in the current memory context; the document is left out unless asked for.  Returns
 * false, with nothing done, if rows cannot be accessed directly.
 */
bool
ss_direct_read(const SsTarget *target, bool document, SsRow *row, bool *found)
{
	Relation rel;
	TupleTableSlot *slot;

	if (!ActiveSnapshotSet() || (rel = ss_direct_open(AccessShareLock, SS_DIRECT_READ)) == NULL)
		return false;
	slot = table_slot_create(rel, NULL);
	*found = find_row(rel, target, GetActiveSnapshot(), slot);
	if (*found)
		fill_row(slot, document, row);
	row->has_tid = false;
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	return true;
}

/* Is a row that of this session?  While its lock was waited for, its id may have been changed. */
static bool
is_of(TupleTableSlot *slot, const SsTarget *target)
{
	slot_getallattrs(slot);
	return datum_image_eq(slot->tts_values[SS_ROW_NAMESPACE - 1], target->ns, false, -1) &&
		   datum_image_eq(slot->tts_values[SS_ROW_SESSION_ID - 1], target->id, false, -1);
}

/*
 * Lock the row in a slot, and replace it by its newest version if the isolation level allows that.
 * False if the row was deleted, is another session's by now, was changed by this command, or,
 * without wait, is locked by another transaction.
 */
static bool
lock_row(Relation rel, TupleTableSlot *slot, const SsTarget *target, bool wait)
{
	ItemPointerData tid = slot->tts_tid;
	TM_FailureData failure;
	/*
	 * Not TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS: our lock conflicts with any update, so there is
	 * no newer version to lock as well, and looking for one would wait even if we must not.
	 */
	uint8 flags = IsolationUsesXactSnapshot() ? 0 : TUPLE_LOCK_FLAG_FIND_LAST_VERSION;

	ExecClearTuple(slot);
	switch (table_tuple_lock(rel, &tid, GetActiveSnapshot(), slot, GetCurrentCommandId(false),
							 LockTupleNoKeyExclusive, wait ? LockWaitBlock : LockWaitSkip, flags,
							 &failure))
	{
		case TM_Ok:
			return !failure.traversed || is_of(slot, target);
		case TM_Updated:
		case TM_Deleted:
			if (IsolationUsesXactSnapshot())
				ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
								errmsg("could not serialize access due to concurrent update")));
			return false; /* deleted */
		case TM_SelfModified:
		case TM_WouldBlock:
			return false;
		default:
			elog(ERROR, "could not lock a session row");
	}
}

/*
 * Read the newest version of a session for a change, and lock it to the end of the transaction
 * unless hold is SS_HOLD_NONE.  *found is false if there is no row, or if it is locked and hold
 * says not to wait.  Values are allocated in the current memory context; the document is left out
 * unless asked for.  Returns false, with nothing done, if rows cannot be accessed directly.
 */
bool
ss_direct_hold(const SsTarget *target, SsHold hold, bool document, SsRow *row, bool *found)
{
	Relation rel;
	TupleTableSlot *slot;

	/* where writing is not allowed, the statement raises the proper error */
	if (XactReadOnly || IsInParallelMode() ||
		(rel = ss_direct_open(RowExclusiveLock, SS_DIRECT_UPDATE)) == NULL)
		return false;
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	slot = table_slot_create(rel, NULL);
	*found = find_row(rel, target, GetActiveSnapshot(), slot) &&
			 (hold == SS_HOLD_NONE || lock_row(rel, slot, target, hold == SS_HOLD_WAIT));
	if (*found)
	{
		fill_row(slot, document, row);
		row->tid = slot->tts_tid;
	}
	row->has_tid = *found;
	row->locked = hold != SS_HOLD_NONE;
	ExecDropSingleTupleTableSlot(slot);
	PopActiveSnapshot();
	table_close(rel, NoLock);
	return true;
}

/*
 * Lock the row that ss_direct_hold has read without a lock, to the end of the transaction.  False if
 * another transaction has changed or locked it since, or if rows cannot be accessed directly any
 * more; then nothing was done: heap_lock_tuple gives a transaction an id only when it locks.
 */
bool
ss_direct_lock_unchanged(const SsTarget *target, SsRow *row)
{
	ItemPointerData tid = row->tid;
	Relation rel;
	TupleTableSlot *slot;
	TM_FailureData failure;
	TM_Result result = TM_Deleted;

	if (!row->has_tid || (rel = ss_direct_open(RowExclusiveLock, SS_DIRECT_UPDATE)) == NULL)
		return false;
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	slot = table_slot_create(rel, NULL);
	/* this version is not visible any more if the row was changed since it was read */
	if (table_tuple_fetch_row_version(rel, &tid, GetActiveSnapshot(), slot) && is_of(slot, target))
	{
		ExecClearTuple(slot);
		result = table_tuple_lock(rel, &tid, GetActiveSnapshot(), slot, GetCurrentCommandId(false),
								  LockTupleNoKeyExclusive, LockWaitSkip, 0, &failure);
	}
	row->locked = result == TM_Ok;
	ExecDropSingleTupleTableSlot(slot);
	PopActiveSnapshot();
	table_close(rel, NoLock);
	return row->locked;
}

/* Put the columns of a list, ended by SS_ROW_NONE, into a deformed row. */
static void
set_columns(SsDeformedRow *view, const SsRow *row, const AttrNumber *columns)
{
	for (; *columns != SS_ROW_NONE; columns++)
	{
		bool null;

		ss_row_replace(view, *columns, ss_row_column(row, *columns, &null));
		view->nulls[*columns] = null;
	}
}

/* Form the new version of a row in a virtual slot, after our triggers; columns as in set_columns. */
static void
make_version(TupleTableSlot *old, const SsRow *row, const AttrNumber *columns, TupleTableSlot *new)
{
	SsDeformedRow was;
	SsDeformedRow is;
	SsCatalog catalog;

	ss_catalog_get(&catalog);
	ss_row_deform_slot(&was, old);
	is = was;
	set_columns(&is, row, columns);
	ss_session_trigger_update(&was, &is, &catalog, false, NULL);
	/* session_updated of cache_trigger.c, in place of the trigger zz_session_change */
	if (ss_direct_updated != NULL)
		ss_direct_updated(&was, &is);

	ExecClearTuple(new);
	memcpy(new->tts_values, &is.values[1], sizeof(Datum) * SS_ROW_ATTRS);
	memcpy(new->tts_isnull, &is.nulls[1], sizeof(bool) * SS_ROW_ATTRS);
	/* columns that the owner of the table has added are kept, dropped ones are not */
	for (int i = SS_ROW_ATTRS; i < is.desc->natts; i++)
	{
		new->tts_values[i] = old->tts_values[i];
		new->tts_isnull[i] = old->tts_isnull[i] || TupleDescAttr(is.desc, i)->attisdropped;
	}
	ExecStoreVirtualTuple(new);
}

/* Add index entries for a new version that is not HOT, or whose summarizing indexes need it. */
void
ss_direct_insert_into_indexes(Relation rel, TupleTableSlot *slot, SsUpdateIndexes which)
{
	/* the table's owner may have added indexes on expressions */
	int path_nest = ss_sql_set_path();
	EState *estate = CreateExecutorState();
	ResultRelInfo *info = makeNode(ResultRelInfo);

	InitResultRelInfo(info, rel, 0, NULL, 0);
	ExecOpenIndices(info, false);
	list_free(SsInsertIndexTuples(info, slot, estate, which));
	ExecCloseIndices(info);
	pfree(info);
	FreeExecutorState(estate);
	ss_sql_reset_path(path_nest);
}

/*
 * Has no other running transaction locked or changed this version of the row, as far as its header
 * tells?  A row that was locked before it was updated keeps the number of that transaction in its new
 * version, so a lock counts only while its transaction runs.
 */
bool
ss_direct_is_free(TupleTableSlot *slot)
{
	bool null;
	bool copied;
	TransactionId xmax = DatumGetTransactionId(
		slot_getsysattr(slot, MaxTransactionIdAttributeNumber, &null));
	uint16 infomask;

	if (!TransactionIdIsValid(xmax))
		return true;
	if (!TTS_IS_BUFFERTUPLE(slot))
		return false;
	infomask = ExecFetchSlotHeapTuple(slot, false, &copied)->t_data->t_infomask;
	if ((infomask & HEAP_XMAX_INVALID) != 0)
		return true;
	return HEAP_XMAX_IS_LOCKED_ONLY(infomask) && (infomask & HEAP_XMAX_IS_MULTI) == 0 &&
		   (TransactionIdIsCurrentTransactionId(xmax) || !TransactionIdIsInProgress(xmax));
}

/*
 * Update columns of a row that ss_direct_hold has read; the list ends with SS_ROW_NONE.  Returns
 * false if it found none, if rows cannot be accessed directly (any more), or if the row was changed
 * since; for a row that was not locked also if another transaction has locked it.
 *
 * heap_update has to be called with wait = true.  To avoid waiting, a row that was not locked is
 * not updated if its header shows another running transaction.  Only a transaction that arrives
 * between that test and heap_update is waited for.
 */
bool
ss_direct_write(const SsTarget *target, const SsRow *row, const AttrNumber *columns)
{
	ItemPointerData tid = row->tid;
	Relation rel;
	TupleTableSlot *old;
	TupleTableSlot *new;
	TM_FailureData failure;
	LockTupleMode lockmode;
	SsUpdateIndexes indexes;
	bool written = false;

	if (!row->has_tid || (rel = ss_direct_open(RowExclusiveLock, SS_DIRECT_UPDATE)) == NULL)
		return false;
	CheckCmdReplicaIdentity(rel, CMD_UPDATE);
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	old = table_slot_create(rel, NULL);
	new = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsVirtual);
	/* this version is not visible any more if the row was changed since it was read */
	if (table_tuple_fetch_row_version(rel, &tid, GetActiveSnapshot(), old) && is_of(old, target) &&
		(row->locked || ss_direct_is_free(old)))
	{
		make_version(old, row, columns, new);
		written = table_tuple_update(rel, &tid, new, GetCurrentCommandId(true), GetActiveSnapshot(),
									 InvalidSnapshot, true, &failure, &lockmode, &indexes) == TM_Ok;
	}
	if (written && indexes != SS_NO_INDEXES)
		ss_direct_insert_into_indexes(rel, new, indexes);
	ExecDropSingleTupleTableSlot(new);
	ExecDropSingleTupleTableSlot(old);
	PopActiveSnapshot();
	table_close(rel, NoLock);
	if (written)
		CommandCounterIncrement();
	return written;
}
