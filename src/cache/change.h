/*
 * change.h
 *		Which sessions a transaction changed, told to the ledger around its commit.
 */
#ifndef SS_CACHE_CHANGE_H
#define SS_CACHE_CHANGE_H

extern void ss_cache_init_backend(void);

#endif
