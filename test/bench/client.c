/*
 * client.c
 *		An application that keeps sessions, in three ways, as fast as it can.
 *
 *		client MODE CLIENTS SECONDS SESSIONS [RATE]
 *
 * MODE
 *		dual	what applications write by hand: upsert into a table, then SETEX
 *		ours	session_save in the namespace "bench", until Redis has it all
 *		ours_unsynced	the same, without waiting at the end
 *		lag		session_save at RATE a second in all, and how long after the commit a GET
 *				returns what was saved
 *		get		session_get at no limit
 *
 * Prints: transactions a second, the 50th and 99th percentile of their latency (lag: of the
 * lag) in microseconds, and what a transaction cost its backend in microseconds of
 * processor time.  The environment says where the servers are: PGHOST .. and
 * SS_REDIS_SOCKET.
 */
#include <hiredis/hiredis.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SAMPLES 2000000
#define DOCUMENT 1024

typedef struct Client
{
	pthread_t thread;
	int number;
	PGconn *db;
	redisContext *redis;
	unsigned int seed;
	long done;
	double cpu;
	int *samples;
} Client;

static const char *mode;
static int clients;
static double seconds;
static int sessions;
static double rate = 0;
static double started;

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void
fatal(const char *what)
{
	fprintf(stderr, "client: %s\n", what);
	exit(1);
}

/* Processor time of a backend so far, in seconds. */
static double
cpu_of(int pid)
{
	char path[64];
	unsigned long user = 0;
	unsigned long sys = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	if (f == NULL || fscanf(f, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
							&user, &sys) != 2)
		fatal("no processor time");
	fclose(f);
	return (user + sys) / (double) sysconf(_SC_CLK_TCK);
}

static void
run(Client *c, const char *sql)
{
	PGresult *r = PQexec(c->db, sql);

	if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK)
		fatal(PQerrorMessage(c->db));
	PQclear(r);
}

static void
prepare(Client *c, const char *sql, int nargs)
{
	PGresult *r = PQprepare(c->db, "s", sql, nargs, NULL);

	if (PQresultStatus(r) != PGRES_COMMAND_OK)
		fatal(PQerrorMessage(c->db));
	PQclear(r);
}

static void
open_client(Client *c)
{
	c->db = PQconnectdb("");
	if (PQstatus(c->db) != CONNECTION_OK)
		fatal(PQerrorMessage(c->db));
	run(c, "SET synchronous_commit = off");
	if (strcmp(mode, "dual") == 0)
		prepare(c,
				"INSERT INTO hand.conversation_sessions (session_id, session_data, expires_at)"
				" VALUES ($1, $2, now() + interval '1 hour') ON CONFLICT (session_id) DO UPDATE"
				" SET session_data = EXCLUDED.session_data, updated_at = now(),"
				" expires_at = EXCLUDED.expires_at",
				2);
	else if (strcmp(mode, "get") == 0)
		prepare(c, "SELECT session_get($1, 'bench')", 1);
	else
		prepare(c, "SELECT session_save($1, $2, namespace => 'bench')", 2);
	if (strcmp(mode, "dual") == 0 || strcmp(mode, "lag") == 0)
	{
		c->redis = redisConnectUnix(getenv("SS_REDIS_SOCKET"));
		if (c->redis == NULL || c->redis->err)
			fatal("no Redis");
	}
	c->samples = malloc(sizeof(int) * (SAMPLES / clients));
	c->seed = (unsigned int) (getpid() * 64 + c->number);
}

/* A document that differs each time and does not compress to nothing. */
static void
make_document(Client *c, char *out, long stamp)
{
	int n = snprintf(out, DOCUMENT, "{\"n\": %ld, \"text\": \"", stamp);

	while (n < DOCUMENT - 3)
		out[n++] = 'a' + rand_r(&c->seed) % 26;
	strcpy(out + n, "\"}");
}

static void
execute(Client *c, const char *id, const char *document)
{
	const char *values[2] = {id, document};
	PGresult *r = PQexecPrepared(c->db, "s", document == NULL ? 1 : 2, values, NULL, NULL, 0);

	if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK)
		fatal(PQerrorMessage(c->db));
	PQclear(r);
}

static void
setex(Client *c, const char *id, const char *document)
{
	char key[64];
	const char *argv[4] = {"SETEX", key, "3600", document};
	redisReply *r;

	snprintf(key, sizeof(key), "hand:%s", id);
	r = redisCommandArgv(c->redis, 4, argv, NULL);
	if (r == NULL || r->type == REDIS_REPLY_ERROR)
		fatal("SETEX failed");
	freeReplyObject(r);
}

/* Until GET returns what was saved: n is at the front of the document. */
static void
wait_for_copy(Client *c, const char *id, long stamp)
{
	char key[64];
	char wanted[48];
	const char *argv[2] = {"GET", key};
	bool there = false;

	snprintf(key, sizeof(key), "bench:%s", id);
	snprintf(wanted, sizeof(wanted), "{\"n\": %ld,", stamp);
	while (!there)
	{
		redisReply *r = redisCommandArgv(c->redis, 2, argv, NULL);

		if (r == NULL)
			fatal("GET failed");
		there = r->type == REDIS_REPLY_STRING && strncmp(r->str, wanted, strlen(wanted)) == 0;
		freeReplyObject(r);
		if (!there && now() - started > seconds + 10)
			fatal("a copy never came");
	}
}

static void *
work(void *arg)
{
	Client *c = arg;
	double cpu = cpu_of(PQbackendPID(c->db));
	bool lag = strcmp(mode, "lag") == 0;
	bool get = strcmp(mode, "get") == 0;
	char document[DOCUMENT + 1];
	char id[32];

	for (double begin = now(); begin - started < seconds; begin = now())
	{
		double from = begin;

		int session = rand_r(&c->seed) % sessions;

		/* a copy that somebody else saved over in between would never be seen */
		if (lag)
			session = session / clients * clients + c->number;
		snprintf(id, sizeof(id), lag ? "lag%d" : "s%d", session);
		make_document(c, document, c->done * clients + c->number);
		execute(c, id, get ? NULL : document);
		if (strcmp(mode, "dual") == 0)
			setex(c, id, document);
		if (lag)
		{
			from = now();
			wait_for_copy(c, id, c->done * clients + c->number);
		}
		if (c->done < SAMPLES / clients)
			c->samples[c->done] = (int) ((now() - from) * 1e6);
		c->done++;
		if (rate > 0)
		{
			double left = started + c->done * clients / rate - now();

			if (left > 0)
				usleep((useconds_t) (left * 1e6));
		}
	}
	c->cpu = cpu_of(PQbackendPID(c->db)) - cpu;
	return NULL;
}

static int
compare(const void *a, const void *b)
{
	return *(const int *) a - *(const int *) b;
}

int
main(int argc, char **argv)
{
	Client *all;
	int *samples;
	long done = 0;
	long n = 0;
	double cpu = 0;
	double took;

	if (argc < 5)
		fatal("usage: client MODE CLIENTS SECONDS SESSIONS [RATE]");
	mode = argv[1];
	clients = atoi(argv[2]);
	seconds = atof(argv[3]);
	sessions = atoi(argv[4]);
	rate = argc > 5 ? atof(argv[5]) : 0;
	all = calloc(clients, sizeof(Client));
	for (int i = 0; i < clients; i++)
	{
		all[i].number = i;
		open_client(&all[i]);
	}
	started = now();
	for (int i = 0; i < clients; i++)
		pthread_create(&all[i].thread, NULL, work, &all[i]);
	for (int i = 0; i < clients; i++)
		pthread_join(all[i].thread, NULL);
	/* what is saved is not done with before Redis has it */
	if (strcmp(mode, "ours") == 0)
		run(&all[0], "SELECT session_cache_sync('1 minute')");
	took = now() - started;
	samples = malloc(sizeof(int) * SAMPLES);
	for (int i = 0; i < clients; i++)
	{
		long mine = all[i].done < SAMPLES / clients ? all[i].done : SAMPLES / clients;

		memcpy(samples + n, all[i].samples, sizeof(int) * mine);
		n += mine;
		done += all[i].done;
		cpu += all[i].cpu;
		PQfinish(all[i].db);
	}
	qsort(samples, n, sizeof(int), compare);
	printf("%.0f %d %d %.2f\n", done / took, n ? samples[n / 2] : 0, n ? samples[n * 99 / 100] : 0,
		   done ? cpu * 1e6 / done : 0);
	return 0;
}
