/*
 * pair.h
 *		Locks the rows of two sessions without a risk of deadlock.
 */
#ifndef SS_PAIR_H
#define SS_PAIR_H

#include "row/session.h"

/* Works on the two locked rows; false rolls everything back, and both are locked again. */
typedef bool (*SsPairWork)(void *arg);

extern void ss_pair_run(const SsTarget *a, const SsTarget *b, SsPairWork work, void *arg,
						ErrorData **error);

#endif
