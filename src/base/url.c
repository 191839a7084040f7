/*
 * url.c
 *		Parses session_store.redis_url.
 *
 *		redis://[user[:password]@]host[:port][/database]
 *		rediss://..			the same with TLS
 *		unix://[user[:password]@]/path/of/socket[?db=database]
 *
 * Everything may be percent-encoded.  A message about an invalid URL never contains a part of it,
 * because that part may be the password.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "base/url.h"

#define DEFAULT_PORT 6379
#define DATABASE_MOST 1000000

/* Decodes a part; false if it does not fit, is badly encoded, or contains control characters. */
static bool
decode(const char *from, size_t len, char *to, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
	{
		int c = (unsigned char) from[i];

		if (c == '%')
		{
			if (i + 2 >= len || ss_hex_value(from[i + 1]) < 0 || ss_hex_value(from[i + 2]) < 0)
				return false;
			c = ss_hex_value(from[i + 1]) * 16 + ss_hex_value(from[i + 2]);
			i += 2;
		}
		if (c < 0x20 || c == 0x7f || n + 1 >= size)
			return false;
		to[n++] = (char) c;
	}
	to[n] = '\0';
	return true;
}

/* Parses a number from 0 to `most`. */
static bool
number(const char *text, size_t len, int most, int *out)
{
	long value = 0;

	if (len < 1 || len > 7)
		return false;
	for (size_t i = 0; i < len; i++)
	{
		if (text[i] < '0' || text[i] > '9')
			return false;
		value = value * 10 + (text[i] - '0');
	}
	if (value > most)
		return false;
	*out = (int) value;
	return true;
}

/* Parses user:password; either may be missing.  These functions return NULL, or what is wrong. */
static const char *
credentials(const char *text, size_t len, SsUrl *out)
{
	const char *colon = memchr(text, ':', len);
	size_t user = colon == NULL ? len : (size_t) (colon - text);

	if (!decode(text, user, out->user, sizeof(out->user)))
		return "The user name is too long or not correctly encoded.";
	if (colon != NULL && !decode(colon + 1, len - user - 1, out->password, sizeof(out->password)))
		return "The password is too long or not correctly encoded.";
	return NULL;
}

/* Parses what follows the credentials of unix://. */
static const char *
unix_rest(const char *rest, SsUrl *out)
{
	const char *query = strchr(rest, '?');
	size_t len = query == NULL ? strlen(rest) : (size_t) (query - rest);

	if (rest[0] != '/')
		return "unix:// must be followed by the absolute path of a socket.";
	if (!decode(rest, len, out->socket, sizeof(out->socket)))
		return "The path of the socket is too long or not correctly encoded.";
	if (query != NULL && (strncmp(query, "?db=", 4) != 0 ||
						  !number(query + 4, strlen(query + 4), DATABASE_MOST, &out->database)))
		return "The path of the socket may only be followed by ?db= and a number.";
	return NULL;
}

/* Parses what follows the credentials of redis:// and rediss://. */
static const char *
host_rest(const char *rest, SsUrl *out)
{
	size_t len = strcspn(rest, "/?#");
	const char *end = rest + len;
	const char *close = rest[0] == '[' ? memchr(rest, ']', len) : NULL;
	const char *colon;

	if (rest[0] == '[' && close == NULL)
		return "The address in brackets has no closing bracket.";
	if (close != NULL)
	{
		if (!decode(rest + 1, close - rest - 1, out->host, sizeof(out->host)))
			return "The host is too long or not correctly encoded.";
		colon = close + 1 < end ? close + 1 : NULL;
		if (colon != NULL && *colon != ':')
			return "The address in brackets may only be followed by a colon and a port.";
	}
	else
	{
		colon = memchr(rest, ':', len);
		if (!decode(rest, colon == NULL ? len : (size_t) (colon - rest), out->host,
					sizeof(out->host)))
			return "The host is too long or not correctly encoded.";
	}
	if (out->host[0] == '\0')
		return "The host is missing.";
	if (colon != NULL && (!number(colon + 1, end - colon - 1, 65535, &out->port) || out->port == 0))
		return "The port must be a number from 1 to 65535.";
	if (*end == '/' && end[1] != '\0' &&
		!number(end + 1, strlen(end + 1), DATABASE_MOST, &out->database))
		return "The host and a slash may only be followed by the number of a database.";
	if (*end != '\0' && *end != '/')
		return "Parameters and fragments are not supported.";
	return NULL;
}

const char *
ss_url_parse(const char *url, SsUrl *out)
{
	const char *rest;
	const char *at;
	const char *problem;
	bool is_unix = false;

	memset(out, 0, sizeof(*out));
	out->port = DEFAULT_PORT;
	out->database = -1;
	if (strncmp(url, "redis://", 8) == 0)
		rest = url + 8;
	else if (strncmp(url, "rediss://", 9) == 0)
	{
		rest = url + 9;
		out->tls = true;
	}
	else if (strncmp(url, "unix://", 7) == 0)
	{
		rest = url + 7;
		is_unix = true;
	}
	else
		return "It must begin with redis://, rediss:// or unix://.";

	/* up to the last @ are credentials, unless the path has begun */
	at = is_unix && rest[0] == '/' ? NULL : strrchr(rest, '@');
	if (at != NULL)
	{
		problem = credentials(rest, at - rest, out);
		if (problem != NULL)
			return problem;
		rest = at + 1;
	}
	return is_unix ? unix_rest(rest, out) : host_rest(rest, out);
}

void
ss_url_show(const SsUrl *url, char *out, size_t size)
{
	const char *user = url->user[0] || url->password[0] ? url->user : "";
	const char *secret = url->password[0] ? ":***" : "";
	const char *at = url->user[0] || url->password[0] ? "@" : "";

	if (url->socket[0])
		snprintf(out, size, "unix://%s%s%s%s", user, secret, at, url->socket);
	else
		snprintf(out, size,
				 strchr(url->host, ':') ? "redis%s://%s%s%s[%s]:%d" : "redis%s://%s%s%s%s:%d",
				 url->tls ? "s" : "", user, secret, at, url->host, url->port);
}
