/*
 * tokens.h
 *		The number of tokens of a message.
 */
#ifndef SS_TOKENS_H
#define SS_TOKENS_H

#include "utils/array.h"
#include "utils/jsonb.h"

extern int64 ss_message_tokens(Jsonb *message, ArrayType *path);

#endif
