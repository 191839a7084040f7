/*
 * xact_keys.h
 *		Which keys a transaction changed, told to the ledger around its commit.
 */
#ifndef SS_XACT_KEYS_H
#define SS_XACT_KEYS_H

#include "utils/uuid.h"

#include "cache/ledger.h"
#include "shared.h"

/*
 * What a note says beside the flags SS_CHANGED_ (ledger.h).  SS_CHANGED_FENCED means here that the
 * transaction waits at the fence if there may be a copy; whether there may be is asked at PRE_COMMIT.
 */
#define SS_KEY_FENCED_IF_ALL 8 /* the same, if session_store.fence is `all` at PRE_COMMIT */
#define SS_KEY_CACHEABLE 16    /* the namespace's policy allows copies, or did a moment ago */

/* Everything that a note can say about the fence. */
#define SS_KEY_ENDED (SS_CHANGED_FENCED | SS_KEY_FENCED_IF_ALL | SS_KEY_CACHEABLE)

extern void ss_xact_keys_init_backend(void);
extern bool ss_xact_keys_attach(void);
extern bool ss_xact_keys_overflowed(void);
extern void ss_xact_keys_apply_promotion(SsDb *of);
extern void ss_xact_key_add(const SsKey *key, int what);
extern void ss_xact_keys_add_all(int fence);
extern bool ss_xact_keys_have_history(const pg_uuid_t *history, int fence);
extern void ss_xact_keys_add_history(const pg_uuid_t *history, int fence);

#endif
