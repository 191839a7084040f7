/*
 * row.h
 *		Single rows of conversation_sessions: read, lock, write.
 */
#ifndef SS_ROW_H
#define SS_ROW_H

#include "row/session.h"
#include "table/sql.h"

/* What a change writes. */
typedef enum SsWrite
{
	SS_WRITE_NEW,      /* a new session, in the row of one that has ended */
	SS_WRITE_DOCUMENT, /* document, owner, version and lifetime */
	SS_WRITE_HISTORY,  /* history, its counters, and the expiry */
	SS_WRITE_SUMMARY,  /* the same, and the summary */
	SS_WRITE_DOCUMENT_AND_HISTORY,
	SS_WRITE_END, /* a tombstone */
	SS_WRITE_EXPIRY,
	SS_WRITE_TURN
} SsWrite;

extern void ss_row_set_state(SsRow *row, const SsTarget *target, TimestampTz now);
extern bool ss_row_read(const SsTarget *target, SsPlanMode mode, int fields, SsRow *row);
extern bool ss_row_lock(const SsTarget *target, int fields, SsRow *row);
extern bool ss_row_try_lock(const SsTarget *target, int fields, SsRow *row);
extern bool ss_row_lock_free_turn(const SsTarget *target, int fields, SsRow *row);
extern bool ss_row_insert(const SsTarget *target, const SsRow *row);
extern bool ss_row_read_unlocked(const SsTarget *target, int fields, SsRow *row);
extern bool ss_row_write(const SsTarget *target, const SsRow *row, SsWrite what);
extern void ss_row_rename(const SsTarget *target, Datum new_id, const SsRow *row);
extern void ss_row_remove(const SsTarget *target);
extern bool ss_row_refresh(const SsTarget *target, SsRow *row);

#endif
