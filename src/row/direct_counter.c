/*
 * direct_counter.c
 *		Changes a counter through the table AM instead of SPI.
 *
 * This is for the common case: a hit within a running period of a counter that nobody else is
 * changing.  The row is then found by the primary key and updated as the statement of sessions/hits.c
 * would do it, without a lock of its own before that: the update fails if another transaction has
 * changed the row since it was read.  In all other cases nothing is done, and the caller runs the
 * statement.
 *
 * The owner of session_counters may alter it, so the table is checked again after every
 * invalidation: it must run no code but ours on INSERT and UPDATE.  Of our own CHECK constraints, which
 * are recognized by their names, a hit breaks none.  Foreign keys refer to the key of the row, which
 * stays.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "utils/acl.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "row/direct.h"
#include "row/direct_check.h"
#include "row/direct_counter.h"
#include "settings.h"
#include "table/catalog.h"
#include "table/schema.h"
#include "table/sql.h"

/* The result of the check. */
static struct
{
	SsMemo memo;
	Oid table;
	SsDirectIndex pkey; /* without one there is no direct access */
} checked = {.memo = {SS_OUR_TABLES | SS_ROLES | SS_WATCHED_TABLES}};

/* Does an INSERT or UPDATE fire a trigger that is not one of a foreign key? */
static bool
has_triggers(Relation rel)
{
	const TriggerDesc *triggers = rel->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if ((TRIGGER_FOR_INSERT(trigger->tgtype) || TRIGGER_FOR_UPDATE(trigger->tgtype)) &&
			!(trigger->tgisinternal && OidIsValid(trigger->tgconstrrelid)))
			return true;
	}
	return false;
}

/* Does anything but our own CHECK constraints constrain or compute what is written? */
static bool
is_constrained(Relation rel)
{
	static const char *const ours[] = {"session_counters_resets_at_check",
									   "session_counters_hits_check",
									   "session_counters_counter_id_check"};
	const TupleConstr *constr = rel->rd_att->constr;

	if (constr == NULL)
		return false;
	for (int i = 0; i < constr->num_check; i++)
	{
		bool own = false;

		for (int j = 0; j < (int) lengthof(ours); j++)
			own = own || strcmp(constr->check[i].ccname, ours[j]) == 0;
		if (!own)
			return true;
	}
	return constr->has_generated_stored || SsHasGeneratedVirtual(constr);
}

/* Would the statement, run by the owner of the tables, do just what ss_direct_count does? */
static bool
is_eligible(Relation rel, Oid owner)
{
	AclMode rights = ACL_SELECT | ACL_INSERT | ACL_UPDATE;

	return rel->rd_rel->relkind == RELKIND_RELATION && !ss_catalog_has_children(rel) &&
		   !rel->rd_rel->relispartition && rel->rd_rules == NULL && !has_triggers(rel) &&
		   !is_constrained(rel) && has_privs_of_role(owner, rel->rd_rel->relowner) &&
		   pg_class_aclmask(RelationGetRelid(rel), owner, rights, ACLMASK_ALL) == rights &&
		   ss_catalog_damage_of("session_counters") == NULL;
}

/* Check the table. */
static void
check_table(const SsCatalog *catalog)
{
	uint64 begun = ss_memo_begin(&checked.memo);
	Relation rel;

	checked.pkey.oid = InvalidOid;
	checked.table = catalog->counters;
	rel = table_open(checked.table, AccessShareLock);
	if (is_eligible(rel, catalog->owner))
	{
		list_free(RelationGetIndexList(rel));
		if (OidIsValid(rel->rd_pkindex))
		{
			Relation key = index_open(rel->rd_pkindex, AccessShareLock);

			if (ss_direct_is_key(key, SS_COUNTER_NAMESPACE, SS_COUNTER_COUNTER_ID) &&
				key->rd_index->indimmediate)
				checked.pkey = ss_direct_describe_index(key);
			index_close(key, AccessShareLock);
		}
	}
	table_close(rel, AccessShareLock);
	ss_memo_end(&checked.memo, begun);
}

/* Open and lock session_counters; NULL if its rows cannot be changed directly. */
static Relation
open_counters(void)
{
	SsCatalog catalog;
	Relation rel;

	if (!ss_direct_rows || XactReadOnly || IsInParallelMode())
		return NULL;
	ss_catalog_get(&catalog);
	if (!OidIsValid(catalog.counters))
		return NULL;
	if (!ss_memo_is_current(&checked.memo) || checked.table != catalog.counters)
		check_table(&catalog);
	if (!ss_direct_is_usable(&checked.pkey))
		return NULL;
	rel = table_open(checked.table, RowExclusiveLock);
	/* the lock keeps the table as it is; verify that it is still what was checked */
	if (ss_memo_is_current(&checked.memo) && ss_catalog_is_current())
		return rel;
	table_close(rel, RowExclusiveLock);
	return NULL;
}

/* Adds to a number of hits, which stays between 0 and the largest bigint. */
static int64
add(int64 hits, int64 by)
{
	if (by > 0)
		return hits > PG_INT64_MAX - by ? PG_INT64_MAX : hits + by;
	return Max(hits + by, 0);
}

/* Form the new version of a counter in a virtual slot; it points into the old one. */
static void
make_version(TupleTableSlot *old, int64 hits, TupleTableSlot *new)
{
	TupleDesc desc = old->tts_tupleDescriptor;

	slot_getallattrs(old);
	ExecClearTuple(new);
	for (int i = 0; i < desc->natts; i++)
	{
		new->tts_values[i] = old->tts_values[i];
		new->tts_isnull[i] = old->tts_isnull[i] || TupleDescAttr(desc, i)->attisdropped;
	}
	new->tts_values[SS_COUNTER_HITS - 1] = Int64GetDatum(hits);
	ExecStoreVirtualTuple(new);
}

/* Update the counter in a slot; false if another transaction has changed it. */
static bool
update(Relation rel, TupleTableSlot *old, int64 hits)
{
	ItemPointerData tid = old->tts_tid;
	TupleTableSlot *new = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsVirtual);
	TM_FailureData failure;
	LockTupleMode lockmode;
	SsUpdateIndexes indexes;
	bool written;

	make_version(old, hits, new);
	written = table_tuple_update(rel, &tid, new, GetCurrentCommandId(true), GetActiveSnapshot(),
								 InvalidSnapshot, true, &failure, &lockmode, &indexes) == TM_Ok;
	/* the owner of the table may have an index on hits */
	if (written && indexes != SS_NO_INDEXES)
		ss_direct_insert_into_indexes(rel, new, indexes);
	ExecDropSingleTupleTableSlot(new);
	return written;
}

/*
 * Adds `by`, which may be negative, to a counter whose period is running, and returns it in *hits and
 * *resets_at.  Returns false, with nothing done, if there is none, if another transaction has changed
 * or locked it, or if rows cannot be changed directly.
 *
 * Only a transaction that arrives between the check of the row's header and the update is waited for.
 * So the period may have ended when this returns, and the caller has to read the clock again.
 */
bool
ss_direct_count(Datum ns, Datum id, int64 by, int64 *hits, TimestampTz *resets_at)
{
	Relation rel = open_counters();
	TupleTableSlot *slot;
	bool counted = false;

	ss_sql_set_path_on_demand(rel != NULL);
	if (rel == NULL)
		return false;
	CheckCmdReplicaIdentity(rel, CMD_UPDATE);
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	slot = table_slot_create(rel, NULL);
	if (ss_direct_find(rel, checked.pkey.oid, ns, id, GetActiveSnapshot(), slot) &&
		ss_direct_is_free(slot))
	{
		slot_getallattrs(slot);
		*resets_at = DatumGetTimestampTz(slot->tts_values[SS_COUNTER_RESETS_AT - 1]);
		*hits = add(DatumGetInt64(slot->tts_values[SS_COUNTER_HITS - 1]), by);
		counted = *resets_at > GetCurrentTimestamp() && update(rel, slot, *hits);
	}
	ExecDropSingleTupleTableSlot(slot);
	PopActiveSnapshot();
	table_close(rel, NoLock);
	if (counted)
		CommandCounterIncrement();
	return counted;
}
