/*
 * main.c
 *		Main program of the nemesis: runs one seed and reports the result.
 *
 *     nemesis --work FOLDER --bindir FOLDER --data FOLDER [--standby FOLDER] [--redis PROGRAM]
 *         [--seconds N] [--seed N] [--faults LIST] [--scenes LIST] [--lease MS]
 *
 * run.sh makes the folders and calls it.  Phases: set up; clients and faults; faults end; clients
 * end; check of the final state; check of the history.  Exit status 0: nothing found, 1:
 * violations, 2: no result.
 */
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "nemesis.h"

#define RECOVER_WITHIN (45 * SEC)

Run run;
Node nodes[NODES];
int64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t) t.tv_sec * SEC + t.tv_nsec / 1000;
}

/* Of the clock that the servers have; only Redis has another one. */
int64_t
wall_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t) t.tv_sec * SEC + t.tv_nsec / 1000;
}

void
pause_us(int64_t us)
{
	struct timespec t = {us / SEC, us % SEC * 1000};

	if (us > 0)
		(void) nanosleep(&t, NULL);
}

void
say(const char *format, ...)
{
	va_list arguments;
	char line[1200];

	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	printf("%s\n", line);
	fflush(stdout);
}

void
die(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fprintf(stderr, "nemesis: ");
	vfprintf(stderr, format, arguments);
	fprintf(stderr, "\n");
	va_end(arguments);
	/* the threads run until the process ends; run.sh stops the servers */
	_exit(2);
}

/* splitmix64 */
uint64_t
draw(uint64_t *random)
{
	uint64_t z = *random += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

int64_t
between(uint64_t *random, int64_t least, int64_t most)
{
	return most <= least ? least : least + (int64_t) (draw(random) % (uint64_t) (most - least + 1));
}

bool
chance(uint64_t *random, int percent)
{
	return between(random, 0, 99) < percent;
}

static void
parse(int argc, char **argv, const char **data, const char **standby)
{
	static const struct option options[] = {{"work", 1, NULL, 'w'},  {"bindir", 1, NULL, 'b'},
											{"data", 1, NULL, 'd'},  {"standby", 1, NULL, 's'},
											{"redis", 1, NULL, 'r'}, {"seconds", 1, NULL, 't'},
											{"seed", 1, NULL, 'n'},  {"faults", 1, NULL, 'f'},
											{"lease", 1, NULL, 'l'}, {"scenes", 1, NULL, 'c'},
											{NULL, 0, NULL, 0}};
	int c;

	run.redis_server = "redis-server";
	run.seconds = 60;
	run.faults = "all";
	plan_scenes("all");
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c)
		{
			case 'w':
				run.work = optarg;
				break;
			case 'b':
				run.bindir = optarg;
				break;
			case 'd':
				*data = optarg;
				break;
			case 's':
				*standby = optarg;
				break;
			case 'r':
				run.redis_server = optarg;
				break;
			case 't':
				run.seconds = atoll(optarg);
				break;
			case 'n':
				run.seed = strtoull(optarg, NULL, 10);
				break;
			case 'f':
				run.faults = optarg;
				break;
			case 'c':
				plan_scenes(optarg);
				break;
			case 'l':
				run.lease = atoll(optarg) * MS;
				break;
			default:
				exit(2);
		}
	if (run.work == NULL || run.bindir == NULL || *data == NULL || run.seconds < 1)
		die("see the head of main.c for what is needed; run.sh knows");
	run.failover = *standby != NULL;
}

static void
wait_for_end(void)
{
	int64_t half = run.started + run.seconds * SEC / 2;
	int64_t end = run.started + run.seconds * SEC;

	while (now_us() < end)
	{
		pause_us(50 * MS);
		if (run.failover && run.promoted_at == 0 && now_us() > half)
			fail_over();
	}
}

/*
 * After the faults everything must recover: everything that was committed is in Redis, and right.
 */
static void
settle(int db)
{
	Client c = {.node = run.node, .db = db};
	int64_t start = now_us();
	int64_t tell_at = start + SEC;
	bool synced = false;
	int copies;

	while (!synced && now_us() - start < RECOVER_WITHIN)
		if (!client_connect(&c))
			pause_us(50 * MS);
		else
		{
			synced = client_run(&c, "SELECT session_cache_sync('5 s')") == OUTCOME_DONE &&
					 c.values[0][0] == 't';
			/* it returns at once while there is no pusher yet */
			pause_us(20 * MS);
			if (!synced && now_us() > tell_at &&
				client_run(&c, "SELECT concat_ws(', ', h ->> 'state', h ->> 'trouble', 'dirty ' || "
							   "(h ->> 'dirty'), 'in doubt ' || (h ->> 'in_doubt'), h ->> "
							   "'last_error') FROM (SELECT session_health() -> 'cache' h) x") ==
					OUTCOME_DONE)
			{
				say("at the end: %s is not yet in sync: %s", dbs[db].name,
					c.long_value == NULL ? "" : c.long_value);
				tell_at = now_us() + 3 * SEC;
			}
		}
	if (!synced)
		violation("at the end: %s is not in sync %.0f s after the last fault", dbs[db].name,
				  (double) (now_us() - start) / 1e6);
	copies = compare_with_table(db);
	if (client_run(&c, "SELECT stale + orphaned FROM session_cache_verify(2000)") != OUTCOME_DONE)
		violation("at the end: session_cache_verify fails in %s: %s", dbs[db].name, c.state);
	else if (atoi(c.values[0]) != 0)
		violation("at the end: session_cache_verify finds %s copies that differ in %s", c.values[0],
				  dbs[db].name);
	say("at the end: %s in sync after %.3f s; %d copies equal their rows", dbs[db].name,
		(double) (now_us() - start) / 1e6, copies);
	client_close(&c);
}

void
start_thread(pthread_t *thread, void *(*body)(void *), Task *task)
{
	if (pthread_create(thread, NULL, body, task) != 0)
		die("no thread");
}

static void
run_clients(void)
{
	static Task tasks[THREADS];
	pthread_t threads[THREADS];
	pthread_t troubles[2];
	uint64_t random = run.seed ^ 0x5eed;
	int n = plan_cast(tasks);

	run.started = now_us();
	for (int i = 0; i < n; i++)
	{
		tasks[i].seed = draw(&random) >> 1;
		start_thread(&threads[i], tasks[i].body, &tasks[i]);
	}
	start_thread(&troubles[0], fault_processes, NULL);
	start_thread(&troubles[1], fault_network, NULL);
	wait_for_end();
	run.calm = true;
	for (int i = 0; i < 2; i++)
		(void) pthread_join(troubles[i], NULL);
	proxy_set(PROXY_PASS, 0);
	redis_signal(SIGCONT);
	run.stopping = true;
	for (int i = 0; i < n; i++)
		(void) pthread_join(threads[i], NULL);
}

static void
report_ops(void)
{
	char line[600] = "ops:";
	size_t len = strlen(line);

	for (int i = 0; i < OP_NAMES; i++)
		if (op_names[i] != NULL && ops_by_kind[i] > 0)
			len += (size_t) snprintf(line + len, sizeof(line) - len, " %s %llu,", op_names[i],
									 (unsigned long long) ops_by_kind[i]);
	line[len > 4 ? len - 1 : len] = '\0';
	say("%s", line);
}

int
main(int argc, char **argv)
{
	const char *data = NULL;
	const char *standby = NULL;
	Client admin = {0};
	int found;

	parse(argc, argv, &data, &standby);
	(void) signal(SIGPIPE, SIG_IGN);
	faults_choose(run.faults);
	plan_draw();
	plan_keys();
	history_init();
	servers_init(data, standby);
	redis_start();
	node_start(0);
	snprintf(run.url, sizeof(run.url), "redis://127.0.0.1:%d", proxy_start());
	node_configure(&admin);
	client_close(&admin);
	for (int db = 0; db < DBS; db++)
		if (!wait_for_first_lease(db, 30 * SEC))
			die("no lease in %s 30 s after redis_url was set and reloaded: is there a pusher?",
				dbs[db].name);
	if (run.failover)
	{
		standby_make();
		node_start(1);
	}
	/* the run ends even if something hangs: run.sh stops the servers */
	(void) alarm((unsigned) (run.seconds + 180));
	run_clients();
	for (int db = 0; db < DBS; db++)
		settle(db);
	report_ops();
	faults_report();
	hits_judge();
	turns_judge();
	found = history_judge();
	say("seed %llu: %d violations", (unsigned long long) run.seed, found);
	return found > 0 ? 1 : 0;
}
