/*
 * row_end.c
 *		What a statement of plain SQL makes of a session that has ended, or that it ends.
 *
 * A logout has to stick, whoever writes the row.  So for an INSERT .. ON CONFLICT, an UPDATE or a
 * MERGE:
 *
 *	dead_until is set					the session ends as by session_delete: no document, history or
 *										(without owner isolation) owner, expired now, and the commit
 *										waits for the disk
 *	over a tombstone, document, owner,	SST10, unless dead_until is set to NULL
 *	history or a future expires_at
 *	over a row that has ended, with		a new session: what the statement does not give it does not
 *	a future expires_at					have, but for its version and last_seq, which go on counting
 *
 * A row has ended when it is or was a tombstone, or when it has expired and the statement gives it
 * a document.  To set nothing but the expires_at of an expired row is the tables' owner's way of
 * taking the expiry back, and leaves the session as it was; row_access.c refuses it to others.
 *
 * Rows that are replicated or restored are taken as they are: a subscriber (and everybody else with
 * session_replication_role = replica) is not asked, and an INSERT may bring a tombstone along.
 * Nor are the statements of the functions, which have decided all this under the row's lock, by the
 * clock that they read then.  A statement of a trigger that such a statement fires is asked.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "access/xact.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "rows/errors.h"
#include "rows/row_access.h"
#include "rows/row_end.h"
#include "rows/sessions.h"
#include "rows/sql.h"

static ExecutorStart_hook_type next_executor_start = NULL;

/*
 * A statement of ours is told from one of a trigger that it fires by a mark on the executor's own
 * copy of our trigger.  In the catalogs tginitdeferred is never set for a trigger BEFORE a row.
 */
static void
on_executor_start(QueryDesc *query, int eflags)
{
	ListCell *cell;

	if (next_executor_start != NULL)
		next_executor_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
	if (query->estate->es_opened_result_relations == NIL || !ss_plan_is_ours(query))
		return;
	foreach (cell, query->estate->es_opened_result_relations)
	{
		TriggerDesc *triggers = ((ResultRelInfo *) lfirst(cell))->ri_TrigDesc;

		for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
			if (TRIGGER_FOR_BEFORE(triggers->triggers[i].tgtype))
				triggers->triggers[i].tginitdeferred = true;
	}
}

/* Once, from _PG_init, after ss_foreign_code_init, whose hook clears tginitdeferred. */
void
ss_row_end_init(void)
{
	next_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = on_executor_start;
}

/* Does all this hold for the statement that fires our trigger? */
bool
ss_row_end_applies(const Trigger *trigger)
{
	return SessionReplicationRole != SESSION_REPLICATION_ROLE_REPLICA && !trigger->tginitdeferred;
}

static bool
is_later(const SsDeformedRow *row, int column, TimestampTz than)
{
	return !row->nulls[column] && DatumGetTimestampTz(row->values[column]) > than;
}

static void
set_null(SsDeformedRow *row, int column)
{
	ss_row_replace(row, column, (Datum) 0);
	row->nulls[column] = true;
}

/* An INSERT may bring a tombstone along, but none that is a session when its time is over. */
void
ss_row_end_insert(SsDeformedRow *new)
{
	if (new->nulls[SS_ROW_DEAD_UNTIL] || !is_later(new, SS_ROW_DEAD_UNTIL, GetCurrentTimestamp()) ||
		!is_later(new, SS_ROW_EXPIRES_AT, DatumGetTimestampTz(new->values[SS_ROW_DEAD_UNTIL])))
		return;
	ss_row_replace(new, SS_ROW_EXPIRES_AT, new->values[SS_ROW_DEAD_UNTIL]);
}

/* Does the statement give the row something that only a session has? */
static bool
gives_content(const SsDeformedRow *old, const SsDeformedRow *new, TimestampTz now)
{
	return ss_row_differs(old, new, SS_ROW_SESSION_DATA) ||
		   ss_row_differs(old, new, SS_ROW_OWNER_ID) ||
		   ss_row_differs(old, new, SS_ROW_HISTORY_ID) || is_later(new, SS_ROW_EXPIRES_AT, now);
}

/* Where owners are kept apart a tombstone keeps its owner, who alone may use the id again. */
static bool
keeps_owner(const SsDeformedRow *row)
{
	text *ns = DatumGetTextPP(row->values[SS_ROW_NAMESPACE]);
	SsPolicy policy;

	return ss_ns_find(VARDATA_ANY(ns), VARSIZE_ANY_EXHDR(ns), &policy) && policy.owner_isolation;
}

static void
end_session(const SsDeformedRow *old, SsDeformedRow *new, TimestampTz now)
{
	ss_row_replace(new, SS_ROW_SESSION_DATA, ss_empty_document());
	if (old->nulls[SS_ROW_OWNER_ID] || !keeps_owner(old))
		set_null(new, SS_ROW_OWNER_ID);
	else
		ss_row_replace(new, SS_ROW_OWNER_ID, old->values[SS_ROW_OWNER_ID]);
	set_null(new, SS_ROW_HISTORY_ID);
	ss_row_replace(new, SS_ROW_MESSAGE_COUNT, Int64GetDatum(0));
	if (is_later(new, SS_ROW_EXPIRES_AT, now))
		ss_row_replace(new, SS_ROW_EXPIRES_AT, TimestampTzGetDatum(now));
	ForceSyncCommit();
}

/* Has the session expired, with what reads have made of its expiry? */
static bool
has_expired(const SsDeformedRow *old, TimestampTz now)
{
	SsKey key;

	if (old->nulls[SS_ROW_EXPIRES_AT] || is_later(old, SS_ROW_EXPIRES_AT, now))
		return false;
	return !ss_key_from_datums(&key, old->values[SS_ROW_NAMESPACE],
							   old->values[SS_ROW_SESSION_ID]) ||
		   ss_touch_effective(&key, DatumGetTimestampTz(old->values[SS_ROW_EXPIRES_AT])) <= now;
}

/* Has the statement written a column, or a trigger before ours changed it? */
static bool
is_written(const SsDeformedRow *old, const SsDeformedRow *new, const Bitmapset *written, int column)
{
	return ss_row_differs(old, new, column) ||
		   bms_is_member(column - FirstLowInvalidHeapAttributeNumber, written);
}

static void
begin_session(const SsDeformedRow *old, SsDeformedRow *new, const Bitmapset *written,
			  TimestampTz now)
{
	static const int times[] = {SS_ROW_CREATED_AT, SS_ROW_UPDATED_AT};
	static const int nullable[] = {SS_ROW_OWNER_ID, SS_ROW_HISTORY_ID};

	for (int i = 0; i < (int) lengthof(times); i++)
		if (!is_written(old, new, written, times[i]))
			ss_row_replace(new, times[i], TimestampTzGetDatum(now));
	for (int i = 0; i < (int) lengthof(nullable); i++)
		if (!is_written(old, new, written, nullable[i]))
			set_null(new, nullable[i]);
	if (!is_written(old, new, written, SS_ROW_SESSION_DATA))
		ss_row_replace(new, SS_ROW_SESSION_DATA, ss_empty_document());
	if (!is_written(old, new, written, SS_ROW_MESSAGE_COUNT))
		ss_row_replace(new, SS_ROW_MESSAGE_COUNT, Int64GetDatum(0));
	set_null(new, SS_ROW_DEAD_UNTIL);
}

/* written: the columns that the statement sets, as in TriggerData; bound: see row_access.c. */
void
ss_row_end_update(const SsDeformedRow *old, SsDeformedRow *new, const Bitmapset *written,
				  bool bound)
{
	bool was_dead = !old->nulls[SS_ROW_DEAD_UNTIL];
	bool dead = !new->nulls[SS_ROW_DEAD_UNTIL];
	bool dies = dead && ss_row_differs(old, new, SS_ROW_DEAD_UNTIL);
	TimestampTz now;

	/* most updates are of living sessions, and leave them so */
	if (!was_dead && !dead && !ss_row_differs(old, new, SS_ROW_EXPIRES_AT))
		return;
	now = GetCurrentTimestamp();
	if (dead && is_later(old, SS_ROW_DEAD_UNTIL, now) && gives_content(old, new, now))
		ss_error_dead_row(old->values[SS_ROW_NAMESPACE]);
	if (dies)
		end_session(old, new, now);
	else if (!is_later(new, SS_ROW_EXPIRES_AT, now) || (!was_dead && !has_expired(old, now)))
		return;
	else if (was_dead || is_written(old, new, written, SS_ROW_SESSION_DATA))
		begin_session(old, new, written, now);
	else if (bound)
		ss_row_access_refuse_return();
}
