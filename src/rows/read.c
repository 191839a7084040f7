/*
 * read.c
 *		Reads a session and extends its expiry (sliding reads, touch).
 *
 * Neither writes if it can be helped: they are noted in shared memory (touches.c).
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/uuid.h"
#include "utils/timestamp.h"

#include "rows/access.h"
#include "rows/change.h"
#include "rows/direct.h"
#include "rows/expiry.h"
#include "rows/read.h"
#include "rows/sql.h"
#include "rows/touch_pending.h"
#include "shared.h"

/* The row by a statement, when there is no direct way to it. */
static bool
read_by_statement(const SsTarget *target, bool document, SsRow *row)
{
	SsCaller caller;
	bool found;

	ss_sql_enter(&caller);
	found = ss_row_read(target, SS_PLAN_READ, row);
	if (found)
	{
		row->data = document ? ss_sql_copy_out(&caller, row->data, false, -1) : (Datum) 0;
		if (!row->owner_null)
			row->owner = ss_sql_copy_out(&caller, row->owner, false, -1);
		if (!row->history_null)
			row->history = ss_sql_copy_out(&caller, row->history, false, UUID_LEN);
	}
	ss_sql_leave(&caller);
	return found;
}

/* The row as the caller's snapshot shows it. */
static bool
read_row(const SsTarget *target, bool document, SsRow *row)
{
	bool found;

	if (!ss_direct_read(target, document, row, &found))
		return read_by_statement(target, document, row);
	if (found)
		ss_row_set_state(row, target, GetCurrentTimestamp());
	return found;
}

/*
 * Read a living session that the caller may see, in its snapshot and its memory.  The
 * document is fetched only if it is wanted.
 */
bool
ss_session_read(const SsTarget *target, bool document, SsRow *row)
{
	bool found = read_row(target, document, row) && row->state != SS_DEAD &&
				 (row->state == SS_ALIVE || ss_row_refresh(target, row)) &&
				 ss_access_allows(&target->policy, target->role, row, SS_VIEW, SS_PLAN_READ);

	ss_count(SS_READ, 1);
	if (!found)
		ss_count(SS_MISSED, 1);
	return found;
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
	if (row->own_xact)
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
			case SS_KEY_CONFLICT:
				/* which version is the present one, ours or the one noted on? */
				force = true;
				(void) ss_row_refresh(target, row);
				continue;
			case SS_KEY_FULL:
				break;
		}
		now = GetCurrentTimestamp();
		if (deadline == 0)
			deadline = now + INT64CONST(100) * SS_USEC_PER_MSEC;
		if (now >= deadline || db == NULL || db->keeper_pid == 0)
		{
			ss_touch_dropped();
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
	ss_row_write_expiry(target, row);
	ss_pending_rebase(&target->key, base, row->ttl, expires_at);
}

/*
 * Start a session's lifetime anew, with another ttl when ttl > 0; false when
 * there is no session.  A touch that changes nothing but the expiry, and is all there is
 * to its transaction, is not written but noted, at commit; if there is no room, the row is written.
 */
bool
ss_session_touch(SsTarget *target, int64 ttl, TimestampTz *expires_at)
{
	SsRow row;

	/* what is noted must be noted of the row as it is now, at any isolation level */
	if (!ss_row_read(target, SS_PLAN_LATEST, &row) || row.state != SS_ALIVE ||
		!ss_access_allows_change(target, &row, SS_EDIT))
		return false;
	/* in a longer transaction the row may be another by the time of the commit */
	if ((ttl <= 0 || ttl == row.ttl) && ss_touch_usable() && !IsTransactionBlock() &&
		!IsSubTransaction())
	{
		*expires_at = ss_expiry(GetCurrentTimestamp(), row.ttl, row.created_at,
								target->policy.max_lifetime);
		*expires_at = Max(*expires_at, row.ends_at);
		if (*expires_at == row.ends_at ||
			ss_pending_touch(&target->key, row.expires_at, row.ttl, *expires_at))
		{
			ss_count(SS_TOUCHED, 1);
			return true;
		}
	}

	if (!ss_session_lock(target, &row, SS_EDIT))
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
