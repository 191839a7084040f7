/*
 * json_text.h
 *		JSON as text for Redis, never longer than a limit.
 */
#ifndef SS_JSON_TEXT_H
#define SS_JSON_TEXT_H

#include "lib/stringinfo.h"

typedef enum SsJsonResult
{
	SS_JSON_FINE,
	SS_JSON_LARGE,   /* the text is longer than the limit */
	SS_JSON_FOREIGN, /* it holds characters that cannot be converted to UTF-8 */
} SsJsonResult;

extern int64 ss_json_least(Datum document);
extern SsJsonResult ss_json_append(StringInfo out, Datum document, int64 most);

#endif
