/*
 * orphans.c
 *		Messages and members that belong to no session.
 *
 * Triggers see to it that the end of a session queues its messages for the purge
 * (history_end.c).  But a restore may load messages long before the sessions that they belong
 * to, or after the purge has removed these because they had expired by then; and somebody may
 * delete sessions with triggers disabled.  The keeper therefore goes through all conversations
 * now and then, without relying on triggers:
 *
 *	- A conversation that has messages or members and neither a session nor an entry in the queue
 *	  is an orphan.  It is recorded in session_orphans, with the time when it was first seen.
 *	- It is removed when it still is one after session_store.orphan_keep.  Until then its session
 *	  may yet be loaded, or be in a transaction that is not committed.
 *
 * Cost: a pass makes one descent of the primary key for each conversation, however many messages
 * that has, in batches, and begins only after rows were added or sessions removed.  The records
 * are not dumped: in another database the time begins again, as that one's sessions may come from
 * another dump.
 *
 * A subscriber's conversations may wait for their sessions for any time, so nothing is recorded
 * there, nor removed.
 *
 * Locking: before messages are removed the absence of the session is checked again, under a SHARE
 * lock on conversation_sessions, which excludes that somebody is inserting it at that moment.
 * The lock is tried without waiting at first; it is held for one batch.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"

#include "rows/catalog.h"
#include "rows/history.h"
#include "rows/orphans.h"
#include "rows/sql.h"
#include "rows/subscription.h"
#include "settings.h"
#include "shared.h"

#define LOCK_TRIES 10
#define LOCK_NAP_US 5000

#define HAS_SESSION(table)                                                          \
	"EXISTS (SELECT FROM {sessions} s WHERE s.history_id {=} " table ".history_id)" \
	" OR EXISTS (SELECT FROM {ended} e WHERE e.history_id {=} " table ".history_id)"

static SsPlan recorded_plan = {
	"SELECT o.history_id, " HAS_SESSION(
		"o") ", EXISTS (SELECT FROM {history} h"
			 " WHERE h.history_id {=} o.history_id) OR EXISTS (SELECT FROM {members} m"
			 " WHERE m.history_id {=} o.history_id), o.seen_at {<=} $2"
			 " FROM {orphans} o WHERE o.history_id {>} $1 ORDER BY o.history_id LIMIT $3"
			 " FOR UPDATE OF o SKIP LOCKED",
	3,
	{UUIDOID, TIMESTAMPTZOID, INT8OID}};

/* The next conversation, whatever it has; one at a time, for each is a descent of the index. */
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
	bool owned; /* it has a session, or is queued for the purge already */
	bool rows;  /* it has messages or members */
	bool due;   /* seen first so long ago that it is to be removed */
} Conversation;

static void
run(SsPlan *plan, const Conversation *c)
{
	Datum values[1] = {UUIDPGetDatum(&c->history)};

	ss_plan_run(plan, values, NULL, SS_PLAN_WRITE, 0);
}

static Datum
column(uint64 row, int number, bool *null)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, number, null);
}

static bool
is_true(uint64 row, int number)
{
	bool null;
	Datum value = column(row, number, &null);

	return !null && DatumGetBool(value);
}

/* Its first column. */
static pg_uuid_t *
history_of(uint64 row, const char *table)
{
	return DatumGetUUIDP(ss_sql_value(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, 1, table));
}

static SsCatalog tables;              /* of the last step */
static PgStat_Counter counted = -1;   /* rows, when the last pass began; -1: begin another */
static PgStat_Counter looked_at = -1; /* .. when they were counted last */

/*
 * Were rows added that may be orphans, or sessions removed, since the last pass began?  Needs no
 * transaction.  True also when the server does not count (track_counts).
 */
bool
ss_orphans_changed(void)
{
	PgStat_Counter now = 0;
	PgStat_StatTabEntry *stat;

	if (!OidIsValid(tables.sessions) || !pgstat_track_counts)
		return true;
	pgstat_clear_snapshot();
	if ((stat = pgstat_fetch_stat_tabentry(tables.history)) != NULL)
		now += stat->tuples_inserted;
	if ((stat = pgstat_fetch_stat_tabentry(tables.members)) != NULL)
		now += stat->tuples_inserted;
	if ((stat = pgstat_fetch_stat_tabentry(tables.sessions)) != NULL)
		now += stat->tuples_deleted;
	pgstat_clear_snapshot();
	looked_at = now;
	return now != counted;
}

/* A pass has begun, which will see what had been counted then. */
void
ss_orphans_begun(void)
{
	counted = looked_at;
}

/* Exclude that somebody inserts a session, for the rest of the transaction. */
static bool
lock_sessions(SsOrphanPass *pass)
{
	for (int i = 0; i < LOCK_TRIES; i++)
	{
		pass->locked = ConditionalLockRelationOid(tables.sessions, ShareLock);
		if (pass->locked)
			return true;
		CHECK_FOR_INTERRUPTS();
		pg_usleep(LOCK_NAP_US);
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
 * Remove messages and members of an orphan, up to a limit of messages, which is lowered by how
 * many there were and by one.  False when some are left.
 */
static bool
remove_orphan(const Conversation *c, int *limit)
{
	Datum values[1] = {UUIDPGetDatum(&c->history)};
	bool all = true;
	int64 removed = 0;

	/* its session may have been loaded at the last moment */
	if (ss_plan_run(&has_session_plan, values, NULL, SS_PLAN_LATEST, 1) == 0)
		all = ss_history_remove(&c->history, *limit, &removed);
	if (all)
		run(&forget_plan, c);
	*limit -= (int) removed + 1;
	return all;
}

/* Visit some of those that are recorded. */
static void
visit_recorded(SsOrphanPass *pass, int limit)
{
	TimestampTz before = ss_orphan_keep == 0
							 ? DT_NOBEGIN
							 : GetCurrentTimestamp() - ss_orphan_keep * USECS_PER_SEC;
	Datum values[3] = {UUIDPGetDatum(&pass->at), TimestampTzGetDatum(before), Int64GetDatum(limit)};
	int left = limit;
	int n = (int) ss_plan_run(&recorded_plan, values, NULL, SS_PLAN_WRITE, 0);
	Conversation *found = palloc(sizeof(Conversation) * Max(n, 1));

	for (int i = 0; i < n; i++)
	{
		found[i] = (Conversation){*history_of(i, "session_orphans"), is_true(i, 2), is_true(i, 3),
								  is_true(i, 4)};
	}
	for (int i = 0; i < n; i++)
	{
		pg_uuid_t before_it = pass->at;

		/* should it fail, the next step passes it over */
		pass->at = found[i].history;
		if (found[i].owned || !found[i].rows)
			run(&forget_plan, &found[i]);
		else if (found[i].due)
		{
			int had = left;

			if (!pass->locked && !lock_sessions(pass))
			{
				pass->at = before_it;
				return;
			}
			/* go on with a long one in the next step, unless its messages are locked */
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

/* Visit some conversations in the table that this stage is about. */
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
		c.history = *history_of(0, pass->stage == SS_ORPHANS_HISTORY ? "conversation_history"
																	 : "session_members");
		c.owned = is_true(0, 2);
		SPI_freetuptable(SPI_tuptable);
		if (!c.owned)
			run(&record_plan, &c);
		pass->at = c.history;
	}
}

/*
 * One step of a pass, in a transaction of its own and between ss_sql_enter and ss_sql_leave:
 * visit so many conversations, or remove so many messages.
 */
void
ss_orphans_step(SsOrphanPass *pass, int limit)
{
	ss_catalog_get(&tables);
	pass->refused = pass->locked = false;
	if (ss_subscribed(SS_TABLE_SESSIONS) || ss_subscribed(SS_TABLE_HISTORY) ||
		ss_subscribed(SS_TABLE_MEMBERS))
	{
		/* the time begins again when the subscription ends */
		ss_plan_run(&forget_all_plan, NULL, NULL, SS_PLAN_WRITE, 0);
		pass->stage = SS_ORPHANS_DONE;
		counted = -1;
	}
	else if (pass->stage == SS_ORPHANS_RECORDED)
		visit_recorded(pass, limit);
	else
		visit_table(pass, limit);
}

/* How many there are, and since when the first is known. */
int64
ss_orphans_count(TimestampTz *oldest)
{
	bool null;
	Datum since;

	ss_plan_run(&count_plan, NULL, NULL, SS_PLAN_READ, 0);
	since = column(0, 2, &null);
	*oldest = null ? 0 : DatumGetTimestampTz(since);
	return DatumGetInt64(column(0, 1, &null));
}
