/*
 * change.c
 *		Changes a session: the steps that every changing call shares.
 *
 * Every call that changes a session has this form:
 *
 *		do
 *		{
 *			ss_change_begin(&change, target, if_version, owner);
 *			... alter change.row ...
 *		} while (!ss_change_end(&change));
 *
 * ss_change_begin reads and locks the row and checks turn, if_version, owner and tombstone;
 * ss_change_end writes it, or returns false when the change has to be repeated.
 *
 * The row lock decides every race: between two saves, between a save and a logout (whose tombstone
 * is the row itself), between a save and the purge.  The clock is read after the lock was granted.
 * Two calls that create the same id have no row to lock; the primary key decides, and the second
 * call repeats its change and finds a row.
 *
 * Optimistic path: if a change writes only a row that is alive, it is read without a lock and
 * updated only if the tuple is unchanged and unlocked.  On any other outcome the change is repeated
 * with a row lock.
 *
 * Order of locks: first the row, then the owner's quota lock (owners.c).  Sessions that a quota
 * evicts are locked without waiting.  So two transactions of one call each cannot wait for each
 * other; transactions of several calls lock in the order of their calls.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "catalog/pg_collation.h"
#include "common/base64.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/expiry.h"
#include "row/access.h"
#include "row/claims.h"
#include "row/errors.h"
#include "row/liveness.h"
#include "row/row.h"
#include "row/turn.h"
#include "sessions/change.h"
#include "sessions/events.h"
#include "sessions/lifetime.h"
#include "sessions/owners.h"
#include "sessions/relaxed.h"
#include "shared/counters.h"
#include "table/sql.h"
#include "touch/touch_xact.h"

/*
 * Maximum number of retries of a change.  A trigger that skips our rows reaches it; a race does not,
 * since each retry is caused by another transaction that has committed.
 */
#define MAX_TRIES 1000

/* With owner isolation: did the row belong to another owner than the caller? */
static bool
belongs_to_another(const SsChange *change)
{
	const SsTarget *target = change->target;

	return ss_access_isolates(&target->policy, target->role) &&
		   !ss_access_allows(&target->policy, target->role, &change->row, SS_OWN, SS_PLAN_LATEST);
}

/* Advances a counter by a random amount between 2^20 and 2^31, which hides its former value. */
static int64
skip_ahead(int64 counter)
{
	uint32 by;

	if (!pg_strong_random(&by, sizeof(by)))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
						errmsg("could not generate a random version of a session")));
	by = by % ((UINT32_C(1) << 31) - (UINT32_C(1) << 20)) + (UINT32_C(1) << 20);
	return counter > PG_INT64_MAX / 2 ? counter : counter + by;
}

/* Makes change->row a new session that replaces the expired or dead row, if there is one. */
static void
init_session(SsChange *change)
{
	SsRow *row = &change->row;

	change->over_expired = change->has_row && row->state == SS_EXPIRED &&
						   row->dead_until == SS_NEVER;
	change->expired_owner = row->owner;
	change->expired_owner_null = row->owner_null;
	if (!change->has_row)
	{
		memset(row, 0, sizeof(*row));
		row->version = 0;
	}
	/* version and last_seq go on counting over an old row; another owner's are not disclosed */
	else if (belongs_to_another(change))
	{
		row->version = skip_ahead(row->version);
		row->last_seq = skip_ahead(row->last_seq);
	}
	row->data = ss_empty_document();
	row->owner = (Datum) 0;
	row->owner_null = true;
	row->created_at = change->now;
	row->ttl_us = change->target->policy.ttl_us;
	row->expires_at = SS_FOREVER; /* if the ttl is SS_FIXED, otherwise ss_change_end sets it */
	row->message_count = 0;
	row->dead_until = SS_NEVER;
	row->history_null = true;
	ss_turn_end(row);
	ss_row_set_summary(row, (Datum) 0, 0);
	change->old_owner_null = true;
}

/* Is the owner in change->row that of the row as it was read? */
static bool
same_owner(const SsChange *change)
{
	if (change->row.owner_null || change->old_owner_null)
		return change->row.owner_null == change->old_owner_null;
	return DatumGetBool(
		DirectFunctionCall2Coll(texteq, C_COLLATION_OID, change->row.owner, change->old_owner));
}

/*
 * Sets the owner; 0 keeps the present one.  With owner isolation the caller owns the sessions that it
 * creates, and may neither give a session to another owner nor take one.
 */
static void
set_owner(SsChange *change, Datum owner)
{
	const SsTarget *target = change->target;
	bool isolated = ss_access_isolates(&target->policy, target->role);

	if (isolated && change->is_new && owner == (Datum) 0)
	{
		char *subject = ss_claims_subject();

		if (subject != NULL)
			owner = CStringGetTextDatum(subject);
	}
	if (owner != (Datum) 0)
	{
		change->row.owner = owner;
		change->row.owner_null = false;
	}
	if (!isolated)
		return;
	if (change->is_new
			? !ss_access_allows(&target->policy, target->role, &change->row, SS_OWN, SS_PLAN_LATEST)
			: !same_owner(change))
		ss_error_not_owner(target);
}

/* The groups of fields (SsField) that a change needs. */
static int
fields_of(const SsChange *change)
{
	int fields = SS_FIELD_COUNTERS;

	if (!change->history_only && !change->replaces_document)
		fields |= SS_FIELD_DOCUMENT;
	if (change->turn != SS_TURN_NONE)
		fields |= SS_FIELD_TURN;
	return fields;
}

/*
 * Optimistic path: reads the row without a lock.  False when it is not alive, if_version does not
 * hold or a turn is given; the caller then locks the row and decides.
 */
static bool
read_optimistically(SsChange *change, SsTarget *target, int64 if_version)
{
	return change->optimistic && change->tries == 1 && change->turn == SS_TURN_NONE &&
		   !ss_access_isolates(&target->policy, target->role) &&
		   ss_row_read_unlocked(target, fields_of(change), &change->row) &&
		   change->row.state == SS_ALIVE &&
		   (if_version == SS_ANY_VERSION || if_version == SS_MUST_EXIST ||
			if_version == change->row.version);
}

/*
 * Locks the row of a change.  False when there is none.  A change without a turn may then insert one,
 * and finds out if there is one by now; one with a turn does not come so far.
 */
static bool
lock_row(SsChange *change, const SsTarget *target)
{
	return change->turn == SS_TURN_NONE
			   ? ss_row_lock(target, fields_of(change), &change->row)
			   : ss_session_lock_row(target, fields_of(change), &change->row);
}

/*
 * Raises an error unless the session may be changed with the turn that the call gives, or without
 * one.  A new session has no turn yet, and can be created without one.
 */
void
ss_change_check_turn(const SsChange *change)
{
	if (!change->takes_turn)
		return;
	if (change->turn == SS_TURN_NONE)
	{
		if (change->target->policy.turns_required && !change->is_new)
			ss_error_turn_required(change->target);
		return;
	}
	if (change->is_new)
		ss_error_turn(NULL, change->turn);
	if (!ss_turn_is_held_under(&change->row, change->turn, change->now))
		ss_error_turn(&change->row, change->turn);
}

/*
 * Begins a change that creates the session if there is none.  On return change->row is either the
 * session, alive and locked (unless the optimistic path was taken), or a new one (change->is_new).
 * Its owner is `owner`, unless that is 0 or change->owner_if_new says otherwise.  Raises an error
 * when if_version does not hold, when the id is dead, or when owner isolation denies the change.
 *
 * A caller whose transaction may commit with relaxed durability calls ss_relaxed_end after its last
 * write, or instead of ss_change_end; other transactions wait for the disk.
 */
void
ss_change_begin(SsChange *change, SsTarget *target, int64 if_version, Datum owner)
{
	CHECK_FOR_INTERRUPTS();
	ss_relaxed_begin(&target->policy);
	if (++change->tries > MAX_TRIES)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("could not insert the session"),
						errdetail("%d attempts found neither an existing row nor inserted one.",
								  MAX_TRIES),
						errhint("Check for a trigger on conversation_sessions that skips rows.")));
	change->target = target;
	change->has_row = read_optimistically(change, target, if_version) || lock_row(change, target);
	change->now = GetCurrentTimestamp();
	change->row.state = change->has_row ? change->row.state : SS_ABSENT;

	/* if_version => 0 reuses a dead id deliberately; with owner isolation only its last owner may */
	if (change->row.state == SS_DEAD &&
		(if_version != SS_MUST_NOT_EXIST || belongs_to_another(change)))
		ss_error_dead(target);
	change->is_new = change->row.state != SS_ALIVE;
	if (!change->is_new &&
		!ss_access_allows(&target->policy, target->role, &change->row, SS_EDIT, SS_PLAN_LATEST))
		ss_error_not_owner(target);
	if (!change->turn_later)
		ss_change_check_turn(change);
	if (change->is_new)
	{
		if (if_version != SS_ANY_VERSION && if_version != SS_MUST_NOT_EXIST)
			ss_error_conflict(if_version, 0);
		init_session(change);
		set_owner(change, owner);
		return;
	}

	if (if_version == SS_MUST_NOT_EXIST || (if_version > 0 && if_version != change->row.version))
		ss_error_conflict(if_version, change->row.version);
	change->base = change->row.expires_at;
	change->old_owner = change->row.owner;
	change->old_owner_null = change->row.owner_null;
	set_owner(change, change->owner_if_new ? (Datum) 0 : owner);
}

/*
 * Begins a change that does not create a session: locks it, if it is alive.  False when the caller
 * sees no such session and gives no turn; an error when it may view the session but lacks `need`.
 */
bool
ss_change_begin_existing(SsChange *change, SsTarget *target, SsNeed need)
{
	if (!ss_session_lock(target, &change->row, need))
	{
		if (change->turn != SS_TURN_NONE)
			ss_error_turn(NULL, change->turn);
		return false;
	}
	change->target = target;
	change->is_new = false;
	change->has_row = true;
	change->now = GetCurrentTimestamp();
	change->base = change->row.expires_at;
	change->old_owner = change->row.owner;
	change->old_owner_null = change->row.owner_null;
	if (!change->turn_later)
		ss_change_check_turn(change);
	return true;
}

/* What ss_change_end writes to a row that was there. */
static SsWrite
what_changed(const SsChange *change)
{
	if (change->is_new)
		return SS_WRITE_NEW;
	if (change->history_only)
		return change->new_summary ? SS_WRITE_SUMMARY : SS_WRITE_HISTORY;
	return change->document_only ? SS_WRITE_DOCUMENT : SS_WRITE_DOCUMENT_AND_HISTORY;
}

/*
 * Undoes the extension by an optimistic write that came too late: the session expired after the row
 * was read, perhaps while the update waited for it.  An expired session must not be revived, so the
 * row, which the update has locked, gets its end back; the repeated change then begins a new session.
 */
static void
restore_expiry(SsChange *change)
{
	change->row.expires_at = change->row.ends_at;
	change->row.has_tid = false; /* it is that of the version before */
	(void) ss_row_write(change->target, &change->row, SS_WRITE_EXPIRY);
}

/*
 * Before ss_change_end: removes the summary if it stands in for a message with this seq, the oldest of
 * those that the change removes or alters, because it may tell what that message said.
 */
void
ss_change_drop_summary(SsChange *change, int64 seq)
{
	if (change->row.summary == (Datum) 0 || seq > change->row.summary_up_to)
		return;
	ss_row_set_summary(&change->row, (Datum) 0, 0);
	change->new_summary = true;
}

/* At commit, moves the pending touch of the row version that was read to the one just written. */
static void
rebase_touch(const SsChange *change)
{
	SsTouch touch = {.base = change->base,
					 .ttl_us = change->row.ttl_us,
					 .expires_at = change->row.expires_at};

	ss_touch_xact_rebase(&change->target->key, &touch);
}

/*
 * After ss_change_begin: if the new session replaces an expired one, records the "expired" event of
 * that, before the purge could do so.
 */
void
ss_change_record_expiry(const SsChange *change)
{
	SsRow expired = change->row;

	if (!change->over_expired)
		return;
	expired.owner = change->expired_owner;
	expired.owner_null = change->expired_owner_null;
	ss_event(change->target, &expired, "expired", NULL);
}

/*
 * Writes change->row: increments the version (unless only the history changed), restarts the
 * lifetime, enforces the owner's quota and records the event.
 *
 * False when another transaction has created the session or, on the optimistic path, changed or
 * locked it since ss_change_begin: the change had no effect, and the caller repeats it.
 */
bool
ss_change_end(SsChange *change)
{
	SsTarget *target = change->target;
	SsRow *row = &change->row;

	Assert(change->is_new || change->has_row);
	/* only the optimistic path writes a row that is not locked */
	Assert(!row->has_tid || row->locked || change->optimistic);
	if (change->is_new || !change->history_only)
		row->version = ss_next_version(row->version);
	row->updated_at = change->now;
	ss_lifetime_restart(row, &target->policy, change->now);
	/* the purge visits a new session at its end; the check_at of an old one stays, which keeps it HOT */
	if (change->is_new)
		row->check_at = row->expires_at;

	if (!(change->has_row ? ss_row_write(target, row, what_changed(change))
						  : ss_row_insert(target, row)))
	{
		ss_relaxed_end(&target->policy);
		return false;
	}
	if (row->has_tid && !row->locked && ss_liveness_has_ended(row->ends_at, GetCurrentTimestamp()))
	{
		restore_expiry(change);
		ss_relaxed_end(&target->policy);
		return false;
	}
	if (!change->is_new)
		rebase_touch(change);

	if (!row->owner_null && (change->is_new || !same_owner(change)))
		ss_owner_enforce_quota(target, row->owner, change->exempt_id);
	if (change->is_new)
	{
		ss_counter_add(SS_CREATED, 1);
		ss_change_record_expiry(change);
		ss_event(target, row, "created", NULL);
	}
	else if (!change->history_only && target->policy.audit && target->policy.audit_saves)
	{
		StringInfoData detail;

		initStringInfo(&detail);
		ss_event_detail_number(&detail, "version", row->version);
		ss_event(target, row, "saved", &detail);
	}
	return true;
}

/*
 * Locks the row of the session and reads groups of its fields (SsField).  If the row that was
 * waited for was deleted or renamed and there is another one under this id by now, locks that one.
 * Above READ COMMITTED the server itself refuses such a row.
 */
bool
ss_session_lock_row(const SsTarget *target, int fields, SsRow *row)
{
	for (int tries = 0; tries < MAX_TRIES; tries++)
	{
		CHECK_FOR_INTERRUPTS();
		if (ss_row_lock(target, fields, row))
			return true;
		if (IsolationUsesXactSnapshot() || !ss_row_read(target, SS_PLAN_LATEST, 0, row))
			break;
	}
	return false;
}

/*
 * Checks before the lock is taken whether ss_session_lock may succeed; false and errors as there.
 * With owner isolation a caller without access must not lock the row, as the session's owner would
 * have to wait until the caller's transaction ends.  ss_session_lock repeats the check under the lock.
 */
bool
ss_session_may_lock(const SsTarget *target, SsNeed need)
{
	SsRow row;

	return !ss_access_isolates(&target->policy, target->role) ||
		   (ss_row_read(target, SS_PLAN_LATEST, 0, &row) && row.state == SS_ALIVE &&
			ss_access_allows_change(target, &row, need));
}

/*
 * Locks a session that is alive, and reads it into *row.  False when the caller sees no such session;
 * an error when it may view the session but lacks `need`.
 */
bool
ss_session_lock(SsTarget *target, SsRow *row, SsNeed need)
{
	return ss_session_may_lock(target, need) && ss_session_lock_row(target, SS_FIELDS_ALL, row) &&
		   row->state == SS_ALIVE && ss_access_allows_change(target, row, need);
}

/*
 * Returns a random id of 256 bits, palloc'd: 43 characters of base64url, which are safe in URLs,
 * cookies and file names.
 */
char *
ss_session_random_id(void)
{
	uint8 bytes[32];
	char *id = palloc(pg_b64_enc_len(sizeof(bytes)) + 1);
	int len;

	/* 32 bytes encode to 43 characters and one padding character, which is cut off */
	if (!pg_strong_random(bytes, sizeof(bytes)))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
						errmsg("could not generate a random session id")));
	len = pg_b64_encode((void *) bytes, sizeof(bytes), id, pg_b64_enc_len(sizeof(bytes)));
	explicit_bzero(bytes, sizeof(bytes));
	if (len < 43)
		elog(ERROR, "could not encode a random session id");
	id[43] = '\0';
	for (char *p = id; *p; p++)
		*p = *p == '+' ? '-' : *p == '/' ? '_' : *p;
	return id;
}
