/*
 * utf8.h
 *		UTF-8 for Redis, whatever the encoding of the database.
 */
#ifndef SS_UTF8_H
#define SS_UTF8_H

#include "lib/stringinfo.h"

/* A text of n bytes in the database's encoding is at most so many bytes in UTF-8, and vice versa. */
#define SS_UTF8_ROOM(n) ((n) *4 + 1)

extern void ss_utf8_init(void);
extern bool ss_utf8_append(StringInfo out, const char *text, int len);
extern int ss_utf8_name(const char *name, int len, char *out);
extern int ss_utf8_to_database(const char *name, int len, char *out);

/* Is a text of the database as it is in UTF-8?  ASCII is, in every encoding of a server. */
extern bool ss_utf8_is_same(const char *text, int len);

#endif
