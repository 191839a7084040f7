/*
 * row_end.c
 *		Rules for plain SQL that ends a session, or changes one that has ended.
 *
 * A logout must be final, also for plain SQL.  So an INSERT .. ON CONFLICT, an UPDATE or a
 * MERGE has these effects:
 *
 *	- If it sets dead_until, the session ends as by session_delete: no document, history or
 *	  (without owner isolation) owner, expires_at not in the future, and the commit waits for the
 *	  disk.
 *	- If it sets the document, owner, history or a future expires_at of a tombstone, it is refused
 *	  (SST10), unless it sets dead_until to NULL.
 *	- If it sets a future expires_at of a row that has ended, it begins a new session: columns that
 *	  it does not set are reset, but for version and last_seq, which go on counting.
 *	- If it sets the ttl of a session to NULL, but not expires_at, the expiry that the session has
 *	  becomes the fixed one.  Without this a session would end earlier that only a pending touch keeps
 *	  alive, because no touch counts for it any more.
 *
 * A row has ended if it is or was a tombstone, or if it has expired and the statement sets the
 * document.  Setting only the expires_at of an expired row is how the owner of the tables revokes
 * the expiry; the session is left as it was.  row_access.c refuses this to other roles.
 *
 * The rules do not apply to rows that are replicated or restored (session_replication_role =
 * replica, which subscriptions use), and an INSERT may bring a tombstone along.  Nor do they apply
 * to the statements of our functions, which have decided all this under the row lock by the time
 * that they read then.  They do apply to statements of triggers that such a statement fires.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "commands/trigger.h"
#include "utils/timestamp.h"

#include "base/expiry.h"
#include "row/errors.h"
#include "row/liveness.h"
#include "row/row_access.h"
#include "row/row_columns.h"
#include "row/row_end.h"
#include "row/session.h"
#include "row/tombstone.h"
#include "table/namespaces.h"
#include "table/plan_marks.h"

/* Do the rules apply to the statement that fires our trigger? */
bool
ss_row_end_applies(const Trigger *trigger)
{
	return SessionReplicationRole != SESSION_REPLICATION_ROLE_REPLICA && !ss_plan_fired(trigger);
}

/* Is a column later than a time, and not null? */
static bool
is_later(const SsDeformedRow *row, int column, TimestampTz than)
{
	return !row->nulls[column] && DatumGetTimestampTz(row->values[column]) > than;
}

/*
 * Apply the rules to an INSERT.  It may bring a tombstone along, but not one that becomes a
 * session when dead_until has passed: its expires_at is lowered to dead_until.
 */
void
ss_row_end_insert(SsDeformedRow *new)
{
	if (new->nulls[SS_ROW_DEAD_UNTIL] || !is_later(new, SS_ROW_DEAD_UNTIL, GetCurrentTimestamp()) ||
		!is_later(new, SS_ROW_EXPIRES_AT, DatumGetTimestampTz(new->values[SS_ROW_DEAD_UNTIL])))
		return;
	ss_row_replace(new, SS_ROW_EXPIRES_AT, new->values[SS_ROW_DEAD_UNTIL]);
}

/* Does the statement set anything that only a session has? */
static bool
gives_content(const SsDeformedRow *old, const SsDeformedRow *new, TimestampTz now)
{
	return ss_row_differs(old, new, SS_ROW_SESSION_DATA) ||
		   ss_row_differs(old, new, SS_ROW_OWNER_ID) ||
		   ss_row_differs(old, new, SS_ROW_HISTORY_ID) || is_later(new, SS_ROW_EXPIRES_AT, now);
}

/* Has the session expired, pending touches included?  max_lifetime is not considered. */
static bool
has_expired(const SsDeformedRow *old, TimestampTz now)
{
	return !old->nulls[SS_ROW_EXPIRES_AT] && !is_later(old, SS_ROW_EXPIRES_AT, now) &&
		   ss_liveness_has_ended(ss_row_expiry(old), now);
}

/* Has the statement set a column, or a trigger that fired before ours changed it? */
bool
ss_row_is_written(const SsDeformedRow *old, const SsDeformedRow *new, const Bitmapset *written,
				  int column)
{
	return ss_row_differs(old, new, column) ||
		   bms_is_member(column - FirstLowInvalidHeapAttributeNumber, written);
}

/* Turn the row into a new session, resetting what the statement did not set. */
static void
begin_session(const SsDeformedRow *old, SsDeformedRow *new, const Bitmapset *written,
			  TimestampTz now)
{
	static const int times[] = {SS_ROW_CREATED_AT, SS_ROW_UPDATED_AT};
	static const int nullable[] = {SS_ROW_OWNER_ID, SS_ROW_HISTORY_ID, SS_ROW_TURN_UNTIL,
								   SS_ROW_TURN_HOLDER};

	for (int i = 0; i < (int) lengthof(times); i++)
		if (!ss_row_is_written(old, new, written, times[i]))
			ss_row_replace(new, times[i], TimestampTzGetDatum(now));
	for (int i = 0; i < (int) lengthof(nullable); i++)
		if (!ss_row_is_written(old, new, written, nullable[i]))
			ss_row_replace_null(new, nullable[i]);
	if (!ss_row_is_written(old, new, written, SS_ROW_SESSION_DATA))
		ss_row_replace(new, SS_ROW_SESSION_DATA, ss_empty_document());
	if (!ss_row_is_written(old, new, written, SS_ROW_MESSAGE_COUNT))
		ss_row_replace(new, SS_ROW_MESSAGE_COUNT, Int64GetDatum(0));
	ss_row_replace_null(new, SS_ROW_DEAD_UNTIL);
}

/* Fix the expiry of a session whose ttl the statement removes; see above. */
static void
fix_expiry(const SsDeformedRow *old, SsDeformedRow *new)
{
	TimestampTz expires_at = DatumGetTimestampTz(old->values[SS_ROW_EXPIRES_AT]);
	text *ns = DatumGetTextPP(old->values[SS_ROW_NAMESPACE]);
	TimestampTz expiry = ss_row_expiry(old);
	SsPolicy policy;

	if (ss_ns_find(VARDATA_ANY(ns), VARSIZE_ANY_EXHDR(ns), &policy))
		expiry = ss_expiry_cap(expiry, DatumGetTimestampTz(old->values[SS_ROW_CREATED_AT]),
							   policy.max_lifetime_us);
	if (expiry > expires_at)
		ss_row_replace(new, SS_ROW_EXPIRES_AT, TimestampTzGetDatum(expiry));
}

/*
 * Apply the rules to an UPDATE.  written has the columns that the statement sets, in the form of
 * tg_updatedcols; restricted says whether row_access.c restricts the role.
 */
void
ss_row_end_update(const SsDeformedRow *old, SsDeformedRow *new, const Bitmapset *written,
				  bool restricted)
{
	bool was_dead = !old->nulls[SS_ROW_DEAD_UNTIL];
	bool dead = !new->nulls[SS_ROW_DEAD_UNTIL];
	bool dies = dead && ss_row_differs(old, new, SS_ROW_DEAD_UNTIL);
	TimestampTz now;

	if (new->nulls[SS_ROW_TTL] && !old->nulls[SS_ROW_TTL] && !was_dead && !dead &&
		!ss_row_is_written(old, new, written, SS_ROW_EXPIRES_AT))
		fix_expiry(old, new);
	/* fast path for most updates: the session is alive and stays so */
	if (!was_dead && !dead && !ss_row_differs(old, new, SS_ROW_EXPIRES_AT))
		return;
	now = GetCurrentTimestamp();
	if (dead && is_later(old, SS_ROW_DEAD_UNTIL, now) && gives_content(old, new, now))
		ss_error_dead_row(old->values[SS_ROW_NAMESPACE]);
	if (dies)
		ss_tombstone_from_update(old, new, now);
	else if (!is_later(new, SS_ROW_EXPIRES_AT, now) || (!was_dead && !has_expired(old, now)))
		return;
	else if (was_dead || ss_row_is_written(old, new, written, SS_ROW_SESSION_DATA))
		begin_session(old, new, written, now);
	else if (restricted)
		ss_row_access_refuse_return();
}
