/*
 * pusher_rest.c
 *		Decides when the pusher may skip its check of the database and its comparison with Redis.
 *
 * Where nothing changes, nothing is read and no transaction is made.
 *
 *	Check (pusher_check.c).  After a check that found nothing to do, the next one is made when one of
 *	these indicates a change; none of them needs a transaction:
 *
 *		our tables, triggers, policies		invalidation messages
 *		transactions that were unlisted		shared memory
 *		prepared transactions				shared memory
 *		ALTER DATABASE .. SET				the server's count of rows changed in pg_db_role_setting,
 *											which a backend reports within seconds
 *
 *	and once a minute in any case, because the count may be switched off.
 *
 *	Comparison (scrub.c).  After a round over all keys of Redis and all rows of the table in which
 *	nothing was written to Redis, nothing differed and no table of ours was altered, only one step a
 *	minute is made, for changes in Redis alone, such as an eviction.  (After Redis was emptied, the
 *	next request finds no guard.)  Rows that are set aside are tried again by the scrubber, so there
 *	is no rest while there are any.  Any write to Redis ends the rest, and so does a new connection.
 *
 * A mark is always taken before the work that it stands for.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "catalog/pg_db_role_setting.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/inval.h"
#include "utils/timestamp.h"

#include "pusher/pusher_rest.h"
#include "pusher/pusher_rows.h"

#define CHECK_ANYWAY_US INT64CONST(60000000)

/* Rows changed in pg_db_role_setting, as counted by the server; -1 if it does not count. */
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

/*
 * Is there a prepared transaction in this database?  The entry of one that has ended keeps its
 * contents, so the transaction id is checked as well.
 */
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

/*
 * May the check be skipped, because the last one found nothing to do and nothing that it reads
 * has changed?  Must not be called in a transaction.
 */
bool
ss_pusher_rests(SsPusher *pusher, SsMonotonic now)
{
	SsPusherRest *rest = &pusher->rest;

	Assert(!IsTransactionState());
	if (!rest->tables || now - rest->checked_at >= CHECK_ANYWAY_US)
		return false;
	AcceptInvalidationMessages();
	(void) pgstat_report_stat(false);
	return ss_pusher_tables_are_known(pusher) &&
		   pusher->unlisted_ended == ss_control_unlisted_ended(&pusher->db->cache.control) &&
		   count_settings() == rest->settings && !has_prepared();
}

/* Called before a check: takes the mark. */
void
ss_pusher_before_check(SsPusher *pusher)
{
	pusher->rest.tables = false;
	pusher->rest.settings = count_settings();
}

/* Called after a check that did not fail: rests if it found nothing to do. */
void
ss_pusher_after_check(SsPusher *pusher, SsMonotonic now)
{
	pusher->rest.tables = ss_pusher_tables_are_known(pusher) && pusher->trouble[0] == '\0' &&
						  pusher->leave_at == 0;
	pusher->rest.checked_at = now;
}

/* Something other than our tables may have changed that none of the marks would show. */
void
ss_pusher_end_rest(SsPusher *pusher)
{
	pusher->rest.tables = false;
	pusher->rest.changes++;
}

/* A number that changes with everything that changes copies, or what they should be. */
static uint64
mark_of_copies(const SsPusher *pusher)
{
	const SsProto *proto = &pusher->proto;

	return pusher->rest.changes + ss_catalog_changes(SS_OUR_TABLES) + proto->counts.connects +
		   proto->counts.flushes + proto->counts.lost + proto->counts.sets + proto->counts.deletes +
		   proto->counts.expires;
}

/* Was a whole round without a difference, and has nothing changed since it started? */
bool
ss_pusher_scrub_rests(const SsPusher *pusher)
{
	const SsPusherRest *rest = &pusher->rest;

	return rest->began && rest->since != 0 && rest->mark == mark_of_copies(pusher);
}

/* Called before a step of the scrubber; returns where in the table it continues. */
SsTableWalk *
ss_pusher_before_scrub(SsPusher *pusher)
{
	SsPusherRest *rest = &pusher->rest;
	uint64 mark = mark_of_copies(pusher);

	if (!rest->began || rest->mark != mark)
	{
		rest->began = true;
		rest->since = 0;
		rest->mark = mark;
		/* a round that starts at the very beginning reaches the end once */
		rest->ends = pusher->cursor == 0 && pusher->scrub_rest.n == 0 ? 1 : 2;
		memset(&rest->walk, 0, sizeof(rest->walk));
	}
	else if (rest->since != 0 && rest->walk.done)
		memset(&rest->walk, 0, sizeof(rest->walk));
	return &rest->walk;
}

/* Called after a step; `different`: it found a difference. */
void
ss_pusher_after_scrub(SsPusher *pusher, bool different)
{
	SsPusherRest *rest = &pusher->rest;

	if (different || pusher->scrub_locked || !ss_aside_is_empty(pusher->push_aside) ||
		!ss_aside_is_empty(pusher->scrub_aside))
	{
		rest->began = false;
		return;
	}
	/* a sample that was not compared completely is continued by the next step */
	if (pusher->scrub_rest.n > 0)
		return;
	if (pusher->cursor == 0 && rest->ends > 0)
		rest->ends--;
	if (rest->ends == 0 && rest->walk.done && rest->since == 0 && !pusher->diverging)
		rest->since = GetCurrentTimestamp();
}
