/*
 * rest.c
 *		Whether tables have changed since the keeper looked at them.
 *
 * A keeper that has found nothing to do makes no transaction until there may be something.  Two
 * counts tell it, and neither needs a transaction:
 *
 *	- Transactions that changed sessions, from our triggers (shared.c): at once, for calls, plain SQL,
 *	  COPY and the apply of a subscription alike.
 *	- Rows that the server counts as inserted, updated or deleted: for prepared transactions,
 *	  for statements while our triggers are disabled, and for the other tables.  A backend
 *	  reports them within 10 seconds of the end of its transaction.
 *
 * Neither tells of rows that a statement puts into a table that inherits from ours.  While there is
 * such a table there is no rest, and a new one is counted, for it is a row of pg_inherits.
 *
 * A mark is taken before the look that it stands for.  A transaction that the look did not see is
 * counted when it ends, which is after the mark.
 */
#include "postgres.h"

#include "catalog/pg_inherits.h"
#include "pgstat.h"
#include "utils/syscache.h"

#include "rows/catalog.h"
#include "rows/rest.h"
#include "rows/sql.h"
#include "shared.h"

static SsPlan ended_plan = {"SELECT 1 FROM {ended} LIMIT 1", 0, {InvalidOid}};
static SsPlan events_plan = {"SELECT 1 FROM {events} LIMIT 1", 0, {InvalidOid}};

/* Rows changed in our tables, as the server counts; -1 when it does not. */
static int64
count_rows(void)
{
	const SsCatalog *catalog = ss_catalog_cached();
	const Oid tables[] = {catalog->sessions, catalog->ended, catalog->events, catalog->namespaces,
						  InheritsRelationId};
	int64 sum = 0;

	if (!pgstat_track_counts || !OidIsValid(catalog->sessions))
		return -1;
	pgstat_clear_snapshot();
	for (int i = 0; i < (int) lengthof(tables); i++)
	{
		PgStat_StatTabEntry *stat = pgstat_fetch_stat_tabentry(tables[i]);

		if (stat != NULL)
			sum += stat->tuples_inserted + stat->tuples_updated + stat->tuples_deleted;
	}
	pgstat_clear_snapshot();
	return sum;
}

SsRest
ss_rest_mark(void)
{
	SsDb *db = ss_shared_my_db();

	return (SsRest){false, db == NULL ? 0 : pg_atomic_read_u64(&db->changes), count_rows()};
}

/* Does the keeper rest, and has nothing changed since? */
bool
ss_rest_holds(const SsRest *rest)
{
	SsRest now;

	if (!rest->resting)
		return false;
	now = ss_rest_mark();
	return now.rows >= 0 && now.rows == rest->rows && now.changes == rest->changes;
}

static bool
has_children(void)
{
	const SsCatalog *catalog = ss_catalog_cached();
	const Oid tables[] = {catalog->sessions, catalog->ended, catalog->events, catalog->namespaces};

	for (int i = 0; i < (int) lengthof(tables); i++)
		if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(tables[i])) &&
			find_inheritance_children(tables[i], NoLock) != NIL)
			return true;
	return false;
}

/* In a transaction: begin to rest, if nothing else is to be done. */
void
ss_rest_begin(SsRest *mark, bool nothing_to_do)
{
	mark->resting = nothing_to_do && !has_children();
}

/* In a transaction of ours: has a table no row? */
static bool
is_empty(SsPlan *plan)
{
	return ss_plan_run(plan, NULL, NULL, SS_PLAN_READ, 1) == 0;
}

bool
ss_rest_no_ended(void)
{
	return is_empty(&ended_plan);
}

bool
ss_rest_no_events(void)
{
	return is_empty(&events_plan);
}
