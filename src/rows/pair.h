/*
 * pair.h
 *		Two sessions locked at once.
 */
#ifndef SS_PAIR_H
#define SS_PAIR_H

#include "rows/sessions.h"

/* What is done with two locked rows; false: undo it all, and have them again. */
typedef bool (*SsPairWork)(void *arg);

extern void ss_pair_run(const SsTarget *a, const SsTarget *b, SsPairWork work, void *arg);

#endif
