/*
 * message.h
 *		What a window has to know of a message: who speaks, and which tool calls it makes and answers.
 */
#ifndef SS_MESSAGE_H
#define SS_MESSAGE_H

#include "utils/jsonb.h"

typedef enum SsSpeaker
{
	SS_SPEAKER_OTHER, /* a tool result, an instruction, or a message of an unknown format */
	SS_SPEAKER_USER,  /* a user, and the message has no tool result */
	SS_SPEAKER_MODEL
} SsSpeaker;

/* The id of a tool call, or of a request for approval: two hashes, so that any id has the same size. */
typedef struct SsCallId
{
	uint64 hash[2];
} SsCallId;

/* A message makes a call, or has the result of one that was made before. */
typedef struct SsCallRef
{
	SsCallId id;
	bool answers;
} SsCallRef;

typedef struct SsMessageShape
{
	SsSpeaker speaker;
	bool reasoning; /* it has nothing but reasoning, for messages of the model that follow */
	bool continues; /* it has a result that names no call, so it belongs to the message before it */
	int nrefs;
	int max_refs;
	SsCallRef *refs; /* in the order of the message; allocated in the current memory context */
} SsMessageShape;

extern void ss_message_describe(JsonbContainer *message, SsMessageShape *shape);

#endif
