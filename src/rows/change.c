/*
 * change.c
 *		What it means to change a session.
 *
 * Every call that changes a session goes the same way:
 *
 *		do
 *		{
 *			ss_change_begin(&change, target, if_version, owner);	-- lock, judge, or start anew
 *			... alter change.row ...
 *		} while (!ss_change_end(&change));					-- write; false: begin again
 *
 * The row lock decides every race: between two saves, between a save and a
 * log-out (whose tombstone is the row itself), between a save and the purge.  The
 * clock is read after the lock was granted.  The one race that no row lock can
 * decide, two calls creating the same id, is decided by the primary key: the one
 * that comes second begins again and finds a row.
 *
 * Where nothing but a living row is written, the lock is saved: the row is read, and written
 * only if it is still the same and nobody has it.  So it was as good as locked from the one
 * to the other.  If not, or if the answer is anything but to write it, all begins again with a lock.
 *
 * Order of locks: first the row, then the owner's quota (owners.c); victims of a
 * quota are locked without waiting.  So no two calls can wait for each other, each in
 * a transaction of its own; those that do more take their locks in their own order.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "catalog/pg_collation.h"
#include "common/base64.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "rows/access.h"
#include "rows/change.h"
#include "rows/claims.h"
#include "rows/errors.h"
#include "rows/events.h"
#include "rows/expiry.h"
#include "rows/owners.h"
#include "rows/relaxed.h"
#include "rows/sql.h"
#include "rows/touch_pending.h"
#include "shared.h"

/* The old id of a regenerated session is dead for at least this long. */
#define REGENERATE_TOMBSTONE (INT64CONST(300) * USECS_PER_SEC)

/* Begin again at most so often: creators of one id take turns, they do not go round. */
#define MAX_TRIES 1000

/* Does an old row belong to somebody else than the caller, where owners are kept apart? */
static bool
is_of_another(const SsChange *change)
{
	const SsTarget *target = change->target;

	return ss_access_isolates(&target->policy, target->role) &&
		   !ss_access_allows(&target->policy, target->role, &change->row, SS_OWN, SS_PLAN_LATEST);
}

/* Let a counter go on by 2^20 to 2^31, so that it does not tell where it was. */
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

/* A new session in change->row, over whatever was there. */
static void
start_anew(SsChange *change)
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
	/* version and last_seq go on counting over an old row: over another's, from somewhere else */
	else if (is_of_another(change))
	{
		row->version = skip_ahead(row->version);
		row->last_seq = skip_ahead(row->last_seq);
	}
	row->data = ss_empty_document();
	row->owner = (Datum) 0;
	row->owner_null = true;
	row->created_at = change->now;
	row->ttl = change->target->policy.ttl;
	row->message_count = 0;
	row->dead_until = SS_NEVER;
	row->history_null = true;
	change->is_new = true;
	change->old_owner_null = true;
}

static bool
same_owner(const SsChange *change)
{
	if (change->row.owner_null || change->old_owner_null)
		return change->row.owner_null == change->old_owner_null;
	return DatumGetBool(
		DirectFunctionCall2Coll(texteq, C_COLLATION_OID, change->row.owner, change->old_owner));
}

/*
 * Give the session an owner (0: the one it has).  With owner isolation a caller
 * owns what it makes, and nobody can give a session to somebody else, nor take one.
 */
static void
set_owner(SsChange *change, Datum owner)
{
	const SsTarget *target = change->target;
	bool isolated = ss_access_isolates(&target->policy, target->role);

	if (isolated && change->is_new && owner == (Datum) 0)
	{
		char *subject = ss_caller_subject();

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

/* Can it be done without a lock? */
static bool
do_without_lock(SsChange *change, SsTarget *target, int64 if_version)
{
	return change->optimistic && change->tries == 1 &&
		   !ss_access_isolates(&target->policy, target->role) &&
		   ss_row_read_unlocked(target, &change->row) && change->row.state == SS_ALIVE &&
		   (if_version == SS_ANY_VERSION || if_version == SS_MUST_EXIST ||
			if_version == change->row.version);
}

/*
 * Lock the session and judge it.  On return change->row is either the living
 * session, or a new one to be filled (change->is_new).  Raises an error when
 * if_version does not hold, when the id is dead, or when the session is somebody
 * else's in a namespace with owner isolation.
 */
void
ss_change_begin(SsChange *change, SsTarget *target, int64 if_version, Datum owner)
{
	CHECK_FOR_INTERRUPTS();
	ss_relaxed_begin(&target->policy);
	if (++change->tries > MAX_TRIES)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("could not insert the session"),
						errdetail("The table neither has its row nor takes it, %d times in a row.",
								  MAX_TRIES),
						errhint("Look for a trigger on conversation_sessions that skips rows.")));
	change->target = target;
	change->is_new = false;
	change->has_row = do_without_lock(change, target, if_version) ||
					  ss_row_lock(target, &change->row);
	change->now = GetCurrentTimestamp();
	change->row.state = change->has_row ? change->row.state : SS_ABSENT;

	/* a dead id can be used anew on purpose: where owners are kept apart, by whose it was */
	if (change->row.state == SS_DEAD && (if_version != SS_MUST_NOT_EXIST || is_of_another(change)))
		ss_error_dead(target);
	if (change->row.state != SS_ALIVE)
	{
		if (if_version != SS_ANY_VERSION && if_version != SS_MUST_NOT_EXIST)
			ss_error_conflict(if_version, 0);
		start_anew(change);
		set_owner(change, owner);
		return;
	}

	if (!ss_access_allows(&target->policy, target->role, &change->row, SS_EDIT, SS_PLAN_LATEST))
		ss_error_not_owner(target);
	if (if_version == SS_MUST_NOT_EXIST || (if_version > 0 && if_version != change->row.version))
		ss_error_conflict(if_version, change->row.version);
	change->base = change->row.expires_at;
	change->old_owner = change->row.owner;
	change->old_owner_null = change->row.owner_null;
	set_owner(change, owner);
}

/*
 * As ss_change_begin, for a call that does not begin a session: false when there is none, as
 * far as the caller may see.
 */
bool
ss_change_begin_existing(SsChange *change, SsTarget *target, SsNeed need)
{
	if (!ss_session_lock(target, &change->row, need))
		return false;
	change->target = target;
	change->is_new = false;
	change->has_row = true;
	change->now = GetCurrentTimestamp();
	change->base = change->row.expires_at;
	change->old_owner = change->row.owner;
	change->old_owner_null = change->row.owner_null;
	return true;
}

/*
 * A row that was not locked was written, and its session has ended since it was read: perhaps the
 * row was waited for.  A session must not live again, so the row, which is now locked, gets
 * its end back, and the caller begins a new session over it.
 */
static void
end_again(SsChange *change)
{
	change->row.expires_at = change->row.ends_at;
	ss_row_write_expiry(change->target, &change->row);
}

/* The purge will not see the row of a session that expired and is now another one's. */
static void
tell_of_expiry(const SsChange *change)
{
	SsRow expired = change->row;

	expired.owner = change->expired_owner;
	expired.owner_null = change->expired_owner_null;
	ss_event(change->target, &expired, "expired", NULL);
}

/*
 * Write what the caller made of change->row: counts the version (unless it was but the
 * history that changed), starts the lifetime anew, keeps to the owner's quota.  False when another transaction
 * created the session meanwhile, or was quicker to change it: then nothing was written, and the
 * caller begins again.
 */
bool
ss_change_end(SsChange *change)
{
	SsTarget *target = change->target;
	SsRow *row = &change->row;

	if (change->is_new || !change->history_only)
		row->version = ss_next_version(row->version);
	row->updated_at = change->now;
	row->expires_at = ss_expiry(change->now, row->ttl, row->created_at,
								target->policy.max_lifetime);
	/* a new session is looked at when it ends; an old one when it was to be anyway */
	if (change->is_new)
		row->check_at = row->expires_at;

	if (change->has_row && change->history_only && !change->is_new)
		ss_row_write_history(target, row);
	else if (!(change->has_row ? ss_row_write(target, row) : ss_row_insert(target, row)))
	{
		ss_relaxed_end(&target->policy);
		return false;
	}
	if (row->has_tid && !row->locked && GetCurrentTimestamp() >= row->ends_at)
	{
		end_again(change);
		ss_relaxed_end(&target->policy);
		return false;
	}
	if (!change->is_new)
		ss_pending_rebase(&target->key, change->base, row->ttl, row->expires_at);

	if (!row->owner_null && (change->is_new || !same_owner(change)))
		ss_owner_enforce_quota(target, row->owner, change->exempt_id);
	if (change->is_new)
	{
		ss_count(SS_CREATED, 1);
		if (change->over_expired)
			tell_of_expiry(change);
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
 * Lock the row of a session.  The row that is waited for may be deleted, or get another id, while
 * there already is another one under this id: then that one is locked.  Above READ COMMITTED the
 * server refuses such a row by itself.
 */
static bool
lock_present_row(const SsTarget *target, SsRow *row)
{
	for (int tries = 0; tries < MAX_TRIES; tries++)
	{
		CHECK_FOR_INTERRUPTS();
		if (ss_row_lock(target, row))
			return true;
		if (IsolationUsesXactSnapshot() || !ss_row_read(target, SS_PLAN_LATEST, row))
			break;
	}
	return false;
}

/*
 * May the caller lock a session for a call that does not begin one?  Where owners are kept apart
 * that is asked before the lock, for until the transaction ends the session's owner would have to
 * wait for a caller to whom there is none.  False and errors as ss_session_lock, which asks again
 * when it has the lock.
 */
bool
ss_session_may_lock(const SsTarget *target, SsNeed need)
{
	SsRow row;

	return !ss_access_isolates(&target->policy, target->role) ||
		   (ss_row_read(target, SS_PLAN_LATEST, &row) && row.state == SS_ALIVE &&
			ss_access_allows_change(target, &row, need));
}

/*
 * Lock a living session for a call that does not begin one; false when there is none, as
 * far as the caller may see, an error when it may see it, but not do this with it.
 */
bool
ss_session_lock(SsTarget *target, SsRow *row, SsNeed need)
{
	return ss_session_may_lock(target, need) && lock_present_row(target, row) &&
		   row->state == SS_ALIVE && ss_access_allows_change(target, row, need);
}

/*
 * Make a tombstone of a living row that is locked: emptied, expired, and dead for the
 * namespace's tombstone.  With 0 the id may be used again at once, but the row is still marked
 * as one that no read can keep alive.  The history is hidden with it: the trigger queues it
 * for the purge.
 */
void
ss_session_end(SsTarget *target, SsRow *row)
{
	TimestampTz now = GetCurrentTimestamp();

	row->data = ss_empty_document();
	/* where owners are kept apart, the owner alone may use the id again */
	row->owner_null = row->owner_null || !target->policy.owner_isolation;
	row->version = ss_final_version(row->version);
	row->updated_at = now;
	row->expires_at = now;
	row->message_count = 0;
	row->history_null = true;
	row->dead_until = now + target->policy.tombstone;
	(void) ss_row_write(target, row);
	/* a log-out that a crash could undo would be none */
	ForceSyncCommit();
}

/* End a session; false when there is none (that the caller may see). */
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
	ss_count(SS_DELETED, 1);
	return true;
}

/* 256 random bits, in 43 characters that are safe in URLs, cookies and file names. */
char *
ss_session_random_id(void)
{
	uint8 bytes[32];
	char *id = palloc(pg_b64_enc_len(sizeof(bytes)) + 1);
	int len;

	/* 32 bytes make 43 characters and one of padding, which is cut */
	if (!pg_strong_random(bytes, sizeof(bytes)))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
						errmsg("could not generate a random session id")));
	len = pg_b64_encode((void *) bytes, sizeof(bytes), id, pg_b64_enc_len(sizeof(bytes)));
	explicit_bzero(bytes, sizeof(bytes));
	if (len < 43)
		elog(ERROR, "could not encode a random session id");
	id[43] = '\0'; /* without the padding */
	for (char *p = id; *p; p++)
		*p = *p == '+' ? '-' : *p == '/' ? '_' : *p;
	return id;
}

/*
 * Give a living session a new id; NULL when there is none.  It keeps everything
 * else.  The old id becomes a tombstone, whatever the namespace says.
 */
char *
ss_session_regenerate(SsTarget *target)
{
	SsTarget renamed = *target;
	SsRow row;
	SsRow grave;
	TimestampTz now;
	char *new_id;

	if (!ss_session_lock(target, &row, SS_OWN))
		return NULL;

	now = GetCurrentTimestamp();
	new_id = ss_session_random_id();
	renamed.id = CStringGetTextDatum(new_id);
	/* what reads have made of the expiry goes along; their note stays with the old id */
	row.expires_at = row.ends_at;
	ss_row_rename(target, renamed.id, &row);

	grave = row;
	grave.data = ss_empty_document();
	grave.owner_null = row.owner_null || !target->policy.owner_isolation;
	grave.version = ss_final_version(row.version);
	grave.created_at = grave.updated_at = grave.expires_at = now;
	grave.message_count = 0;
	grave.history_null = true;
	grave.dead_until = now + Max(target->policy.tombstone, REGENERATE_TOMBSTONE);
	grave.check_at = grave.dead_until;
	/* the primary key was held by the row we have just renamed: nobody else has it */
	if (!ss_row_insert(target, &grave))
		ss_error_rows_skipped("conversation_sessions");

	ss_event(target, &row, "regenerated", NULL);
	ss_count(SS_REGENERATED, 1);
	ForceSyncCommit();
	return new_id;
}
