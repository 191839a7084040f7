/*
 * server.c
 *		Starts, kills and stops the servers, which are child processes.
 */
#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "nemesis.h"

#define START_WITHIN (60 * SEC)

extern char **environ;

static pid_t redis_pid = 0;
static volatile int64_t *redis_clock;
static int64_t saved_at = 0;
static char redis_dir[220];

/* Start a program in the background, its output at the end of a log. */
static pid_t
start(const char *log, char *const argv[], char *const env[])
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	sigset_t none;
	pid_t pid;
	int rc;

	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&files, 1, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	posix_spawn_file_actions_adddup2(&files, 1, 2);
	posix_spawnattr_init(&attributes);
	sigemptyset(&none);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
	rc = posix_spawnp(&pid, argv[0], &files, &attributes, argv, env);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attributes);
	if (rc != 0)
		die("could not start %s: %s", argv[0], strerror(rc));
	return pid;
}

void
servers_init(const char *data0, const char *data1)
{
	char name[PATH_MAX];
	int64_t offset = run.clock_offset;
	int fd;

	/* as /proc shows it, by which processes are recognized; the standby's is not there yet */
	if (realpath(data0, name) == NULL)
		die("no folder %s", data0);
	snprintf(nodes[0].data, sizeof(nodes[0].data), "%.199s", name);
	nodes[0].port = 5432;
	snprintf(nodes[1].data, sizeof(nodes[1].data), "%s", data1 == NULL ? "" : data1);
	nodes[1].port = 5433;
	snprintf(redis_dir, sizeof(redis_dir), "%s/redis", run.work);
	snprintf(run.socket, sizeof(run.socket), "%s/redis/socket", run.work);
	snprintf(name, sizeof(name), "%s/redis/clock", run.work);
	fd = open(name, O_RDWR | O_CREAT, 0600);
	if (fd < 0 || write(fd, &offset, sizeof(offset)) != sizeof(offset))
		die("could not write %s: %s", name, strerror(errno));
	redis_clock = mmap(NULL, sizeof(int64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (redis_clock == MAP_FAILED)
		die("could not map %s", name);
	close(fd);
}

/* Sets Redis' wall clock forward or back. */
void
redis_shift_clock(int64_t by)
{
	*redis_clock += by;
}

/* Starts Redis from the RDB file, if there is one, and waits until it answers. */
void
redis_start(void)
{
	char log[250];
	char preload[270];
	char clock[270];
	char *argv[] = {(char *) run.redis_server,
					"--port",
					"0",
					"--unixsocket",
					run.socket,
					"--dir",
					redis_dir,
					"--save",
					"",
					"--appendonly",
					"no",
					"--dbfilename",
					"dump.rdb",
					"--enable-debug-command",
					"yes",
					"--daemonize",
					"no",
					NULL};
	char *env[] = {preload, clock, "LC_ALL=C", NULL, NULL};
	char path[1000];
	int64_t until = now_us() + START_WITHIN;
	FILE *file;

	snprintf(log, sizeof(log), "%s/log/redis.log", run.work);
	snprintf(preload, sizeof(preload), "LD_PRELOAD=%s/clock.so", run.work);
	snprintf(clock, sizeof(clock), "NEMESIS_CLOCK=%s/redis/clock", run.work);
	snprintf(path, sizeof(path), "PATH=%s", getenv("PATH"));
	env[3] = path;
	redis_pid = start(log, argv, env);
	snprintf(log, sizeof(log), "%s/redis/pid", run.work);
	if ((file = fopen(log, "w")) != NULL)
	{
		fprintf(file, "%d\n", (int) redis_pid);
		fclose(file);
	}
	while (!redis_simple(0, "PING", SEC))
	{
		if (now_us() > until || waitpid(redis_pid, NULL, WNOHANG) != 0)
			die("Redis does not start: see log/redis.log");
		pause_us(5 * MS);
	}
}

void
redis_signal(int signal)
{
	if (redis_pid > 0)
		(void) kill(redis_pid, signal);
}

void
redis_kill(void)
{
	redis_signal(SIGKILL);
	(void) waitpid(redis_pid, NULL, 0);
	redis_pid = 0;
}

/* Removes the RDB file: the next start finds nothing. */
void
redis_forget(void)
{
	char name[250];

	snprintf(name, sizeof(name), "%s/dump.rdb", redis_dir);
	(void) unlink(name);
	saved_at = 0;
}

bool
redis_save(void)
{
	if (!redis_simple(0, "SAVE", 2 * SEC))
		return false;
	saved_at = now_us();
	return true;
}

/* When the RDB file was written; 0 for never. */
int64_t
redis_saved_at(void)
{
	return saved_at;
}

/* Starts a Postgres, and waits until it accepts clients. */
void
node_start(int node)
{
	char program[300];
	char log[250];
	char info[300];
	char *argv[] = {program, "-D", nodes[node].data, NULL};
	int64_t until = now_us() + START_WITHIN;

	snprintf(program, sizeof(program), "%s/postgres", run.bindir);
	snprintf(log, sizeof(log), "%s/log/node%d.log", run.work, node);
	snprintf(info, sizeof(info), "host='%s' port=%d user=postgres dbname=postgres", run.work,
			 nodes[node].port);
	nodes[node].pid = start(log, argv, environ);
	while (PQping(info) != PQPING_OK)
	{
		if (now_us() > until)
			die("Postgres does not start: see log/node%d.log", node);
		pause_us(20 * MS);
		/* the processes of a server that was killed may still use its memory: try again */
		if (waitpid(nodes[node].pid, NULL, WNOHANG) == nodes[node].pid)
			nodes[node].pid = start(log, argv, environ);
	}
}

/* Makes node 1 from node 0, which runs: a standby that replicates from it. */
void
standby_make(void)
{
	char program[300];
	char log[250];
	char port[16];
	char *argv[] = {program,  "-D", nodes[1].data, "-R",       "-X",
					"stream", "-c", "fast",        "-h",       (char *) run.work,
					"-p",     port, "-U",          "postgres", NULL};
	int status = 1;
	FILE *file;

	snprintf(program, sizeof(program), "%s/pg_basebackup", run.bindir);
	snprintf(log, sizeof(log), "%s/log/basebackup.log", run.work);
	snprintf(port, sizeof(port), "%d", nodes[0].port);
	(void) waitpid(start(log, argv, environ), &status, 0);
	snprintf(program, sizeof(program), "%s/postgresql.conf", nodes[1].data);
	file = status == 0 ? fopen(program, "a") : NULL;
	if (file == NULL || fprintf(file, "port = %d\n", nodes[1].port) < 0 || fclose(file) != 0)
		die("no standby could be made: see log/basebackup.log");
}

/* Sends SIGKILL to the postmaster; its processes notice that, and exit. */
void
node_kill(int node)
{
	if (nodes[node].pid == 0)
		return;
	(void) kill(nodes[node].pid, SIGKILL);
	(void) waitpid(nodes[node].pid, NULL, 0);
	nodes[node].pid = 0;
}

/*
 * Stops it as pg_ctl does: SIGINT is a fast stop, SIGQUIT an immediate one; takes no longer than
 * START_WITHIN.
 */
void
node_stop(int node, int signal)
{
	int64_t until = now_us() + START_WITHIN;

	if (nodes[node].pid == 0)
		return;
	(void) kill(nodes[node].pid, signal);
	while (waitpid(nodes[node].pid, NULL, WNOHANG) == 0)
	{
		if (now_us() > until)
			die("Postgres does not stop: see log/node%d.log", node);
		pause_us(10 * MS);
	}
	nodes[node].pid = 0;
}

/* Is this a process of the present node?  No other may be stopped or killed. */
bool
node_has(pid_t pid)
{
	char link[40];
	char folder[300];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/%d/cwd", (int) pid);
	n = pid <= 0 ? -1 : readlink(link, folder, sizeof(folder) - 1);
	if (n < 0)
		return false;
	folder[n] = '\0';
	return strcmp(folder, nodes[run.node].data) == 0;
}

/* The process id of the pusher of the client's database on the present node, or 0. */
pid_t
pusher_pid(Client *admin)
{
	admin->node = run.node;
	if (!client_connect(admin) ||
		client_run(admin,
				   "SELECT pid FROM pg_stat_activity WHERE backend_type = "
				   "'session_store pusher' AND datname = current_database()") != OUTCOME_DONE)
		return 0;
	return (pid_t) atoi(admin->values[0]);
}

static void
namespaces_make(Client *admin)
{
	if (!client_connect(admin) ||
		client_run(admin, "CREATE EXTENSION IF NOT EXISTS session_store") != OUTCOME_DONE ||
		client_run(admin, "CREATE SEQUENCE rank") != OUTCOME_DONE ||
		client_run(admin, "INSERT INTO session_namespaces"
						  " (name, key_prefix, ttl, sliding, cache, cache_ttl, tombstone) VALUES"
						  " ('reused', 'nr:', '1 hour', false, 'hot', '5 s', '0'),"
						  " ('buried', 'nb:', '80 s', true, 'all', '5 minutes', '5 minutes'),"
						  " ('bulk', 'nk:', '1 hour', false, 'hot', '5 s', '0'),"
						  " ('switch', 'ns:', '1 hour', false, 'off', '5 s', '0'),"
						  " ('dark', 'nd:', '1 hour', false, 'off', '5 s', '0'),"
						  " ('forks', 'nf:', '1 hour', false, 'hot', '5 s', '5 minutes')") !=
			OUTCOME_DONE ||
		client_run(admin, "%s", policy_first) != OUTCOME_DONE ||
		client_run(admin,
				   "INSERT INTO session_namespaces (name, key_prefix, ttl, sliding, cache,"
				   " cache_ttl, tombstone, tail_prefix, tail_size) VALUES"
				   " ('talk', 'nh:', '1 hour', false, 'hot', '5 s', '0', 'nt:', %d),"
				   " ('turn', 'nw:', '1 hour', false, 'hot', '5 s', '0', 'nx:', %d)",
				   TAIL_SIZE, TAIL_SIZE) != OUTCOME_DONE)
		die("the extension cannot be set up in %s: %s", dbs[admin->db].name, admin->state);
	client_close(admin);
}

/* The databases with the extension, settings and namespaces. */
void
node_configure(Client *admin)
{
	char info[300];
	PGconn *c;

	snprintf(info, sizeof(info), "host='%s' port=%d user=postgres dbname=postgres", run.work,
			 nodes[0].port);
	c = PQconnectdb(info);
	for (int db = 0; db < DBS; db++)
	{
		char sql[120];

		snprintf(sql, sizeof(sql), "CREATE DATABASE %s", dbs[db].name);
		PQclear(PQexec(c, sql));
		if (dbs[db].redis == 0)
			continue; /* redis_url is different */
		snprintf(sql, sizeof(sql), "ALTER DATABASE %s SET session_store.redis_db = %d",
				 dbs[db].name, dbs[db].redis);
		PQclear(PQexec(c, sql));
	}
	PQfinish(c);
	for (admin->db = 0; admin->db < DBS; admin->db++)
		namespaces_make(admin);
	admin->db = 0;
	if (!client_connect(admin) ||
		client_run(admin, "ALTER SYSTEM SET session_store.lease = %d", (int) (run.lease / MS)) !=
			OUTCOME_DONE ||
		client_run(admin, "ALTER SYSTEM SET session_store.redis_url = '%s'", run.url) !=
			OUTCOME_DONE ||
		client_run(admin, "SELECT pg_reload_conf()") != OUTCOME_DONE)
		die("the cache cannot be set up: %s", admin->state);
}
