/*
 * json_escape.h
 *		Escapes what JSON strings may hold and jsonb refuses: NUL and lone surrogates.
 */
#ifndef SS_JSON_ESCAPE_H
#define SS_JSON_ESCAPE_H

#include <stdbool.h>
#include <stddef.h>

/* The escape character: U+0010, DATA LINK ESCAPE. */
#define SS_JSON_ESCAPE 0x10

/* How many bytes ss_json_escape adds for each character that it escapes. */
#define SS_JSON_ESCAPE_BYTES 4

/* Called for each backslash of the text, which may be long; may leave by longjmp. */
typedef void (*SsJsonCheck)(void);

extern size_t ss_json_escape(const char *text, size_t len, char *out, SsJsonCheck check);
extern bool ss_json_unescape(char *text, size_t *len, SsJsonCheck check);

#endif
