/*
 * history_queue.c
 *		Queues the histories of sessions that end, for the purge.
 *
 * An entry of conversation_history_ended is made in the transaction that ends the session, with the
 * owner of the session, so that session_forget() finds it.  The purge works through the queue
 * (upkeep/history_purge.c).  Called by triggers, outside ss_sql_enter.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "utils/uuid.h"

#include "table/sql.h"
#include "table/subscription.h"
#include "triggers/history_queue.h"

static SsPlan queue_one_plan = {"INSERT INTO {ended} (namespace, history_id, owner_id)"
								" VALUES ($1, $2, $3)",
								3,
								{TEXTOID, UUIDOID, TEXTOID}};

static SsPlan queue_all_plan = {
	"INSERT INTO {ended} (namespace, history_id, owner_id)"
	" SELECT namespace, history_id, owner_id FROM {sessions} WHERE history_id IS NOT NULL",
	0,
	{InvalidOid}};

static SsPlan is_queued_plan = {"SELECT 1 FROM {ended} WHERE history_id {=} $1", 1, {UUIDOID}};

static SsPlan clear_plan = {"DELETE FROM {ended}", 0, {InvalidOid}};

/*
 * Is logical replication applying a change whose queue entry the publisher sends as well?  Then the
 * trigger must not make one.
 */
static bool
publisher_sends_entry(void)
{
	return SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA &&
		   ss_subscribed(SS_TABLE_ENDED);
}

/*
 * Queues the history of a session's row that is updated or deleted (new is NULL), if the row loses
 * it.  Called by the trigger on conversation_sessions, outside ss_sql_enter.
 */
void
ss_history_detach(const SsDeformedRow *old, const SsDeformedRow *new)
{
	Datum values[3] = {old->values[SS_ROW_NAMESPACE], old->values[SS_ROW_HISTORY_ID],
					   old->values[SS_ROW_OWNER_ID]};
	char nulls[3] = {' ', ' ', old->nulls[SS_ROW_OWNER_ID] ? 'n' : ' '};
	SsCaller caller;

	if (old->nulls[SS_ROW_HISTORY_ID] ||
		(new != NULL && !ss_row_differs(old, new, SS_ROW_HISTORY_ID)) || publisher_sends_entry())
		return;
	ss_sql_enter(&caller);
	ss_plan_run(&queue_one_plan, values, nulls, SS_PLAN_WRITE, 0);
	ss_sql_leave(&caller);
}

/* Queues the histories of all sessions, before conversation_sessions is truncated. */
void
ss_history_detach_all(void)
{
	SsCaller caller;

	if (publisher_sends_entry())
		return;
	ss_sql_enter(&caller);
	/* TRUNCATE removes rows that the transaction's snapshot does not show, so take a new one */
	ss_plan_run(&queue_all_plan, NULL, NULL, SS_PLAN_LATEST, 0);
	ss_sql_leave(&caller);
}

/* Empties the queue, after conversation_history was truncated. */
void
ss_history_clear_queue(void)
{
	SsCaller caller;

	ss_sql_enter(&caller);
	ss_plan_run(&clear_plan, NULL, NULL, SS_PLAN_LATEST, 0);
	ss_sql_leave(&caller);
}

/* Is the history queued, that is, has its session ended? */
bool
ss_history_is_queued(const pg_uuid_t *history)
{
	Datum values[1] = {UUIDPGetDatum(history)};
	SsCaller caller;
	bool ended;

	ss_sql_enter(&caller);
	ended = ss_plan_run(&is_queued_plan, values, NULL, SS_PLAN_LATEST, 1) > 0;
	ss_sql_leave(&caller);
	return ended;
}
