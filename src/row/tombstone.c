/*
 * tombstone.c
 *		What a session becomes when it ends: the contents of a tombstone.
 *
 * A session ends by becoming a tombstone, in the same row:
 *
 *	- session_data is empty, the history is detached (the trigger queues it for the purge), and its
 *	  summary is removed.
 *	- owner_id is null, but with owner isolation the owner stays, and alone may reuse the id.
 *	- version is the next one, as for every change (ss_tombstone_version).
 *	- expires_at and updated_at are the present time.
 *	- The turn has ended; its token stays, so that the next one is greater.
 *	- dead_until is set, even if the namespace's tombstone time is 0 and the id may be reused at
 *	  once, so that no touch extends the row (liveness.h).
 *
 * The row is made in three ways, which must agree: in memory (ss_tombstone_make), by a statement
 * over many rows (SS_SQL_TOMBSTONE), and by the trigger if plain SQL sets dead_until
 * (ss_tombstone_from_update; check_counters in session_trigger.c then counts the version).
 *
 * The row must be locked.  A caller that ends a session calls ForceSyncCommit, since a crash must not
 * undo a logout; evictions need not.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "row/liveness.h"
#include "row/session.h"
#include "row/tombstone.h"
#include "row/turn.h"

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
void
ss_tombstone_make(SsRow *row, const SsPolicy *policy, TimestampTz now, int64 duration_us)
{
	row->data = ss_empty_document();
	row->owner_null = row->owner_null || !policy->owner_isolation;
	row->version = ss_tombstone_version(row->version);
	row->updated_at = now;
	row->expires_at = now;
	row->message_count = 0;
	row->history_null = true;
	ss_row_set_summary(row, (Datum) 0, 0);
	row->dead_until = now + duration_us;
	ss_turn_end(row);
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
	ss_row_replace_null(new, SS_ROW_SUMMARY);
	ss_row_replace_null(new, SS_ROW_SUMMARY_UP_TO);
	ss_row_replace(new, SS_ROW_MESSAGE_COUNT, Int64GetDatum(0));
	ss_row_replace_null(new, SS_ROW_TURN_UNTIL);
	ss_row_replace_null(new, SS_ROW_TURN_HOLDER);
	if (!new->nulls[SS_ROW_EXPIRES_AT] &&
		!ss_liveness_has_ended(DatumGetTimestampTz(new->values[SS_ROW_EXPIRES_AT]), now))
		ss_row_replace(new, SS_ROW_EXPIRES_AT, TimestampTzGetDatum(now));
	ForceSyncCommit();
}
