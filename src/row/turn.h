/*
 * turn.h
 *		The turn of a session, in a row in memory.
 */
#ifndef SS_TURN_H
#define SS_TURN_H

#include "row/session.h"

extern bool ss_turn_is_held(const SsRow *row, TimestampTz now);
extern bool ss_turn_is_held_under(const SsRow *row, int64 token, TimestampTz now);
extern void ss_turn_give(SsRow *row, TimestampTz now, int64 ttl_us, Datum holder);
extern void ss_turn_end(SsRow *row);

#endif
