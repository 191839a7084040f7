/*
 * xact_policies.h
 *		Namespaces whose policy the current transaction changes so that sessions or copies end
 *		earlier.
 */
#ifndef SS_XACT_POLICIES_H
#define SS_XACT_POLICIES_H

#include "shared/databases.h"

extern bool ss_xact_policies_add(const char *ns, bool fenced);
extern bool ss_xact_policies_any(void);
extern void ss_xact_policies_throttle(SsDb *db);
extern bool ss_xact_policies_enter(SsDb *db);
extern bool ss_xact_policies_fenced(void);
extern bool ss_xact_policies_pass(const SsDb *db, SsMonotonic lease_until, SsMonotonic now);
extern void ss_xact_policies_subxact_commit(SubTransactionId mine, SubTransactionId parent);
extern void ss_xact_policies_subxact_abort(SubTransactionId mine);
extern void ss_xact_policies_reset(void);
extern void ss_xact_policies_after_end(void);

#endif
