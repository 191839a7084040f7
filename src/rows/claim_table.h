/*
 * claim_table.h
 *		The table session_cache_claims: which database last claimed which Redis.
 */
#ifndef SS_CLAIM_TABLE_H
#define SS_CLAIM_TABLE_H

#include "rows/claim.h"

/* More rows than this are not read: usually there is one. */
#define SS_CLAIMS_MAX 16

extern int ss_claims_read(SsClaim claims[SS_CLAIMS_MAX], const SsClaim *me);
extern void ss_claims_write(const SsClaim *claim);

#endif
