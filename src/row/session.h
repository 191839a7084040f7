/*
 * session.h
 *		A session in the memory of a backend: the row, and what a call works on.
 */
#ifndef SS_SESSION_H
#define SS_SESSION_H

#include "storage/itemptr.h"
#include "utils/timestamp.h"

#include "row/liveness.h"
#include "table/namespaces.h"

/* No turn.  Tokens are greater. */
#define SS_TURN_NONE INT64CONST(0)

/*
 * A row of conversation_sessions in backend memory.  Datums that were read from the table live in
 * the SPI context, that is until ss_sql_leave, unless the function that read them says otherwise.
 * Fields that were not read (SsField) are zero or null.
 */
typedef struct SsRow
{
	SsState state;
	Datum data; /* session_data, possibly toasted */
	Datum owner;
	bool owner_null;
	int64 version;
	TimestampTz created_at;
	TimestampTz updated_at;
	TimestampTz expires_at; /* the stored value */
	TimestampTz ends_at;    /* the effective end, after pending touches and max_lifetime */
	int64 ttl_us;
	int64 last_seq;
	int64 message_count;
	TimestampTz check_at;
	TimestampTz dead_until;
	int64 turn; /* the token that was given last; SS_TURN_NONE: none was */
	TimestampTz
		turn_until;    /* when the turn ends by itself; SS_NEVER: it has ended, or none was given */
	Datum turn_holder; /* text; 0: null */
	bool own_xact;     /* this row version was written by the current transaction */
	Datum history;
	bool history_null;
	Datum summary;       /* stands in for the messages up to summary_up_to; 0: none */
	int64 summary_up_to; /* 0 without a summary */
	bool has_tid;        /* tid is set: the row was found by direct access */
	ItemPointerData tid;
	bool locked; /* only if has_tid: the row is locked by this transaction */
} SsRow;

/*
 * Groups of fields of SsRow that a caller may ask for.  Those that decide about expiry and access are
 * read in any case, and check_at is only written.  A statement reads the columns of these groups and no
 * others, because each column adds to the cost of each node of its plan.  Direct access reads all, but
 * copies the document only if it is asked for.
 */
typedef enum SsField
{
	SS_FIELD_DOCUMENT = 1,   /* data */
	SS_FIELD_COUNTERS = 2,   /* version, last_seq, message_count */
	SS_FIELD_TURN = 4,       /* turn, turn_until, turn_holder */
	SS_FIELD_UPDATED_AT = 8, /* updated_at */
	SS_FIELD_SUMMARY = 16,   /* summary, summary_up_to */
	SS_FIELDS_ALL = 31
} SsField;

/* How the current version of a row is read. */
typedef enum SsHold
{
	SS_HOLD_WAIT,        /* lock it, waiting for other transactions */
	SS_HOLD_SKIP_LOCKED, /* lock it; a row locked by another transaction counts as absent */
	SS_HOLD_NONE         /* do not lock it: a later write fails if the row was changed or locked */
} SsHold;

/* The session that a call works on, whether or not it exists, and the policy of its namespace. */
typedef struct SsTarget
{
	Datum ns;
	Datum id;
	SsKey key;
	SsPolicy policy;
	Oid role; /* the calling role */
} SsTarget;

extern Datum ss_empty_document(void);
extern Interval *ss_make_interval(int64 usec);
extern int64 ss_interval_usec(Datum interval);
extern int64 ss_next_version(int64 version);
extern void ss_row_set_summary(SsRow *row, Datum summary, int64 up_to);

#endif
