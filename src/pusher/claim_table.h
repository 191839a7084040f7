/*
 * claim_table.h
 *		Reads and writes session_cache_claims, which records the Redis that a database claimed last.
 */
#ifndef SS_CLAIM_TABLE_H
#define SS_CLAIM_TABLE_H

#include "protocol/claim.h"

/* Maximum number of rows that are read; usually there is one. */
#define SS_CLAIMS_MAX 16

extern int ss_claims_read(SsClaim claims[SS_CLAIMS_MAX], const SsClaim *me);
extern void ss_claims_write(const SsClaim *claim);

#endif
