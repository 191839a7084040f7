/*
 * proxy.c
 *		A proxy between the pusher and Redis that delays, holds and cuts connections.
 *
 * One thread, one poll().  A pair is a connection of the pusher and one to Redis.  Bytes in
 * transit are in a queue of chunks, each with the time at which it is due.  When the pusher closes
 * its connection, what it has sent is still delivered, perhaps long after it has connected again.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "nemesis.h"

#define PAIRS 64
#define CHUNK 65536
#define FOREVER INT64_MAX
#define DRIBBLE 16 /* bytes at a time */

typedef struct Chunk
{
	struct Chunk *next;
	int64_t due;
	size_t from;
	size_t to;
	char bytes[];
} Chunk;

typedef struct Pair
{
	int side[2]; /* 0 the pusher's, 1 Redis'; -1: closed */
	bool used;
	Chunk *first[2]; /* from that side */
	Chunk *last[2];
	bool held;  /* since before it was accepted by the present mode */
	bool muted; /* it lost bytes and cannot be used any more */
} Pair;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static ProxyMode mode = PROXY_PASS;
static int64_t delay = 0;
static bool cut = false;
static Pair pairs[PAIRS];
static int listener = -1;

static void
drop_chunks(Pair *p, int side)
{
	while (p->first[side] != NULL)
	{
		Chunk *c = p->first[side];

		p->first[side] = c->next;
		free(c);
	}
	p->last[side] = NULL;
}

static void
close_side(Pair *p, int side)
{
	if (p->side[side] >= 0)
		close(p->side[side]);
	p->side[side] = -1;
}

static void
close_pair(Pair *p)
{
	for (int side = 0; side < 2; side++)
	{
		close_side(p, side);
		drop_chunks(p, side);
	}
	p->used = false;
}

static int
connect_to_redis(void)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(to.sun_path, run.socket, strlen(run.socket) + 1); /* run.sh keeps it short */
	if (fd >= 0 && connect(fd, (struct sockaddr *) &to, sizeof(to)) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static void
accept_one(void)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	int on = 1;
	Pair *p = NULL;

	if (fd < 0)
		return;
	for (int i = 0; i < PAIRS && p == NULL; i++)
		if (!pairs[i].used)
			p = &pairs[i];
	if (p == NULL || mode == PROXY_REFUSE || mode == PROXY_SHUT)
	{
		close(fd);
		return;
	}
	memset(p, 0, sizeof(*p));
	p->side[0] = fd;
	p->side[1] = connect_to_redis();
	if (p->side[1] < 0)
	{
		close(fd);
		return;
	}
	(void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	p->used = true;
}

/* What happens to bytes that come from one side now?  FOREVER: they are lost. */
static int64_t
due_at(Pair *p, int side, int64_t now)
{
	if (p->muted)
		return FOREVER;
	switch (mode)
	{
		case PROXY_DELAY:
			return now + delay;
		case PROXY_SWALLOW:
			p->muted = side == 1;
			return side == 1 ? FOREVER : now;
		case PROXY_DROP:
			p->muted = side == 0;
			return side == 0 ? FOREVER : now;
		case PROXY_HOLD:
			/* until the mode ends: see proxy_set */
			return side == 0 && p->held ? FOREVER - 1 : now;
		case PROXY_PASS:
		case PROXY_REFUSE:
		case PROXY_SHUT:
		case PROXY_DRIBBLE:
			break;
	}
	return now;
}

/* The other end of this side was closed. */
static void
hung_up(Pair *p, int side)
{
	close_side(p, side);
	if (side == 1 || p->first[0] == NULL)
		close_pair(p);
	else
		drop_chunks(p, 1);
}

static void
take_in(Pair *p, int side, int64_t now)
{
	Chunk *c = malloc(sizeof(Chunk) + CHUNK);
	ssize_t n = recv(p->side[side], c->bytes, CHUNK, MSG_DONTWAIT);
	int64_t due;

	if (n <= 0)
	{
		free(c);
		if (n == 0 || (errno != EAGAIN && errno != EINTR))
			hung_up(p, side);
		return;
	}
	due = due_at(p, side, now);
	if (due == FOREVER || (p->side[1 - side] < 0))
	{
		free(c);
		return;
	}
	c->next = NULL;
	c->due = due;
	c->from = 0;
	c->to = (size_t) n;
	if (p->last[side] == NULL)
		p->first[side] = c;
	else
	{
		/* bytes do not overtake each other */
		if (c->due < p->last[side]->due)
			c->due = p->last[side]->due;
		p->last[side]->next = c;
	}
	p->last[side] = c;
}

/* Passes on what is due; returns when the next is. */
static int64_t
give_out(Pair *p, int side, int64_t now)
{
	int64_t again = now + 50 * MS;

	while (p->used && p->first[side] != NULL)
	{
		Chunk *c = p->first[side];
		size_t n = c->to - c->from;
		ssize_t sent;

		if (c->due > now)
			return c->due < again ? c->due : again;
		if (mode == PROXY_DRIBBLE && n > DRIBBLE)
			n = DRIBBLE;
		sent = send(p->side[1 - side], c->bytes + c->from, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent < 0)
		{
			if (errno == EAGAIN)
				return now + MS;
			hung_up(p, 1 - side);
			return again;
		}
		c->from += (size_t) sent;
		if (c->from == c->to)
		{
			p->first[side] = c->next;
			if (c->next == NULL)
				p->last[side] = NULL;
			free(c);
		}
		if (mode == PROXY_DRIBBLE)
			return now + MS;
	}
	if (p->used && p->side[0] < 0 && p->first[0] == NULL)
		close_pair(p); /* everything that was sent is delivered */
	return again;
}

static void *
proxy(void *arg)
{
	struct pollfd fds[1 + 2 * PAIRS];

	(void) arg;
	for (;;)
	{
		int64_t now;
		int64_t again;
		int64_t rest;

		pthread_mutex_lock(&lock);
		now = now_us();
		again = now + 5 * MS;
		for (int i = 0; i < PAIRS; i++)
		{
			Pair *p = &pairs[i];

			if (p->used && (cut || mode == PROXY_REFUSE))
				close_pair(p);
			for (int side = 0; side < 2 && p->used; side++)
			{
				int64_t at = give_out(p, side, now);

				again = at < again ? at : again;
			}
			for (int side = 0; side < 2; side++)
			{
				fds[1 + 2 * i + side].fd = p->used ? p->side[side] : -1;
				fds[1 + 2 * i + side].events = POLLIN;
			}
		}
		cut = false;
		pthread_mutex_unlock(&lock);
		fds[0].fd = listener;
		fds[0].events = POLLIN;
		rest = again - now;
		if (poll(fds, 1 + 2 * PAIRS, rest <= 0 ? 0 : (int) ((rest + 999) / 1000)) <= 0)
			continue;
		pthread_mutex_lock(&lock);
		now = now_us();
		for (int i = 0; i < PAIRS; i++)
			for (int side = 0; side < 2; side++)
				if (pairs[i].used && pairs[i].side[side] >= 0 &&
					pairs[i].side[side] == fds[1 + 2 * i + side].fd &&
					fds[1 + 2 * i + side].revents != 0)
					take_in(&pairs[i], side, now);
		for (int i = 0; i < PAIRS; i++)
			for (int side = 0; side < 2 && pairs[i].used; side++)
				(void) give_out(&pairs[i], side, now);
		if (fds[0].revents != 0)
			accept_one();
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

/* The mode from now on.  What the mode that ends has held back is delivered. */
void
proxy_set(ProxyMode next, int64_t by)
{
	pthread_mutex_lock(&lock);
	for (int i = 0; i < PAIRS; i++)
	{
		Pair *p = &pairs[i];

		if (!p->used)
			continue;
		/* data on later connections passes */
		p->held = next == PROXY_HOLD;
		for (Chunk *c = p->first[0]; c != NULL; c = c->next)
			if (c->due == FOREVER - 1)
				c->due = 0;
		/* bytes are missing: the connection cannot be used */
		if (p->muted)
			close_pair(p);
	}
	mode = next;
	delay = by;
	pthread_mutex_unlock(&lock);
}

/* Closes all connections. */
void
proxy_cut(void)
{
	pthread_mutex_lock(&lock);
	cut = true;
	pthread_mutex_unlock(&lock);
}

int
proxy_start(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET};
	socklen_t len = sizeof(at);
	pthread_t thread;

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *) &at, sizeof(at)) != 0 ||
		listen(listener, 64) != 0 || getsockname(listener, (struct sockaddr *) &at, &len) != 0)
		die("no port for the proxy: %s", strerror(errno));
	if (pthread_create(&thread, NULL, proxy, NULL) != 0)
		die("no thread");
	return ntohs(at.sin_port);
}
