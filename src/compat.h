/*
 * compat.h
 *		The only place that asks which server this is built for.
 *
 * PostgreSQL 15 to 18.
 */
#ifndef SS_COMPAT_H
#define SS_COMPAT_H

#include "storage/proc.h"

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "session_store is built for PostgreSQL 15 to 18"
#endif

/* Our index in ProcGlobal->allProcs, to be woken through shared memory. */
#if PG_VERSION_NUM >= 170000
#include "storage/procnumber.h"
#define SsMyProcNumber() MyProcNumber
#else
#define SsMyProcNumber() (MyProc->pgprocno)
#endif

/* LockAcquire's caller wants a lock on a database by oid, without waiting. */
#include "storage/lock.h"

#endif
