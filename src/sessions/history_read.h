/*
 * history_read.h
 *		Reads windows of the messages of a session.
 */
#ifndef SS_HISTORY_READ_H
#define SS_HISTORY_READ_H

#include "row/session.h"
#include "table/sql.h"

/* A window of a history. */
typedef struct SsWindow
{
	int64 from;  /* the window begins at this seq */
	int64 up_to; /* it ends with this seq */
	int64 last;  /* option: only the newest messages in between, at most so many; -1: all */
	int64 first; /* option: only the oldest ones; -1: all.  Not together with last */
} SsWindow;

#define SS_WINDOW_ALL                      \
	{                                      \
		PG_INT64_MIN, PG_INT64_MAX, -1, -1 \
	}

/* Called with each message, oldest first.  The Datums are valid during the call only. */
typedef void (*SsMessageSink)(void *arg, Datum seq, Datum message, Datum created_at);

/* Called with each message, newest first; false ends the walk.  The Datum is valid during the call. */
typedef bool (*SsMessageVisitor)(void *arg, int64 seq, Datum message);

extern int64 ss_history_find(const SsRow *row, const SsWindow *window, SsPlanMode mode,
							 int64 *first_seq, int64 *last_seq);
extern void ss_history_read(const SsRow *row, const SsWindow *window, SsMessageSink sink,
							void *arg);
extern void ss_history_walk_back(const SsRow *row, int64 expected, SsMessageVisitor visit,
								 void *arg);

#endif
