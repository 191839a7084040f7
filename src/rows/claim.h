/*
 * claim.h
 *		A row of session_cache_claims: which database last claimed which Redis.
 *
 * Pure C, for the simulator.
 */
#ifndef SS_CLAIM_H
#define SS_CLAIM_H

#include <stdbool.h>
#include <stdint.h>

#define SS_DIRECTORY_LEN 64
#define SS_REDIS_LEN 400
#define SS_CLAIM_MARKS 16

/* What a claim leaves in the guard of its Redis. */
typedef struct SsClaimMark
{
	uint64_t token; /* 0: none */
	uint64_t epoch;
} SsClaimMark;

typedef struct SsClaim
{
	uint64_t system;   /* the system identifier */
	uint32_t database; /* its OID */
	uint32_t timeline;
	char directory[SS_DIRECTORY_LEN];  /* the data directory, see cache/identity.c */
	char redis[SS_REDIS_LEN];          /* where, without user and password */
	bool moved;                        /* a Redis claimed before this one may still hold a lease */
	SsClaimMark marks[SS_CLAIM_MARKS]; /* of this claim and the ones before, newest first */
} SsClaim;

#endif
