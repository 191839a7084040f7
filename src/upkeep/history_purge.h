/*
 * history_purge.h
 *		Removes messages, members and operations after the end of their session.
 */
#ifndef SS_HISTORY_PURGE_H
#define SS_HISTORY_PURGE_H

#include "utils/uuid.h"

#include "sessions/aside.h"

extern bool ss_history_purge(Datum ns, int64 limit, SsAside *aside, int64 *removed);
extern bool ss_history_remove(const pg_uuid_t *history, int64 limit, int64 *removed);

#endif
