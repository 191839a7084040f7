/*
 * end.c
 *		Ends a session by a call: deletion, regeneration, and an expiry in the past.
 *
 * The row must be locked, and becomes a tombstone (tombstone.c) unless the session expires.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "row/errors.h"
#include "row/row.h"
#include "row/tombstone.h"
#include "sessions/change.h"
#include "sessions/end.h"
#include "sessions/events.h"
#include "sessions/relaxed.h"
#include "shared/counters.h"

/* Minimum lifetime of the tombstone of a regenerated session, us. */
#define REGENERATE_TOMBSTONE_US (INT64CONST(300) * USECS_PER_SEC)

/*
 * Ends a session whose row is locked, for the namespace's tombstone time.  The commit will wait for
 * the disk.
 */
void
ss_session_end(SsTarget *target, SsRow *row)
{
	Assert(row->state == SS_ALIVE && (!row->has_tid || row->locked));
	ss_tombstone_make(row, &target->policy, GetCurrentTimestamp(), target->policy.tombstone_us);
	(void) ss_row_write(target, row);
	ForceSyncCommit();
}

/*
 * Ends a session whose expiry a save moves into the past, without a tombstone: the id is free.  The
 * document is not saved.  Raises the errors of a save; without such a session there is nothing to do.
 */
void
ss_session_expire(SsTarget *target, const SsLifetime *lifetime, Datum owner, int64 if_version)
{
	SsChange change = {0};

	Assert(lifetime->ttl_us == SS_FIXED);
	ss_change_begin(&change, target, if_version, owner);
	if (!change.is_new)
	{
		ss_lifetime_set(&change.row, lifetime);
		ss_lifetime_write(target, &change.row, change.base);
		ForceSyncCommit();
	}
	ss_relaxed_end(&target->policy);
	ss_counter_add(SS_TOUCHED, 1);
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
 * else is kept.  The old id becomes a tombstone for at least REGENERATE_TOMBSTONE_US.
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
	ss_tombstone_make(&tombstone, &target->policy, now,
					  Max(target->policy.tombstone_us, REGENERATE_TOMBSTONE_US));
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
