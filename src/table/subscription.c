/*
 * subscription.c
 *		Determines which of our tables are targets of logical replication.
 *
 * A table is subscribed if it is in pg_subscription_rel, in any state, and whether or not the
 * subscription is enabled.  Its rows may be older than the publisher's by any time (the subscriber
 * was down, the initial copy is not finished, the subscription is disabled), so nothing that
 * depends on times in these rows may be decided here.  Their purge is left to the publisher, whose
 * deletes arrive like any other change.  DROP SUBSCRIPTION ends that, as does a refresh after the
 * table has left the publication.
 *
 * The answer comes from the system cache.  It covers what was committed before the caller last
 * locked a table.
 */
#include "postgres.h"

#include "catalog/pg_subscription_rel.h"
#include "utils/catcache.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "table/catalog.h"
#include "table/subscription.h"

/* The OID of a table; InvalidOid if it is missing. */
static Oid
table_oid(SsTable table)
{
	SsCatalog catalog;

	ss_catalog_get(&catalog);
	switch (table)
	{
		case SS_TABLE_SESSIONS:
			return catalog.sessions;
		case SS_TABLE_HISTORY:
			return catalog.history;
		case SS_TABLE_MEMBERS:
			return catalog.members;
		case SS_TABLE_OPERATIONS:
			return catalog.operations;
		case SS_TABLE_ENDED:
			return catalog.ended;
		case SS_TABLE_EVENTS:
			return catalog.events;
		default:
			return get_relname_relid(ss_table_name(table), catalog.schema);
	}
}

/* The name of a table, a constant. */
const char *
ss_table_name(SsTable table)
{
	static const char *const names[SS_TABLES] = {"conversation_sessions",
												 "conversation_history",
												 "session_members",
												 "session_operations",
												 "conversation_history_ended",
												 "session_events",
												 "session_samples",
												 "session_counters"};

	return names[table];
}

/* Is a table part of a subscription of this database? */
bool
ss_subscribed(SsTable table)
{
	CatCList *list = SearchSysCacheList1(SUBSCRIPTIONRELMAP, ObjectIdGetDatum(table_oid(table)));
	bool found = list->n_members > 0;

	ReleaseSysCacheList(list);
	return found;
}
