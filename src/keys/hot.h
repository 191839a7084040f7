/*
 * hot.h
 *		Which sessions are used often enough to be cached (cache rule `hot`).
 */
#ifndef SS_HOT_H
#define SS_HOT_H

#include "base/key.h"
#include "table/namespaces.h"

extern void ss_hot_shmem_request(void);
extern void ss_hot_shmem_init(void);
extern void ss_hot_count_use(const SsKey *key, const SsPolicy *policy);
extern bool ss_hot_wants_copy(const SsKey *key, const SsPolicy *policy);
extern void ss_hot_count_read(const SsKey *session, const SsPolicy *policy);

#endif
