/*
 * main.c
 *		The nemesis: a run from its seed to its verdict.
 *
 *	nemesis --work FOLDER --bindir FOLDER --data FOLDER [--standby FOLDER] [--redis PROGRAM]
 *			[--seconds N] [--seed N] [--faults LIST] [--lease MS]
 *
 * run.sh makes the folders and calls this.  Phases: set up; clients and faults; faults end;
 * clients end; what is left must be in order; judgement.  Exit status 0: nothing found, 1:
 * violations, 2: it could not be told.
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

#define WRITERS 8
#define RECOVER_WITHIN (45 * SEC)

Run run;
Key keys[KEYS];
Node nodes[NODES];

int64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
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
	/* the threads go on until the process is gone; run.sh stops the servers */
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
name_keys(void)
{
	static const struct
	{
		const char *ns;
		const char *prefix;
		char letter;
		int count;
		int64_t life;
	} stretches[] = {{"reused", "nr:", 'r', KEYS_REUSED, 5 * SEC},
					 /* a touch may give a ttl of 81 s: an eighth */
					 {"buried", "nb:", 'd', KEYS_BURIED, 10125 * MS},
					 {"bulk", "nk:", 'b', KEYS_BULK, 5 * SEC},
					 {"switch", "ns:", 's', KEYS_SWITCH, 5 * SEC}};
	int k = 0;

	for (int s = 0; s < 4; s++)
		for (int i = 0; i < stretches[s].count; i++, k++)
		{
			keys[k].ns = stretches[s].ns;
			snprintf(keys[k].id, sizeof(keys[k].id), "%c%d", stretches[s].letter, i);
			snprintf(keys[k].name, sizeof(keys[k].name), "%s%s", stretches[s].prefix, keys[k].id);
			keys[k].life = stretches[s].life;
			keys[k].buried = s == 1;
		}
}

static void
parse(int argc, char **argv, const char **data, const char **standby)
{
	static const struct option options[] = {{"work", 1, NULL, 'w'},  {"bindir", 1, NULL, 'b'},
											{"data", 1, NULL, 'd'},  {"standby", 1, NULL, 's'},
											{"redis", 1, NULL, 'r'}, {"seconds", 1, NULL, 't'},
											{"seed", 1, NULL, 'n'},  {"faults", 1, NULL, 'f'},
											{"lease", 1, NULL, 'l'}, {NULL, 0, NULL, 0}};
	int c;

	run.redis_server = "redis-server";
	run.seconds = 60;
	run.faults = "all";
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

/* What the seed decides before anything begins. */
static void
draw_plan(void)
{
	static const int64_t leases[] = {500 * MS, 1000 * MS, 2000 * MS};
	static const int64_t offsets[] = {0, 37 * SEC, -41 * SEC};
	uint64_t random = run.seed;

	if (run.lease == 0)
		run.lease = leases[between(&random, 0, 2)];
	else
		(void) draw(&random);
	run.clock_offset = offsets[between(&random, 0, 2)];
	say("seed %llu: lease %.3f s, Redis' clock is off by %lld s, faults: %s",
		(unsigned long long) run.seed, (double) run.lease / 1e6,
		(long long) (run.clock_offset / SEC), run.faults);
}

/* The rows of the new primary, before any client is let in. */
static void
read_base(Client *c)
{
	base_begin();
	for (int k = 0; k < KEYS; k++)
	{
		if (client_run(c,
					   "SELECT coalesce((session_data ->> 'v')::int, 0) FROM conversation_sessions "
					   "WHERE namespace = '%s' AND session_id = '%s'; SELECT version FROM "
					   "conversation_sessions WHERE namespace = '%s' AND session_id = '%s'",
					   keys[k].ns, keys[k].id, keys[k].ns, keys[k].id) != OUTCOME_DONE)
			die("the new primary cannot be read");
		if (c->values[1][0] != '\0')
			base_row(k, atoi(c->values[0]), atoll(c->values[1]));
	}
}

/*
 * The standby becomes the primary while the old one lives, and has clients that have not
 * heard; after a while it is shot.
 */
static void
fail_over(void)
{
	static pthread_t zombie;
	Client c = {.node = 1, .connected_to = 1};
	int64_t until = now_us() + 30 * SEC;
	int64_t switched;

	run.switching = true;
	run.promoted_at = now_us();
	/* for a while the new one does not get through to Redis, where the old one goes on */
	proxy_set(PROXY_SHUT, 0);
	/* what is replayed may cost the connection: until it is done */
	while (!client_connect(&c) || client_run(&c, "SELECT pg_is_in_recovery()") != OUTCOME_DONE ||
		   c.values[0][0] != 'f')
	{
		if (now_us() > until)
			die("the standby was not promoted");
		if (c.pg != NULL && c.nvalues > 0)
			(void) client_run(&c, "SELECT pg_promote(false)");
		pause_us(10 * MS);
	}
	read_base(&c);
	client_close(&c);
	run.node = 1;
	run.switching = false;
	switched = now_us();
	if (pthread_create(&zombie, NULL, zombie_writer, (void *) (uintptr_t) run.seed) != 0)
		die("no thread");
	while (now_us() < run.promoted_at + (int64_t) (run.seed % 4) * SEC)
		pause_us(20 * MS);
	proxy_set(PROXY_PASS, 0);
	(void) pthread_join(zombie, NULL);
	node_kill(0);
	say("promoted; clients went there after %.3f s, it took Redis over after %.3f s, and the old "
		"primary was shot after %.3f s",
		(double) (switched - run.promoted_at) / 1e6,
		run.taken_over_at == 0 ? -1.0 : (double) (run.taken_over_at - run.promoted_at) / 1e6,
		(double) (now_us() - run.promoted_at) / 1e6);
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

/* With the faults over, it must come to rest: everything committed is in Redis, and right. */
static void
settle(void)
{
	Client c = {.node = run.node};
	int64_t start = now_us();
	bool synced = false;
	int copies;

	while (!synced && now_us() - start < RECOVER_WITHIN)
		if (!client_connect(&c))
			pause_us(50 * MS);
		else
		{
			synced = client_run(&c, "SELECT session_cache_sync('5 s')") == OUTCOME_DONE &&
					 c.values[0][0] == 't';
			/* it says no at once where there is no pusher yet */
			pause_us(20 * MS);
		}
	if (!synced)
		violation("at the end: not in sync %.0f s after the last fault",
				  (double) (now_us() - start) / 1e6);
	copies = compare_with_table();
	if (client_run(&c, "SELECT stale + orphaned FROM session_cache_verify(2000)") != OUTCOME_DONE)
		violation("at the end: session_cache_verify fails: %s", c.state);
	else if (atoi(c.values[0]) != 0)
		violation("at the end: session_cache_verify finds %s copies that differ", c.values[0]);
	say("at the end: in sync after %.3f s; %d copies of %d sessions equal their rows",
		(double) (now_us() - start) / 1e6, copies, KEYS);
	client_close(&c);
}

static void
start_thread(pthread_t *thread, void *(*body)(void *), uint64_t seed)
{
	if (pthread_create(thread, NULL, body, (void *) (uintptr_t) seed) != 0)
		die("no thread");
}

static void
run_clients(void)
{
	static void *(*const others[])(void *) = {reader_plain,  reader_plain, reader_strong,
											  reader_strong, monitor,      bulk_writer,
											  switcher,      filler};
	pthread_t threads[WRITERS + 8];
	pthread_t troubles[2];
	uint64_t random = run.seed ^ 0x5eed;

	run.started = now_us();
	for (int i = 0; i < WRITERS; i++)
		start_thread(&threads[i], writer, draw(&random) >> 1);
	for (int i = 0; i < 8; i++)
		start_thread(&threads[WRITERS + i], others[i], draw(&random) >> 1);
	start_thread(&troubles[0], fault_processes, 0);
	start_thread(&troubles[1], fault_network, 0);
	wait_for_end();
	run.calm = true;
	for (int i = 0; i < 2; i++)
		(void) pthread_join(troubles[i], NULL);
	proxy_set(PROXY_PASS, 0);
	redis_signal(SIGCONT);
	run.stopping = true;
	for (int i = 0; i < WRITERS + 8; i++)
		(void) pthread_join(threads[i], NULL);
}

static void
report_ops(void)
{
	char line[600] = "ops:";
	size_t len = strlen(line);

	for (int i = 0; i < 16; i++)
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
	draw_plan();
	name_keys();
	history_init();
	servers_init(data, standby);
	redis_start();
	node_start(0);
	snprintf(run.url, sizeof(run.url), "redis://127.0.0.1:%d", proxy_start());
	node_configure(&admin);
	client_close(&admin);
	if (!wait_for_first_lease(30 * SEC))
		die("no lease 30 s after redis_url was set and reloaded: is there a pusher?");
	if (run.failover)
	{
		standby_make();
		node_start(1);
	}
	/* whatever hangs, the run has an end: run.sh sees to the servers */
	(void) alarm((unsigned) (run.seconds + 180));
	run_clients();
	settle();
	report_ops();
	faults_report();
	found = history_judge();
	say("seed %llu: %d violations", (unsigned long long) run.seed, found);
	return found > 0 ? 1 : 0;
}
