/*
 * direct.c
 *		Reading a session's row without a statement: one probe of the primary key, through
 *		the table's and the index' access methods.
 *
 * It is what the executor would do for the one plan that there is for it, with the caller's
 * snapshot, the same locks kept to the end of the transaction, and the access methods' own care
 * for serializable transactions; less all that makes a statement.  Nothing of a reader is
 * lost: the tables' owner meets no policy, and no trigger fires on a read.
 *
 * The table is its owner's to alter.  Whether this way leads to the rows is looked at anew
 * after every invalidation of it; when it does not (the table has become partitioned or has
 * children, its primary key is another), whoever asks goes the long way.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_opfamily.h"
#include "executor/tuptable.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "rows/direct.h"
#include "rows/row.h"
#include "settings.h"

static Oid table = InvalidOid; /* of which all this is known */
static Oid pkey = InvalidOid;  /* InvalidOid: go the long way */
static uint64 changes = 1;     /* counts what may have made it another */
static uint64 looked = 0;      /* after so many changes we have looked */

static void
forget(Oid relid)
{
	changes++;
}

static bool
is_our_key(Relation index)
{
	Form_pg_index form = index->rd_index;

	/* one that is too young for some snapshots is for the planner to judge */
	if (index->rd_rel->relam != BTREE_AM_OID || !form->indisvalid || form->indcheckxmin ||
		form->indnkeyatts != 2 || form->indkey.values[0] != SS_ROW_NAMESPACE ||
		form->indkey.values[1] != SS_ROW_SESSION_ID)
		return false;
	for (int i = 0; i < 2; i++)
		if (index->rd_indcollation[i] != C_COLLATION_OID ||
			index->rd_opfamily[i] != TEXT_BTREE_FAM_OID)
			return false;
	return true;
}

/* Find the way, or that there is none. */
static void
look(Oid sessions)
{
	static bool registered = false;
	uint64 now;
	Relation rel;
	Oid index = InvalidOid;

	if (!registered)
	{
		ss_home_on_invalidation(forget);
		registered = true;
	}
	now = changes;
	pkey = InvalidOid;
	table = sessions;
	rel = table_open(sessions, AccessShareLock);
	if (rel->rd_rel->relkind == RELKIND_RELATION && !rel->rd_rel->relhassubclass)
	{
		list_free(RelationGetIndexList(rel));
		index = rel->rd_pkindex;
	}
	if (OidIsValid(index))
	{
		Relation key = index_open(index, AccessShareLock);

		if (is_our_key(key))
			pkey = index;
		index_close(key, AccessShareLock);
	}
	table_close(rel, AccessShareLock);
	looked = now;
}

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
	row->own = TransactionIdIsCurrentTransactionId(
		DatumGetTransactionId(slot_getsysattr(slot, MinTransactionIdAttributeNumber, &null)));
}

/*
 * The row as the active snapshot shows it, in the current memory context, its document only if
 * that is wanted.  False when this way does not lead there.
 */
bool
ss_direct_read(const SsTarget *target, bool document, SsRow *row, bool *found)
{
	SsHome home;
	Relation rel;
	Relation index;
	IndexScanDesc scan;
	ScanKeyData keys[2];
	TupleTableSlot *slot;

	if (!ss_direct_reads)
		return false;
	ss_home_get(&home);
	if (looked != changes || table != home.sessions)
		look(home.sessions);
	if (!OidIsValid(pkey) || !ActiveSnapshotSet())
		return false;
	rel = table_open(table, AccessShareLock);
	/* with the lock held it stays as it is: is it as we know it? */
	if (looked != changes)
	{
		table_close(rel, AccessShareLock);
		return false;
	}
	index = index_open(pkey, AccessShareLock);
	ScanKeyEntryInitialize(&keys[0], 0, 1, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID,
						   F_TEXTEQ, target->ns);
	ScanKeyEntryInitialize(&keys[1], 0, 2, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID,
						   F_TEXTEQ, target->id);
	slot = table_slot_create(rel, NULL);
	scan = SsIndexBeginScan(rel, index, GetActiveSnapshot(), 2);
	index_rescan(scan, keys, 2, NULL, 0);
	*found = index_getnext_slot(scan, ForwardScanDirection, slot);
	if (*found)
		fill(slot, document, row);
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	/* the locks are kept, as a statement would */
	index_close(index, NoLock);
	table_close(rel, NoLock);
	return true;
}
