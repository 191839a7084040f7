/*
 * rest.c
 *		Detects without a transaction whether tables have changed since the keeper checked them.
 *
 * A keeper that found nothing to do starts no transaction until there may be something.  Two
 * counters tell it, neither of which needs a transaction to be read:
 *
 *	- The number of transactions that changed sessions, counted by our triggers (databases.c).  It is
 *	  up to date at once, for calls, plain SQL, COPY and subscriptions alike.
 *	- The number of rows inserted, updated and deleted in the server's statistics.  It covers
 *	  prepared transactions, statements that run while our triggers are disabled, and the other
 *	  tables.  A backend reports its numbers within 10 seconds of the end of its transaction.
 *
 * The purge of counters rests by marks of its own, since hits change session_counters and concern no
 * other task.
 *
 * Neither covers rows that a statement writes to a table that inherits from ours.  So the keeper
 * does not rest while there is such a table; a new one is noticed because it adds a row to
 * pg_inherits.
 *
 * A mark must be taken before the check that it stands for.  A transaction that the check did not
 * see is counted when it ends, which is after the mark was taken.
 */
#include "postgres.h"

#include "catalog/pg_inherits.h"
#include "pgstat.h"
#include "utils/syscache.h"

#include "shared/databases.h"
#include "table/catalog.h"
#include "table/sql.h"
#include "upkeep/rest.h"

static SsPlan ended_plan = {"SELECT 1 FROM {ended} LIMIT 1", 0, {InvalidOid}};
static SsPlan events_plan = {"SELECT 1 FROM {events} LIMIT 1", 0, {InvalidOid}};

/* Maximum number of tables that a mark covers, without pg_inherits. */
#define MARKED_TABLES 5

/* Fills in the tables that a mark covers; returns their number. */
static int
marked_tables(bool counters, Oid tables[MARKED_TABLES])
{
	const SsCatalog *catalog = ss_catalog_cached();
	int n = 0;

	if (counters)
		tables[n++] = catalog->counters;
	else
	{
		tables[n++] = catalog->sessions;
		tables[n++] = catalog->ended;
		tables[n++] = catalog->events;
		tables[n++] = catalog->operations;
		tables[n++] = catalog->namespaces;
	}
	return n;
}

/*
 * The number of rows changed in the tables of a mark according to the statistics; -1 if they are not
 * kept.
 */
static int64
count_rows(bool counters)
{
	Oid tables[MARKED_TABLES + 1];
	int n = marked_tables(counters, tables);
	int64 sum = 0;

	tables[n++] = InheritsRelationId;
	if (!pgstat_track_counts || !OidIsValid(tables[0]))
		return -1;
	pgstat_clear_snapshot();
	for (int i = 0; i < n; i++)
	{
		PgStat_StatTabEntry *stat = pgstat_fetch_stat_tabentry(tables[i]);

		if (stat != NULL)
			sum += stat->tuples_inserted + stat->tuples_updated + stat->tuples_deleted;
	}
	pgstat_clear_snapshot();
	return sum;
}

/* Take a mark. */
SsRest
ss_rest_mark(void)
{
	SsDb *db = ss_database_mine();

	return (SsRest){false, db == NULL ? 0 : pg_atomic_read_u64(&db->changes), count_rows(false)};
}

/* Take a mark of session_counters alone. */
SsRest
ss_rest_mark_counters(void)
{
	return (SsRest){.rows = count_rows(true), .counters = true};
}

/* Does the keeper rest, and has nothing changed since the mark? */
bool
ss_rest_holds(const SsRest *rest)
{
	SsRest now;

	if (!rest->resting)
		return false;
	now = rest->counters ? ss_rest_mark_counters() : ss_rest_mark();
	return now.rows >= 0 && now.rows == rest->rows && now.changes == rest->changes;
}

/* Does a table inherit from one of a mark?  Needs a transaction. */
static bool
has_children(bool counters)
{
	Oid tables[MARKED_TABLES];
	int n = marked_tables(counters, tables);

	for (int i = 0; i < n; i++)
		if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(tables[i])) &&
			find_inheritance_children(tables[i], NoLock) != NIL)
			return true;
	return false;
}

/*
 * Begin to rest with a mark, if there is nothing to do and no table inherits from ours.  Called in
 * a transaction, because it reads catalogs.
 */
void
ss_rest_begin(SsRest *mark, bool nothing_to_do)
{
	mark->resting = nothing_to_do && !has_children(mark->counters);
}

/* Is a table empty?  Called within ss_sql_enter and ss_sql_leave. */
static bool
is_empty(SsPlan *plan)
{
	return ss_plan_run(plan, NULL, NULL, SS_PLAN_READ, 1) == 0;
}

/* Is conversation_history_ended empty?  As is_empty. */
bool
ss_rest_no_ended(void)
{
	return is_empty(&ended_plan);
}

/* Is session_events empty?  As is_empty. */
bool
ss_rest_no_events(void)
{
	return is_empty(&events_plan);
}
