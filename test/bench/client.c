/*
 * client.c
 *		Applications that keep sessions in one way or another, as fast as they can.
 *
 *		client [-a] [-b BYTES] [-r RATE] [-s] MODE CLIENTS SECONDS SESSIONS
 *
 *		-a	each session once, in order, instead of any one for SECONDS
 *		-b	size of a document (1024)
 *		-r	so many turns a second in all, not as many as can be
 *		-s	commits wait for the disk; without it synchronous_commit is off
 *
 * Sessions are called s1 .. sSESSIONS, in the namespace "bench" or in the table "hand".  A
 * document begins with {"n": N, the number of its session; those that are made here have a
 * text up to their size.  Every document that is read is looked at, and a wrong one ends the
 * program.
 *
 * MODE
 *		save	session_save, until Redis has it all
 *		save_unsynced	the same, without waiting at the end
 *		dual	what applications write by hand: upsert into a table, wait, SETEX, wait
 *		lag		session_save by all; the first client waits for the copy in Redis of each
 *				of its own, and the latency is that of the copy, from the commit on
 *		get		session_get
 *		select	the SELECT that applications write by hand
 *		strong	MGET of the lease and the session; without a lease, session_get.  A lease
 *				and no session is a miss, which ends the program
 *		verify	strong, and the same is read from the table: they must be equal
 *		redis_set, redis_get	Redis alone: SETEX, GET
 *
 * Prints: turns a second, the 50th and 99th percentile of their latency in microseconds, and
 * what a turn cost its backend in microseconds of processor time.  The environment says where
 * the servers are: PGHOST .. and SS_REDIS_SOCKET.
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
#define LETTERS 65536 /* texts of documents are slices of this */
#define STAMP 16      /* digits at the front of a saved document's text: when it was made */

typedef struct Client
{
	pthread_t thread;
	int number;
	PGconn *db;
	redisContext *redis;
	unsigned int seed;
	long done;
	long lapsed;        /* reads that found no lease */
	double waited_from; /* where the latency of this operation begins */
	long stamp;         /* of the document that was made last */
	double cpu;
	int samples_taken;
	int *samples;
	char *document;
} Client;

typedef struct Mode
{
	const char *name;
	const char *sql; /* of the statement "s"; NULL: a client of Redis alone */
	bool redis;
	bool sync; /* a save ends only when Redis has it */
	void (*turn)(Client *c, int n);
} Mode;

static const Mode *mode;
static int clients;
static double seconds;
static int sessions;
static double rate = 0;
static int bytes = 1024;
static bool each_once = false;
static bool wait_for_disk = false;
static double started;
static char letters[LETTERS + 1];

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

/* Processor time of a client's backend so far, in seconds. */
static double
cpu_of(const Client *c)
{
	char path[64];
	unsigned long user = 0;
	unsigned long sys = 0;
	FILE *f;

	if (c->db == NULL)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/stat", PQbackendPID(c->db));
	f = fopen(path, "r");
	if (f == NULL || fscanf(f, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
							&user, &sys) != 2)
		fatal("no processor time");
	fclose(f);
	return (user + sys) / (double) sysconf(_SC_CLK_TCK);
}

/* ---------------------------------------------------------------- Postgres */

static void
run(Client *c, const char *sql)
{
	PGresult *r = PQexec(c->db, sql);

	if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK)
		fatal(PQerrorMessage(c->db));
	PQclear(r);
}

static void
prepare(Client *c, const char *name, const char *sql)
{
	PGresult *r = PQprepare(c->db, name, sql, 0, NULL);

	if (PQresultStatus(r) != PGRES_COMMAND_OK)
		fatal(PQerrorMessage(c->db));
	PQclear(r);
}

/* A prepared statement with an id, and with a document or without. */
static PGresult *
execute(Client *c, const char *name, int n, const char *document)
{
	char id[16];
	const char *values[2] = {id, document};
	PGresult *r;

	snprintf(id, sizeof(id), "s%d", n);
	r = PQexecPrepared(c->db, name, document == NULL ? 1 : 2, values, NULL, NULL, 0);
	if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK)
		fatal(PQerrorMessage(c->db));
	return r;
}

/* Waits until Redis has all saves. */
static void
wait_for_redis(Client *c)
{
	PGresult *r = PQexec(c->db, "SELECT session_cache_sync('1 minute')");

	if (PQresultStatus(r) != PGRES_TUPLES_OK || strcmp(PQgetvalue(r, 0, 0), "t") != 0)
		fatal("Redis does not get what was saved");
	PQclear(r);
}

/* ------------------------------------------------------------------- Redis */

/* A command of up to four words, whose reply must not be an error. */
static redisReply *
command(Client *c, int argc, const char *const *words)
{
	const char *argv[4];
	redisReply *r;

	memcpy(argv, words, sizeof(*argv) * argc);
	r = redisCommandArgv(c->redis, argc, argv, NULL);
	if (r == NULL || r->type == REDIS_REPLY_ERROR)
		fatal(r == NULL ? c->redis->errstr : r->str);
	return r;
}

/* --------------------------------------------------------------- documents */

/* The document of a session, new each time, which does not compress much. */
static void
make_document(Client *c, int n)
{
	int text = bytes - 30 - STAMP;
	int at;

	c->stamp = (long) (now() * 1e6);
	at = sprintf(c->document, "{\"n\": %d, \"text\": \"%0*ld", n, STAMP, c->stamp);

	for (int done = 0; done < text;)
	{
		int from = rand_r(&c->seed) % (LETTERS / 2);
		int some = text - done < LETTERS / 2 ? text - done : LETTERS / 2;

		memcpy(c->document + at + done, letters + from, some);
		done += some;
	}
	strcpy(c->document + at + text, "\"}");
}

/* Is it the document of that session?  Checks its beginning, its end and its length. */
static void
check_document(int n, const char *document, size_t length)
{
	char front[24];
	int front_length = snprintf(front, sizeof(front), "{\"n\": %d, ", n);

	if (length < (size_t) bytes * 9 / 10 || length > (size_t) bytes * 11 / 10 ||
		memcmp(document, front, front_length) != 0 || document[length - 1] != '}')
	{
		fprintf(stderr, "client: session %d has %zu bytes: %.60s\n", n, length, document);
		fatal("not the document of this session");
	}
}

static void
check_row(int n, PGresult *r)
{
	if (PQntuples(r) != 1 || PQgetisnull(r, 0, 0))
		fatal("a session is missing");
	check_document(n, PQgetvalue(r, 0, 0), PQgetlength(r, 0, 0));
	PQclear(r);
}

/* ------------------------------------------------------------------- modes */

static void
turn_save(Client *c, int n)
{
	make_document(c, n);
	PQclear(execute(c, "s", n, c->document));
}

static void
setex(Client *c, int n)
{
	char key[24];
	const char *const words[] = {"SETEX", key, "86400", c->document};

	snprintf(key, sizeof(key), "hand:s%d", n);
	freeReplyObject(command(c, 4, words));
}

static void
turn_dual(Client *c, int n)
{
	turn_save(c, n);
	setex(c, n);
}

static void
turn_redis_set(Client *c, int n)
{
	make_document(c, n);
	setex(c, n);
}

static void
turn_redis_get(Client *c, int n)
{
	char key[24];
	const char *const words[] = {"GET", key};
	redisReply *r;

	snprintf(key, sizeof(key), "hand:s%d", n);
	r = command(c, 2, words);
	if (r->type != REDIS_REPLY_STRING)
		fatal("a session is missing");
	check_document(n, r->str, r->len);
	freeReplyObject(r);
}

/* Waits until GET returns the document that was saved last: its stamp is at the beginning. */
static void
turn_lag(Client *c, int n)
{
	char key[24];
	char wanted[48];
	const char *const words[] = {"GET", key};
	bool there = false;

	turn_save(c, n);
	c->waited_from = now();
	if (c->number > 0)
		return;
	snprintf(key, sizeof(key), "bench:s%d", n);
	snprintf(wanted, sizeof(wanted), "{\"n\": %d, \"text\": \"%0*ld", n, STAMP, c->stamp);
	while (!there)
	{
		redisReply *r = command(c, 2, words);

		if (now() - c->waited_from > 10)
			fatal("a copy never came");
		there = r->type == REDIS_REPLY_STRING && strncmp(r->str, wanted, strlen(wanted)) == 0;
		freeReplyObject(r);
	}
}

static void
turn_select(Client *c, int n)
{
	check_row(n, execute(c, "s", n, NULL));
}

/* The lease and a session as one command returns them; NULL when there is no lease. */
static redisReply *
strong_read(Client *c, int n)
{
	char key[24];
	const char *const words[] = {"MGET", "session_store:lease", key};
	redisReply *r;

	snprintf(key, sizeof(key), "bench:s%d", n);
	r = command(c, 3, words);
	if (r->elements != 2)
		fatal("not the reply of MGET");
	if (r->element[0]->type != REDIS_REPLY_STRING)
	{
		freeReplyObject(r);
		return NULL;
	}
	if (r->element[1]->type != REDIS_REPLY_STRING)
		fatal("a miss: there is a lease, but no copy");
	check_document(n, r->element[1]->str, r->element[1]->len);
	return r;
}

static void
turn_strong(Client *c, int n)
{
	redisReply *r = strong_read(c, n);

	if (r != NULL)
	{
		freeReplyObject(r);
		return;
	}
	c->lapsed++;
	check_row(n, execute(c, "s", n, NULL));
}

static void
turn_verify(Client *c, int n)
{
	redisReply *copy;
	PGresult *row = execute(c, "s", n, NULL);

	while ((copy = strong_read(c, n)) == NULL)
		if (now() - started > 60)
			fatal("there is no lease");
	if (PQntuples(row) != 1 || PQgetlength(row, 0, 0) != (int) copy->element[1]->len ||
		memcmp(PQgetvalue(row, 0, 0), copy->element[1]->str, copy->element[1]->len) != 0)
		fatal("the copy is not what the table has");
	freeReplyObject(copy);
	PQclear(row);
}

#define SAVE "SELECT session_save($1, $2, namespace => 'bench')"
#define UPSERT                                                                                          \
	"INSERT INTO hand (session_id, session_data, expires_at) VALUES ($1, $2, now() + interval '1 day')" \
	" ON CONFLICT (session_id) DO UPDATE SET session_data = EXCLUDED.session_data,"                     \
	" updated_at = now(), expires_at = EXCLUDED.expires_at"
#define GET "SELECT session_get($1, 'bench')"

static const Mode modes[] = {
	{"save", SAVE, false, true, turn_save},
	{"save_unsynced", SAVE, false, false, turn_save},
	{"dual", UPSERT, true, false, turn_dual},
	{"lag", SAVE, true, false, turn_lag},
	{"get", GET, false, false, turn_select},
	{"select", "SELECT session_data FROM hand WHERE session_id = $1 AND expires_at > now()", false,
	 false, turn_select},
	{"strong", GET, true, false, turn_strong},
	{"verify",
	 "SELECT session_data FROM conversation_sessions WHERE namespace = 'bench' AND session_id = $1",
	 true, false, turn_verify},
	{"redis_set", NULL, true, false, turn_redis_set},
	{"redis_get", NULL, true, false, turn_redis_get},
	{NULL}};

/* ----------------------------------------------------------------- clients */

static void
open_client(Client *c, int number)
{
	c->number = number;
	c->seed = (unsigned int) (getpid() * 64 + number);
	c->samples = malloc(sizeof(int) * (SAMPLES / clients));
	c->document = malloc(bytes + 64);
	if (mode->sql != NULL)
	{
		c->db = PQconnectdb("");
		if (PQstatus(c->db) != CONNECTION_OK)
			fatal(PQerrorMessage(c->db));
		run(c, wait_for_disk ? "SET synchronous_commit = on" : "SET synchronous_commit = off");
		prepare(c, "s", mode->sql);
	}
	if (mode->redis)
	{
		c->redis = redisConnectUnix(getenv("SS_REDIS_SOCKET"));
		if (c->redis == NULL || c->redis->err)
			fatal("no Redis");
	}
}

/* The number of the next session, 0 at the end. */
static int
next_session(Client *c)
{
	long n = each_once ? c->done * clients + c->number : rand_r(&c->seed) % sessions;

	if (each_once ? n >= sessions : now() - started >= seconds)
		return 0;
	/* while a client waits for a copy no other may overwrite it */
	if (mode->turn == turn_lag)
		n = n / clients * clients + c->number;
	return (int) n + 1;
}

static void *
work(void *arg)
{
	Client *c = arg;
	double cpu = cpu_of(c);
	int n;

	while ((n = next_session(c)) != 0)
	{
		c->waited_from = now();
		mode->turn(c, n);
		if ((mode->turn != turn_lag || c->number == 0) && c->samples_taken < SAMPLES / clients)
			c->samples[c->samples_taken++] = (int) ((now() - c->waited_from) * 1e6);
		c->done++;
		if (rate > 0)
		{
			double left = started + c->done * clients / rate - now();

			if (left > 0)
				usleep((useconds_t) (left * 1e6));
		}
	}
	c->cpu = cpu_of(c) - cpu;
	return NULL;
}

static int
compare(const void *a, const void *b)
{
	return *(const int *) a - *(const int *) b;
}

static void
report(Client *all, double took)
{
	int *samples = malloc(sizeof(int) * SAMPLES);
	long n = 0;
	long done = 0;
	long lapsed = 0;
	double cpu = 0;

	for (int i = 0; i < clients; i++)
	{
		memcpy(samples + n, all[i].samples, sizeof(int) * all[i].samples_taken);
		n += all[i].samples_taken;
		done += all[i].done;
		lapsed += all[i].lapsed;
		cpu += all[i].cpu;
	}
	if (lapsed > 0)
		fprintf(stderr, "client: %ld of %ld reads found no lease, and went to Postgres\n", lapsed,
				done);
	qsort(samples, n, sizeof(int), compare);
	printf("%.0f %d %d %.2f\n", done / took, n ? samples[n / 2] : 0, n ? samples[n * 99 / 100] : 0,
		   done ? cpu * 1e6 / done : 0);
}

static void
read_arguments(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "ab:r:s")) != -1)
	{
		if (option == 'a')
			each_once = true;
		else if (option == 'b')
			bytes = atoi(optarg);
		else if (option == 'r')
			rate = atof(optarg);
		else if (option == 's')
			wait_for_disk = true;
		else
			exit(1);
	}
	if (argc - optind != 4)
		fatal("usage: client [-a] [-b BYTES] [-r RATE] [-s] MODE CLIENTS SECONDS SESSIONS");
	for (mode = modes; mode->name != NULL && strcmp(mode->name, argv[optind]) != 0; mode++)
		;
	if (mode->name == NULL)
		fatal("no such mode");
	clients = atoi(argv[optind + 1]);
	seconds = atof(argv[optind + 2]);
	sessions = atoi(argv[optind + 3]);
	if (clients < 1 || sessions < 1 || bytes < 64)
		fatal("too few clients, sessions or bytes");
}

int
main(int argc, char **argv)
{
	Client *all;

	read_arguments(argc, argv);
	srand((unsigned int) getpid());
	for (int i = 0; i < LETTERS; i++)
		letters[i] = "0123456789abcdef"[rand() % 16];
	all = calloc(clients, sizeof(Client));
	for (int i = 0; i < clients; i++)
		open_client(&all[i], i);
	started = now();
	for (int i = 0; i < clients; i++)
		pthread_create(&all[i].thread, NULL, work, &all[i]);
	for (int i = 0; i < clients; i++)
		pthread_join(all[i].thread, NULL);
	if (mode->sync)
		wait_for_redis(&all[0]);
	report(all, now() - started);
	for (int i = 0; i < clients; i++)
	{
		PQfinish(all[i].db);
		if (all[i].redis != NULL)
			redisFree(all[i].redis);
	}
	return 0;
}
