/*
 * ledger_shmem.h
 *		The ledger in shared memory.
 */
#ifndef SS_LEDGER_SHMEM_H
#define SS_LEDGER_SHMEM_H

#include "protocol/ledger.h"

/*
 * The keys of all databases whose copy in Redis may be out of date.  NULL if the library was not
 * preloaded.
 */
extern SsLedger *ss_ledger;

extern void ss_ledger_shmem_request(void);
extern void ss_ledger_shmem_init(void);

#endif
