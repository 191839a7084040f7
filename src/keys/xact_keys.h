/*
 * xact_keys.h
 *		Keys changed by the current transaction, from its triggers to the end of its COMMIT.
 */
#ifndef SS_XACT_KEYS_H
#define SS_XACT_KEYS_H

#include "utils/uuid.h"

#include "protocol/ledger.h"

/*
 * Flags of a key in addition to SS_CHANGED_ (ledger.h).  SS_CHANGED_FENCED means here that the
 * transaction waits at the fence if a copy may exist, which is decided at PRE_COMMIT.
 */
#define SS_KEY_FENCED_IF_ALL 8 /* the same, if session_store.fence is `all` at PRE_COMMIT */
#define SS_KEY_CACHEABLE 16    /* the namespace's policy allows copies, or did a moment ago */

/* All flags that concern the fence. */
#define SS_KEY_ENDED (SS_CHANGED_FENCED | SS_KEY_FENCED_IF_ALL | SS_KEY_CACHEABLE)

extern bool ss_xact_keys_attach(void);
extern bool ss_xact_keys_overflowed(void);
extern void ss_xact_key_add(const SsKey *key, int what);
extern void ss_xact_keys_add_all(int fence);
extern void ss_xact_keys_add_policy(const char *ns, bool fenced);
extern bool ss_xact_keys_have_history(const pg_uuid_t *history, int fence);
extern void ss_xact_keys_add_history(const pg_uuid_t *history, int fence);
extern void ss_xact_keys_at_pre_commit(void);
extern void ss_xact_keys_at_pre_prepare(void);
extern void ss_xact_keys_at_end(void);
extern void ss_xact_keys_at_subxact_commit(SubTransactionId mine, SubTransactionId parent);
extern void ss_xact_keys_at_subxact_abort(SubTransactionId mine);

#endif
