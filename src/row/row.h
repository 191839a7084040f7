/*
 * row.h
 *		Single rows of conversation_sessions: read, lock, write.
 */
#ifndef SS_ROW_H
#define SS_ROW_H

#include "row/session.h"
#include "table/sql.h"

extern void ss_row_set_state(SsRow *row, const SsTarget *target, TimestampTz now);
extern bool ss_row_read(const SsTarget *target, SsPlanMode mode, SsRow *row);
extern bool ss_row_lock(const SsTarget *target, SsRow *row);
extern bool ss_row_try_lock(const SsTarget *target, SsRow *row);
extern bool ss_row_insert(const SsTarget *target, const SsRow *row);
extern bool ss_row_read_unlocked(const SsTarget *target, SsRow *row);
extern bool ss_row_write(const SsTarget *target, const SsRow *row);
extern void ss_row_write_history(const SsTarget *target, const SsRow *row);
extern void ss_row_write_expiry(const SsTarget *target, const SsRow *row);
extern void ss_row_write_turn(const SsTarget *target, const SsRow *row);
extern void ss_row_rename(const SsTarget *target, Datum new_id, const SsRow *row);
extern void ss_row_remove(const SsTarget *target);
extern bool ss_row_refresh(const SsTarget *target, SsRow *row);

#endif
