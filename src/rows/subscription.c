/*
 * subscription.c
 *		Which of our tables are filled by logical replication.
 *
 * A table is subscribed while pg_subscription_rel has it, in whatever state it is there and
 * whether or not the subscription is enabled.  The rows of such a table may be older than the
 * publisher's by any time (a subscriber that was down, a copy that is not finished, a disabled
 * subscription), so nothing that is decided by a time in them may be decided here: their purge
 * is left to the publisher, whose deletes arrive like any other change.  DROP SUBSCRIPTION, or
 * a refresh after the table left the publication, ends that.
 *
 * The answer comes from the system cache, and holds for what was committed before the caller
 * last took a lock on a table.
 */
#include "postgres.h"

#include "catalog/pg_subscription_rel.h"
#include "utils/catcache.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "rows/catalog.h"
#include "rows/subscription.h"

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
		case SS_TABLE_ENDED:
			return catalog.ended;
		case SS_TABLE_EVENTS:
			return catalog.events;
		default:
			return get_relname_relid(ss_table_name(table), catalog.schema);
	}
}

const char *
ss_table_name(SsTable table)
{
	static const char *const names[SS_TABLES] = {
		"conversation_sessions",      "conversation_history", "session_members",
		"conversation_history_ended", "session_events",       "session_samples"};

	return names[table];
}

/* Does a subscription of this database, in any state, hold the table? */
bool
ss_subscribed(SsTable table)
{
	CatCList *list = SearchSysCacheList1(SUBSCRIPTIONRELMAP, ObjectIdGetDatum(table_oid(table)));
	bool found = list->n_members > 0;

	ReleaseSysCacheList(list);
	return found;
}
