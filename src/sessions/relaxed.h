/*
 * relaxed.h
 *		Lets transactions commit asynchronously if they did nothing but save sessions and count hits.
 */
#ifndef SS_RELAXED_H
#define SS_RELAXED_H

#include "table/namespaces.h"

extern void ss_relaxed_begin(const SsPolicy *policy);
extern void ss_relaxed_end(const SsPolicy *policy);
extern void ss_relaxed_begin_hit(void);
extern void ss_relaxed_end_hit(void);
extern void ss_relaxed_at_pre_commit(void);
extern void ss_relaxed_at_end(void);

#endif
