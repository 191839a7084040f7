/*
 * subxact.h
 *		Work that is undone, with the locks that it took, when it comes to nothing.
 */
#ifndef SS_SUBXACT_H
#define SS_SUBXACT_H

/* True: keep what was done.  False: undo it, and let go of its locks. */
typedef bool (*SsSubxactWork)(void *arg);

extern bool ss_subxact_run(SsSubxactWork work, void *arg, ErrorData **error);

#endif
