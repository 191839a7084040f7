/*
 * shares.h
 *		How many slots of the ledger a database may have, so that the others get theirs.
 */
#ifndef SS_SHARES_H
#define SS_SHARES_H

#include "cache/ledger.h"

extern bool ss_shares_may_take(const SsLedger *ledger, const SsLedgerPartition *partition,
							   int member);
extern void ss_shares_set(SsLedger *ledger, int member, bool has_pusher);
extern int ss_shares_of(const SsLedger *ledger, int member);
extern int ss_shares_count(const SsLedger *ledger, int member);
extern int ss_shares_allowed(const SsLedger *ledger, int member);

#endif
