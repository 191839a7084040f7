/*
 * redis.c
 *		A connection to Redis whose calls never block beyond a given time.
 *
 * hiredis formats commands and parses replies.  Waiting is done here, on the socket and the latch at
 * once, until a deadline: a blocking hiredis call cannot be canceled, and its timeout starts again
 * with each signal.
 *
 * Memory: a connection is allocated by ss_redis_open and freed by ss_redis_close, a reply by
 * ss_reply_free.  If an error is thrown during a wait, the owner of the connection (pusher.c) closes
 * it, which frees what was read.
 *
 * On failure functions return false or NULL with a message in `error`, of at most `size` bytes.
 * give_up is a time of the monotonic clock.
 */
#include "postgres.h"

#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "base/clock.h"
#include "compat.h"
#include "redis/redis.h"
#include "redis/tls.h"
#include "settings.h"

/* last, because it defines a macro with a name that headers of the server use */
#include <resolv.h>

/*
 * Replies to our commands have a few KB, plus at most one copy of a session; a server that
 * sends more is not our Redis.
 */
#define REPLY_MOST_BYTES (4 * 1024 * 1024)

struct SsRedis
{
	redisContext *context;
	void *tls;
	size_t read;
};

/*
 * hiredis allocates as many elements as a reply announces.  Ours have a few thousand;
 * allocating a billion would take so long that the pusher would seem to hang.
 */
#define ELEMENTS_MOST 100000

static redisReplyObjectFunctions bounded;
static redisReplyObjectFunctions *unbounded = NULL;

static void *
bounded_array(const redisReadTask *task, SsHiredisCount elements)
{
	return elements > ELEMENTS_MOST ? NULL : unbounded->createArray(task, elements);
}

/* Can this build connect with TLS? */
bool
ss_redis_has_tls(void)
{
	return ss_tls_built;
}

/*
 * Waits for the socket; false if it is not ready by give_up.  Latch events are not lost by
 * that: the pusher checks everything after the reply.
 */
static bool
wait_for(SsRedis *redis, int events, SsMonotonic give_up)
{
	for (;;)
	{
		int64 left_us = give_up - ss_monotonic();
		int rc;

		CHECK_FOR_INTERRUPTS();
		if (left_us <= 0)
			return false;
		rc = WaitLatchOrSocket(MyLatch, events | WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							   redis->context->fd, left_us / 1000 + 1, PG_WAIT_EXTENSION);
		if (rc & events)
			return true;
		if (rc & WL_LATCH_SET)
			ResetLatch(MyLatch);
	}
}

/*
 * Replaces every byte that is not printable ASCII: the text comes from outside, and goes to
 * the log and to health.
 */
void
ss_redis_printable(char *text)
{
	for (char *p = text; *p; p++)
		if ((unsigned char) *p < 0x20 || (unsigned char) *p >= 0x7f)
			*p = '?';
}

static bool
fail(char *error, size_t size, const char *what)
{
	strlcpy(error, what, size);
	ss_redis_printable(error);
	return false;
}

/* Sets the message from the error state of the connection, or of TLS. */
static bool
fail_of_context(SsRedis *redis, char *error, size_t size)
{
	const char *problem = ss_tls_problem(redis->tls);
	char text[200];

	if (problem == NULL)
		return fail(error, size,
					redis->context->err ? redis->context->errstr : "connection broken");
	snprintf(text, sizeof(text), "TLS, with the certificate of the server: %s", problem);
	return fail(error, size, text);
}

/* Limits the time that the resolver takes if no name server answers. */
static void
short_resolver(void)
{
	static bool done = false;

	if (done)
		return;
	done = true;
	if (res_init() == 0)
	{
		_res.retrans = 1;
		_res.retry = 1;
	}
}

/* Waits until the connection is established. */
static bool
finish_connecting(SsRedis *redis, bool tcp, SsMonotonic give_up, char *error, size_t size)
{
	int status = 0;
	socklen_t len = sizeof(status);
	int on = 1;

	if (redis->context->err)
		return fail_of_context(redis, error, size);
	/* hiredis 0.14 does not set it, and programs that the server starts must not get the socket */
	(void) fcntl(redis->context->fd, F_SETFD, FD_CLOEXEC);
	if (!wait_for(redis, WL_SOCKET_WRITEABLE, give_up))
		return fail(error, size, "timeout while connecting");
	if (getsockopt(redis->context->fd, SOL_SOCKET, SO_ERROR, &status, &len) < 0)
		status = errno;
	if (status != 0)
		return fail(error, size, strerror(status));
	if (tcp)
	{
		(void) setsockopt(redis->context->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		(void) setsockopt(redis->context->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	}
	return true;
}

/* Connects. *out must be closed by the caller in any case, also when an error is thrown. */
bool
ss_redis_open(SsRedis **out, const SsUrl *url, SsMonotonic give_up, char *error, size_t size)
{
	SsRedis *redis;
	bool tcp = url->socket[0] == '\0';

	if (url->tls && !ss_tls_built)
		return fail(error, size,
					"rediss:// needs a build with hiredis_ssl, and this one is without");
	short_resolver();
	*out = redis = MemoryContextAllocZero(TopMemoryContext, sizeof(SsRedis));
	redis->context = tcp ? redisConnectNonBlock(url->host, url->port)
						 : redisConnectUnixNonBlock(url->socket);
	if (redis->context == NULL)
		return fail(error, size, "out of memory");
	unbounded = redis->context->reader->fn;
	bounded = *unbounded;
	bounded.createArray = bounded_array;
	redis->context->reader->fn = &bounded;
	return finish_connecting(redis, tcp, give_up, error, size) &&
		   (!url->tls || ss_tls_start(redis->context, url->host, &redis->tls, error, size));
}

/* Closes a connection and frees it; NULL is allowed. */
void
ss_redis_close(SsRedis *redis)
{
	if (redis == NULL)
		return;
	if (redis->context != NULL)
		redisFree(redis->context);
	ss_tls_end(redis->tls);
	pfree(redis);
}

/* Begins a new command, reusing the memory of the last one. */
void
ss_command_reset(SsCommand *command)
{
	command->argc = 0;
}

/* Adds an argument.  The data is not copied: it must exist until the command is queued. */
void
ss_command_add(SsCommand *command, const char *data, size_t len)
{
	if (command->argc == command->room)
	{
		int more = command->room == 0 ? 64 : command->room * 2;
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		if (command->room == 0)
		{
			command->argv = palloc(sizeof(char *) * more);
			command->lengths = palloc(sizeof(size_t) * more);
		}
		else
		{
			command->argv = repalloc(command->argv, sizeof(char *) * more);
			command->lengths = repalloc(command->lengths, sizeof(size_t) * more);
		}
		command->room = more;
		MemoryContextSwitchTo(old);
	}
	command->argv[command->argc] = data;
	command->lengths[command->argc++] = len;
}

/* Adds a string; not copied either. */
void
ss_command_word(SsCommand *command, const char *word)
{
	ss_command_add(command, word, strlen(word));
}

/* Adds a number.  The digits are allocated in the current memory context. */
void
ss_command_int(SsCommand *command, int64 value)
{
	char *digits = palloc(24);

	snprintf(digits, 24, INT64_FORMAT, value);
	ss_command_word(command, digits);
}

/* Appends a command to the output buffer, which the next ss_redis_receive sends. */
bool
ss_redis_queue(SsRedis *redis, const SsCommand *command, char *error, size_t size)
{
	if (redisAppendCommandArgv(redis->context, command->argc, command->argv, command->lengths) !=
		REDIS_OK)
		return fail_of_context(redis, error, size);
	return true;
}

/* Sends what is queued and waits for the next reply, which the caller frees. */
SsRedisReply *
ss_redis_receive(SsRedis *redis, SsMonotonic give_up, char *error, size_t size)
{
	void *reply = NULL;
	int done = 0;

	while (!done)
	{
		if (redisBufferWrite(redis->context, &done) != REDIS_OK)
		{
			fail_of_context(redis, error, size);
			return NULL;
		}
		if (!done &&
			!wait_for(redis,
					  ss_tls_wants_to_read(redis->tls) ? WL_SOCKET_READABLE : WL_SOCKET_WRITEABLE,
					  give_up))
		{
			fail(error, size, "timeout while sending");
			return NULL;
		}
	}
	for (;;)
	{
		if (redisGetReplyFromReader(redis->context, &reply) != REDIS_OK)
		{
			fail_of_context(redis, error, size);
			return NULL;
		}
		if (reply != NULL)
			return reply;
		if (redis->context->reader->len - redis->context->reader->pos >
			(size_t) REPLY_MOST_BYTES + ss_cache_max_bytes)
		{
			fail(error, size, "an answer is too large to come from the Redis that was asked");
			return NULL;
		}
		if (!ss_tls_pending(redis->tls) && !wait_for(redis, WL_SOCKET_READABLE, give_up))
		{
			fail(error, size, "timeout while waiting for an answer");
			return NULL;
		}
		if (redisBufferRead(redis->context) != REDIS_OK)
		{
			fail_of_context(redis, error, size);
			return NULL;
		}
	}
}

/*
 * Sends one command and waits for its reply, which the caller frees.  An error reply counts as
 * a failure.
 */
SsRedisReply *
ss_redis_call(SsRedis *redis, const SsCommand *command, SsMonotonic give_up, char *error,
			  size_t size)
{
	SsRedisReply *reply;

	if (!ss_redis_queue(redis, command, error, size))
		return NULL;
	reply = ss_redis_receive(redis, give_up, error, size);
	if (reply != NULL && reply->type == REDIS_REPLY_ERROR)
	{
		fail(error, size, reply->str);
		ss_reply_free(reply);
		return NULL;
	}
	return reply;
}

/* Has the server closed the connection?  Only while no request is under way. */
bool
ss_redis_broken(SsRedis *redis)
{
	char byte;
	ssize_t n = recv(redis->context->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

	return n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

SsReplyKind
ss_reply_kind(const SsRedisReply *reply)
{
	switch (reply->type)
	{
		case REDIS_REPLY_INTEGER:
			return SS_REPLY_INTEGER;
		case REDIS_REPLY_STRING:
		case REDIS_REPLY_STATUS:
			return SS_REPLY_STRING;
		case REDIS_REPLY_ARRAY:
			return SS_REPLY_ARRAY;
		case REDIS_REPLY_NIL:
			return SS_REPLY_NIL;
		case REDIS_REPLY_ERROR:
			return SS_REPLY_ERROR;
		default:
			return SS_REPLY_OTHER;
	}
}

/* The value of a number, also of one that came as text; -1 for other replies. */
int64
ss_reply_int(const SsRedisReply *reply)
{
	if (reply->type == REDIS_REPLY_INTEGER)
		return reply->integer;
	if (reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS)
		return strtoll(reply->str, NULL, 10);
	return -1;
}

/* The text of a reply, or an empty string; valid as long as the reply. */
const char *
ss_reply_text(const SsRedisReply *reply, size_t *len)
{
	bool text = reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS ||
				reply->type == REDIS_REPLY_ERROR;

	if (len != NULL)
		*len = text ? (size_t) reply->len : 0;
	return text ? reply->str : "";
}

/* Number of elements of an array; 0 for other replies. */
int
ss_reply_count(const SsRedisReply *reply)
{
	return reply->type == REDIS_REPLY_ARRAY ? (int) reply->elements : 0;
}

/* An element of an array; i must be less than ss_reply_count. */
const SsRedisReply *
ss_reply_at(const SsRedisReply *reply, int i)
{
	return reply->element[i];
}

/* Frees a reply and its elements; NULL is allowed. */
void
ss_reply_free(SsRedisReply *reply)
{
	if (reply != NULL)
		freeReplyObject(reply);
}
