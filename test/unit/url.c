/*
 * url.c
 *		Unit test of src/base/url.c: every valid form of session_store.redis_url, and invalid
 *		ones.
 */
#include <stdio.h>
#include <string.h>

#include "base/url.h"

static int failures = 0;
static int checks = 0;

static void
check(bool holds, const char *what, const char *url)
{
	checks++;
	if (holds)
		return;
	failures++;
	printf("FAILED %s: %s\n", what, url);
}

static void
good(const char *url, bool tls, const char *socket, const char *host, int port, const char *user,
	 const char *password, int database)
{
	SsUrl out;
	const char *problem = ss_url_parse(url, &out);

	check(problem == NULL, "is accepted", url);
	check(out.tls == tls, "tls", url);
	check(strcmp(out.socket, socket) == 0, "socket", url);
	check(strcmp(out.host, host) == 0, "host", url);
	check(socket[0] || out.port == port, "port", url);
	check(strcmp(out.user, user) == 0, "user", url);
	check(strcmp(out.password, password) == 0, "password", url);
	check(out.database == database, "database", url);
}

static void
bad(const char *url, const char *secret)
{
	SsUrl out;
	const char *problem = ss_url_parse(url, &out);

	check(problem != NULL, "is refused", url);
	check(problem == NULL || secret == NULL || strstr(problem, secret) == NULL,
		  "is refused without its secret", url);
}

static void
shown(const char *url, const char *wanted)
{
	SsUrl out;
	char text[300];

	check(ss_url_parse(url, &out) == NULL, "is accepted", url);
	ss_url_show(&out, text, sizeof(text));
	check(strcmp(text, wanted) == 0, text, wanted);
}

int
main(void)
{
	char longer[400];

	good("redis://cache", false, "", "cache", 6379, "", "", -1);
	good("redis://cache/", false, "", "cache", 6379, "", "", -1);
	good("redis://cache:7000/3", false, "", "cache", 7000, "", "", 3);
	good("rediss://cache/0", true, "", "cache", 6379, "", "", 0);
	good("redis://:secret@cache", false, "", "cache", 6379, "", "secret", -1);
	good("redis://app:secret@cache:1/15", false, "", "cache", 1, "app", "secret", 15);
	good("redis://app@cache", false, "", "cache", 6379, "app", "", -1);
	good("redis://:p%40ss%3a%2F@cache", false, "", "cache", 6379, "", "p@ss:/", -1);
	good("redis://:a@b@cache", false, "", "cache", 6379, "", "a@b", -1);
	good("redis://:a:b@cache", false, "", "cache", 6379, "", "a:b", -1);
	good("redis://[::1]:7000/2", false, "", "::1", 7000, "", "", 2);
	good("redis://[fe80::1]", false, "", "fe80::1", 6379, "", "", -1);
	good("redis://10.0.0.1:65535", false, "", "10.0.0.1", 65535, "", "", -1);
	good("unix:///run/redis.sock", false, "/run/redis.sock", "", 0, "", "", -1);
	good("unix:///run/redis.sock?db=4", false, "/run/redis.sock", "", 0, "", "", 4);
	good("unix://:secret@/run/redis.sock", false, "/run/redis.sock", "", 0, "", "secret", -1);
	good("unix:///run/a@b.sock", false, "/run/a@b.sock", "", 0, "", "", -1);

	bad("", NULL);
	bad("cache", NULL);
	bad("http://cache", NULL);
	bad("REDIS://cache", NULL);
	bad("redis://", NULL);
	bad("redis://:secret@", "secret");
	bad("redis://cache:0", NULL);
	bad("redis://cache:65536", NULL);
	bad("redis://cache:x", NULL);
	bad("redis://cache:", NULL);
	bad("redis://:secret@cache:12secret", "secret");
	bad("redis://cache/x", NULL);
	bad("redis://cache/1/2", NULL);
	bad("redis://cache/99999999", NULL);
	bad("redis://cache?db=1", NULL);
	bad("redis://cache#1", NULL);
	bad("redis://[::1", NULL);
	bad("redis://[::1]x", NULL);
	bad("redis://:%zz@cache", NULL);
	bad("redis://:%4@cache", NULL);
	bad("redis://:%00@cache", NULL);
	bad("redis://:%0a@cache", NULL);
	bad("unix://run/redis.sock", NULL);
	bad("unix:///run/redis.sock?database=1", NULL);
	bad("unix:///run/redis.sock?db=x", NULL);

	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	memcpy(longer, "redis://", 8);
	bad(longer, NULL);
	memcpy(longer, "unix:///", 8);
	bad(longer, NULL);

	shown("redis://app:secret@cache:1/15", "redis://app:***@cache:1");
	shown("redis://:secret@cache", "redis://:***@cache:6379");
	shown("rediss://cache", "rediss://cache:6379");
	shown("redis://:x@[::1]", "redis://:***@[::1]:6379");
	shown("unix://:secret@/run/redis.sock", "unix://:***@/run/redis.sock");

	printf("%d passed, %d failed\n", checks - failures, failures);
	return failures > 0;
}
