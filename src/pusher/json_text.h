/*
 * json_text.h
 *		Converts jsonb to text in UTF-8 for Redis, up to a maximum length.
 */
#ifndef SS_JSON_TEXT_H
#define SS_JSON_TEXT_H

#include "lib/stringinfo.h"

/* Result of ss_json_append. */
typedef enum SsJsonResult
{
	SS_JSON_FINE,
	SS_JSON_LARGE,   /* the text is longer than the maximum */
	SS_JSON_FOREIGN, /* the text cannot be converted to UTF-8 */
} SsJsonResult;

extern int64 ss_json_least(Datum document);
extern SsJsonResult ss_json_append(StringInfo out, Datum document, int64 most);

#endif
