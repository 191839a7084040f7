/*
 * change.h
 *		Changes a session: the steps that every changing call shares.
 */
#ifndef SS_CHANGE_H
#define SS_CHANGE_H

#include "row/access.h"

/*
 * A change in progress, between ss_change_begin and ss_change_end.  The caller zeroes it, sets the
 * options (the fields marked so) and alters `row`.  Datums live until ss_sql_leave.
 */
typedef struct SsChange
{
	SsTarget *target;
	SsRow row;              /* altered by the caller */
	bool is_new;            /* a new session begins */
	bool has_row;           /* there is a row: alive, or expired or dead if is_new */
	bool history_only;      /* option: neither document nor owner changes */
	bool document_only;     /* option: neither history nor its counters change */
	bool replaces_document; /* option: the document is not read; the caller sets row.data */
	bool new_summary;       /* option, with history_only: the summary changes or is removed */
	bool optimistic;   /* option: only the row is written and the change can be repeated, so it is
						* tried without a lock first */
	bool owner_if_new; /* option: a living session keeps its owner */
	TimestampTz now;   /* the clock, read after the row lock was granted */
	TimestampTz base;  /* expires_at as it was read; not set if is_new */
	int tries;
	Datum exempt_id; /* option: a session that no quota may evict for this one, or 0 */
	bool takes_turn; /* option: the call has an argument turn ... */
	int64 turn;      /* ... whose value is this; SS_TURN_NONE: null */
	bool turn_later; /* option: the caller calls ss_change_check_turn itself */
	Datum old_owner;
	bool old_owner_null;
	bool over_expired; /* the new session replaces an expired one, of expired_owner */
	Datum expired_owner;
	bool expired_owner_null;
} SsChange;

extern void ss_change_begin(SsChange *change, SsTarget *target, int64 if_version, Datum owner);
extern bool ss_change_begin_existing(SsChange *change, SsTarget *target, SsNeed need);
extern void ss_change_check_turn(const SsChange *change);
extern void ss_change_drop_summary(SsChange *change, int64 seq);
extern bool ss_change_end(SsChange *change);
extern void ss_change_record_expiry(const SsChange *change);

extern bool ss_session_lock_row(const SsTarget *target, int fields, SsRow *row);
extern bool ss_session_may_lock(const SsTarget *target, SsNeed need);
extern bool ss_session_lock(SsTarget *target, SsRow *row, SsNeed need);
extern char *ss_session_random_id(void);

#endif
