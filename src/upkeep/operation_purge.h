/*
 * operation_purge.h
 *		Removes operations that are no longer kept.
 */
#ifndef SS_OPERATION_PURGE_H
#define SS_OPERATION_PURGE_H

#include "sessions/aside.h"

extern bool ss_operations_purge(Datum ns, int64 limit, TimestampTz *from, SsAside *aside,
								int64 *removed);
extern TimestampTz ss_operations_oldest(void);

#endif
