/*
 * fork.h
 *		Two sessions at once: one that becomes two, two that become one.
 */
#ifndef SS_FORK_H
#define SS_FORK_H

#include "rows/change.h"

extern bool ss_session_fork(SsTarget *source, SsTarget *fork, int64 up_to);
extern bool ss_session_absorb(SsTarget *target, SsTarget *source, int64 *moved);

#endif
