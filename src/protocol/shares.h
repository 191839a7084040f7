/*
 * shares.h
 *		How many slots of a table that all databases share one of them may use.
 */
#ifndef SS_SHARES_H
#define SS_SHARES_H

#include <stdbool.h>
#include <stdint.h>

/* Maximum number of databases. */
#define SS_MEMBERS 256

/* The members that have a share of the slots of each partition. */
typedef struct SsShares
{
	int32_t share; /* of each of them, per partition */
	int32_t sharers;
	uint8_t sharer[SS_MEMBERS];
	bool has[SS_MEMBERS];
} SsShares;

extern bool ss_shares_set(SsShares *shares, int32_t slots, int member, bool has);
extern bool ss_shares_may_take(const SsShares *shares, const int32_t *count, int32_t free,
							   int member);
extern int32_t ss_shares_allowed(const SsShares *shares, const int32_t *count, int32_t free,
								 int member);
extern int32_t ss_shares_of(const SsShares *shares, int member);

#endif
