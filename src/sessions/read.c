/*
 * read.c
 *		Reads a session and extends its expiry (sliding reads, touch).
 *
 * A read never writes the row.  In a sliding namespace it is recorded in shared memory as a pending
 * touch (touches.c), and so is an explicit touch where possible.  Reads need no lock and use the
 * caller's snapshot; a touch reads the latest version, and locks the row only if it must write it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "tcop/pquery.h"
#include "utils/uuid.h"
#include "utils/timestamp.h"

#include "base/expiry.h"
#include "row/access.h"
#include "row/direct.h"
#include "row/row.h"
#include "sessions/change.h"
#include "sessions/read.h"
#include "shared/counters.h"
#include "shared/databases.h"
#include "table/sql.h"
#include "touch/touch_xact.h"

/* Reads the row through SPI.  Datums are copied to the caller's memory context. */
static bool
read_by_statement(const SsTarget *target, int fields, SsRow *row)
{
	SsCaller caller;
	bool found;

	ss_sql_enter(&caller);
	found = ss_row_read(target, SS_PLAN_READ, fields, row);
	if (found)
	{
		if (row->data != (Datum) 0)
			row->data = ss_sql_copy_out(&caller, row->data, false, -1);
		if (!row->owner_null)
			row->owner = ss_sql_copy_out(&caller, row->owner, false, -1);
		if (!row->history_null)
			row->history = ss_sql_copy_out(&caller, row->history, false, UUID_LEN);
		if (row->turn_holder != (Datum) 0)
			row->turn_holder = ss_sql_copy_out(&caller, row->turn_holder, false, -1);
		if (row->summary != (Datum) 0)
			row->summary = ss_sql_copy_out(&caller, row->summary, false, -1);
	}
	ss_sql_leave(&caller);
	return found;
}

/* Reads the row in the caller's snapshot, directly or through SPI. */
static bool
read_row(const SsTarget *target, int fields, SsRow *row)
{
	bool found;

	if (!ss_direct_read(target, (fields & SS_FIELD_DOCUMENT) != 0, row, &found))
		return read_by_statement(target, fields, row);
	if (found)
		ss_row_set_state(row, target, GetCurrentTimestamp());
	return found;
}

/*
 * Reads groups of fields (SsField) of a session that is alive and that the caller may view, in the
 * caller's snapshot; its Datums are in the current memory context.  False when there is none.  Called
 * outside ss_sql_enter.
 */
bool
ss_session_read(const SsTarget *target, int fields, SsRow *row)
{
	bool found = read_row(target, fields, row) && row->state != SS_DEAD &&
				 (row->state == SS_ALIVE || ss_row_refresh(target, row)) &&
				 ss_access_allows(&target->policy, target->role, row, SS_VIEW, SS_PLAN_READ);

	ss_counter_add(SS_READ, 1);
	if (!found)
		ss_counter_add(SS_MISSED, 1);
	return found;
}

/* How long a read waits for a touch slot, and how long none waits after one has waited in vain, us. */
#define SLOT_WAIT_US (INT64CONST(100) * SS_USEC_PER_MSEC)
#define NO_WAIT_US SS_USEC_PER_SEC

/*
 * Records a pending touch: the row, read in a snapshot that was taken at read_at or later, shall live
 * until expires_at.  When no slot is free, wakes the keeper to write some of them, and waits at most
 * 100 ms for a slot.  False when there is still none.
 *
 * A lock on the table can keep the keeper from writing.  So that a statement that reads many sessions
 * does not wait for each, the reads of this backend do not wait for a second after one that waited in
 * vain.
 */
static bool
record_read(const SsTarget *target, SsRow *row, TimestampTz read_at, TimestampTz expires_at)
{
	static TimestampTz waited_in_vain_at = 0;
	TimestampTz deadline = 0;
	SsTouch touch = {.base = row->expires_at, .ttl_us = row->ttl_us, .expires_at = expires_at};
	SsTouchRead read = {.read_at = read_at};

	/* no other transaction sees this row version: the touch is recorded at commit */
	if (row->own_xact)
		return ss_touch_xact_read(&target->key, &touch);
	/* a parallel query cannot read the row again: it takes the version that it has for the latest */
	if (IsInParallelMode())
		read.read_at = DT_NOEND;
	for (;;)
	{
		TimestampTz now;
		SsDb *db;

		switch (ss_touch_record(&target->key, &touch, &read))
		{
			case SS_TOUCH_URGENT:
				ss_database_wake_keeper();
				/* FALLTHROUGH */
			case SS_TOUCH_RECORDED:
				ss_counter_add(SS_TOUCHES_NOTED, 1);
				return true;
			case SS_TOUCH_CONFLICT:
				/* the row may have another version by now: find out which is the latest */
				CHECK_FOR_INTERRUPTS();
				read.read_at = GetCurrentTimestamp();
				if (!ss_row_refresh(target, row) || row->ttl_us == SS_FIXED)
					return false;
				touch.base = row->expires_at;
				touch.ttl_us = row->ttl_us;
				continue;
			case SS_TOUCH_FULL:
				break;
		}
		db = ss_database_mine();
		now = GetCurrentTimestamp();
		if (deadline == 0 && (now < waited_in_vain_at || now >= waited_in_vain_at + NO_WAIT_US))
			deadline = now + SLOT_WAIT_US;
		if (now >= deadline || db == NULL || db->keeper_pid == 0)
		{
			if (deadline != 0)
				waited_in_vain_at = now;
			ss_touch_dropped();
			return false;
		}
		ss_database_wake_keeper();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 5,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Restarts the session's lifetime, or gives it another one, and sets *expires_at to its end.  False
 * when the caller sees no such session; an error when it may view but not change it.
 *
 * A touch that leaves the ttl as it is and is its whole transaction becomes a pending touch at
 * commit.  Otherwise, or when no slot is free, the row is locked and written.  A session whose expiry
 * is fixed, and stays so, is not written.
 */
bool
ss_session_touch(SsTarget *target, const SsLifetime *lifetime, TimestampTz *expires_at)
{
	SsRow row;
	SsTouch touch;
	TimestampTz base;
	TimestampTz read_at = GetCurrentTimestamp();

	/* a pending touch must refer to the latest row version, at every isolation level */
	if (!ss_row_read(target, SS_PLAN_LATEST, 0, &row) || row.state != SS_ALIVE ||
		!ss_access_allows_change(target, &row, SS_EDIT))
		return false;
	if (row.ttl_us == SS_FIXED && !lifetime->given)
	{
		*expires_at = row.ends_at;
		ss_counter_add(SS_TOUCHED, 1);
		return true;
	}
	/* in a longer transaction the row may have been replaced before the commit */
	if (row.ttl_us != SS_FIXED && (!lifetime->given || lifetime->ttl_us == row.ttl_us) &&
		ss_touch_usable() && !IsTransactionBlock() && !IsSubTransaction() && !row.own_xact)
	{
		*expires_at = ss_expiry(GetCurrentTimestamp(), row.ttl_us, row.created_at,
								target->policy.max_lifetime_us);
		*expires_at = Max(*expires_at, row.ends_at);
		touch = (SsTouch){.base = row.expires_at, .ttl_us = row.ttl_us, .expires_at = *expires_at};
		if (*expires_at == row.ends_at || ss_touch_xact_touch(&target->key, &touch, read_at))
		{
			ss_counter_add(SS_TOUCHED, 1);
			return true;
		}
	}

	if (!ss_session_lock(target, &row, SS_EDIT))
		return false;
	base = row.expires_at;
	ss_lifetime_set(&row, lifetime);
	ss_lifetime_restart(&row, &target->policy, GetCurrentTimestamp());
	*expires_at = row.expires_at;
	ss_lifetime_write(target, &row, base);
	/* as after a logout */
	if (ss_lifetime_has_ended(lifetime, GetCurrentTimestamp()))
		ForceSyncCommit();
	ss_counter_add(SS_TOUCHED, 1);
	return true;
}

/* The snapshot of the running statement is not older; FETCH uses that of its cursor. */
static TimestampTz
statement_start(void)
{
	TimestampTz start = GetCurrentStatementStartTimestamp();

	return ActivePortal == NULL ? start : Min(start, ActivePortal->creation_time);
}

/*
 * Extends a session that is alive and was just read, if its namespace is sliding and this server can
 * record touches.  Updates row->ends_at.
 */
void
ss_session_slide(const SsTarget *target, SsRow *row, TimestampTz now)
{
	TimestampTz read_at;
	TimestampTz expires_at;
	int64 grain_us;

	if (!target->policy.sliding || row->ttl_us == SS_FIXED || !ss_touch_usable())
		return;
	/* an old snapshot may show a version whose expiry was extended since */
	read_at = statement_start();
	if (IsolationUsesXactSnapshot() || now - read_at > SS_USEC_PER_SEC)
	{
		read_at = GetCurrentTimestamp();
		(void) ss_row_refresh(target, row);
	}
	if (row->ttl_us == SS_FIXED)
		return;
	expires_at = ss_expiry(now, row->ttl_us, row->created_at, target->policy.max_lifetime_us);
	/* reads in quick succession are not all recorded */
	grain_us = Min(ss_slack(row->ttl_us) / 64, INT64CONST(100) * SS_USEC_PER_MSEC);
	if (expires_at <= row->ends_at + grain_us)
		return;
	if (record_read(target, row, read_at, expires_at))
		row->ends_at = Max(row->ends_at, expires_at);
}
