/*
 * claim.h
 *		A row of session_cache_claims, which records the Redis that a database claimed last.
 *
 * Pure C, because the simulator uses it.
 */
#ifndef SS_CLAIM_H
#define SS_CLAIM_H

#include <stdbool.h>
#include <stdint.h>

#define SS_DIRECTORY_LEN 64
#define SS_REDIS_LEN 400
#define SS_CLAIM_MARKS 16

/* The values that a claim writes to the guard of its Redis. */
typedef struct SsClaimMark
{
	uint64_t token; /* 0 if the mark is unused */
	uint64_t epoch;
} SsClaimMark;

/* The last claim of one database. */
typedef struct SsClaim
{
	uint64_t system;   /* system identifier of the server */
	uint32_t database; /* OID of the database */
	uint32_t timeline;
	char directory[SS_DIRECTORY_LEN];  /* identity of the data directory; see identity.c */
	char redis[SS_REDIS_LEN];          /* address of the Redis, without user and password */
	bool moved;                        /* a Redis claimed before this one may still hold a lease */
	SsClaimMark marks[SS_CLAIM_MARKS]; /* of this claim and earlier ones, newest first */
} SsClaim;

#endif
