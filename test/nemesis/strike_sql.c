/*
 * strike_sql.c
 *		Faults of PostgreSQL, of its processes, and of its administrators.
 *
 * A fault that can concern a single database concerns strike_db's; clients and readers of the
 * other one must not notice it.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "nemesis.h"
#include "strike.h"

static Client admin;

void
strikes_end(void)
{
	client_close(&admin);
}

static bool
connected(void)
{
	admin.node = run.node;
	admin.db = strike_db;
	return client_connect(&admin);
}

/* The pusher of the database that is struck, or 0. */
static pid_t
its_pusher(void)
{
	return connected() ? pusher_pid(&admin) : 0;
}

void
strike_pusher_stop(uint64_t *r)
{
	for (int times = (int) between(r, 1, 12); times > 0 && !run.calm; times--)
	{
		pid_t pid = its_pusher();
		bool longer = chance(r, 15);

		if (!node_has(pid))
			break;
		(void) kill(pid, SIGSTOP);
		last(between(r, MS, longer ? run.lease * 3 / 2 : 60 * MS));
		(void) kill(pid, SIGCONT);
		last(between(r, MS, 40 * MS));
	}
}

void
strike_pusher_end(uint64_t *r)
{
	(void) r;
	if (its_pusher() > 0)
		(void) client_run(&admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
								  "backend_type = 'session_store pusher' AND datname = "
								  "current_database()");
}

/* The server ends all its processes, and restarts by itself. */
void
strike_pusher_kill(uint64_t *r)
{
	pid_t pid = its_pusher();

	(void) r;
	if (node_has(pid))
		(void) kill(pid, SIGKILL);
}

void
strike_backend_stop(uint64_t *r)
{
	pid_t pid;

	if (!connected() ||
		client_run(&admin,
				   "SELECT pid FROM pg_stat_activity WHERE application_name = 'nemesis' AND "
				   "pid <> pg_backend_pid() AND state = 'active' ORDER BY random() LIMIT 1") !=
			OUTCOME_DONE)
		return;
	pid = (pid_t) atoi(admin.values[0]);
	if (!node_has(pid) || kill(pid, SIGSTOP) != 0)
		return;
	last(between(r, 20 * MS, 900 * MS));
	(void) kill(pid, SIGCONT);
}

void
strike_server_kill(uint64_t *r)
{
	int node = run.node; /* which may change */

	node_kill(node);
	pause_us(between(r, 0, 300 * MS));
	client_close(&admin);
	node_start(node);
}

void
strike_cache_flush(uint64_t *r)
{
	if (connected())
		(void) client_run(&admin, "SELECT session_cache_flush(%s)",
						  chance(r, 50) ? "NULL" : "'reused'");
}

/* Cancels statements of all clients: some wait at the fence, perhaps. */
void
strike_backend_cancel(uint64_t *r)
{
	for (int times = (int) between(r, 1, 30); times > 0 && connected() && !run.calm; times--)
	{
		(void) client_run(&admin, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE "
								  "application_name = 'nemesis' AND pid <> pg_backend_pid() AND "
								  "state = 'active' AND datname = current_database()");
		last(between(r, MS, 50 * MS));
	}
}

/* A session locks the table exclusively, as ALTER TABLE would; or the table gets another file. */
void
strike_table_lock(uint64_t *r)
{
	/* clients of ours wait for each other where the server cannot see it */
	if (!connected() || client_run(&admin, "SET lock_timeout = '1s'") != OUTCOME_DONE)
		return;
	if (chance(r, 30))
		(void) client_run(&admin, "VACUUM FULL conversation_sessions");
	else if (client_run(&admin, "BEGIN; LOCK TABLE conversation_sessions") == OUTCOME_DONE)
	{
		last(between(r, 20 * MS, 600 * MS));
		(void) client_run(&admin, "COMMIT");
	}
	else if (connected())
		(void) client_run(&admin, "ROLLBACK");
}

/* Repeats until it succeeds: a setting must not stay as the fault has left it. */
void
set_for_sure(const char *name, const char *value)
{
	int64_t until = now_us() + 60 * SEC;

	while (now_us() < until)
		if (connected() &&
			client_run(&admin, "ALTER SYSTEM SET session_store.%s = '%s'", name, value) ==
				OUTCOME_DONE &&
			client_run(&admin, "SELECT pg_reload_conf()") == OUTCOME_DONE)
			return;
		else
			pause_us(50 * MS);
}

/* The cache is switched off for a moment. */
void
strike_cache_off(uint64_t *r)
{
	set_for_sure("redis_url", "");
	last(between(r, 10 * MS, 2 * SEC));
	set_for_sure("redis_url", run.url);
}

/* A shorter lease for a moment; the bounds do not allow for longer ones. */
void
strike_cache_lease(uint64_t *r)
{
	char value[20];

	snprintf(value, sizeof(value), "%d", (int) between(r, 200, run.lease / MS));
	set_for_sure("lease", value);
	last(between(r, 200 * MS, SEC));
	snprintf(value, sizeof(value), "%d", (int) (run.lease / MS));
	set_for_sure("lease", value);
}

/* A namespace has no cache for a moment. */
void
strike_cache_namespace(uint64_t *r)
{
	int64_t until = now_us() + 60 * SEC;

	if (!connected() || client_run(&admin, "UPDATE session_namespaces SET cache = 'off' WHERE name "
										   "= 'reused'") != OUTCOME_DONE)
		return;
	last(between(r, 5 * MS, SEC));
	while (now_us() < until &&
		   (!connected() || client_run(&admin, "UPDATE session_namespaces SET cache = 'hot' WHERE "
											   "name = 'reused'") != OUTCOME_DONE))
		pause_us(20 * MS);
}
