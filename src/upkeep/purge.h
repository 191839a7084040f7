/*
 * purge.h
 *		Removes expired sessions and tombstones that have run out.
 */
#ifndef SS_PURGE_H
#define SS_PURGE_H

#include "sessions/aside.h"

/* Parameters and results of a batch. */
typedef struct SsPurge
{
	/* in */
	TimestampTz from; /* lowest check_at to visit; rows before it were visited already */
	Datum ns;         /* one namespace, or 0 for all */
	bool no_locks;    /* this transaction has not locked any rows yet */
	int64 limit;      /* maximum number of rows to visit .. */
	int64 remove;     /* .. and to remove */
	SsAside *aside;   /* rows that failed and are left out */
	/* out */
	int64 visited;     /* less than limit: no more rows are due, or those that are are locked */
	int64 removed;     /* rows deleted */
	int failed;        /* rows set aside, but for those that another session has locked */
	TimestampTz up_to; /* check_at of the last row visited */
} SsPurge;

extern void ss_purge_batch(SsPurge *purge, Oid actor);
extern bool ss_purge_walk(SsPurge *purge, Oid actor);
extern bool ss_purge_oldest(TimestampTz *check_at);

#endif
