/*
 * change.h
 *		What it means to change a session.
 */
#ifndef SS_CHANGE_H
#define SS_CHANGE_H

#include "rows/access.h"

/* if_version, decoded */
#define SS_ANY_VERSION INT64CONST(-2)
#define SS_MUST_EXIST INT64CONST(-1)
#define SS_MUST_NOT_EXIST INT64CONST(0)

/* A change in the making; see ss_change_begin. */
typedef struct SsChange
{
	SsTarget *target;
	SsRow row;         /* to be altered by the caller */
	bool is_new;       /* a new session begins */
	bool has_row;      /* over an expired or dead row, or a living one */
	bool history_only; /* set by the caller: neither document nor owner changes */
	bool optimistic;   /* set by the caller: it writes nothing but the row, and loses nothing by
						* beginning again */
	TimestampTz now;   /* read under the row lock */
	TimestampTz base;  /* expires_at before */
	int tries;
	Datum exempt_id; /* an id that no quota shall evict, or 0 */
	Datum old_owner;
	bool old_owner_null;
	bool over_expired; /* .. over one that had expired, of this owner: */
	Datum expired_owner;
	bool expired_owner_null;
} SsChange;

extern void ss_change_begin(SsChange *change, SsTarget *target, int64 if_version, Datum owner);
extern bool ss_change_begin_existing(SsChange *change, SsTarget *target, SsNeed need);
extern bool ss_change_end(SsChange *change);

extern bool ss_session_may_lock(const SsTarget *target, SsNeed need);
extern bool ss_session_lock(SsTarget *target, SsRow *row, SsNeed need);
extern void ss_session_end(SsTarget *target, SsRow *row);
extern bool ss_session_delete(SsTarget *target);
extern char *ss_session_regenerate(SsTarget *target);
extern char *ss_session_random_id(void);

#endif
