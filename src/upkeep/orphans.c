/*
 * orphans.c
 *		Messages, members and operations that belong to no session.
 *
 * When a session ends, a trigger queues its messages for the purge (history_purge.c).  But a restore may
 * load messages long before the sessions that they belong to, or after the purge has removed those
 * sessions because they had expired; and sessions may be deleted with triggers disabled.  The keeper
 * therefore checks all conversations from time to time, without relying on triggers:
 *
 *	- A conversation that has messages, members or operations and neither a session nor an entry in
 *	  the queue is an orphan.  It is recorded in session_orphans, with the time when it was first seen.
 *	- It is removed if it is still one after session_store.orphan_keep.  Until then its session may
 *	  be loaded, or be inserted by a transaction that has not committed yet.
 *
 * Cost: a pass descends the primary key once per conversation, however many messages that has, in
 * batches.  It begins only after rows were added or sessions removed.  The records are not dumped:
 * after a restore the time begins again, since the sessions may come from another dump.
 *
 * On a subscriber of logical replication sessions may arrive arbitrarily later than their messages,
 * so nothing is recorded or removed there.
 *
 * Locking: before messages are removed, the absence of the session is checked again under a SHARE
 * lock on conversation_sessions, which excludes concurrent inserts.  The lock is first tried without
 * waiting, and held to the end of the transaction, which is one step.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"

#include "settings.h"
#include "table/catalog.h"
#include "table/sql.h"
#include "table/subscription.h"
#include "upkeep/history_purge.h"
#include "upkeep/orphans.h"

/* How often, and at which interval, the lock is tried without waiting. */
#define LOCK_TRIES 10
#define LOCK_SLEEP_US 5000

#define HAS_SESSION(table)                                                          \
	"EXISTS (SELECT FROM {sessions} s WHERE s.history_id {=} " table ".history_id)" \
	" OR EXISTS (SELECT FROM {ended} e WHERE e.history_id {=} " table ".history_id)"

/* The columns of recorded_plan; next_plan has the first two. */
enum
{
	FOUND_HISTORY_ID = 1,
	FOUND_OWNED,
	FOUND_ROWS,
	FOUND_DUE
};

static SsPlan recorded_plan = {
	"SELECT o.history_id, " HAS_SESSION(
		"o") ", EXISTS (SELECT FROM {history} h"
			 " WHERE h.history_id {=} o.history_id) OR EXISTS (SELECT FROM {members} m"
			 " WHERE m.history_id {=} o.history_id) OR EXISTS (SELECT FROM {operations} p"
			 " WHERE p.history_id {=} o.history_id), o.seen_at {<=} $2"
			 " FROM {orphans} o WHERE o.history_id {>} $1 ORDER BY o.history_id LIMIT $3"
			 " FOR UPDATE OF o SKIP LOCKED",
	3,
	{UUIDOID, TIMESTAMPTZOID, INT8OID}};

/* The next conversation of a table, orphan or not.  One at a time, so that each costs one descent. */
static SsPlan next_plan[] = {
	[SS_ORPHANS_HISTORY] = {"SELECT h.history_id, " HAS_SESSION(
								"h") " FROM {history} h"
									 " WHERE h.history_id {>} $1 ORDER BY h.history_id LIMIT 1",
							1,
							{UUIDOID}},
	[SS_ORPHANS_MEMBERS] = {"SELECT m.history_id, " HAS_SESSION(
								"m") " FROM {members} m"
									 " WHERE m.history_id {>} $1 ORDER BY m.history_id LIMIT 1",
							1,
							{UUIDOID}},
	[SS_ORPHANS_OPERATIONS] = {"SELECT p.history_id, " HAS_SESSION(
								   "p") " FROM {operations} p"
										" WHERE p.history_id {>} $1 ORDER BY p.history_id LIMIT 1",
							   1,
							   {UUIDOID}},
};

/* The name of the table of a stage, for errors. */
static const char *const table_names[] = {
	[SS_ORPHANS_HISTORY] = "conversation_history",
	[SS_ORPHANS_MEMBERS] = "session_members",
	[SS_ORPHANS_OPERATIONS] = "session_operations",
};

static SsPlan record_plan = {
	"INSERT INTO {orphans} (history_id) VALUES ($1) ON CONFLICT DO NOTHING", 1, {UUIDOID}};

static SsPlan forget_plan = {"DELETE FROM {orphans} WHERE history_id {=} $1", 1, {UUIDOID}};

static SsPlan forget_all_plan = {"DELETE FROM {orphans}", 0, {InvalidOid}};

static SsPlan has_session_plan = {"SELECT 1 FROM {sessions} WHERE history_id {=} $1", 1, {UUIDOID}};

static SsPlan count_plan = {"SELECT pg_catalog.count(*), pg_catalog.min(seen_at) FROM {orphans}",
							0,
							{InvalidOid}};

/* A conversation, copied out of SPI's result. */
typedef struct Conversation
{
	pg_uuid_t history;
	bool owned; /* it has a session or is queued for the purge */
	bool rows;  /* it has messages, members or operations */
	bool due;   /* first seen longer ago than orphan_keep */
} Conversation;

/* Runs a statement whose parameter is the history_id of a conversation. */
static void
run_for(SsPlan *plan, const Conversation *c)
{
	Datum values[1] = {UUIDPGetDatum(&c->history)};

	ss_plan_run(plan, values, NULL, SS_PLAN_WRITE, 0);
}

/* Returns a column of a row of SPI's result. */
static Datum
result_column(uint64 row, int number, bool *null)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, number, null);
}

static bool
is_true(uint64 row, int number)
{
	bool null;
	Datum value = result_column(row, number, &null);

	return !null && DatumGetBool(value);
}

/* Returns the first column, a history_id. */
static pg_uuid_t *
history_of(uint64 row, const char *table)
{
	return DatumGetUUIDP(
		ss_sql_value(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, FOUND_HISTORY_ID, table));
}

static SsCatalog tables; /* as of the last step */

/*
 * The number of rows added that may be orphans, and of sessions removed.  Reads the server's
 * statistics, so it needs no transaction.  -1 before the first step, and if track_counts is off.
 */
int64
ss_orphans_count_changes(void)
{
	int64 now = 0;
	PgStat_StatTabEntry *stat;

	if (!OidIsValid(tables.sessions) || !pgstat_track_counts)
		return -1;
	pgstat_clear_snapshot();
	if ((stat = pgstat_fetch_stat_tabentry(tables.history)) != NULL)
		now += stat->tuples_inserted;
	if ((stat = pgstat_fetch_stat_tabentry(tables.members)) != NULL)
		now += stat->tuples_inserted;
	if ((stat = pgstat_fetch_stat_tabentry(tables.operations)) != NULL)
		now += stat->tuples_inserted;
	if ((stat = pgstat_fetch_stat_tabentry(tables.sessions)) != NULL)
		now += stat->tuples_deleted;
	pgstat_clear_snapshot();
	return now;
}

/*
 * Locks conversation_sessions against inserts for the rest of the transaction.  False, and
 * pass->refused is set, when the lock is not free and pass->wait is not set.
 */
static bool
lock_sessions(SsOrphanPass *pass)
{
	for (int i = 0; i < LOCK_TRIES; i++)
	{
		pass->locked = ConditionalLockRelationOid(tables.sessions, ShareLock);
		if (pass->locked)
			return true;
		CHECK_FOR_INTERRUPTS();
		pg_usleep(LOCK_SLEEP_US);
	}
	if (!pass->wait)
	{
		pass->refused = true;
		return false;
	}
	LockRelationOid(tables.sessions, ShareLock);
	pass->locked = true;
	return true;
}

/*
 * Removes messages, operations and members of an orphan, at most *limit of the first two, and its
 * record once none is left.  Lowers *limit by their number plus one.  False when some are left.
 */
static bool
remove_orphan(const Conversation *c, int *limit)
{
	Datum values[1] = {UUIDPGetDatum(&c->history)};
	bool all = true;
	int64 removed = 0;

	/* its session may have been inserted since the pass read it */
	if (ss_plan_run(&has_session_plan, values, NULL, SS_PLAN_LATEST, 1) == 0)
		all = ss_history_remove(&c->history, *limit, &removed);
	if (all)
		run_for(&forget_plan, c);
	*limit -= (int) removed + 1;
	return all;
}

/* Visits recorded orphans: forgets those that are none any more, and removes those that are due. */
static void
visit_recorded(SsOrphanPass *pass, int limit)
{
	TimestampTz before = ss_orphan_keep_s == 0
							 ? DT_NOBEGIN
							 : GetCurrentTimestamp() - ss_orphan_keep_s * USECS_PER_SEC;
	Datum values[3] = {UUIDPGetDatum(&pass->at), TimestampTzGetDatum(before), Int64GetDatum(limit)};
	int left = limit;
	int n = (int) ss_plan_run(&recorded_plan, values, NULL, SS_PLAN_WRITE, 0);
	Conversation *found = palloc(sizeof(Conversation) * Max(n, 1));

	for (int i = 0; i < n; i++)
	{
		found[i] = (Conversation){*history_of(i, "session_orphans"), is_true(i, FOUND_OWNED),
								  is_true(i, FOUND_ROWS), is_true(i, FOUND_DUE)};
	}
	for (int i = 0; i < n; i++)
	{
		pg_uuid_t before_it = pass->at;

		/* if this one fails, the next step skips it */
		pass->at = found[i].history;
		if (found[i].owned || !found[i].rows)
			run_for(&forget_plan, &found[i]);
		else if (found[i].due)
		{
			int had = left;

			if (!pass->locked && !lock_sessions(pass))
			{
				pass->at = before_it;
				return;
			}
			/* continue with a long one in the next step, unless its messages are locked */
			if (!remove_orphan(&found[i], &left) && had - left > 1)
				pass->at = before_it;
			if (left <= 0)
				return;
		}
	}
	if (n < limit)
	{
		pass->stage = pass->only_old ? SS_ORPHANS_DONE : SS_ORPHANS_HISTORY;
		memset(&pass->at, 0, sizeof(pass->at));
	}
}

/* Visits some conversations in the table of this stage, and records the orphans. */
static void
visit_table(SsOrphanPass *pass, int limit)
{
	for (int i = 0; i < limit; i++)
	{
		Datum values[1] = {UUIDPGetDatum(&pass->at)};
		Conversation c;

		CHECK_FOR_INTERRUPTS();
		if (ss_plan_run(&next_plan[pass->stage], values, NULL, SS_PLAN_WRITE, 1) == 0)
		{
			pass->stage++;
			memset(&pass->at, 0, sizeof(pass->at));
			return;
		}
		c.history = *history_of(0, table_names[pass->stage]);
		c.owned = is_true(0, FOUND_OWNED);
		SPI_freetuptable(SPI_tuptable);
		if (!c.owned)
			run_for(&record_plan, &c);
		pass->at = c.history;
	}
}

/*
 * Makes one step of a pass: visits at most `limit` conversations, or removes as many messages.  The
 * caller runs each step in a transaction of its own, between ss_sql_enter and ss_sql_leave.
 */
void
ss_orphans_step(SsOrphanPass *pass, int limit)
{
	ss_catalog_get(&tables);
	pass->refused = pass->locked = pass->left = false;
	if (ss_subscribed(SS_TABLE_SESSIONS) || ss_subscribed(SS_TABLE_HISTORY) ||
		ss_subscribed(SS_TABLE_MEMBERS) || ss_subscribed(SS_TABLE_OPERATIONS))
	{
		/* orphan_keep begins again when the subscription ends */
		ss_plan_run(&forget_all_plan, NULL, NULL, SS_PLAN_WRITE, 0);
		pass->stage = SS_ORPHANS_DONE;
		pass->left = true;
	}
	else if (pass->stage == SS_ORPHANS_RECORDED)
		visit_recorded(pass, limit);
	else
		visit_table(pass, limit);
}

/* Returns the number of recorded orphans; *oldest is when the first was seen, 0 if there is none. */
int64
ss_orphans_count(TimestampTz *oldest)
{
	bool null;
	Datum since;

	ss_plan_run(&count_plan, NULL, NULL, SS_PLAN_READ, 0);
	since = result_column(0, 2, &null);
	*oldest = null ? 0 : DatumGetTimestampTz(since);
	return DatumGetInt64(result_column(0, 1, &null));
}
