/*
 * hits.h
 *		Counters over a fixed period, for rate limits and quotas of attempts.
 */
#ifndef SS_HITS_H
#define SS_HITS_H

#include "utils/timestamp.h"

#include "row/session.h"

/* A counter while its period runs. */
typedef struct SsHits
{
	bool running;          /* false: there is no such counter, or its period has ended */
	int64 hits;            /* 0 if it is not running */
	TimestampTz resets_at; /* the end of the period; not set if it is not running */
} SsHits;

extern void ss_hits_require_access(const SsTarget *target);
extern void ss_hits_count(const SsTarget *target, Datum counter, int64 by, int64 period_us,
						  SsHits *result);
extern void ss_hits_take_back(const SsTarget *target, Datum counter, int64 by, SsHits *result);
extern void ss_hits_read(const SsTarget *target, Datum counter, SsHits *result);
extern bool ss_hits_reset(const SsTarget *target, Datum counter);
extern void ss_hits_clear(const SsTarget *target);

#endif
