/*
 * clear.h
 *		Ends all sessions of a namespace.
 */
#ifndef SS_CLEAR_H
#define SS_CLEAR_H

#include "sessions/selection.h"

extern int64 ss_clear(const SsTarget *target, const SsSelection *which, List **ids);

#endif
