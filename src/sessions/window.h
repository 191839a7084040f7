/*
 * window.h
 *		Selects the newest messages of a session that fit into a number of tokens or messages.
 */
#ifndef SS_WINDOW_H
#define SS_WINDOW_H

#include "row/session.h"
#include "utils/array.h"

/* Limits of a window. */
typedef struct SsWindowLimits
{
	int64 max_tokens;   /* PG_INT64_MAX: any number */
	int64 max_messages; /* PG_INT64_MAX: any number */
	bool strict;        /* begin at a user message or return nothing */
} SsWindowLimits;

/*
 * Called with each message, oldest first.  The Datums are valid during the call only.  The summary comes
 * first, and has neither seq nor created_at.
 */
typedef void (*SsWindowSink)(void *arg, Datum seq, Datum message, Datum created_at, int64 tokens,
							 bool is_summary);

extern void ss_window_read(const SsRow *row, const SsWindowLimits *limits, ArrayType *token_path,
						   SsWindowSink sink, void *arg);

#endif
