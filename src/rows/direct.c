/*
 * direct.c
 *		Reading, locking and updating a session's row without a statement: one probe of the
 *		primary key, through the table's and the index' access methods.
 *
 * It is what the executor would do for the one plan that there is for it, with the same
 * snapshot, the same locks kept to the end of the transaction, and the access methods' own care
 * for serializable transactions; less all that makes a statement.  Nothing of it is
 * lost: the tables' owner meets no policy, no trigger fires on a read, and an update does what
 * our triggers do by calling them as functions.
 *
 * Whether this way leads to the rows is asked each time (direct_check.c); when it does not, whoever asks
 * goes the long way.
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
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "rows/catalog.h"
#include "rows/direct.h"
#include "rows/direct_check.h"
#include "rows/schema.h"
#include "rows/session_trigger.h"
#include "rows/sql.h"

SsDirectHook ss_direct_updated = NULL;

static int64
number(TupleTableSlot *slot, int column, int64 if_null)
{
	return slot->tts_isnull[column - 1] ? if_null : DatumGetInt64(slot->tts_values[column - 1]);
}

/* A value that must outlive the page that it lies in. */
static Datum
kept(TupleTableSlot *slot, int column, int len, bool *null)
{
	*null = slot->tts_isnull[column - 1];
	return *null ? (Datum) 0 : datumCopy(slot->tts_values[column - 1], false, len);
}

static void
fill(TupleTableSlot *slot, bool document, SsRow *row)
{
	bool null;

	slot_getallattrs(slot);
	row->data = document ? kept(slot, SS_ROW_SESSION_DATA, -1, &null) : (Datum) 0;
	row->owner = kept(slot, SS_ROW_OWNER_ID, -1, &row->owner_null);
	row->version = number(slot, SS_ROW_VERSION, 0);
	row->created_at = number(slot, SS_ROW_CREATED_AT, 0);
	row->updated_at = number(slot, SS_ROW_UPDATED_AT, 0);
	row->expires_at = number(slot, SS_ROW_EXPIRES_AT, 0);
	row->ttl = ss_interval_usec(slot->tts_values[SS_ROW_TTL - 1]);
	row->last_seq = number(slot, SS_ROW_LAST_SEQ, 0);
	row->message_count = number(slot, SS_ROW_MESSAGE_COUNT, 0);
	row->check_at = number(slot, SS_ROW_CHECK_AT, 0);
	row->dead_until = number(slot, SS_ROW_DEAD_UNTIL, SS_NEVER);
	row->history = kept(slot, SS_ROW_HISTORY_ID, 16, &row->history_null);
	row->own_xact = TransactionIdIsCurrentTransactionId(
		DatumGetTransactionId(slot_getsysattr(slot, MinTransactionIdAttributeNumber, &null)));
}

/* The row of a session that a snapshot shows, into a slot. */
static bool
find(Relation rel, const SsTarget *target, Snapshot snapshot, TupleTableSlot *slot)
{
	Relation index = index_open(ss_direct_pkey(), AccessShareLock);
	IndexScanDesc scan;
	ScanKeyData keys[2];
	bool found;

	ScanKeyEntryInitialize(&keys[0], 0, 1, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID,
						   F_TEXTEQ, target->ns);
	ScanKeyEntryInitialize(&keys[1], 0, 2, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID,
						   F_TEXTEQ, target->id);
	scan = SsIndexBeginScan(rel, index, snapshot, 2);
	index_rescan(scan, keys, 2, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, slot);
	index_endscan(scan);
	/* the locks are kept, as a statement would */
	index_close(index, NoLock);
	return found;
}

/*
 * The row as the active snapshot shows it, in the current memory context, its document only if
 * that is wanted.  False when this way does not lead there.
 */
bool
ss_direct_read(const SsTarget *target, bool document, SsRow *row, bool *found)
{
	Relation rel;
	TupleTableSlot *slot;

	if (!ActiveSnapshotSet() || (rel = ss_direct_open(AccessShareLock, SS_DIRECT_READ)) == NULL)
		return false;
	slot = table_slot_create(rel, NULL);
	*found = find(rel, target, GetActiveSnapshot(), slot);
	if (*found)
		fill(slot, document, row);
	row->has_tid = false;
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	return true;
}

/* Is it still the row of this session?  Who waits for a row may find that it got another id. */
static bool
is_of(TupleTableSlot *slot, const SsTarget *target)
{
	slot_getallattrs(slot);
	return datum_image_eq(slot->tts_values[SS_ROW_NAMESPACE - 1], target->ns, false, -1) &&
		   datum_image_eq(slot->tts_values[SS_ROW_SESSION_ID - 1], target->id, false, -1);
}

/* Lock what is in the slot, or what it became meanwhile; false when there is nothing to be had. */
static bool
lock(Relation rel, TupleTableSlot *slot, const SsTarget *target, bool wait)
{
	ItemPointerData place = slot->tts_tid;
	TM_FailureData failure;
	/*
	 * Not TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS: our lock conflicts with any update, so there is none
	 * that it would have to be carried over to, and looking for one waits even where we must not.
	 */
	uint8 flags = IsolationUsesXactSnapshot() ? 0 : TUPLE_LOCK_FLAG_FIND_LAST_VERSION;

	ExecClearTuple(slot);
	switch (table_tuple_lock(rel, &place, GetActiveSnapshot(), slot, GetCurrentCommandId(false),
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
			return false; /* it was deleted */
		case TM_SelfModified:
		case TM_WouldBlock:
			return false;
		default:
			elog(ERROR, "could not lock a session row");
	}
}

/* The row as it is, held until the transaction ends.  False when this way does not lead there. */
bool
ss_direct_hold(const SsTarget *target, SsHold hold, SsRow *row, bool *found)
{
	Relation rel;
	TupleTableSlot *slot;

	/* the statement has the right words for who may not write */
	if (XactReadOnly || IsInParallelMode() ||
		(rel = ss_direct_open(RowExclusiveLock, SS_DIRECT_UPDATE)) == NULL)
		return false;
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	slot = table_slot_create(rel, NULL);
	*found = find(rel, target, GetActiveSnapshot(), slot) &&
			 (hold == SS_HOLD_NONE || lock(rel, slot, target, hold == SS_HOLD_WAIT));
	if (*found)
	{
		fill(slot, true, row);
		row->tid = slot->tts_tid;
	}
	row->has_tid = *found;
	row->locked = hold != SS_HOLD_NONE;
	ExecDropSingleTupleTableSlot(slot);
	PopActiveSnapshot();
	table_close(rel, NoLock);
	return true;
}

static void
set_or_null(SsDeformedRow *view, int column, Datum value, bool null)
{
	ss_row_replace(view, column, value);
	view->nulls[column] = null;
}

/* What is to be written of a row, over what is there. */
static void
set_columns(SsDeformedRow *view, const SsRow *row, SsColumns columns)
{
	ss_row_replace(view, SS_ROW_EXPIRES_AT, TimestampTzGetDatum(row->expires_at));
	if (columns != SS_HISTORY_COLUMNS)
		ss_row_replace(view, SS_ROW_TTL, IntervalPGetDatum(ss_make_interval(row->ttl)));
	if (columns == SS_EXPIRY_COLUMNS)
		return;
	ss_row_replace(view, SS_ROW_UPDATED_AT, TimestampTzGetDatum(row->updated_at));
	ss_row_replace(view, SS_ROW_LAST_SEQ, Int64GetDatum(row->last_seq));
	ss_row_replace(view, SS_ROW_MESSAGE_COUNT, Int64GetDatum(row->message_count));
	set_or_null(view, SS_ROW_HISTORY_ID, row->history, row->history_null);
	if (columns == SS_HISTORY_COLUMNS)
		return;
	ss_row_replace(view, SS_ROW_SESSION_DATA, row->data);
	set_or_null(view, SS_ROW_OWNER_ID, row->owner, row->owner_null);
	ss_row_replace(view, SS_ROW_VERSION, Int64GetDatum(row->version));
	ss_row_replace(view, SS_ROW_CREATED_AT, TimestampTzGetDatum(row->created_at));
	ss_row_replace(view, SS_ROW_CHECK_AT, TimestampTzGetDatum(row->check_at));
	set_or_null(view, SS_ROW_DEAD_UNTIL, TimestampTzGetDatum(row->dead_until),
				row->dead_until == SS_NEVER);
}

/* The new version, as our triggers leave it. */
static void
make_version(TupleTableSlot *old, const SsRow *row, SsColumns columns, TupleTableSlot *new)
{
	SsDeformedRow was;
	SsDeformedRow is;
	SsCatalog catalog;

	ss_catalog_get(&catalog);
	ss_row_deform_slot(&was, old);
	is = was;
	set_columns(&is, row, columns);
	ss_session_trigger_update(&was, &is, &catalog, false, NULL);
	if (ss_direct_updated != NULL)
		ss_direct_updated(&was, &is);

	ExecClearTuple(new);
	memcpy(new->tts_values, &is.values[1], sizeof(Datum) * SS_ROW_ATTRS);
	memcpy(new->tts_isnull, &is.nulls[1], sizeof(bool) * SS_ROW_ATTRS);
	/* what somebody has added; of what was dropped nothing is kept */
	for (int i = SS_ROW_ATTRS; i < is.desc->natts; i++)
	{
		new->tts_values[i] = old->tts_values[i];
		new->tts_isnull[i] = old->tts_isnull[i] || TupleDescAttr(is.desc, i)->attisdropped;
	}
	ExecStoreVirtualTuple(new);
}

/* Few updates need it: most are HOT. */
static void
insert_into_indexes(Relation rel, TupleTableSlot *slot, SsUpdateIndexes which)
{
	/* the owner's indexes may be on functions */
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

/* Has no transaction locked or changed this version of the row, as far as its header tells? */
static bool
is_unclaimed(TupleTableSlot *slot)
{
	bool null;

	return !TransactionIdIsValid(
		DatumGetTransactionId(slot_getsysattr(slot, MaxTransactionIdAttributeNumber, &null)));
}

/*
 * Write a row that ss_direct_hold has found.  False when it found none, when rows cannot be
 * accessed directly (any more), or when the row has been written since; for a row that is not
 * locked also when another transaction has locked it.
 *
 * heap_update requires its wait flag to be true.  So a row that is not locked is given up as soon
 * as its header shows another transaction; only one that comes in the instant after that test is
 * waited for.
 */
bool
ss_direct_write(const SsTarget *target, const SsRow *row, SsColumns columns)
{
	ItemPointerData place = row->tid;
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
	/* what has been written since we found it is not there any more */
	if (table_tuple_fetch_row_version(rel, &place, GetActiveSnapshot(), old) &&
		is_of(old, target) && (row->locked || is_unclaimed(old)))
	{
		make_version(old, row, columns, new);
		written = table_tuple_update(rel, &place, new, GetCurrentCommandId(true),
									 GetActiveSnapshot(), InvalidSnapshot, true, &failure,
									 &lockmode, &indexes) == TM_Ok;
	}
	if (written && indexes != SS_NO_INDEXES)
		insert_into_indexes(rel, new, indexes);
	ExecDropSingleTupleTableSlot(new);
	ExecDropSingleTupleTableSlot(old);
	PopActiveSnapshot();
	table_close(rel, NoLock);
	if (written)
		CommandCounterIncrement();
	return written;
}
