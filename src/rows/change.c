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
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "rows/change.h"
#include "rows/errors.h"
#include "rows/events.h"
#include "rows/expiry.h"
#include "rows/owners.h"
#include "rows/touch_pending.h"
#include "shared.h"

/* The old id of a regenerated session is dead for at least this long. */
#define REGENERATE_TOMBSTONE (INT64CONST(300) * USECS_PER_SEC)

/* Begin again at most so often: creators of one id take turns, they do not go round. */
#define MAX_TRIES 1000

/* A new session in change->row, over whatever was there. */
static void
start_anew(SsChange *change)
{
	SsRow *row = &change->row;

	if (!change->have_row)
	{
		memset(row, 0, sizeof(*row));
		row->version = 0;
	}
	/* version and last_seq go on counting over an old row */
	row->data = ss_empty_document();
	row->owner = (Datum) 0;
	row->owner_null = true;
	row->created_at = change->now;
	row->ttl = change->target->policy.ttl;
	row->message_count = 0;
	row->dead_until = SS_NEVER;
	row->history_null = true;
	change->fresh = true;
	change->old_owner_null = true;
}

/*
 * Give the session an owner (0: the one it has).  With owner isolation a caller
 * owns what it makes, and can give its sessions to nobody else.
 */
static void
set_owner(SsChange *change, Datum owner)
{
	const SsTarget *target = change->target;

	if (ss_ns_isolates(&target->policy, target->role) && (owner != (Datum) 0 || change->fresh))
	{
		char *subject = ss_ns_caller_subject();

		if (owner == (Datum) 0 && subject != NULL)
			owner = CStringGetTextDatum(subject);
		if (!ss_ns_owner_visible(&target->policy, owner, owner == (Datum) 0, target->role))
			ss_error_not_owner(target);
	}
	if (owner != (Datum) 0)
	{
		change->row.owner = owner;
		change->row.owner_null = false;
	}
}

/*
 * Lock the session and judge it.  On return change->row is either the living
 * session, or a new one to be filled (change->fresh).  Raises an error when
 * if_version does not hold, when the id is dead, or when the session is somebody
 * else's in a namespace with owner isolation.
 */
void
ss_change_begin(SsChange *change, SsTarget *target, int64 if_version, Datum owner)
{
	CHECK_FOR_INTERRUPTS();
	if (++change->tries > MAX_TRIES)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("could not insert the session"),
						errdetail("The table neither has its row nor takes it, %d times in a row.",
								  MAX_TRIES),
						errhint("Look for a trigger on conversation_sessions that skips rows.")));
	change->target = target;
	change->fresh = false;
	change->have_row = ss_row_lock(target, &change->row);
	change->now = GetCurrentTimestamp();
	change->row.state = change->have_row ? change->row.state : SS_ABSENT;

	if (change->row.state == SS_DEAD && if_version != SS_MUST_NOT_EXIST)
		ss_error_dead(target);
	if (change->row.state != SS_ALIVE)
	{
		if (if_version != SS_ANY_VERSION && if_version != SS_MUST_NOT_EXIST)
			ss_error_conflict(if_version, 0);
		start_anew(change);
		set_owner(change, owner);
		return;
	}

	if (!ss_ns_owner_visible(&target->policy, change->row.owner, change->row.owner_null,
							 target->role))
		ss_error_not_owner(target);
	if (if_version == SS_MUST_NOT_EXIST || (if_version > 0 && if_version != change->row.version))
		ss_error_conflict(if_version, change->row.version);
	change->old_owner = change->row.owner;
	change->old_owner_null = change->row.owner_null;
	set_owner(change, owner);
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
 * Write what the caller made of change->row: counts the version, starts the
 * lifetime anew, keeps to the owner's quota.  False when another transaction
 * created the session meanwhile: then nothing was written, and the caller begins
 * again.
 */
bool
ss_change_end(SsChange *change)
{
	SsTarget *target = change->target;
	SsRow *row = &change->row;

	row->version = ss_next_version(row->version);
	row->updated_at = change->now;
	row->expires_at = ss_expiry(change->now, row->ttl, row->created_at,
								target->policy.max_lifetime);
	/* a new session is looked at when it ends; an old one when it was to be anyway */
	if (change->fresh)
		row->check_at = row->expires_at;

	if (!change->have_row)
	{
		if (!ss_row_insert(target, row))
			return false;
	}
	else
		ss_row_write(target, row);
	if (!change->fresh)
		ss_pending_rebase(&target->key, change->base, row->ttl, row->expires_at);

	if (!row->owner_null && (change->fresh || !same_owner(change)))
		ss_owner_enforce_quota(target, row->owner);
	if (change->fresh)
	{
		ss_count(SS_CREATED, 1);
		ss_event(target, target->id, row->owner, row->owner_null, "created", NULL);
	}
	return true;
}

/*
 * Make a tombstone of a living row that is locked: emptied, expired, and dead for
 * the given time.  With 0 the id may be used again at once, but the row is still marked as
 * one that no read can keep alive.
 */
static void
bury(SsTarget *target, SsRow *row, TimestampTz now, int64 tombstone)
{
	row->data = ss_empty_document();
	row->owner_null = true;
	row->version = ss_next_version(row->version);
	row->updated_at = now;
	row->expires_at = now;
	row->message_count = 0;
	row->dead_until = now + tombstone;
	ss_row_write(target, row);
}

/* End a session; false when there is none (that the caller may see). */
bool
ss_session_delete(SsTarget *target)
{
	SsRow row;
	SsRow was;

	if (!ss_row_lock(target, &row) || row.state != SS_ALIVE ||
		!ss_ns_owner_visible(&target->policy, row.owner, row.owner_null, target->role))
		return false;
	was = row;
	bury(target, &row, GetCurrentTimestamp(), target->policy.tombstone);
	ss_event(target, target->id, was.owner, was.owner_null, "deleted", NULL);
	ss_count(SS_DELETED, 1);
	/* a log-out that a crash could undo would be none */
	ForceSyncCommit();
	return true;
}

/* 256 random bits, in 43 characters that are safe in URLs, cookies and file names. */
char *
ss_random_id(void)
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

	if (!ss_row_lock(target, &row) || row.state != SS_ALIVE ||
		!ss_ns_owner_visible(&target->policy, row.owner, row.owner_null, target->role))
		return NULL;

	now = GetCurrentTimestamp();
	new_id = ss_random_id();
	renamed.id = CStringGetTextDatum(new_id);
	/* what reads have made of the expiry goes along; their note stays with the old id */
	row.expires_at = row.ends_at;
	ss_row_rename(target, renamed.id, &row);

	grave = row;
	grave.data = ss_empty_document();
	grave.owner_null = true;
	grave.version = ss_next_version(row.version);
	grave.created_at = grave.updated_at = grave.expires_at = now;
	grave.message_count = 0;
	grave.history_null = true;
	grave.dead_until = now + Max(target->policy.tombstone, REGENERATE_TOMBSTONE);
	grave.check_at = grave.dead_until;
	/* the primary key was held by the row we have just renamed: nobody else has it */
	if (!ss_row_insert(target, &grave))
		elog(ERROR, "could not leave a tombstone at the old id of a session");

	ss_event(target, target->id, row.owner, row.owner_null, "regenerated", NULL);
	ss_count(SS_REGENERATED, 1);
	ForceSyncCommit();
	return new_id;
}

/*
 * Note a read of a living row: it shall end at expires_at.  False when that could not
 * be noted.  When the notes are full, the keeper is asked to write some, and has 100 ms.
 */
static bool
note_use(const SsTarget *target, SsRow *row, TimestampTz expires_at)
{
	TimestampTz deadline = 0;
	SsDb *db = ss_shared_my_db();
	bool force = false;

	/* nobody else can see this version yet */
	if (row->own)
		return ss_pending_use(&target->key, row->expires_at, row->ttl, expires_at);
	for (;;)
	{
		TimestampTz now;

		switch (ss_touch_note(&target->key, row->expires_at, row->ttl, expires_at, force))
		{
			case SS_NOTED_URGENT:
				ss_wake_keeper();
				/* FALLTHROUGH */
			case SS_NOTED:
				ss_count(SS_USES_NOTED, 1);
				return true;
			case SS_NOTE_CONFLICT:
				/* which version is the present one, ours or the one noted on? */
				force = true;
				(void) ss_row_refresh(target, row);
				continue;
			case SS_NOTE_FULL:
				break;
		}
		now = GetCurrentTimestamp();
		if (deadline == 0)
			deadline = now + INT64CONST(100) * SS_USEC_PER_MSEC;
		if (now >= deadline || db == NULL || db->keeper_pid == 0)
		{
			ss_count(SS_USES_DROPPED, 1);
			return false;
		}
		ss_wake_keeper();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 5,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Write a row's expiry and ttl alone. */
static void
prolong(SsTarget *target, SsRow *row, TimestampTz expires_at)
{
	TimestampTz base = row->expires_at;

	row->expires_at = expires_at;
	ss_row_extend(target, row);
	ss_pending_rebase(&target->key, base, row->ttl, expires_at);
}

/*
 * Start a session's lifetime anew, with another ttl when ttl > 0; false when
 * there is no session.  A touch that changes nothing but the expiry, and is all there is
 * to its transaction, is not written but noted, at commit.
 */
bool
ss_session_touch(SsTarget *target, int64 ttl, TimestampTz *expires_at)
{
	SsRow row;

	/* what is noted must be noted of the row as it is now, at any isolation level */
	if (!ss_row_read(target, SS_PLAN_LATEST, &row) || row.state != SS_ALIVE ||
		!ss_ns_owner_visible(&target->policy, row.owner, row.owner_null, target->role))
		return false;
	/* in a longer transaction the row may be another by the time of the commit */
	if ((ttl <= 0 || ttl == row.ttl) && ss_touch_usable() && !IsTransactionBlock() &&
		!IsSubTransaction())
	{
		*expires_at = ss_expiry(GetCurrentTimestamp(), row.ttl, row.created_at,
								target->policy.max_lifetime);
		*expires_at = Max(*expires_at, row.ends_at);
		if (*expires_at == row.ends_at ||
			ss_pending_use(&target->key, row.expires_at, row.ttl, *expires_at))
		{
			ss_count(SS_TOUCHED, 1);
			return true;
		}
	}

	if (!ss_row_lock(target, &row) || row.state != SS_ALIVE ||
		!ss_ns_owner_visible(&target->policy, row.owner, row.owner_null, target->role))
		return false;
	if (ttl > 0)
		row.ttl = ttl;
	*expires_at = ss_expiry(GetCurrentTimestamp(), row.ttl, row.created_at,
							target->policy.max_lifetime);
	prolong(target, &row, *expires_at);
	ss_count(SS_TOUCHED, 1);
	return true;
}

/*
 * A read of a living session in a sliding namespace: note that it was used.
 * row->ends_at tells what then holds.
 */
void
ss_session_slide(const SsTarget *target, SsRow *row, TimestampTz now)
{
	TimestampTz expires_at;
	int64 grain;

	if (!target->policy.sliding || !ss_touch_usable())
		return;
	/* an old snapshot may show a version that was prolonged since */
	if (IsolationUsesXactSnapshot() || now - GetCurrentStatementStartTimestamp() > SS_USEC_PER_SEC)
		(void) ss_row_refresh(target, row);
	expires_at = ss_expiry(now, row->ttl, row->created_at, target->policy.max_lifetime);
	/* reads that come thick and fast need not all be noted */
	grain = Min(ss_slack(row->ttl) / 64, INT64CONST(100) * SS_USEC_PER_MSEC);
	if (expires_at <= row->ends_at + grain)
		return;
	if (note_use(target, row, expires_at))
		row->ends_at = Max(row->ends_at, expires_at);
}
