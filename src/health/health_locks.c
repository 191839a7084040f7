/*
 * health_locks.c
 *		Part of session_health(): locks of others on the tables.
 *
 * session_health() and session_metrics() wait for locks on the tables of session_store for a tenth
 * of a second at most, in total.  They first lock each table that they read, with its indexes and
 * child tables, conditionally in ACCESS SHARE mode, and release the locks at the end.  A table
 * that could not be locked is not read: the values that depend on it are null or left out, and a
 * warning names it.
 *
 * Keeper and pusher skip what they cannot lock at once, and record that in shared memory.  Who
 * holds the lock is looked up here, when the report is made.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "health/health_locks.h"
#include "health/health_words.h"
#include "shared/databases.h"
#include "table/catalog.h"
#include "table/sql.h"

/*
 * Describes the locks of the modes $2 on the relations $3 and the extension $4 as the beginning of
 * a sentence.
 */
static SsPlan holders_plan = {
	"WITH locks AS ("
	" SELECT CASE WHEN l.relation IS NULL THEN 'the extension' ELSE CASE WHEN c.relkind {=} "
	"  'i'::\"char\" THEN 'index ' ELSE 'table ' END {||} l.relation::pg_catalog.regclass::pg_catalog.text"
	"  END AS what,"
	"  CASE WHEN l.pid IS NULL THEN 'a prepared transaction' ELSE 'process ' {||}"
	"  l.pid::pg_catalog.text {||} CASE WHEN l.granted THEN '' ELSE ' (which waits for the lock)' END"
	"  END AS who FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_class c ON c.oid {=} l.relation"
	"  WHERE l.database {=} $1 AND l.mode {=} ANY ($2) AND"
	"  (l.locktype {=} 'relation' AND l.relation {=} ANY ($3) OR l.locktype {=} 'object' AND"
	"   l.classid {=} 'pg_catalog.pg_extension'::pg_catalog.regclass::pg_catalog.oid AND l.objid {=} $4)),"
	" words AS (SELECT what {||} ' is locked by ' {||} pg_catalog.string_agg(DISTINCT who, ', ') AS said"
	"  FROM locks GROUP BY what)"
	" SELECT pg_catalog.string_agg(said, ', ' ORDER BY said COLLATE pg_catalog.\"C\" DESC) {||}"
	" CASE WHEN (SELECT pg_catalog.count(*) FROM words) {>} 4::pg_catalog.int8 THEN ', and others'"
	" ELSE '' END FROM (SELECT said FROM words ORDER BY said COLLATE pg_catalog.\"C\" DESC LIMIT 4) w",
	4,
	{OIDOID, TEXTARRAYOID, OIDARRAYOID, OIDOID}};

/*
 * A lock that is soon released, such as that of VACUUM when it truncates a table, is not worth a
 * warning: wait WAIT_US microseconds for it, WAITS_MAX times in total.
 */
#define WAIT_US 10000L
#define WAITS_MAX 10

/* Lock modes that conflict with reading, and with writing. */
static const char *const against_readers[] = {"AccessExclusiveLock"};
static const char *const against_writers[] = {"ShareLock", "ShareRowExclusiveLock", "ExclusiveLock",
											  "AccessExclusiveLock"};

static bool
try_lock(SsHealthLocks *locks, Oid relid)
{
	locks->relations = list_append_unique_oid(locks->relations, relid);
	while (!ConditionalLockRelationOid(relid, AccessShareLock))
	{
		if (locks->waits >= WAITS_MAX)
			return false;
		locks->waits++;
		CHECK_FOR_INTERRUPTS();
		pg_usleep(WAIT_US);
	}
	locks->held = lappend_oid(locks->held, relid);
	return true;
}

/*
 * Lock a table, its indexes and its child tables, as a query on it would.  Returns false if one of
 * them is locked by others; locks taken so far are kept.
 */
static bool
lock_table(SsHealthLocks *locks, Oid table)
{
	ListCell *cell;
	ListCell *index;

	foreach (cell, find_all_inheritors(table, NoLock, NULL))
	{
		Relation rel;
		List *indexes;

		if (!try_lock(locks, lfirst_oid(cell)))
			return false;
		rel = try_relation_open(lfirst_oid(cell), NoLock);
		if (rel == NULL)
			continue;
		indexes = RelationGetIndexList(rel);
		relation_close(rel, NoLock);
		foreach (index, indexes)
			if (!try_lock(locks, lfirst_oid(index)))
				return false;
	}
	return true;
}

/* Lock the tables that can be locked, until ss_health_unlock() or the end of the transaction. */
void
ss_health_lock(SsHealthLocks *locks)
{
	SsCatalog catalog;

	memset(locks, 0, sizeof(*locks));
	ss_catalog_get(&catalog);
	locks->extension = catalog.extension;
	{
		const Oid tables[] = {catalog.sessions, catalog.namespaces, catalog.history,
							  catalog.members,  catalog.operations, catalog.ended,
							  catalog.events,   catalog.samples,    catalog.orphans,
							  catalog.claims,   catalog.counters};

		for (int i = 0; i < (int) lengthof(tables); i++)
			if (OidIsValid(tables[i]) && !lock_table(locks, tables[i]))
				locks->refused = lappend_oid(locks->refused, tables[i]);
	}
}

void
ss_health_unlock(SsHealthLocks *locks)
{
	ListCell *cell;

	foreach (cell, locks->held)
		UnlockRelationOid(lfirst_oid(cell), AccessShareLock);
	locks->held = NIL;
}

/* Could this table not be locked? */
bool
ss_health_is_locked(const SsHealthLocks *locks, Oid table)
{
	return list_member_oid(locks->refused, table);
}

int
ss_health_count_locked(const SsHealthLocks *locks)
{
	return list_length(locks->refused);
}

static Datum
array_of_oids(const List *list)
{
	Datum *values = palloc(sizeof(Datum) * (list_length(list) + 1));
	int n = 0;
	ListCell *cell;

	foreach (cell, list)
		values[n++] = ObjectIdGetDatum(lfirst_oid(cell));
	return PointerGetDatum(construct_array(values, n, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}

/* Describe who holds locks of these modes on these relations; NULL if nobody does any more. */
static char *
holders(const SsHealthLocks *locks, const List *relations, const char *const *modes, int nmodes)
{
	Datum names[lengthof(against_writers)];
	Datum values[4];
	SsCaller caller;
	MemoryContext old;
	char *words;

	ss_sql_enter(&caller);
	for (int i = 0; i < nmodes; i++)
		names[i] = CStringGetTextDatum(modes[i]);
	values[0] = ObjectIdGetDatum(MyDatabaseId);
	values[1] = PointerGetDatum(construct_array(names, nmodes, TEXTOID, -1, false, TYPALIGN_INT));
	values[2] = array_of_oids(relations);
	values[3] = ObjectIdGetDatum(locks->extension);
	(void) ss_plan_run(&holders_plan, values, NULL, SS_PLAN_READ, 1);
	old = MemoryContextSwitchTo(caller.outer);
	words = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (words != NULL)
		words = MemoryContextStrdup(caller.outer, words);
	MemoryContextSwitchTo(old);
	ss_sql_leave(&caller);
	return words;
}

/* The names of the keeper's tasks that are skipped because of a lock, or NULL. */
static char *
skipping_tasks(const SsDb *db)
{
	StringInfoData names;

	initStringInfo(&names);
	ss_databases_lock(false);
	for (int i = 0; i < SS_TASKS; i++)
		if (db->tasks[i].skipped > 0)
			appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "", ss_health_task_name(i));
	ss_databases_unlock();
	return names.len > 0 ? names.data : NULL;
}

/* Warn of tables that could not be read, and of workers that skip work because of a lock. */
void
ss_health_locks(SsReport *report, const SsHealthLocks *locks)
{
	SsDb *db = ss_database_mine();
	char *tasks = db != NULL ? skipping_tasks(db) : NULL;
	char *words;

	if (locks->refused != NIL)
	{
		words = holders(locks, locks->relations, against_readers, lengthof(against_readers));
		ss_report_warn(
			report,
			"%s: what session_health() and session_metrics() would read there is missing, and "
			"calls that need it wait: end that transaction",
			words != NULL ? words : "a table was locked a moment ago");
	}
	if (tasks != NULL)
	{
		words = holders(locks, locks->relations, against_writers, lengthof(against_writers));
		if (words != NULL)
			ss_report_warn(report,
						   "the keeper skips its tasks %s until a lock is released: %s: end that "
						   "transaction",
						   tasks, words);
	}
	if (db != NULL && db->cache.report.locked)
	{
		words = holders(locks, locks->relations, against_readers, lengthof(against_readers));
		if (words != NULL)
			ss_report_warn(
				report,
				"the cache's pusher cannot read sessions, so copies of those that change are "
				"deleted from Redis until a lock is released: %s: end that transaction",
				words);
	}
}
