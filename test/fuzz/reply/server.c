/*
 * server.c
 *		Stubs of the server's functions that src/redis/redis.c and wire.c call.
 *
 * Time is virtual: it passes whenever it is read, and when something is waited for that does not
 * come.  Everything palloc'ed is freed at the end of an input; each piece is malloc'ed separately,
 * so that the address sanitizer sees its end.
 */
#include "postgres.h"

#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <sys/socket.h>
#include <unistd.h>

#include "storage/latch.h"
#include "utils/memutils.h"

#include "reply.h"

MemoryContext CurrentMemoryContext = NULL;
MemoryContext TopMemoryContext = NULL;
struct Latch *MyLatch = NULL;
volatile sig_atomic_t InterruptPending = false;
int64 virtual_now = INT64CONST(1000000000);

/* Pieces of memory, in a list. */
typedef struct Piece
{
	struct Piece *before;
	struct Piece *after;
	uint64 unused[2]; /* aligns what follows */
} Piece;

static Piece pieces = {&pieces, &pieces, {0, 0}};

static void *
link_piece(Piece *piece)
{
	if (piece == NULL)
		abort();
	piece->before = &pieces;
	piece->after = pieces.after;
	piece->after->before = piece->before->after = piece;
	return piece + 1;
}

void *
palloc(Size size)
{
	return link_piece(malloc(sizeof(Piece) + size));
}

void
pfree(void *pointer)
{
	Piece *piece = (Piece *) pointer - 1;

	piece->before->after = piece->after;
	piece->after->before = piece->before;
	free(piece);
}

void *
repalloc(void *pointer, Size size)
{
	Piece *piece = (Piece *) pointer - 1;

	piece->before->after = piece->after;
	piece->after->before = piece->before;
	return link_piece(realloc(piece, sizeof(Piece) + size));
}

void
free_all(void)
{
	while (pieces.after != &pieces)
		pfree(pieces.after + 1);
}

void *
MemoryContextAllocZero(MemoryContext context, Size size)
{
	return memset(palloc(size), 0, size);
}

char *
pnstrdup(const char *in, Size len)
{
	Size n = strnlen(in, len);
	char *out = palloc(n + 1);

	memcpy(out, in, n);
	out[n] = '\0';
	return out;
}

char *
MemoryContextStrdup(MemoryContext context, const char *string)
{
	return pnstrdup(string, strlen(string));
}

char *
psprintf(const char *format, ...)
{
	char buffer[400];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(buffer, sizeof(buffer), format, arguments);
	va_end(arguments);
	return pnstrdup(buffer, sizeof(buffer));
}

void
ProcessInterrupts(void)
{
}

void
ResetLatch(Latch *latch)
{
}

int64
ss_monotonic(void)
{
	return virtual_now += 7;
}

/* hiredis gets one end of a pair of sockets; the input writes to the other. */
static int ours = -1;

void
hang_up(void)
{
	if (ours >= 0)
		close(ours);
	ours = -1;
}

redisContext *
__wrap_redisConnectUnixNonBlock(const char *path)
{
	int pair[2];

	hang_up();
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
		abort();
	(void) fcntl(pair[0], F_SETFL, O_NONBLOCK);
	(void) fcntl(pair[1], F_SETFL, O_NONBLOCK);
	ours = pair[1];
	return redisConnectFd(pair[0]);
}

/* A socket can always be written; it can be read while the input has data, and then never. */
int
WaitLatchOrSocket(Latch *latch, int events, pgsocket sock, long timeout, uint32 wait_event)
{
	char sent[65536];

	while (ours >= 0 && recv(ours, sent, sizeof(sent), 0) > 0)
		;
	if (events & WL_SOCKET_WRITEABLE)
		return WL_SOCKET_WRITEABLE;
	switch (next_answer(ours))
	{
		case ANSWER_BYTES:
			return WL_SOCKET_READABLE;
		case ANSWER_CLOSE:
			hang_up();
			return WL_SOCKET_READABLE;
		default:
			virtual_now += (int64) timeout * 1000;
			return WL_TIMEOUT;
	}
}
