/*
 * amend.h
 *		Replaces one message of a session.
 */
#ifndef SS_AMEND_H
#define SS_AMEND_H

#include "row/session.h"

extern bool ss_history_amend(SsTarget *target, int64 seq, Datum message, int64 turn);

#endif
