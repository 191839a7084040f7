/*
 * statement_snapshot.h
 *		Releases the snapshot of the statement that calls one of our functions, and takes a new one.
 */
#ifndef SS_STATEMENT_SNAPSHOT_H
#define SS_STATEMENT_SNAPSHOT_H

#include "fmgr.h"

extern bool ss_statement_snapshot_is_releasable(const FmgrInfo *call);
extern void ss_statement_snapshot_release(void);
extern void ss_statement_snapshot_renew(void);

#endif
