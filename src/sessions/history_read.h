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
	int64 last;   /* number of messages, or -1 for all */
	int64 before; /* the window ends before this seq */
} SsWindow;

/* Called with each message, oldest first.  The Datums are valid during the call only. */
typedef void (*SsMessageSink)(void *arg, Datum seq, Datum message, Datum created_at);

extern int64 ss_history_find_last(const SsRow *row, int64 n, int64 before, SsPlanMode mode,
								  int64 *first);
extern void ss_history_read(const SsRow *row, const SsWindow *window, SsMessageSink sink,
							void *arg);

#endif
