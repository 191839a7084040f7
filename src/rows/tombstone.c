/*
 * tombstone.c
 *		Ends sessions: what a tombstone looks like, deletion and regeneration.
 *
 * A session ends by becoming a tombstone, in the same row:
 *
 *	- session_data is empty, and the history is detached (the trigger queues it for the purge).
 *	- owner_id is null, but with owner isolation the owner stays, who alone may reuse the id.
 *	- version is the next one, as for every change (ss_tombstone_version).
 *	- expires_at and updated_at are the present time.
 *	- dead_until is set, even if the namespace's tombstone time is 0 and the id may be reused at
 *	  once, so that no touch extends the row (liveness.h).
 *
 * The row is made in three ways, which must agree: in memory (make_tombstone), by a statement over
 * many rows (SS_SQL_TOMBSTONE), and by the trigger if plain SQL sets dead_until
 * (ss_tombstone_from_update; check_counters in session_trigger.c then counts the version).
 *
 * The row must be locked.  Whoever ends a session calls ForceSyncCommit, since a crash must not undo
 * a logout; evictions need not.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "counters.h"
#include "rows/change.h"
#include "rows/errors.h"
#include "rows/events.h"
#include "rows/tombstone.h"

/* Minimum lifetime of the tombstone of a regenerated session, us. */
#define REGENERATE_TOMBSTONE (INT64CONST(300) * USECS_PER_SEC)

/*
 * Returns the version of a tombstone.  It saturates instead of raising an error, because no counter
 * may make a logout fail.
 */
int64
ss_tombstone_version(int64 version)
{
	return version == PG_INT64_MAX ? version : version + 1;
}

/* Makes a row in memory a tombstone for `duration` us. */
static void
make_tombstone(SsRow *row, const SsPolicy *policy, TimestampTz now, int64 duration)
{
	row->data = ss_empty_document();
	row->owner_null = row->owner_null || !policy->owner_isolation;
	row->version = ss_tombstone_version(row->version);
	row->updated_at = now;
	row->expires_at = now;
	row->message_count = 0;
	row->history_null = true;
	row->dead_until = now + duration;
}

/* Does the tombstone of a row keep its owner? */
static bool
keeps_owner(const SsDeformedRow *row)
{
	text *ns = DatumGetTextPP(row->values[SS_ROW_NAMESPACE]);
	SsPolicy policy;

	return ss_ns_find(VARDATA_ANY(ns), VARSIZE_ANY_EXHDR(ns), &policy) && policy.owner_isolation;
}

/*
 * For the trigger: makes the new row of an UPDATE that sets dead_until a tombstone.  An expires_at in
 * the past is left as it is.
 */
void
ss_tombstone_from_update(const SsDeformedRow *old, SsDeformedRow *new, TimestampTz now)
{
	ss_row_replace(new, SS_ROW_SESSION_DATA, ss_empty_document());
	if (old->nulls[SS_ROW_OWNER_ID] || !keeps_owner(old))
		ss_row_replace_null(new, SS_ROW_OWNER_ID);
	else
		ss_row_replace(new, SS_ROW_OWNER_ID, old->values[SS_ROW_OWNER_ID]);
	ss_row_replace_null(new, SS_ROW_HISTORY_ID);
	ss_row_replace(new, SS_ROW_MESSAGE_COUNT, Int64GetDatum(0));
	if (!new->nulls[SS_ROW_EXPIRES_AT] &&
		!ss_liveness_has_ended(DatumGetTimestampTz(new->values[SS_ROW_EXPIRES_AT]), now))
		ss_row_replace(new, SS_ROW_EXPIRES_AT, TimestampTzGetDatum(now));
	ForceSyncCommit();
}

/*
 * Ends a session whose row is locked, for the namespace's tombstone time.  The commit will wait for
 * the disk.
 */
void
ss_session_end(SsTarget *target, SsRow *row)
{
	Assert(row->state == SS_ALIVE && (!row->has_tid || row->locked));
	make_tombstone(row, &target->policy, GetCurrentTimestamp(), target->policy.tombstone);
	(void) ss_row_write(target, row);
	ForceSyncCommit();
}

/* Deletes a session (logout).  False when the caller sees no such session. */
bool
ss_session_delete(SsTarget *target)
{
	SsRow row;
	SsRow was;

	if (!ss_session_lock(target, &row, SS_OWN))
		return false;
	was = row;
	ss_session_end(target, &row);
	ss_event(target, &was, "deleted", NULL);
	ss_counter_add(SS_DELETED, 1);
	return true;
}

/*
 * Gives a session a new id and returns it; NULL when the caller sees no such session.  Everything
 * else is kept.  The old id becomes a tombstone for at least REGENERATE_TOMBSTONE.
 */
char *
ss_session_regenerate(SsTarget *target)
{
	SsTarget renamed = *target;
	SsRow row;
	SsRow tombstone;
	TimestampTz now;
	char *new_id;

	if (!ss_session_lock(target, &row, SS_OWN))
		return NULL;

	now = GetCurrentTimestamp();
	new_id = ss_session_random_id();
	renamed.id = CStringGetTextDatum(new_id);
	/* the pending touch stays with the old id, so the effective end is written */
	row.expires_at = row.ends_at;
	ss_row_rename(target, renamed.id, &row);

	tombstone = row;
	make_tombstone(&tombstone, &target->policy, now,
				   Max(target->policy.tombstone, REGENERATE_TOMBSTONE));
	/* it is a new row */
	tombstone.created_at = now;
	tombstone.check_at = tombstone.dead_until;
	/* the row renamed above still has the old id for other transactions, so none can have taken it */
	if (!ss_row_insert(target, &tombstone))
		ss_error_rows_skipped("conversation_sessions");

	ss_event(target, &row, "regenerated", NULL);
	ss_counter_add(SS_REGENERATED, 1);
	ForceSyncCommit();
	return new_id;
}
