/*
 * utf8.h
 *		Conversion between the database encoding and UTF-8, for Redis.
 */
#ifndef SS_UTF8_H
#define SS_UTF8_H

#include "lib/stringinfo.h"

/* Maximum size of a converted text of n bytes, in either direction, with a terminating NUL. */
#define SS_UTF8_ROOM(n) ((n) *4 + 1)

extern void ss_utf8_init(void);
extern bool ss_utf8_append(StringInfo out, const char *text, int len);
extern int ss_utf8_name(const char *name, int len, char *out);
extern int ss_utf8_to_database(const char *name, int len, char *out);
extern bool ss_utf8_is_same(const char *text, int len);

#endif
