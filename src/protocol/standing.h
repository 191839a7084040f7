/*
 * standing.h
 *		Decides from this database's own records whether it may claim a Redis by itself.
 *
 * Pure C, for the simulator.
 */
#ifndef SS_STANDING_H
#define SS_STANDING_H

#include "protocol/claim.h"

/* How this database is related to the one that wrote the claims in it. */
typedef enum SsStanding
{
	SS_STANDING_UNKNOWN,  /* the claims have not been read yet */
	SS_STANDING_NEW,      /* no claims: it never had a Redis */
	SS_STANDING_OWNER,    /* it wrote the last claim itself */
	SS_STANDING_PROMOTED, /* it was a standby of the database that wrote it */
	/* The rest are copies, which wait for session_cache_takeover(). */
	SS_STANDING_RESTORED,       /* same data directory, later timeline, never a standby */
	SS_STANDING_COPY_DIRECTORY, /* same database in another data directory */
	SS_STANDING_COPY_DATABASE,  /* another database of the same server */
	SS_STANDING_COPY_SERVER     /* a database of another server */
} SsStanding;

/* Summary of the claims. */
typedef struct SsRecord
{
	SsStanding standing;
	uint32_t database;                 /* of the claim that decided */
	SsClaimMark marks[SS_CLAIM_MARKS]; /* newest first */
	bool moved;     /* a Redis claimed before the last one may hold a lease of ours */
	bool elsewhere; /* so may the last one, which is not the one configured now */
} SsRecord;

extern void ss_standing_judge(const SsClaim *claims, int n, const SsClaim *me, bool was_standby,
							  SsRecord *record);
extern bool ss_standing_is_copy(SsStanding standing);
extern bool ss_record_has(const SsRecord *record, uint64_t token);
extern bool ss_record_excludes(const SsRecord *record, uint64_t token, uint64_t epoch);
extern void ss_record_add(SsRecord *record, uint64_t token, uint64_t epoch);

#endif
