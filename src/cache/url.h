/*
 * url.h
 *		What session_store.redis_url says.
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
	char socket[108]; /* unix://: a path; else empty */
	char host[SS_URL_PART];
	int port;
	char user[SS_URL_PART];     /* empty: the default one */
	char password[SS_URL_PART]; /* empty: none */
	int database;               /* -1: not said */
} SsUrl;

/* NULL, or what is wrong with it, in words that do not repeat it. */
extern const char *ss_url_parse(const char *url, SsUrl *out);

/* As ss_url_parse, but without the password: fit to be printed. */
extern void ss_url_show(const SsUrl *url, char *out, size_t size);

#endif
