/*
 * url.h
 *		Parses session_store.redis_url.
 *
 * Pure C, for the unit tests.
 */
#ifndef SS_URL_H
#define SS_URL_H

#include <stdbool.h>
#include <stddef.h>

#define SS_URL_PART 256

typedef struct SsUrl
{
	bool tls;         /* rediss:// */
	char socket[108]; /* unix://: a path; otherwise empty */
	char host[SS_URL_PART];
	int port;
	char user[SS_URL_PART];     /* empty: the default user */
	char password[SS_URL_PART]; /* empty: none */
	int database;               /* -1: not specified */
} SsUrl;

/* Parses a URL.  Returns NULL, or a sentence that says what is wrong without repeating any of it. */
extern const char *ss_url_parse(const char *url, SsUrl *out);

/* Writes a URL without its password, for logs and health. */
extern void ss_url_show(const SsUrl *url, char *out, size_t size);

#endif
