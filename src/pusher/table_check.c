/*
 * table_check.c
 *		Checks that no change of sessions or histories can escape our triggers.
 *
 * The pusher calls this when it starts and after each invalidation of the tables.  The triggers
 * that record changes must exist, be ENABLE ALWAYS, and be the last ones to modify a row.  A mark
 * tells whether that was the case all the time.  It consists of the storage of a table, which a
 * rewrite changes, and a hash over the catalog rows of its triggers, so that a trigger that was
 * disabled and enabled again, even in one transaction, is noticed.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"

#include "compat.h"
#include "pusher/table_check.h"
#include "table/catalog.h"
#include "table/triggers.h"

/* A hash over the triggers of a table, which any change of them changes. */
static uint64
mark_of_triggers(Oid relid)
{
	Relation rel = table_open(TriggerRelationId, AccessShareLock);
	uint64 mark = 0;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, TriggerRelidNameIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		uint32 parts[3] = {((Form_pg_trigger) GETSTRUCT(tuple))->oid,
						   HeapTupleHeaderGetRawXmin(tuple->t_data),
						   ((Form_pg_trigger) GETSTRUCT(tuple))->tgenabled};

		mark = hash_bytes_extended((unsigned char *) parts, sizeof(parts), mark);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return mark;
}

/*
 * Does a trigger of ours exist, is it ENABLE ALWAYS, and does it fire for all events that it has
 * to?  If not, trouble is set.
 */
static bool
trigger_is_fine(Relation rel, const SsOwnTrigger *own, char *trouble, size_t size)
{
	/* a copy, because a catalog lookup may process invalidations and free the original */
	const TriggerDesc *all = CopyTriggerDesc(rel->trigdesc);
	const Trigger *trigger = ss_own_trigger_in(own, rel, all);
	const char *table = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
												   RelationGetRelationName(rel));

	if (trigger == NULL)
		snprintf(trouble, size, "trigger %s of %s is missing: reinstall the extension", own->name,
				 table);
	else if (!ss_own_trigger_is_intact(own, trigger))
		snprintf(trouble, size,
				 "trigger %s does not fire always: ALTER TABLE %s ENABLE ALWAYS TRIGGER %s",
				 own->name, table, own->name);
	else
		return true;
	return false;
}

/*
 * Is our BEFORE ROW trigger the last one to modify a row, and are there no child tables?  A later
 * trigger could change the key that ours has recorded.  If not, trouble is set.
 */
static bool
is_last_trigger(Relation rel, const char *ours, char *trouble, size_t size)
{
	const TriggerDesc *all = rel->trigdesc;

	for (int i = 0; all != NULL && i < all->numtriggers; i++)
	{
		const Trigger *trigger = &all->triggers[i];

		if (TRIGGER_FOR_ROW(trigger->tgtype) && TRIGGER_FOR_BEFORE(trigger->tgtype) &&
			(TRIGGER_FOR_INSERT(trigger->tgtype) || TRIGGER_FOR_UPDATE(trigger->tgtype)) &&
			trigger->tgenabled != TRIGGER_DISABLED && strcmp(trigger->tgname, ours) > 0)
		{
			snprintf(trouble, size,
					 "trigger %s fires after %s and may change what that noted: give it a name "
					 "that sorts before",
					 trigger->tgname, ours);
			return false;
		}
	}
	if (rel->rd_rel->relhassubclass)
	{
		snprintf(trouble, size,
				 "%s has (or had) child tables, whose changes are not recorded; "
				 "after the last is dropped, run ANALYZE on it",
				 RelationGetRelationName(rel));
		return false;
	}
	return true;
}

/* Lock the tables that the pusher reads until the end of the transaction, without waiting. */
SsTableState
ss_tables_lock(void)
{
	SsCatalog catalog;
	SsCatalog locked;

	if (!ss_catalog_find(&catalog))
		return SS_TABLES_GONE;
	if (!ss_catalog_try_lock(&catalog) ||
		!ConditionalLockRelationOid(catalog.sessions, AccessShareLock) ||
		!ConditionalLockRelationOid(catalog.history, AccessShareLock) ||
		!ConditionalLockRelationOid(catalog.namespaces, AccessShareLock))
		return SS_TABLES_LOCKED;
	/* the locks may be on tables that were dropped before; search again */
	if (!ss_catalog_find(&locked) || locked.extension != catalog.extension)
		return SS_TABLES_GONE;
	return SS_TABLES_FINE;
}

/*
 * Do our triggers see all changes of a table?  Fills in its part of the mark; `which` is its index
 * there.
 */
static bool
is_watched(Oid relid, int which, SsTableMark *mark, char *trouble, size_t size)
{
	Relation rel = table_open(relid, NoLock);
	const SsOwnTrigger *own = NULL;
	bool fine = true;

	while (fine && (own = ss_own_trigger_next(rel, own)) != NULL)
		if (own->records_changes)
			fine = trigger_is_fine(rel, own, trouble, size) &&
				   (!TRIGGER_FOR_ROW(own->type) || is_last_trigger(rel, own->name, trouble, size));
	mark->of[which].relation = relid;
	mark->of[which].storage = SsRelationStorage(rel);
	mark->of[which].triggers = mark_of_triggers(relid);
	table_close(rel, NoLock);
	return fine;
}

/*
 * Lock and check the tables, and take the mark.  If the result is SS_TABLES_BROKEN, trouble says
 * why and what to do.  Called in a transaction with a snapshot.
 */
SsTableState
ss_tables_check(SsTableMark *mark, char *trouble, size_t size)
{
	SsTableState state;
	SsCatalog catalog;

	trouble[0] = '\0';
	state = ss_tables_lock();
	if (state != SS_TABLES_FINE)
		return state;
	ss_catalog_get(&catalog);
	/* check both in any case, because the mark is of both */
	if (!is_watched(catalog.history, 1, mark, trouble, size))
		state = SS_TABLES_BROKEN;
	if (!is_watched(catalog.sessions, 0, mark, trouble, size))
		state = SS_TABLES_BROKEN;
	return state;
}
