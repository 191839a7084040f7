/*
 * codec.h
 *		Converts any JSON text to jsonb and back, strings with NUL and lone surrogates included.
 */
#ifndef SS_CODEC_H
#define SS_CODEC_H

#include "utils/jsonb.h"

extern Jsonb *ss_codec_encode(const text *json);
extern text *ss_codec_decode(Jsonb *document);

#endif
