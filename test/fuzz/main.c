/*
 * main.c
 *		Prepares a database, runs the clients, and checks the state that they leave.
 *
 *     fuzz --conninfo "host=.. port=.." --redis SOCKET --logs FOLDER [--seed N] [--seconds 60]
 *         [--clients 8]
 *
 * Exit status 0: nothing was found.  1: something was; the log of each client has its statements.
 */
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

Shared *shared;

static const char *conninfo = "", *redis_socket = "", *logs = ".";
static uint64_t seed;
static int seconds = 60, nclients = 8;

static const char *const setup[] = {
	"CREATE EXTENSION session_store",
	"CREATE FUNCTION fuzz_namespaces() RETURNS void LANGUAGE sql AS $$ "
	"INSERT INTO session_namespaces (name, key_prefix, ttl, sliding, cache, hash_keys, "
	"max_sessions_per_owner, audit, durability, tail_prefix, owner_isolation, allowed_roles) VALUES "
	"('n0', 'n0:', '1 hour', true, 'all', false, NULL, false, 'strict', NULL, false, NULL), "
	"('n1', 'n1:', '200 ms', false, 'hot', false, NULL, true, 'strict', NULL, false, NULL), "
	"('n2', 'n2:', '1 hour', false, 'all', true, 3, false, 'strict', 't2:', false, NULL), "
	"('n3', 'n3:', '2 s', true, 'all', false, NULL, true, 'relaxed', 't3:', false, NULL), "
	"('h0', 'h0:', '1 hour', true, 'hot', false, NULL, false, 'strict', NULL, false, NULL), "
	"('h1', 'h1:', '1 day', false, 'all', false, 1, false, 'relaxed', 'th1:', false, NULL), "
	"('iso', 'iso:', '1 hour', true, 'all', false, NULL, false, 'strict', 'tiso:', true, NULL), "
	"('m', 'm:', '1 day', true, 'all', false, NULL, false, 'strict', 'tm:', false, NULL) "
	"ON CONFLICT (name) DO UPDATE SET ttl = EXCLUDED.ttl, sliding = EXCLUDED.sliding, cache = "
	"EXCLUDED.cache, max_bytes = DEFAULT, tombstone = DEFAULT, allowed_roles = NULL, durability = "
	"EXCLUDED.durability, tail_prefix = EXCLUDED.tail_prefix, max_lifetime = NULL $$",
	"SELECT fuzz_namespaces()",
	"CREATE FUNCTION fuzz_skip() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$ BEGIN "
	"RETURN CASE WHEN random() < 0.5 THEN NEW END; END $$",
	"CREATE FUNCTION fuzz_raise() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$ BEGIN "
	"RAISE 'not this one'; END $$",
	"CREATE FUNCTION fuzz_call() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$ BEGIN "
	"PERFORM session_save('b.7', '{\"_t\":\"n0.b\"}', namespace => 'n0'); RETURN NEW; END $$",
	"CREATE FUNCTION fuzz_nested(n int) RETURNS int LANGUAGE plpgsql SET search_path = public AS $$ "
	"BEGIN PERFORM session_save('a.1', '{\"_t\":\"n0.a\"}', namespace => 'n0'); IF n > 0 THEN BEGIN "
	"PERFORM fuzz_nested(n - 1); IF random() < 0.5 THEN RAISE 'undo'; END IF; EXCEPTION WHEN OTHERS "
	"THEN NULL; END; END IF; RETURN n; END $$",
	"CREATE TABLE fuzz_scratch (n int, id text, ns text, j jsonb)",
	"INSERT INTO fuzz_scratch SELECT n, f || '.' || n % 5, ns, jsonb_build_object('_t', ns || '.' || f) "
	"FROM generate_series(0, 249) n, unnest('{n0,n2}'::text[]) ns, unnest('{a,b}'::text[]) f",
	"ANALYZE fuzz_scratch",
	"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO fuzz_app, fuzz_claims, fuzz_sql",
	"GRANT SELECT ON fuzz_scratch TO PUBLIC",
	"GRANT SELECT, INSERT, UPDATE, DELETE ON conversation_sessions TO fuzz_sql, fuzz_claims",
	"GRANT SELECT ON conversation_messages, session_events, session_members, session_stats, "
	"session_namespaces TO fuzz_sql, fuzz_claims",
};

static PGconn *
connect_as_owner(const char *dbname)
{
	char info[600];
	PGconn *pg;

	snprintf(info, sizeof(info), "%s user=postgres dbname=%s options='-c statement_timeout=0'",
			 conninfo, dbname);
	pg = PQconnectdb(info);
	if (PQstatus(pg) == CONNECTION_OK)
		return pg;
	fprintf(stderr, "FAILURE: cannot connect: %s", PQerrorMessage(pg));
	PQfinish(pg);
	return NULL;
}

/* The first column of all rows, separated by spaces; freed by the caller; NULL after an error. */
static char *
ask(PGconn *pg, const char *sql)
{
	PGresult *result = PQexec(pg, sql);
	ExecStatusType status = PQresultStatus(result);
	Text text = {0};

	if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
	{
		fprintf(stderr, "FAILURE: %s  in: %s\n", PQresultErrorMessage(result), sql);
		PQclear(result);
		return NULL;
	}
	text_puts(&text, "");
	for (int i = 0; i < PQntuples(result); i++)
		text_printf(&text, "%s%s", i > 0 ? " " : "", PQgetvalue(result, i, 0));
	PQclear(result);
	return text.data;
}

static bool
said(PGconn *pg, const char *sql, const char *expected)
{
	char *answer = ask(pg, sql);
	bool right = answer != NULL && strcmp(answer, expected) == 0;

	if (!right)
		fprintf(stderr, "FAILURE: \"%s\" instead of \"%s\" from %s\n", answer ? answer : "error",
				expected, sql);
	free(answer);
	return right;
}

static bool
prepare(void)
{
	static const char *const roles[] = {"fuzz_app", "fuzz_claims", "fuzz_sql", "fuzz_none"};
	PGconn *pg = connect_as_owner("postgres");
	char sql[200];

	if (pg == NULL)
		return false;
	for (int i = 0; i < 4; i++)
	{
		snprintf(sql, sizeof(sql), "CREATE ROLE %s LOGIN", roles[i]);
		free(ask(pg, sql));
	}
	free(ask(pg, "CREATE DATABASE fuzz"));

	/*
	 * For the clients, also after RESET ALL: statements that wait in a circle through a worker are no
	 * deadlock to the server.  REINDEX CONCURRENTLY waits for session_cache_sync, that for the pusher,
	 * the pusher for LOCK TABLE, and that for REINDEX.
	 */
	free(ask(pg, "ALTER DATABASE fuzz SET statement_timeout = '20s'"));
	PQfinish(pg);
	pg = connect_as_owner("fuzz");
	for (size_t i = 0; pg != NULL && i < sizeof(setup) / sizeof(setup[0]); i++)
	{
		char *answer = ask(pg, setup[i]);

		if (answer == NULL)
			return false;
		free(answer);
	}
	PQfinish(pg);
	return pg != NULL;
}

static pid_t
start_client(int number, int64_t until)
{
	static const struct
	{
		const char *role;
		char iso_family;
		bool superuser;
	} kinds[] = {{"postgres", 0, true}, {"fuzz_app", 'a', false}, {"fuzz_claims", 'b', false},
				 {"postgres", 0, true}, {"fuzz_sql", 'b', false}, {"fuzz_claims", 'a', false},
				 {"postgres", 0, true}, {"fuzz_app", 'b', false}};
	int kind = number % 8;
	char path[600];
	Client *c;
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	c = calloc(1, sizeof(Client));
	c->number = number;
	c->rng = seed * 1000 + (uint64_t) number;
	c->conninfo = conninfo;
	c->role = kinds[kind].role;
	c->iso_family = kinds[kind].iso_family;
	c->superuser = kinds[kind].superuser;
	snprintf(path, sizeof(path), "%s/client-%d.sql", logs, number);
	c->log = fopen(path, "w");
	if (c->log == NULL)
		_exit(2);
	_exit(client_main(c, until));
}

/* Keys of Redis hold only values that belong there, as far as a key tells. */
static bool
look_at_redis(long *keys)
{
	redisContext *redis = redisConnectUnix(redis_socket);
	unsigned long long cursor = 0;
	bool fine = true;

	if (redis == NULL || redis->err)
	{
		fprintf(stderr, "FAILURE: Redis cannot be reached\n");
		return false;
	}
	do
	{
		redisReply *page = redisCommand(redis, "SCAN %llu COUNT 500", cursor);

		if (page == NULL || page->type != REDIS_REPLY_ARRAY)
			return false;
		cursor = strtoull(page->element[0]->str, NULL, 10);
		for (size_t i = 0; i < page->element[1]->elements; i++)
		{
			redisReply *key = page->element[1]->element[i];
			redisReply *copy = redisCommand(redis, "GET %b", key->str, (size_t) key->len);
			const char *colon = strchr(key->str, ':');
			const char *at = copy != NULL && copy->type == REDIS_REPLY_STRING
								 ? strstr(copy->str, "\"_t\": \"")
								 : NULL;

			++*keys;
			for (; at != NULL && colon != NULL; at = strstr(at, "\"_t\": \""))
			{
				const char *ns = key->str[0] == 't' ? key->str + 1 : key->str;
				const char *dot;

				at += 7;
				dot = strchr(at, '.');
				/* t2: and t3: are the tails of n2 and n3 */
				if (ns == key->str + 1 && (*ns == '2' || *ns == '3')
						? at[0] != 'n' || at[1] != *ns
						: dot - at != colon - ns || strncmp(at, ns, dot - at) != 0)
				{
					fprintf(stderr, "FAILURE: foreign tag in Redis under %s: %.60s\n", key->str,
							at);
					fine = false;
				}
				else if (colon[-1] != 'm' && colon[1] != '\0' && colon[2] == '.' &&
						 dot[1] != colon[1])
				{
					fprintf(stderr, "FAILURE: foreign family in Redis under %s: %.60s\n", key->str,
							at);
					fine = false;
				}
			}
			freeReplyObject(copy);
		}
		freeReplyObject(page);
	} while (cursor != 0);
	redisFree(redis);
	return fine;
}

/* Do keeper and pusher run?  Those that a client has ended start again, within a minute at most. */
static bool
workers_run(PGconn *pg)
{
	static const char *const query =
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('session_store keeper', "
		"'session_store pusher') AND datname = 'fuzz'";
	int64_t until = now_ms() + 60000;
	bool run = false;

	while (!run && now_ms() < until)
	{
		char *answer = ask(pg, query);

		run = answer != NULL && strcmp(answer, "2") == 0;
		free(answer);
		if (!run)
			usleep(50000);
	}
	return said(pg, query, "2");
}

/* After the run: do tables, indexes, workers and Redis agree? */
static bool
look_back(const char *started)
{
	PGconn *pg = connect_as_owner("fuzz");
	bool fine = pg != NULL;
	long keys = 0;
	char *answer;

	if (!fine)
		return false;
	fine &= said(pg, "SELECT pg_postmaster_start_time()::text", started);
	free(ask(pg, "SELECT fuzz_namespaces()"));
	fine &= workers_run(pg);
	/* all changes have reached Redis, and nothing there differs */
	fine &= said(pg, "SELECT session_cache_sync('120 s')", "t");
	fine &= said(pg, "SELECT concat_ws(' ', stale, orphaned) FROM session_cache_verify(1000000)",
				 "0 0");
	fine &= look_at_redis(&keys);
	fine &= workers_run(pg);
	answer = ask(pg, "SELECT string_agg(w::text, '; ') FROM jsonb_array_elements(session_health()->"
					 "'warnings') w");
	printf("fuzz: %ld keys in Redis; health: %s\n", keys, answer ? answer : "");
	free(answer);
	answer = ask(pg, "SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'");
	if (answer != NULL && strcmp(answer, "1") == 0)
	{
		free(ask(pg, "CREATE EXTENSION amcheck"));
		fine &= said(
			pg,
			"SELECT count(bt_index_check(i.indexrelid, true)::text) - count(*) FROM pg_index i "
			"JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam WHERE "
			"a.amname = 'btree' AND i.indisvalid AND c.relpersistence <> 't'",
			"0");
		fine &= said(pg,
					 "SELECT string_agg(c.relname || ': ' || v.msg, ' ') FROM pg_class c, LATERAL "
					 "verify_heapam(c.oid) v WHERE c.relkind = 'r' AND c.relpersistence <> 't'",
					 "");
	}
	else
		printf("fuzz: no amcheck here\n");
	free(answer);
	fine &= said(pg, "DROP EXTENSION session_store CASCADE", "");
	PQfinish(pg);
	pg = connect_as_owner("postgres");
	fine &= pg != NULL && said(pg, "DROP DATABASE fuzz", "");
	PQfinish(pg);
	return fine;
}

static void
report(void)
{
	printf(
		"fuzz: %ld statements, %ld errors, %ld canceled, %ld connections lost as intended; %ld tags "
		"and %ld model values checked\n",
		shared->statements, shared->errors, shared->cancels, shared->reconnects, shared->tags_seen,
		shared->model_checks);
	printf("fuzz: errors by SQLSTATE:");
	for (int i = 0; i < shared->nstates && i < 64; i++)
		printf(" %s %ld", shared->state_names[i], shared->states[i]);
	printf("\n");
}

int
main(int argc, char **argv)
{
	pid_t pids[64];
	int status, failed = 0;
	PGconn *pg;
	char *started;

	seed = (uint64_t) time(NULL) % 1000000;
	for (int i = 1; i + 1 < argc; i += 2)
	{
		if (strcmp(argv[i], "--conninfo") == 0)
			conninfo = argv[i + 1];
		else if (strcmp(argv[i], "--redis") == 0)
			redis_socket = argv[i + 1];
		else if (strcmp(argv[i], "--logs") == 0)
			logs = argv[i + 1];
		else if (strcmp(argv[i], "--seed") == 0)
			seed = strtoull(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--seconds") == 0)
			seconds = atoi(argv[i + 1]);
		else if (strcmp(argv[i], "--clients") == 0)
			nclients = atoi(argv[i + 1]) > 64 ? 64 : atoi(argv[i + 1]);
		else
			return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	shared = mmap(NULL, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!prepare())
		return 2;
	pg = connect_as_owner("postgres");
	if (pg == NULL || (started = ask(pg, "SELECT pg_postmaster_start_time()::text")) == NULL)
		return 2;
	PQfinish(pg);
	for (int i = 0; i < nclients; i++)
		pids[i] = start_client(i, now_ms() + (int64_t) seconds * 1000);
	for (int i = 0; i < nclients; i++)
		if (waitpid(pids[i], &status, 0) < 0 || status != 0)
			failed++;
	report();
	if (failed > 0)
		fprintf(stderr, "FAILURE: %d clients ended early\n", failed);
	if (!look_back(started))
		failed++;
	free(started);
	return failed > 0 || shared->failures > 0 ? 1 : 0;
}
