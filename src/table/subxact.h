/*
 * subxact.h
 *		Runs a function in a subtransaction that is kept or rolled back by its result.
 */
#ifndef SS_SUBXACT_H
#define SS_SUBXACT_H

/* Returns true to keep its changes, false to roll them back and release its locks. */
typedef bool (*SsSubxactWork)(void *arg);

extern bool ss_subxact_run(SsSubxactWork work, void *arg, ErrorData **error);

#endif
