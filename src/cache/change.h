/*
 * change.h
 *		Which sessions a transaction changed, told to the ledger around its commit.
 */
#ifndef SS_CACHE_CHANGE_H
#define SS_CACHE_CHANGE_H

/* Set while rows are ended that nobody needs to be fenced for: by the purge, by a quota. */
extern bool ss_unfenced;

extern void ss_cache_init_backend(void);

#endif
