/*
 * turns.h
 *		Begins, renews and ends the turn of a session.
 */
#ifndef SS_TURNS_H
#define SS_TURNS_H

#include "row/session.h"

/* How an attempt to begin a turn has ended. */
typedef enum SsTurnOutcome
{
	SS_TURN_BEGUN,     /* the turn was given */
	SS_TURN_BUSY,      /* another holds it */
	SS_TURN_LOCKED,    /* the row is locked by another transaction, or has just been changed */
	SS_TURN_NO_SESSION /* the caller sees no such session */
} SsTurnOutcome;

/* The arguments of session_turn_begin(), and the results of an attempt. */
typedef struct SsTurnBegin
{
	int64 ttl_us;
	Datum holder;  /* text; 0: none */
	int64 wait_us; /* how long the call may wait; 0: it does not */

	SsTurnOutcome outcome;
	int64 turn;             /* SS_TURN_BEGUN: its token */
	TimestampTz busy_until; /* SS_TURN_BUSY: when the present turn ends by itself */
	uint64 wakes;           /* ss_turn_wakes_count() before the attempt */
} SsTurnBegin;

extern bool ss_turn_begin(SsTarget *target, SsTurnBegin *begin);
extern bool ss_turn_renew(SsTarget *target, int64 turn, int64 ttl_us);
extern bool ss_turn_end_by_call(SsTarget *target, int64 turn);

#endif
