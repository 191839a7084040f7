/*
 * turn_wait.h
 *		The wait for the turn of a session.
 */
#ifndef SS_TURN_WAIT_H
#define SS_TURN_WAIT_H

#include "fmgr.h"

#include "base/key.h"
#include "sessions/turns.h"
#include "table/subxact.h"

extern bool ss_turn_wait(const FmgrInfo *call, const SsKey *key, SsTurnBegin *begin,
						 SsSubxactWork attempt, void *arg);

#endif
