/*
 * fork.h
 *		Copies a session (fork) and merges two sessions into one (absorb).
 */
#ifndef SS_FORK_H
#define SS_FORK_H

#include "row/session.h"

extern bool ss_session_fork(SsTarget *source, SsTarget *fork, int64 up_to);
extern bool ss_session_absorb(SsTarget *target, SsTarget *source, int64 *moved);

#endif
