/*
 * purge.h
 *		Removing what is dead, at the cost of what is dead.
 */
#ifndef SS_PURGE_H
#define SS_PURGE_H

#include "rows/aside.h"

typedef struct SsPurge
{
	/* in */
	TimestampTz from; /* rows to be looked at before this were looked at already */
	Datum ns;         /* one namespace, or 0 for all */
	bool alone;       /* this transaction has locked no rows before its purge */
	int64 limit;      /* rows to look at */
	int64 remove;     /* and to remove, at most */
	SsAside *aside;   /* rows that are left out, because they failed */
	/* out */
	int64 looked;      /* rows that were due; less than limit: no more are, or are to be had */
	int64 removed;     /* of them dead, and gone */
	int failed;        /* of them set aside */
	TimestampTz up_to; /* check_at of the last that was looked at */
} SsPurge;

extern void ss_purge_batch(SsPurge *purge, Oid actor);
extern bool ss_purge_walk(SsPurge *purge, Oid actor);
extern bool ss_purge_oldest(TimestampTz *check_at);

#endif
