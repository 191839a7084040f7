/*
 * sessions.h
 *		Single rows of conversation_sessions: read, lock, write.
 */
#ifndef SS_SESSIONS_H
#define SS_SESSIONS_H

#include "rows/namespaces.h"
#include "rows/sql.h"
#include "rows/touches.h"

#define SS_NEVER PG_INT64_MIN /* dead_until of a row that is no tombstone */

typedef enum SsState
{
	SS_ABSENT,  /* no row */
	SS_ALIVE,   /* a session */
	SS_EXPIRED, /* a row, but no session any more */
	SS_DEAD     /* a tombstone: the id cannot be used yet */
} SsState;

/*
 * A row in hand.  Datums that came from the table live until ss_sql_leave.
 */
typedef struct SsRow
{
	SsState state;
	Datum data; /* perhaps toasted */
	Datum owner;
	bool owner_null;
	int64 version;
	TimestampTz created_at;
	TimestampTz updated_at;
	TimestampTz expires_at; /* as stored */
	TimestampTz ends_at;    /* as it really is: with noted reads and max_lifetime */
	int64 ttl;
	int64 last_seq;
	int64 message_count;
	TimestampTz check_at;
	TimestampTz dead_until;
	bool own_xact; /* this version was written by the present transaction */
	Datum history;
	bool history_null;
	bool has_tid; /* found without a statement, at: */
	ItemPointerData tid;
	bool locked; /* and locked */
} SsRow;

/* How to take hold of a row. */
typedef enum SsHold
{
	SS_HOLD_WAIT,        /* lock it, and wait for whoever has it */
	SS_HOLD_SKIP_LOCKED, /* lock it; what somebody has locked counts as absent */
	SS_HOLD_NONE         /* only look: who writes it may find that another was quicker */
} SsHold;

/* What of a row is to be written. */
typedef enum SsColumns
{
	SS_ALL_COLUMNS,
	SS_HISTORY_COLUMNS, /* what a change of its history changes */
	SS_EXPIRY_COLUMNS   /* expires_at and ttl */
} SsColumns;

/* A session that a call is about, and the policy that governs it. */
typedef struct SsTarget
{
	Datum ns;
	Datum id;
	SsKey key;
	SsPolicy policy;
	Oid role; /* who calls */
} SsTarget;

extern void ss_row_set_state(SsRow *row, const SsTarget *target, TimestampTz now);
extern bool ss_row_read(const SsTarget *target, SsPlanMode mode, SsRow *row);
extern bool ss_row_lock(const SsTarget *target, SsRow *row);
extern bool ss_row_try_lock(const SsTarget *target, SsRow *row);
extern bool ss_row_insert(const SsTarget *target, const SsRow *row);
extern bool ss_row_read_unlocked(const SsTarget *target, SsRow *row);
extern bool ss_row_write(const SsTarget *target, const SsRow *row);
extern void ss_row_write_history(const SsTarget *target, const SsRow *row);
extern void ss_row_write_expiry(const SsTarget *target, const SsRow *row);
extern void ss_row_rename(const SsTarget *target, Datum new_id, const SsRow *row);
extern int64 ss_next_version(int64 version);
extern int64 ss_final_version(int64 version);
extern bool ss_row_refresh(const SsTarget *target, SsRow *row);
extern Datum ss_empty_document(void);
extern Interval *ss_make_interval(int64 usec);
extern int64 ss_interval_usec(Datum interval);

#endif
