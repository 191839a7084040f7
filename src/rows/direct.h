/*
 * direct.h
 *		Reading, locking and updating a session's row without a statement.
 */
#ifndef SS_DIRECT_H
#define SS_DIRECT_H

#include "rows/schema.h"
#include "rows/sessions.h"

extern bool ss_direct_read(const SsTarget *target, bool document, SsRow *row, bool *found);
extern bool ss_direct_hold(const SsTarget *target, SsHold hold, SsRow *row, bool *found);
extern bool ss_direct_write(const SsTarget *target, const SsRow *row, SsColumns columns);

/* What the second of our triggers does about an update: cache/cache_trigger.c's, which is above us. */
typedef void (*SsDirectHook)(const SsDeformedRow *old, const SsDeformedRow *new);
extern SsDirectHook ss_direct_updated;

#endif
