/*
 * policy_notes.h
 *		Which namespaces a transaction makes end sessions or copies earlier.
 */
#ifndef SS_POLICY_NOTES_H
#define SS_POLICY_NOTES_H

#include "shared.h"

extern void ss_policy_notes_init_backend(void);
extern void ss_note_policy(const char *ns, bool fenced);
extern bool ss_policies_noted(void);
extern void ss_policies_take_turn(SsDb *db);
extern void ss_policies_enter(SsDb *db);
extern bool ss_policies_fenced(void);
extern bool ss_policies_pass(SsDb *db, int64 lease_until, int64 now);
extern void ss_policies_commit_savepoint(SubTransactionId mine, SubTransactionId parent);
extern void ss_policies_abort_savepoint(SubTransactionId mine);
extern void ss_policies_forget(void);

#endif
