/*
 * redis.h
 *		A connection to Redis whose calls never block beyond a given time.
 *
 * Only redis.c and tls.c include hiredis.  Any failure (an error, a timeout, an invalid reply) is
 * reported as a message; the connection must then be closed and not be used again.
 */
#ifndef SS_REDIS_H
#define SS_REDIS_H

#include "base/clock.h"
#include "base/url.h"

typedef struct SsRedis SsRedis;
typedef struct redisReply SsRedisReply;

/* A command under construction: an argument vector, never a format string. */
typedef struct SsCommand
{
	int argc;
	int room;
	const char **argv;
	size_t *lengths;
} SsCommand;

typedef enum SsReplyKind
{
	SS_REPLY_OTHER,
	SS_REPLY_INTEGER,
	SS_REPLY_STRING,
	SS_REPLY_ARRAY,
	SS_REPLY_NIL,
	SS_REPLY_ERROR
} SsReplyKind;

extern bool ss_redis_has_tls(void);
extern bool ss_redis_open(SsRedis **out, const SsUrl *url, SsMonotonic give_up, char *error,
						  size_t size);
extern void ss_redis_close(SsRedis *redis);

extern void ss_command_reset(SsCommand *command);
extern void ss_command_add(SsCommand *command, const char *data, size_t len);
extern void ss_command_word(SsCommand *command, const char *word);
extern void ss_command_int(SsCommand *command, int64 value);

extern bool ss_redis_queue(SsRedis *redis, const SsCommand *command, char *error, size_t size);
extern SsRedisReply *ss_redis_receive(SsRedis *redis, SsMonotonic give_up, char *error,
									  size_t size);
extern SsRedisReply *ss_redis_call(SsRedis *redis, const SsCommand *command, SsMonotonic give_up,
								   char *error, size_t size);
extern bool ss_redis_broken(SsRedis *redis);
extern void ss_redis_printable(char *text);

extern SsReplyKind ss_reply_kind(const SsRedisReply *reply);
extern int64 ss_reply_int(const SsRedisReply *reply);
extern const char *ss_reply_text(const SsRedisReply *reply, size_t *len);
extern int ss_reply_count(const SsRedisReply *reply);
extern const SsRedisReply *ss_reply_at(const SsRedisReply *reply, int i);
extern void ss_reply_free(SsRedisReply *reply);

#endif
