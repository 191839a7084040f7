/*
 * turn.c
 *		The turn of a session, in a row in memory.
 *
 * A turn is the permission to write to a session as its one current writer.  The caller
 * that begins a turn gets its token, a number, and gives it with each change.  The columns of a turn
 * are
 *
 *	- turn, the token that was given last.  It is kept when the turn ends, so that tokens grow.
 *	- turn_until, when the turn ends by itself; null if it was ended before.
 *	- turn_holder, a name that the holder has given, for others to read.
 *
 * A token is valid if it is that of the row and turn_until is later than the clock, which is read
 * after the row lock was granted.  Tokens are microseconds since 1970, so that they also grow where
 * the row of the turn before is gone: after a purge, a restore, a failover.
 */
#include "postgres.h"

#include "datatype/timestamp.h"

#include "row/liveness.h"
#include "row/turn.h"

/* Is the turn held? */
bool
ss_turn_is_held(const SsRow *row, TimestampTz now)
{
	return row->turn != SS_TURN_NONE && !ss_liveness_has_ended(row->turn_until, now);
}

/* Is the turn held under this token? */
bool
ss_turn_is_held_under(const SsRow *row, int64 token, TimestampTz now)
{
	return row->turn == token && ss_turn_is_held(row, now);
}

/* Gives the turn, whatever the one before. */
void
ss_turn_give(SsRow *row, TimestampTz now, int64 ttl_us, Datum holder)
{
	int64 since_1970 = now + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;

	if (row->turn == PG_INT64_MAX)
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						errmsg("tokens of turns of this session are exhausted"),
						errhint("Delete the row and create the session again.")));
	row->turn = Max(row->turn + 1, since_1970);
	row->turn_until = now + ttl_us;
	row->turn_holder = holder;
}

/* Ends the turn, if there is one. */
void
ss_turn_end(SsRow *row)
{
	row->turn_until = SS_NEVER;
	row->turn_holder = (Datum) 0;
}
