/*
 * pusher_rest.c
 *		Whether the pusher need not look at the database, nor compare Redis with it.
 *
 * Where nothing changes, nothing is read: no transaction is made.
 *
 *	Looking around (pusher_check.c).  After a look that found all well, the next is made when one of
 *	these tells of a change, and neither needs a transaction:
 *
 *		our tables, triggers, policies		invalidation messages
 *		transactions that were unlisted		shared memory
 *		prepared transactions				shared memory
 *		ALTER DATABASE .. SET				the server's count of rows changed in pg_db_role_setting,
 *											which a backend reports within seconds
 *
 *	and once a minute in any case, for the count may be switched off.
 *
 *	Comparing (scrub.c).  After a round over all keys of Redis and all rows of the table in which
 *	nothing was written to Redis, nothing differed and no table of ours was altered, one step a minute
 *	is made, for what happens in Redis alone, such as an eviction.  (When Redis was emptied, the next
 *	request finds no guard.)  Rows that are set aside are tried again by the scrubber: then there is
 *	no rest.  Any write to Redis ends it, and so does a new connection.
 *
 * A mark is taken before the work that it stands for.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/twophase.h"
#include "catalog/pg_db_role_setting.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/inval.h"
#include "utils/timestamp.h"

#include "cache/pusher.h"

#define LOOK_ANYWAY INT64CONST(60000000) /* us */

/* Rows changed in pg_db_role_setting, as the server counts; -1 when it does not. */
static int64
count_settings(void)
{
	PgStat_StatTabEntry *stat;
	int64 sum = 0;

	if (!pgstat_track_counts)
		return -1;
	pgstat_clear_snapshot();
	stat = pgstat_fetch_stat_tabentry(DbRoleSettingRelationId);
	if (stat != NULL)
		sum = stat->tuples_inserted + stat->tuples_updated + stat->tuples_deleted;
	pgstat_clear_snapshot();
	return sum;
}

/* Is there a prepared transaction in this database?  What the entry says of one that is over stays. */
static bool
has_prepared(void)
{
	for (int i = 0; i < max_prepared_xacts; i++)
	{
		TransactionId xid = ((volatile PGPROC *) &PreparedXactProcs[i])->xid;

		if (PreparedXactProcs[i].databaseId == MyDatabaseId && TransactionIdIsNormal(xid) &&
			TransactionIdIsInProgress(xid))
			return true;
	}
	return false;
}

/* All is well, and nothing that a look would see has changed since the last.  Not in a transaction. */
bool
ss_pusher_rests(SsPusher *pusher, int64 now)
{
	SsPusherRest *rest = &pusher->rest;

	if (!rest->tables || now - rest->looked_at >= LOOK_ANYWAY)
		return false;
	AcceptInvalidationMessages();
	(void) pgstat_report_stat(false);
	return !pusher->tables_stale && !pusher->policies_stale &&
		   pusher->unlisted_ended == ss_ledger_unlisted_ended(&pusher->db->cache.control) &&
		   count_settings() == rest->settings && !has_prepared();
}

void
ss_pusher_before_check(SsPusher *pusher)
{
	pusher->rest.tables = false;
	pusher->rest.settings = count_settings();
}

void
ss_pusher_after_check(SsPusher *pusher, int64 now)
{
	pusher->rest.tables = !pusher->tables_stale && !pusher->policies_stale &&
						  pusher->trouble[0] == '\0' && pusher->leave_at == 0;
	pusher->rest.looked_at = now;
}

/* Something may have changed that no mark tells of. */
void
ss_pusher_end_rest(SsPusher *pusher)
{
	pusher->rest.tables = false;
	pusher->rest.news++;
}

/* A number that changes with everything that changes copies, or what they should be. */
static uint64
mark_of_copies(const SsPusher *pusher)
{
	const SsProto *proto = &pusher->proto;

	return pusher->rest.news + proto->counts.connects + proto->counts.flushes + proto->counts.lost +
		   proto->counts.sets + proto->counts.deletes + proto->counts.expires;
}

/* Was a whole round without a finding, and has nothing changed since it began? */
bool
ss_pusher_scrub_rests(SsPusher *pusher)
{
	SsPusherRest *rest = &pusher->rest;

	if (rest->began && rest->mark != mark_of_copies(pusher))
		rest->began = false;
	if (!rest->began)
		rest->since = 0;
	return rest->since != 0;
}

/* Where in the table a step goes on: at a random place, unless it is one of a round. */
SsTableWalk *
ss_pusher_before_scrub(SsPusher *pusher)
{
	SsPusherRest *rest = &pusher->rest;
	bool resting = ss_pusher_scrub_rests(pusher);

	if (!rest->began)
	{
		rest->began = true;
		rest->mark = mark_of_copies(pusher);
		/* from the very beginning, one end is enough */
		rest->ends = pusher->cursor == 0 ? 1 : 2;
		memset(&rest->walk, 0, sizeof(rest->walk));
	}
	else if (resting && rest->walk.done)
		memset(&rest->walk, 0, sizeof(rest->walk));
	return &rest->walk;
}

void
ss_pusher_after_scrub(SsPusher *pusher, bool different)
{
	SsPusherRest *rest = &pusher->rest;

	if (different || pusher->scrub_locked || pusher->scrub_cut ||
		!ss_aside_is_empty(pusher->push_aside) || !ss_aside_is_empty(pusher->scrub_aside))
	{
		rest->began = false;
		return;
	}
	if (pusher->cursor == 0 && rest->ends > 0)
		rest->ends--;
	if (rest->ends == 0 && rest->walk.done && rest->since == 0 && !pusher->diverging)
		rest->since = GetCurrentTimestamp();
}
