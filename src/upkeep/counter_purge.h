/*
 * counter_purge.h
 *		Removes counters whose period has ended.
 */
#ifndef SS_COUNTER_PURGE_H
#define SS_COUNTER_PURGE_H

#include "sessions/aside.h"

/* Parameters and results of a batch. */
typedef struct SsCounterPurge
{
	/* in */
	TimestampTz from; /* lowest resets_at to visit */
	Datum ns;         /* one namespace, or 0 for all */
	int64 limit;      /* maximum number of rows */
	SsAside *aside;   /* rows that failed and are left out */
	/* out */
	int64 visited;     /* less than limit: no more rows are due, or those that are are locked */
	int64 removed;     /* rows deleted */
	TimestampTz up_to; /* resets_at of the last row visited */
} SsCounterPurge;

extern void ss_counter_purge(SsCounterPurge *purge);
extern bool ss_counter_oldest(TimestampTz *resets_at);

#endif
