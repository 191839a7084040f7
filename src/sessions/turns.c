/*
 * turns.c
 *		Begins, renews and ends the turn of a session.
 *
 * A turn is no change of the session: version, expiry and updated_at stay, and no copy in Redis
 * changes.  row/turn.c says what a turn is, change.c checks the tokens that calls give.
 *
 * Locking: the row lock decides.  A transaction that changes a session under a turn holds the row
 * lock until it commits, so that no other turn can begin between the check of the token and the
 * commit.
 *
 * To begin a turn, the row is first read without a lock, in a new snapshot at every isolation level.
 * A caller that finds the turn held by another therefore locks nothing, and does not make the holder
 * wait.  If the turn is free, the row is locked and the turn checked once more.
 *
 * A caller that may wait attempts this again and again (turn_wait.c), and must hold neither a row
 * lock nor a transaction id in between.  So it skips a row that is locked, and locks only the version
 * of the row that it has seen free.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "row/access.h"
#include "row/errors.h"
#include "row/row.h"
#include "row/turn.h"
#include "sessions/change.h"
#include "sessions/events.h"
#include "sessions/turns.h"
#include "shared/counters.h"
#include "shared/turn_wakes.h"
#include "table/sql.h"

/*
 * Does the row, as it was read, allow the turn to begin?  If not, sets begin->outcome.  Raises an
 * error when the id is dead, or when the caller may view the session but not change it.
 */
static bool
may_begin(const SsTarget *target, const SsRow *row, SsTurnBegin *begin)
{
	if (row->state == SS_DEAD)
		ss_error_dead(target);
	begin->outcome = SS_TURN_NO_SESSION;
	if (row->state != SS_ALIVE || !ss_access_allows_change(target, row, SS_EDIT))
		return false;
	begin->outcome = SS_TURN_BUSY;
	begin->busy_until = row->turn_until;
	return !ss_turn_is_held(row, GetCurrentTimestamp());
}

/* Records an event of a turn. */
static void
record(const SsTarget *target, const SsRow *row, const char *event, int64 turn, Datum holder)
{
	StringInfoData detail;

	if (!target->policy.audit)
		return;
	initStringInfo(&detail);
	ss_event_detail_number(&detail, "turn", turn);
	if (holder != (Datum) 0)
		ss_event_detail_text(&detail, "holder", TextDatumGetCString(holder));
	ss_event(target, row, event, &detail);
}

/*
 * Attempts once to begin the turn.  False, with the reason in begin->outcome, if it is not free, or, if
 * the call may wait, also if the row is locked.
 */
bool
ss_turn_begin(SsTarget *target, SsTurnBegin *begin)
{
	bool waits = begin->wait_us > 0;
	SsRow row;

	begin->wakes = ss_turn_wakes_count(&target->key);
	if (!waits || !ss_row_read_unlocked(target, SS_FIELD_TURN, &row))
		(void) ss_row_read(target, SS_PLAN_LATEST, SS_FIELD_TURN, &row);
	if (!may_begin(target, &row, begin))
		return false;
	begin->outcome = SS_TURN_LOCKED;
	if (waits ? !ss_row_lock_free_turn(target, SS_FIELD_TURN, &row)
			  : !ss_session_lock_row(target, SS_FIELD_TURN, &row))
		return false;
	if (!may_begin(target, &row, begin))
		return false;
	ss_turn_give(&row, GetCurrentTimestamp(), begin->ttl_us, begin->holder);
	(void) ss_row_write(target, &row, SS_WRITE_TURN);
	record(target, &row, "turn_begun", row.turn, row.turn_holder);
	ss_counter_add(SS_TURNS_BEGUN, 1);
	begin->outcome = SS_TURN_BEGUN;
	begin->turn = row.turn;
	return true;
}

/* Locks a session whose turn is held under this token.  False, if there is none. */
static bool
lock_held(SsTarget *target, int64 turn, SsRow *row)
{
	return ss_session_lock(target, row, SS_EDIT) &&
		   ss_turn_is_held_under(row, turn, GetCurrentTimestamp());
}

/* Lets a turn last until ttl_us from now.  False if it is not held any more. */
bool
ss_turn_renew(SsTarget *target, int64 turn, int64 ttl_us)
{
	SsRow row;

	if (!lock_held(target, turn, &row))
		return false;
	row.turn_until = GetCurrentTimestamp() + ttl_us;
	(void) ss_row_write(target, &row, SS_WRITE_TURN);
	return true;
}

/* Ends a turn.  False if it is not held any more. */
bool
ss_turn_end_by_call(SsTarget *target, int64 turn)
{
	SsRow row;
	Datum holder;

	if (!lock_held(target, turn, &row))
		return false;
	holder = row.turn_holder;
	ss_turn_end(&row);
	(void) ss_row_write(target, &row, SS_WRITE_TURN);
	record(target, &row, "turn_ended", turn, holder);
	return true;
}
