/*
 * direct_check.c
 *		Is there a way to the rows of conversation_sessions without a statement?
 *
 * The table is its owner's to alter.  This is looked at anew after every invalidation of it: there
 * is none when the table has become partitioned or has children, or its primary key is another;
 * and none to change a row when anybody else wants to be asked, by a trigger, a rule or a
 * constraint.
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
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "compat.h"
#include "rows/catalog.h"
#include "rows/direct_check.h"
#include "rows/foreign_code.h"
#include "rows/schema.h"
#include "rows/sql.h"
#include "settings.h"

/* An index, and how old a snapshot must be for it. */
typedef struct WayIndex
{
	Oid oid; /* InvalidOid: there is none */
	TransactionId after;
} WayIndex;

static Oid table = InvalidOid; /* of which all this is known */
static WayIndex pkey;          /* none: go the long way */
static bool writable = false;  /* false: go the long way to change a row */
static WayIndex due;           /* on check_at; none: go the long way to delete */
static uint64 changes = 1;     /* counts what may have made it another */
static uint64 looked = 0;      /* after so many changes we have looked */
static uint64 looked_for_due = 0;

static void
forget(Oid relid)
{
	changes++;
}

/* Whose foreign keys are ignored may be another matter now. */
static void
roles_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	changes++;
}

static bool
is_btree(Relation index, int attributes)
{
	Form_pg_index form = index->rd_index;

	return index->rd_rel->relam == BTREE_AM_OID && form->indisvalid &&
		   form->indnkeyatts == attributes;
}

static WayIndex
known_as(Relation index)
{
	WayIndex known = {RelationGetRelid(index), InvalidTransactionId};

	if (index->rd_index->indcheckxmin)
		known.after = HeapTupleHeaderGetXmin(index->rd_indextuple->t_data);
	return known;
}

/* As the planner asks: is there one, and may all our snapshots use it? */
static bool
is_there(const WayIndex *index)
{
	return OidIsValid(index->oid) && (!TransactionIdIsValid(index->after) ||
									  TransactionIdPrecedes(index->after, TransactionXmin));
}

static bool
is_our_key(Relation index)
{
	Form_pg_index form = index->rd_index;

	if (!is_btree(index, 2) || form->indkey.values[0] != SS_ROW_NAMESPACE ||
		form->indkey.values[1] != SS_ROW_SESSION_ID)
		return false;
	for (int i = 0; i < 2; i++)
		if (index->rd_indcollation[i] != C_COLLATION_OID ||
			index->rd_opfamily[i] != TEXT_BTREE_FAM_OID)
			return false;
	return true;
}

/* Has it all rows in the order of check_at? */
static bool
is_of_due(Relation index)
{
	return is_btree(index, 1) && index->rd_index->indkey.values[0] == SS_ROW_CHECK_AT &&
		   index->rd_opfamily[0] ==
			   lookup_type_cache(TIMESTAMPTZOID, TYPECACHE_BTREE_OPFAMILY)->btree_opf &&
		   index->rd_indoption[0] == 0 && RelationGetIndexPredicate(index) == NIL;
}

/* Is it one of those that we know how to be asked? */
static bool
is_our_trigger(const Trigger *trigger, const char *name, const char *function, Oid schema)
{
	char *called;

	if (strcmp(trigger->tgname, name) != 0 || trigger->tgenabled != TRIGGER_FIRES_ALWAYS ||
		!TRIGGER_FOR_BEFORE(trigger->tgtype) || !TRIGGER_FOR_ROW(trigger->tgtype) ||
		trigger->tgqual != NULL || trigger->tgnattr != 0)
		return false;
	called = get_func_name(trigger->tgfoid);
	return called != NULL && strcmp(called, function) == 0 &&
		   get_func_namespace(trigger->tgfoid) == schema;
}

static bool
has_our_triggers_alone(Relation rel, Oid schema, bool deletes)
{
	/* a copy: asking the catalogs may have the one in the cache replaced */
	TriggerDesc *triggers = CopyTriggerDesc(rel->trigdesc);
	int ours = 0;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if (!(deletes ? TRIGGER_FOR_DELETE(trigger->tgtype)
					  : TRIGGER_FOR_UPDATE(trigger->tgtype)) ||
			trigger->tgenabled == TRIGGER_DISABLED)
			continue;
		/* whether a foreign key is ignored holds until its table, or a role, changes */
		if (trigger->tgisinternal && OidIsValid(trigger->tgconstrrelid) &&
			ss_catalog_watch(trigger->tgconstrrelid, forget) &&
			ss_foreign_key_trigger_is_ignored(trigger))
			continue;
		if (!is_our_trigger(trigger, "session_row_guard", "session_row_guard", schema) &&
			!is_our_trigger(trigger, "zz_session_change", "session_change_note", schema))
			return false;
		ours++;
	}
	return ours == (deletes ? 1 : 2);
}

/* Is nobody else asked about an update, or a delete, by the owner, and may he do it? */
static bool
is_ours_alone(Relation rel, const SsCatalog *catalog, bool deletes)
{
	AclMode rights = ACL_SELECT | (deletes ? ACL_DELETE : ACL_UPDATE);

	return rel->rd_rules == NULL && has_our_triggers_alone(rel, catalog->schema, deletes) &&
		   pg_class_aclmask(RelationGetRelid(rel), catalog->owner, rights, ACLMASK_ALL) == rights;
}

/* Does anything but a trigger look at what is written?  These columns we sometimes write NULL. */
static bool
is_constrained(Relation rel)
{
	static const int nullable[] = {SS_ROW_OWNER_ID, SS_ROW_HISTORY_ID, SS_ROW_DEAD_UNTIL};
	const TupleConstr *constr = rel->rd_att->constr;

	for (int i = 0; i < (int) lengthof(nullable); i++)
		if (TupleDescAttr(rel->rd_att, nullable[i] - 1)->attnotnull)
			return true;
	return rel->rd_rel->relispartition ||
		   (constr != NULL && (constr->num_check > 0 || constr->has_generated_stored ||
							   SsHasGeneratedVirtual(constr)));
}

/* Is all that an UPDATE by the owner would do what ss_direct_write does? */
static bool
is_writable(Relation rel, const SsCatalog *catalog)
{
	return rel->rd_att->natts >= SS_ROW_ATTRS && !is_constrained(rel) &&
		   is_ours_alone(rel, catalog, false);
}

/* Find the way, or that there is none. */
static void
look(const SsCatalog *catalog)
{
	static bool registered = false;
	uint64 now;
	Relation rel;
	Oid index = InvalidOid;

	if (!registered)
	{
		ss_catalog_on_invalidation(forget);
		CacheRegisterSyscacheCallback(AUTHOID, roles_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, roles_changed, (Datum) 0);
		registered = true;
	}
	now = changes;
	looked = looked_for_due = 0; /* should this fail */
	pkey.oid = InvalidOid;
	writable = false;
	table = catalog->sessions;
	rel = table_open(table, AccessShareLock);
	if (rel->rd_rel->relkind == RELKIND_RELATION && !rel->rd_rel->relhassubclass)
	{
		list_free(RelationGetIndexList(rel));
		index = rel->rd_pkindex;
	}
	if (OidIsValid(index))
	{
		Relation key = index_open(index, AccessShareLock);

		if (is_our_key(key))
			pkey = known_as(key);
		index_close(key, AccessShareLock);
	}
	if (OidIsValid(pkey.oid))
		writable = is_writable(rel, catalog);
	table_close(rel, AccessShareLock);
	looked = now;
}

/*
 * Find the index to delete by, if all that a DELETE by the owner would do is what ss_direct_purge_remove does.
 * Who only reads need not open that.
 */
static void
look_for_due(const SsCatalog *catalog)
{
	uint64 now = changes;
	Relation rel = table_open(catalog->sessions, AccessShareLock);
	List *indexes = RelationGetIndexList(rel);
	ListCell *cell;

	due.oid = InvalidOid;
	if (is_ours_alone(rel, catalog, true))
		foreach (cell, indexes)
		{
			Relation index = index_open(lfirst_oid(cell), AccessShareLock);

			if (is_of_due(index))
				due = known_as(index);
			index_close(index, AccessShareLock);
		}
	list_free(indexes);
	table_close(rel, AccessShareLock);
	looked_for_due = now;
}

static Relation
open_way(LOCKMODE lockmode, SsDirectUse way)
{
	SsCatalog catalog;
	Relation rel;

	if (!ss_direct_rows)
		return NULL;
	ss_catalog_get(&catalog);
	if (looked != changes || table != catalog.sessions)
		look(&catalog);
	if (!is_there(&pkey) || (way == SS_DIRECT_UPDATE && !writable))
		return NULL;
	if (way == SS_DIRECT_DELETE_DUE)
	{
		if (looked_for_due != changes)
			look_for_due(&catalog);
		if (!is_there(&due) || looked_for_due != changes)
			return NULL;
	}
	rel = table_open(table, lockmode);
	/* with the lock held it stays as it is: is it as we know it? */
	if (looked == changes && ss_catalog_is_current())
		return rel;
	table_close(rel, lockmode);
	return NULL;
}

/* Open the table, if there is a way to its rows for what is wanted. */
Relation
ss_direct_open(LOCKMODE lockmode, SsDirectUse way)
{
	Relation rel = open_way(lockmode, way);

	if (way == SS_DIRECT_UPDATE)
		ss_sql_path_on_demand = rel != NULL;
	return rel;
}

/* The primary key of the table that is open. */
Oid
ss_direct_pkey(void)
{
	return pkey.oid;
}

/* The index on check_at of the table that is open. */
Oid
ss_direct_check_at_index(void)
{
	return due.oid;
}
