/*
 * history.h
 *		Removes messages of a session, and what all changes of a history have in common.
 */
#ifndef SS_HISTORY_H
#define SS_HISTORY_H

#include "utils/uuid.h"

#include "base/key.h"
#include "row/session.h"

extern bool ss_history_pop(SsTarget *target, int64 n, bool from_start, int64 turn, Datum *popped);
extern bool ss_history_trim(SsTarget *target, int64 keep, int64 turn, int64 *removed);
extern void ss_history_assign_id(SsRow *row);
extern int64 ss_history_next_seq(const SsRow *row, int64 n);
extern int64 ss_history_add_count(int64 count, int64 more);
extern int64 ss_history_find_beyond(const SsRow *row, int64 keep, int64 *up_to);
extern void ss_history_remove_up_to(const SsRow *row, int64 up_to, int64 count);
extern int64 ss_history_count(const SsRow *row, int64 up_to);
extern bool ss_history_find_session(const pg_uuid_t *history, SsKey *key);

#endif
