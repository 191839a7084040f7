/*
 * tls.h
 *		TLS for redis.c, where hiredis_ssl was available at build time.
 */
#ifndef SS_TLS_H
#define SS_TLS_H

struct redisContext;

extern const bool ss_tls_built;
extern bool ss_tls_start(struct redisContext *context, const char *host, void **tls, char *error,
						 size_t size);
extern bool ss_tls_pending(void *tls);
extern bool ss_tls_wants_to_read(void *tls);
extern const char *ss_tls_problem(void *tls);
extern void ss_tls_end(void *tls);

#endif
