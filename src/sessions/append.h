/*
 * append.h
 *		Adds messages to the history of a session.
 */
#ifndef SS_APPEND_H
#define SS_APPEND_H

#include "sessions/operations.h"

/* Messages of a call. */
typedef struct SsMessages
{
	int count;
	Datum *message; /* jsonb, not toasted */
} SsMessages;

/* The arguments of session_append(). */
typedef struct SsAppend
{
	SsMessages messages;
	Datum operation_id; /* 0: none */
} SsAppend;

extern int64 ss_history_append(SsTarget *target, const SsAppend *append);

#endif
