/*
 * direct_check.c
 *		Decides whether sessions may be accessed through the table AM instead of SPI.
 *
 * The owner of conversation_sessions may alter it, so the table is checked again after every
 * invalidation.  Direct access is ruled out if the table is partitioned, has children or has
 * another primary key.  Direct changes are also ruled out if a trigger, rule or constraint that
 * is not ours would have to be taken into account.
 *
 * A check without a lock may be out of date at once.  ss_direct_open therefore locks the table and
 * then verifies that nothing was invalidated since the check.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_opfamily.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "compat.h"
#include "row/direct_check.h"
#include "settings.h"
#include "table/catalog.h"
#include "table/foreign_code.h"
#include "table/schema.h"
#include "table/sql.h"
#include "table/triggers.h"

/*
 * Results of the checks.  Whether a foreign key is ignored depends on the table that has it, and on
 * roles.
 */
#define SOURCES (SS_OUR_TABLES | SS_ROLES | SS_WATCHED_TABLES)

static struct
{
	SsMemo memo;        /* of table, pkey and writable */
	Oid table;          /* the table that was checked */
	SsDirectIndex pkey; /* its primary key; without one there is no direct access */
	bool writable;      /* may rows be updated directly? */

	SsMemo deletes_memo;    /* of check_at */
	SsDirectIndex check_at; /* its index on check_at; without one there are no direct deletes */
} checked = {.memo = {SOURCES}, .deletes_memo = {SOURCES}};

static bool
is_btree(Relation index, int attributes)
{
	Form_pg_index form = index->rd_index;

	return index->rd_rel->relam == BTREE_AM_OID && form->indisvalid &&
		   form->indnkeyatts == attributes;
}

/* What has to be known of an index to use it later. */
SsDirectIndex
ss_direct_describe_index(Relation index)
{
	SsDirectIndex result = {RelationGetRelid(index), InvalidTransactionId};

	if (index->rd_index->indcheckxmin)
		result.usable_after = HeapTupleHeaderGetXmin(index->rd_indextuple->t_data);
	return result;
}

/* May every snapshot of this transaction use an index?  Same test as the planner's. */
bool
ss_direct_is_usable(const SsDirectIndex *index)
{
	return OidIsValid(index->oid) && (!TransactionIdIsValid(index->usable_after) ||
									  TransactionIdPrecedes(index->usable_after, TransactionXmin));
}

/* Is an index a key of these two columns, in the order of their bytes? */
bool
ss_direct_is_key(Relation index, AttrNumber ns, AttrNumber id)
{
	Form_pg_index form = index->rd_index;

	if (!is_btree(index, 2) || form->indkey.values[0] != ns || form->indkey.values[1] != id)
		return false;
	for (int i = 0; i < 2; i++)
		if (index->rd_indcollation[i] != C_COLLATION_OID ||
			index->rd_opfamily[i] != TEXT_BTREE_FAM_OID)
			return false;
	return true;
}

/* Does an index hold all rows in ascending order of check_at? */
static bool
is_on_check_at(Relation index)
{
	return is_btree(index, 1) && index->rd_index->indkey.values[0] == SS_ROW_CHECK_AT &&
		   index->rd_opfamily[0] ==
			   lookup_type_cache(TIMESTAMPTZOID, TYPECACHE_BTREE_OPFAMILY)->btree_opf &&
		   index->rd_indoption[0] == 0 && RelationGetIndexPredicate(index) == NIL;
}

/* Does a trigger of this type fire for an UPDATE, or a DELETE, of a row? */
static bool
fires_for(int16 type, bool deletes)
{
	return deletes ? TRIGGER_FOR_DELETE(type) : TRIGGER_FOR_UPDATE(type);
}

/*
 * Are our own triggers the only ones that an UPDATE, or a DELETE, of a row fires?  Disabled
 * triggers and those of ignored foreign keys (foreign_code.c) do not count.  If one of ours is
 * missing or disabled, the answer is no.
 */
static bool
has_only_our_triggers(Relation rel, bool deletes)
{
	/* a copy, because a catalog lookup may process invalidations and free the original */
	TriggerDesc *triggers = CopyTriggerDesc(rel->trigdesc);
	const SsOwnTrigger *own = NULL;
	int missing = 0;

	while ((own = ss_own_trigger_next(rel, own)) != NULL)
		if (fires_for(own->type, deletes))
			missing++;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if (!fires_for(trigger->tgtype, deletes) || trigger->tgenabled == TRIGGER_DISABLED)
			continue;
		/* ignored until the referencing table or a role changes: see SOURCES */
		if (trigger->tgisinternal && OidIsValid(trigger->tgconstrrelid) &&
			ss_catalog_watch(trigger->tgconstrrelid) && ss_foreign_key_trigger_is_ignored(trigger))
			continue;
		own = ss_own_trigger_find(rel, trigger);
		if (own == NULL || !ss_own_trigger_is_intact(own, trigger))
			return false;
		missing--;
	}
	return missing == 0;
}

/*
 * Would an UPDATE, or a DELETE, by the owner of the table run no trigger or rule but ours, and
 * does the owner have the privileges for it?
 */
static bool
runs_only_our_code(Relation rel, const SsCatalog *catalog, bool deletes)
{
	AclMode rights = ACL_SELECT | (deletes ? ACL_DELETE : ACL_UPDATE);

	return rel->rd_rules == NULL && has_only_our_triggers(rel, deletes) &&
		   pg_class_aclmask(RelationGetRelid(rel), catalog->owner, rights, ACLMASK_ALL) == rights;
}

/*
 * Does anything but a trigger constrain or compute what is written?  Covers the columns that may
 * be written as null, partition bounds, CHECK constraints and generated columns.
 */
static bool
is_constrained(Relation rel)
{
	const TupleConstr *constr = rel->rd_att->constr;

	for (int i = 1; i <= SS_ROW_ATTRS; i++)
		if (ss_session_columns[i].rule == SS_NULLABLE &&
			TupleDescAttr(rel->rd_att, i - 1)->attnotnull)
			return true;
	return rel->rd_rel->relispartition ||
		   (constr != NULL && (constr->num_check > 0 || constr->has_generated_stored ||
							   SsHasGeneratedVirtual(constr)));
}

/* Would an UPDATE by the owner do just what ss_direct_write does? */
static bool
is_writable(Relation rel, const SsCatalog *catalog)
{
	return rel->rd_att->natts >= SS_ROW_ATTRS && !is_constrained(rel) &&
		   runs_only_our_code(rel, catalog, false);
}

/* Check the table, for reads and updates. */
static void
check_table(const SsCatalog *catalog)
{
	uint64 begun = ss_memo_begin(&checked.memo);
	Relation rel;
	Oid index = InvalidOid;

	ss_memo_make_stale(&checked.deletes_memo);
	checked.pkey.oid = InvalidOid;
	checked.writable = false;
	checked.table = catalog->sessions;
	rel = table_open(checked.table, AccessShareLock);
	if (rel->rd_rel->relkind == RELKIND_RELATION && !ss_catalog_has_children(rel))
	{
		list_free(RelationGetIndexList(rel));
		index = rel->rd_pkindex;
	}
	if (OidIsValid(index))
	{
		Relation key = index_open(index, AccessShareLock);

		if (ss_direct_is_key(key, SS_ROW_NAMESPACE, SS_ROW_SESSION_ID))
			checked.pkey = ss_direct_describe_index(key);
		index_close(key, AccessShareLock);
	}
	if (OidIsValid(checked.pkey.oid))
		checked.writable = is_writable(rel, catalog);
	table_close(rel, AccessShareLock);
	ss_memo_end(&checked.memo, begun);
}

/*
 * Find the index on check_at, if a DELETE by the owner would do just what ss_direct_purge_remove
 * does.  Apart from check_table, so that backends which only read do not open all indexes.
 */
static void
check_deletes(const SsCatalog *catalog)
{
	uint64 begun = ss_memo_begin(&checked.deletes_memo);
	Relation rel = table_open(catalog->sessions, AccessShareLock);
	List *indexes = RelationGetIndexList(rel);
	ListCell *cell;

	checked.check_at.oid = InvalidOid;
	if (runs_only_our_code(rel, catalog, true))
		foreach (cell, indexes)
		{
			Relation index = index_open(lfirst_oid(cell), AccessShareLock);

			if (is_on_check_at(index))
				checked.check_at = ss_direct_describe_index(index);
			index_close(index, AccessShareLock);
		}
	list_free(indexes);
	table_close(rel, AccessShareLock);
	ss_memo_end(&checked.deletes_memo, begun);
}

/* The work of ss_direct_open. */
static Relation
open_if_eligible(LOCKMODE lockmode, SsDirectUse use)
{
	SsCatalog catalog;
	Relation rel;

	if (!ss_direct_rows)
		return NULL;
	ss_catalog_get(&catalog);
	if (!ss_memo_is_current(&checked.memo) || checked.table != catalog.sessions)
		check_table(&catalog);
	if (!ss_direct_is_usable(&checked.pkey) || (use == SS_DIRECT_UPDATE && !checked.writable))
		return NULL;
	if (use == SS_DIRECT_DELETE_DUE)
	{
		if (!ss_memo_is_current(&checked.deletes_memo))
			check_deletes(&catalog);
		if (!ss_direct_is_usable(&checked.check_at) || !ss_memo_is_current(&checked.deletes_memo))
			return NULL;
	}
	rel = table_open(checked.table, lockmode);
	/* the lock keeps the table as it is; verify that it is still what was checked */
	if (ss_memo_is_current(&checked.memo) && ss_catalog_is_current())
		return rel;
	table_close(rel, lockmode);
	return NULL;
}

/*
 * Open and lock conversation_sessions for direct access; the caller closes it.  Returns NULL if
 * direct access is turned off or not possible for this use; the caller then falls back to SPI.
 */
Relation
ss_direct_open(LOCKMODE lockmode, SsDirectUse use)
{
	Relation rel = open_if_eligible(lockmode, use);

	if (use == SS_DIRECT_UPDATE)
		ss_sql_set_path_on_demand(rel != NULL);
	return rel;
}

/* The primary key index of the table that ss_direct_open has opened. */
Oid
ss_direct_pkey(void)
{
	return checked.pkey.oid;
}

/* The index on check_at of the table that ss_direct_open has opened for deletes. */
Oid
ss_direct_check_at_index(void)
{
	return checked.check_at.oid;
}
