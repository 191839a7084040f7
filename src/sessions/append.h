/*
 * append.h
 *		Adds messages to the history of a session, also in place of its last ones.
 */
#ifndef SS_APPEND_H
#define SS_APPEND_H

#include "utils/jsonb.h"

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
	Datum owner;        /* of a session that the call creates; 0: none */
	Jsonb *patch;       /* merged into the document; NULL: none */
	int64 keep;         /* how many messages stay; -1: all */
	int64 turn;         /* SS_TURN_NONE: none */
} SsAppend;

/* The arguments of session_replace_tail(). */
typedef struct SsReplacement
{
	int64 n; /* how many messages are replaced */
	SsMessages messages;
	Jsonb *expected;    /* an array of the messages that are replaced; NULL: any */
	Datum operation_id; /* 0: none */
	int64 turn;         /* SS_TURN_NONE: none */
} SsReplacement;

extern int64 ss_history_append(SsTarget *target, const SsAppend *append);
extern bool ss_history_replace_tail(SsTarget *target, const SsReplacement *replacement,
									int64 *last_seq);

#endif
