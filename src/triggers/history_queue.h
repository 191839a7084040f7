/*
 * history_queue.h
 *		Queues the histories of sessions that end, for the purge.
 */
#ifndef SS_HISTORY_QUEUE_H
#define SS_HISTORY_QUEUE_H

#include "utils/uuid.h"

#include "table/schema.h"

extern void ss_history_detach(const SsDeformedRow *old, const SsDeformedRow *new);
extern void ss_history_detach_all(void);
extern void ss_history_clear_queue(void);
extern bool ss_history_is_queued(const pg_uuid_t *history);

#endif
