/*
 * main.c
 *		Every call of a scenario with its n-th allocation failing, for every n; then the workers.
 *
 *	alloc --conninfo "host=.. port=.." [--seed N] [--seconds 60 | --seconds 0: every n]
 *		[--only TEXT] [--kind palloc|malloc: only these] [--variants LIST: only these, by name]
 *
 * What must hold after a failure: the connection lives; the error is 53200, or there is none and the call
 * has done its work; after an error nothing has changed; no lock is held; the same call, made again in
 * the same session, does what it does without a failure.  Workers must go on, or end and be started
 * again, and then all that was changed must be in Redis and all that has expired be purged.
 *
 * Variants of a call: in a session that made it before (warm), in a new one (fresh), with direct_rows off
 * (statements), in a savepoint that is rolled back, with COMMIT failing instead of the call, and in a
 * PL/pgSQL function that traps the error (trapped).  In a last one the next allocation fails as well, as
 * it may while the first error is handled (twice).  A new session needs some thousand allocations, most
 * of them for any call, and each attempt takes a connection.  So there, in the workers, and in calls with
 * as many allocations (session_health), one fails not for every n but at every call site, the first two
 * times that it is reached (see module.c).  The start of workers is tried only in a sample.
 */
#include <inttypes.h>
#include <libpq-fe.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef enum Variant
{
	WARM,
	FRESH,
	STATEMENTS,
	SAVEPOINT,
	AT_COMMIT,
	TRAPPED,
	TWICE,
	VARIANTS
} Variant;

static const char *const variant_names[VARIANTS] = {"warm",   "fresh",   "statements", "savepoint",
													"commit", "trapped", "twice"};

static const char *const setup[] = {
	"CREATE EXTENSION session_store",
	"CREATE FUNCTION fuzz_fail(text, bigint) RETURNS void VOLATILE LANGUAGE c AS 'fuzz_fail'",
	"CREATE FUNCTION fuzz_fail_end() RETURNS bigint VOLATILE LANGUAGE c AS 'fuzz_fail'",
	"CREATE FUNCTION fuzz_fail_worker(text, text, bigint) RETURNS void VOLATILE LANGUAGE c AS 'fuzz_fail'",
	"CREATE FUNCTION fuzz_fail_worker_state() RETURNS bigint VOLATILE LANGUAGE c AS 'fuzz_fail'",
	"INSERT INTO session_namespaces (name, key_prefix, tail_prefix, cache, audit, audit_saves, "
	"max_sessions_per_owner, tombstone) VALUES ('n', 'n:', 't:', 'all', true, true, 5, '1 hour')",
	"INSERT INTO session_namespaces (name, key_prefix, cache, sliding, hash_keys, durability, "
	"owner_isolation) VALUES ('p', 'p:', 'all', true, true, 'relaxed', false)",
	"CREATE FUNCTION fuzz_reset() RETURNS void LANGUAGE plpgsql AS $$ BEGIN "
	"DELETE FROM session_events; DELETE FROM conversation_history; DELETE FROM session_members; "
	"DELETE FROM session_operations; "
	"DELETE FROM conversation_sessions; DELETE FROM conversation_history_ended; "
	"PERFORM session_save('a', '{\"v\": 1, \"x\": {\"y\": [1, 2]}}', owner => 'o', namespace => 'n'); "
	"PERFORM session_save('b', '{\"v\": 2}', owner => 'o', namespace => 'n'); "
	"PERFORM session_save('c', jsonb_build_object('v', repeat('long', 3000)), owner => 'q', namespace => 'n'); "
	"PERFORM session_append('a', '[{\"m\": 1}, {\"m\": 2}, {\"m\": 3}]', operation_id => 'k', namespace => 'n'); "
	"PERFORM session_append('b', '{\"m\": 4}', namespace => 'n'); "
	"PERFORM session_share('a', 'friend', 'editor', 'n'); "
	"PERFORM session_turn_begin('c', '1 hour', namespace => 'n'); "
	"DELETE FROM session_counters; PERFORM session_hit('h', '1 hour', 3, namespace => 'n'); "
	"PERFORM session_save('a', '{\"v\": 3}', namespace => 'p'); END $$",
	"CREATE FUNCTION fuzz_trap(call text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN "
	"EXECUTE 'SELECT ' || call; RETURN ''; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END $$",
	"CREATE FUNCTION fuzz_turn() RETURNS bigint STABLE LANGUAGE sql AS $$ SELECT turn FROM "
	"conversation_sessions WHERE session_id = 'c' AND namespace = 'n' $$",
	/*
	 * everything that is stored, except times, random ids and names that contain them, and rows
	 * that the keeper removes
	 */
	"CREATE FUNCTION fuzz_state() RETURNS text LANGUAGE sql AS $$ SELECT replace(concat("
	"(SELECT string_agg(concat_ws(',', namespace, owner_id, version, session_data, message_count, last_seq, "
	"summary, summary_up_to, dead_until IS NOT NULL, expires_at > now() + '5 min', turn_until > now(), turn_until > now() + '90 min'), ';' ORDER BY namespace, session_data, version, owner_id, message_count, last_seq, dead_until IS NULL) "
	"FROM conversation_sessions), '/', "
	"(SELECT string_agg(concat_ws(',', seq, message), ';' ORDER BY message, seq) FROM "
	"conversation_history h WHERE EXISTS (SELECT FROM conversation_sessions s WHERE s.history_id = h.history_id)), '/', "
	"(SELECT string_agg(concat_ws(',', operation_id, result), ';' ORDER BY operation_id, result) FROM "
	"session_operations o WHERE EXISTS (SELECT FROM conversation_sessions s WHERE s.history_id = o.history_id)), '/', "
	"(SELECT string_agg(concat_ws(',', member, role), ';' ORDER BY member, role) FROM session_members m "
	"WHERE EXISTS (SELECT FROM conversation_sessions s WHERE s.history_id = m.history_id)), '/', "
	"(SELECT string_agg(concat_ws(',', namespace, owner_id, event), ';' ORDER BY namespace, owner_id, event) FROM "
	"session_events), '/', "
	"(SELECT string_agg(concat_ws(',', namespace, counter_id, hits), ';' ORDER BY namespace, counter_id) FROM "
	"session_counters)), repeat('long', 3000), 'LONG') $$",
};

/* A call, and the SQLSTATE that it ends with by itself, if any. */
static const struct
{
	const char *sql;
	const char *state;
} calls[] = {
	{"session_get('a', 'n')", ""},
	{"session_get('a', 'p')", ""},
	{"session_get('none', 'n')", ""},
	{"session_get_many('{a,none,c,NULL}', 'n')", ""},
	{"session_json_encode('[\"\\u0000\", \"\\ud800\"]')", ""},
	{"session_json_decode('[\"\\u00100000\", 1]')", ""},
	{"session_fetch('c', 'n')", ""},
	{"session_save('a', '{\"v\": 10}', namespace => 'n')", ""},
	{"session_save('a', '{\"v\": 10}', namespace => 'p')", ""},
	{"session_save('new', '{\"v\": 11}', owner => 'o', namespace => 'n')", ""},
	{"session_save('a', '{\"v\": 12}', if_version => 77, namespace => 'n')", "40001"},
	{"session_save('a', jsonb_build_object('v', repeat('other', 4000)), '2 hours', 'o2', namespace => 'n')",
	 ""},
	{"session_create('{\"v\": 13}', owner => 'z', namespace => 'n')", ""},
	{"session_touch('a', namespace => 'n')", ""},
	{"session_touch('a', '3 hours', namespace => 'n')", ""},
	{"session_merge('a', '{\"x\": {\"z\": 1}}', namespace => 'n')", ""},
	{"session_merge('made', '{\"x\": {\"z\": 1}}', shallow => true, owner => 'o', namespace => 'n')",
	 ""},
	{"session_incr('a', '{x,n}', 5, namespace => 'n')", ""},
	{"session_incr('a', '{x}', namespace => 'n')", "22023"},
	{"session_hit('h', '1 hour', max => 9, namespace => 'n')", ""},
	{"session_hit('new', '1 hour', namespace => 'n')", ""},
	{"session_hit('h', NULL, by => -2, namespace => 'n')", ""},
	{"session_hit('h', NULL, by => 0, namespace => 'n')", ""},
	{"session_hit_reset('h', 'n')", ""},
	{"session_delete('a', 'n')", ""},
	{"session_take('a', 'n')", ""},
	{"session_regenerate('a', 'n')", ""},
	{"session_regenerate('a', 'n', 'sixteen bytes id')", ""},
	{"session_exists('a', 'n')", ""},
	{"session_ttl('a', 'n')", ""},
	{"session_append('a', '[{\"m\": 5}, {\"m\": 6}]', operation_id => 'k2', namespace => 'n')", ""},
	{"session_append('a', '[{\"m\": 1}, {\"m\": 2}, {\"m\": 3}]', operation_id => 'k', namespace => 'n')",
	 ""},
	{"session_history('a', namespace => 'n')", ""},
	{"session_history('a', namespace => 'n', after => 1, first => 1)", ""},
	{"session_window('a', 100, 5, namespace => 'n')", ""},
	{"session_pop('a', 2, 'n')", ""},
	{"session_pop('a', 2, 'n', from_start => true)", ""},
	{"session_amend('a', 1, '{\"m\": 9}', 'n')", ""},
	{"session_compact('a', 2, '\"sum\"', 'n')", ""},
	{"session_tail('a', 'n')", ""},
	{"session_trim('a', 1, 'n')", ""},
	{"session_replace_tail('a', 1, '[{\"m\": 7}]', '[{\"m\": 3}]', 'k3', 'n')", ""},
	{"session_turn_begin('a', '1 hour', holder => 'holder', namespace => 'n')", ""},
	{"session_turn_begin('c', namespace => 'n')", ""},
	{"session_turn_renew('c', fuzz_turn(), '2 hours', 'n')", ""},
	{"session_turn_end('c', fuzz_turn(), 'n')", ""},
	{"session_turn('c', 'n')", ""},
	{"session_append('c', '{\"m\": 8}', turn => fuzz_turn(), namespace => 'n')", ""},
	{"session_fork('a', 'forked', namespace => 'n')", ""},
	{"session_absorb('a', 'b', 'n')", ""},
	{"session_share('b', 'friend', 'viewer', 'n')", ""},
	{"session_unshare('a', 'friend', 'n')", ""},
	{"session_members('a', 'n')", ""},
	{"session_accept('a', 'n')", ""},
	{"session_delete_all('o', namespace => 'n')", ""},
	{"session_export('o', namespace => 'n')", ""},
	{"session_forget('o', namespace => 'n')", ""},
	{"session_clear('n')", ""},
	{"session_clear('n', id_prefix => 'a')", ""},
	{"session_count(namespace => 'n')", ""},
	{"session_count(namespace => 'n', id_prefix => 'a')", ""},
	{"session_list(namespace => 'n', filter => '{\"v\": 2}')", ""},
	{"session_list(namespace => 'n', id_prefix => 'a', with_data => true)", ""},
	{"session_purge()", ""},
	{"session_health()", ""},
	{"session_metrics()", ""},
	{"session_may('n')", ""},
	{"session_cache_sync('5 s')", ""},
	{"session_cache_verify(100)", ""},
	{"fuzz_plain(1)", ""},
	{"fuzz_plain(2)", ""},
	{"fuzz_plain(3)", ""},
	{"fuzz_plain(4)", ""},
};

/* Plain SQL, as calls. */
static const char plain[] =
	"CREATE FUNCTION fuzz_plain(what int) RETURNS void LANGUAGE plpgsql AS $$ BEGIN "
	"IF what = 1 THEN UPDATE conversation_sessions SET session_data = '{\"v\": 20}' WHERE namespace = 'n'; "
	"ELSIF what = 2 THEN DELETE FROM conversation_sessions WHERE namespace = 'n'; "
	"ELSIF what = 3 THEN INSERT INTO conversation_sessions (namespace, session_id, session_data, ttl) VALUES "
	"('n', 'plain', '{\"v\": 21}', '1 hour'); "
	"ELSE UPDATE session_namespaces SET max_bytes = max_bytes + 1 WHERE name = 'p'; END IF; END $$";

#define NCALLS ((int) (sizeof(calls) / sizeof(calls[0])))
#define KINDS 2

/* A call with more allocations is tried by its call sites. */
#define MANY 2000

static const char *conninfo = "";
static const char *only = ""; /* only calls whose text contains this */
static const char *const kinds[] = {"palloc", "malloc"};
static bool every_n = false;
static const char *only_kind = NULL;     /* NULL: both */
static const char *only_variants = NULL; /* NULL: all */
static uint64_t rng;
static int failures = 0;
static long tried = 0, fired_count = 0, survived = 0, worker_tries = 0, worker_fired = 0;
static PGconn *pg, *monitor;
#define STATE_MOST 9000

static char last[STATE_MOST], last_state[6];

static uint64_t
rnd(void)
{
	uint64_t z = (rng += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static int64_t
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t) t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void
failure(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fprintf(stderr, "FAILURE: ");
	vfprintf(stderr, format, arguments);
	fprintf(stderr, "\n");
	va_end(arguments);
	failures++;
}

static PGconn *
open_connection(void)
{
	char info[600];
	PGconn *c;

	snprintf(info, sizeof(info), "%s user=postgres dbname=alloc", conninfo);
	c = PQconnectdb(info);
	if (PQstatus(c) != CONNECTION_OK)
	{
		failure("cannot connect: %s", PQerrorMessage(c));
		exit(1);
	}
	PQclear(PQexec(c, "SET client_min_messages = error; SET statement_timeout = '60s'"));
	return c;
}

/*
 * Runs a statement; its first value is in `last`, its SQLSTATE in `last_state`; true when it
 * succeeded.
 */
static bool
run(PGconn *c, const char *format, ...)
{
	va_list arguments;
	char sql[3000];
	PGresult *result;
	ExecStatusType status;
	const char *state;

	va_start(arguments, format);
	vsnprintf(sql, sizeof(sql), format, arguments);
	va_end(arguments);
	result = PQexec(c, sql);
	status = PQresultStatus(result);
	state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	snprintf(last_state, sizeof(last_state), "%s", state == NULL ? "" : state);
	last[0] = '\0';
	if (status == PGRES_TUPLES_OK && PQntuples(result) > 0 && PQnfields(result) > 0)
		snprintf(last, sizeof(last), "%s", PQgetvalue(result, 0, PQnfields(result) - 1));
	else if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
		snprintf(last, sizeof(last), "%s", PQresultErrorMessage(result));
	PQclear(result);
	if (PQstatus(c) != CONNECTION_OK)
	{
		failure("connection lost after: %s\n%s", sql, last);
		exit(1);
	}
	return status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;
}

static void
must(PGconn *c, const char *sql)
{
	if (!run(c, "%s", sql))
		failure("%s\n  from: %s", last, sql);
}

/* The result without a failure: the state before and after, and the number of allocations. */
typedef struct Baseline
{
	char before[STATE_MOST], after[STATE_MOST];
	int64_t n;
} Baseline;

/* It deletes rows that the keeper may be about to delete, in another order. */
static void
make_sessions(void)
{
	while (!run(pg, "SELECT fuzz_reset()"))
		if (strcmp(last_state, "40P01") != 0)
		{
			failure("fuzz_reset() fails: %s", last);
			return;
		}
}

static void
reset(char *state)
{
	make_sessions();
	must(pg, "SELECT fuzz_state()");
	if (state != NULL)
		snprintf(state, STATE_MOST, "%s", last);
}

static void
get_state(char *state)
{
	must(pg, "SELECT fuzz_state()");
	snprintf(state, STATE_MOST, "%s", last);
}

/*
 * Ends it; returns the number of allocations that were counted, negative if the n-th did not come.
 */
static int64_t
end(void)
{
	must(pg, "SET fuzz_fail.armed = off");
	must(pg, "SELECT fuzz_fail_end()");
	return atoll(last);
}

/*
 * Is the variant tried in a savepoint of a transaction that is rolled back?  Then stored data need
 * not be made again each time, and nothing waits at the fence.  When every n is tried, everything
 * else takes too long except for calls in a session that has made them before.
 */
static bool
in_savepoint(Variant variant)
{
	return variant == SAVEPOINT || (every_n && (variant == FRESH || variant == STATEMENTS));
}

/* The call, or the COMMIT after it, with the n-th allocation failing; true when it succeeded. */
static bool
attempt(int call, Variant variant, const char *kind, int64_t n, char *state, int64_t *counted)
{
	static char message[STATE_MOST];
	bool fine;

	if (variant == AT_COMMIT)
	{
		must(pg, "BEGIN");
		fine = run(pg, "SELECT %s", calls[call].sql);
		if (fine)
			(void) run(pg, "SELECT fuzz_fail('%s', %" PRId64 ")", kind, n);
		fine = run(pg, "COMMIT") && fine;
	}
	else if (variant == TRAPPED)
	{
		fine = run(pg, "SELECT fuzz_fail('%s', %" PRId64 "), fuzz_trap($fuzz$%s$fuzz$)", kind, n,
				   calls[call].sql);
		if (fine && last[0] != '\0')
		{
			fine = false;
			snprintf(last_state, sizeof(last_state), "%.5s", last);
		}
	}
	else
	{
		if (in_savepoint(variant))
			must(pg, "BEGIN; SAVEPOINT a");
		fine = run(pg, "SELECT fuzz_fail('%s', %" PRId64 "), %s", kind, n, calls[call].sql);
	}
	snprintf(state, 6, "%s", last_state);
	snprintf(message, sizeof(message), "%s", last);
	if (in_savepoint(variant) && !fine)
		must(pg, "ROLLBACK TO a");
	*counted = end();
	snprintf(last, sizeof(last), "%s", message);
	return fine;
}

static bool
measure(int call, Variant variant, const char *kind, Baseline *base)
{
	char state[6];
	int64_t counted;

	reset(base->before);
	(void) attempt(call, variant, kind, INT64_C(1) << 40, state, &counted);
	base->n = -counted;
	if (strcmp(state, calls[call].state) != 0)
	{
		failure("%s ends with \"%s\": %s", calls[call].sql, state, last);
		if (in_savepoint(variant))
			must(pg, "ROLLBACK");
		return false;
	}
	get_state(base->after);
	if (in_savepoint(variant))
		must(pg, "ROLLBACK");
	return true;
}

/* One n.  True if there was an n-th allocation, which then failed. */
static bool
try_one(int call, Variant variant, const char *kind, int64_t n, const Baseline *base)
{
	char before[STATE_MOST], after[STATE_MOST], state[6], message[STATE_MOST];
	int64_t counted;
	bool fine;

	/* a savepoint's transaction is rolled back: nothing has changed since it was measured */
	if (in_savepoint(variant))
		snprintf(before, sizeof(before), "%s", base->before);
	else
		reset(before);
	if (variant == FRESH)
	{
		PQfinish(pg);
		pg = open_connection();
	}
	if (variant == STATEMENTS)
		must(pg, "SET session_store.direct_rows = off");
	if (variant == TWICE)
		must(pg, "SET fuzz_fail.times = 2");
	fine = attempt(call, variant, kind, n, state, &counted);
	snprintf(message, sizeof(message), "%s", last);
	tried++;
	if (counted > 0)
		fired_count++;
	if (counted > 0 && fine)
		survived++;
	if (!fine && strcmp(state, "53200") != 0 && strcmp(state, calls[call].state) != 0)
		failure("%s (%s, %s, n = %" PRId64 "): %s: %s", calls[call].sql, variant_names[variant],
				kind, n, state, message);
	if (!in_savepoint(variant))
	{
		run(monitor, "SELECT count(*) FROM pg_locks WHERE pid = %d", PQbackendPID(pg));
		if (strcmp(last, "0") != 0)
			failure("%s (%s, %s, n = %" PRId64 ") leaves %s locks", calls[call].sql,
					variant_names[variant], kind, n, last);
	}
	get_state(after);
	if (fine)
	{
		if (strcmp(after, base->after) != 0)
			failure("%s (%s, %s, n = %" PRId64 ") has not done its work, or more:\n  %s\n  %s",
					calls[call].sql, variant_names[variant], kind, n, after, base->after);
	}
	else
	{
		if (strcmp(after, before) != 0)
			failure("%s (%s, %s, n = %" PRId64 ") failed and has changed something",
					calls[call].sql, variant_names[variant], kind, n);
		/* and again; an error that it always has ends what it is in */
		if (!run(pg, "SELECT %s", calls[call].sql) && strcmp(last_state, calls[call].state) != 0)
			failure("%s (%s, %s, n = %" PRId64 "), again: %s", calls[call].sql,
					variant_names[variant], kind, n, last);
		if (PQtransactionStatus(pg) == PQTRANS_INERROR)
			must(pg, "ROLLBACK TO a");
		get_state(after);
		if (strcmp(after, base->after) != 0)
			failure("%s (%s, %s, n = %" PRId64 "), again, differs:\n  %s\n  %s", calls[call].sql,
					variant_names[variant], kind, n, after, base->after);
	}
	if (in_savepoint(variant))
		must(pg, "ROLLBACK");
	if (variant == STATEMENTS)
		must(pg, "RESET session_store.direct_rows");
	if (variant == TWICE)
		must(pg, "RESET fuzz_fail.times");
	return counted > 0;
}

static bool
has_kind(const char *kind)
{
	return only_kind == NULL || strcmp(kind, only_kind) == 0;
}

/* malloc once in so many times, unless only one kind is wanted */
static const char *
draw_kind(int times)
{
	const char *drawn = kinds[rnd() % (uint64_t) times == 0];

	return has_kind(drawn) ? drawn : only_kind;
}

/* Asks until the result is right, for at most so long. */
static bool
becomes(const char *sql, const char *expected, int seconds)
{
	int64_t give_up = now_ms() + seconds * 1000;

	while (!run(monitor, "%s", sql) || strcmp(last, expected) != 0)
	{
		if (now_ms() > give_up)
			return false;
		usleep(20000);
	}
	return true;
}

/* A worker, while there is work of every kind.  Returns how many allocations failed. */
static int64_t
try_worker(const char *worker, const char *kind, int64_t n)
{
	char sql[400];
	int64_t give_up, enough = n == 0 ? 8 : 1, fired;

	worker_tries++;
	snprintf(sql, sizeof(sql), "SELECT fuzz_fail_worker('%s', '%s', %" PRId64 ")", worker, kind, n);
	must(monitor, sql);
	make_sessions();
	snprintf(sql, sizeof(sql),
			 "SELECT session_save('w' || i, jsonb_build_object('r', %d), namespace => 'p') FROM "
			 "generate_series(1, 5) i",
			 (int) (rnd() % 100000));
	must(pg, sql);
	must(pg, "SELECT session_get('w' || i, 'p') FROM generate_series(1, 5) i");
	must(pg, "SELECT session_save('dying', '{}', '1 ms', namespace => 'p')");
	must(pg, "SELECT session_delete('b', 'n')");
	if (rnd() % 4 == 0)
		must(pg, "UPDATE session_namespaces SET cache_ttl = cache_ttl + '1 ms' WHERE name = 'p'");
	give_up = now_ms() + 4000;
	do
	{
		must(monitor, "SELECT fuzz_fail_worker_state()");
		fired = atoll(last);
		if (fired >= enough)
			break;
		usleep(5000);
	} while (now_ms() < give_up);
	worker_fired += fired;
	must(monitor, "SELECT fuzz_fail_worker('', '', 0)");
	if (!becomes("SELECT session_cache_sync('5 s')", "t", 120) ||
		!becomes("SELECT concat_ws(' ', stale, missing, orphaned) FROM session_cache_verify(10000)",
				 "0 0 0", 120))
		failure("%s (%s, n = %" PRId64 "): Redis is not what it must be: %s", worker, kind, n,
				last);
	if (!becomes("SELECT count(*) FROM conversation_sessions WHERE session_id = 'dying'", "0", 120))
		failure("%s (%s, n = %" PRId64 "): what has expired is not purged", worker, kind, n);
	return fired;
}

/* Each call site of a worker, until some turns have found none. */
static void
try_every_site(const char *worker, const char *kind)
{
	int64_t from = now_ms(), first = worker_fired;

	for (int idle = 0; idle < 3 && failures < 20;)
		idle = try_worker(worker, kind, 0) > 0 ? 0 : idle + 1;
	printf("alloc: %s, %s: %" PRId64 " failed in %.1f s\n", worker, kind, worker_fired - first,
		   (double) (now_ms() - from) / 1000);
}

/* Each call site of the workers, or a sample until a time. */
static void
try_workers(int64_t until)
{
	static const char *const workers[] = {"ss_pusher_main", "ss_keeper_main", "ss_launcher_main"};

	for (int i = 0; every_n && i < 3; i++)
		for (int k = 0; k < KINDS; k++)
			if (strstr(workers[i], only) != NULL && has_kind(kinds[k]))
				try_every_site(workers[i], kinds[k]);
	while (!every_n && now_ms() < until && failures < 20)
		(void) try_worker(workers[rnd() % 4 % 3], draw_kind(3),
						  1 + (int64_t) (rnd() % (uint64_t) (rnd() % 2 ? 30 : 600)));
}

/* Is the call to be tried in this variant? */
static bool
is_wanted(int call, Variant variant)
{
	/* a call that always fails leaves nothing to commit */
	if (variant == AT_COMMIT && calls[call].state[0] != '\0')
		return false;
	return strstr(calls[call].sql, only) != NULL &&
		   (only_variants == NULL || strstr(only_variants, variant_names[variant]) != NULL);
}

/* Every n of a variant of a call, or each call site that no call before has reached in this variant. */
static void
try_every_n(int call, Variant variant, const char *kind)
{
	static Baseline base;
	int64_t from = now_ms(), first = fired_count, n = 0;

	/* the first time fills the caches of the session */
	if (!measure(call, variant, kind, &base) || !measure(call, variant, kind, &base))
		return;
	if (variant == FRESH || base.n > MANY)
		while (try_one(call, variant, kind, -(int64_t) variant, &base) && failures < 20)
			;
	else
		/* after a failure a session may need more than when it was counted */
		for (n = 1; (try_one(call, variant, kind, n, &base) || n <= base.n) && failures < 20; n++)
			;
	printf("alloc: %s, %s, %s: %" PRId64 " failed in %.1f s\n", calls[call].sql,
		   variant_names[variant], kind, fired_count - first, (double) (now_ms() - from) / 1000);
}

/* Every n, or a sample until a time. */
static void
try_calls(int64_t until)
{
	static Baseline base;

	for (int variant = 0; every_n && variant < VARIANTS; variant++)
		for (int call = 0; call < NCALLS; call++)
			for (int k = 0; k < KINDS && failures < 20; k++)
				if (is_wanted(call, (Variant) variant) && has_kind(kinds[k]))
					try_every_n(call, (Variant) variant, kinds[k]);
	while (!every_n && now_ms() < until && failures < 20)
	{
		int call = (int) (rnd() % NCALLS);
		/* most with a savepoint: nothing is committed, so nothing waits at the fence */
		Variant variant = rnd() % 8 ? SAVEPOINT : (Variant) (rnd() % VARIANTS);
		const char *kind = draw_kind(4);
		int64_t most;

		if (!is_wanted(call, variant))
			continue;
		/* a session that has not made the call before needs more; mallocs are few */
		if (!measure(call, variant, kind, &base) || base.n == 0)
			continue;
		most = variant == FRESH ? base.n * 3 : base.n;
		for (int i = 0; i < (variant == SAVEPOINT ? 40 : 3) && now_ms() < until; i++)
			try_one(call, variant, kind, 1 + (int64_t) (rnd() % (uint64_t) most), &base);
	}
}

int
main(int argc, char **argv)
{
	int seconds = 60;
	int64_t until;
	char started[60];
	int64_t memory;

	rng = (uint64_t) time(NULL);
	for (int i = 1; i + 1 < argc; i += 2)
	{
		if (strcmp(argv[i], "--conninfo") == 0)
			conninfo = argv[i + 1];
		else if (strcmp(argv[i], "--seed") == 0)
			rng = strtoull(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--only") == 0)
			only = argv[i + 1];
		else if (strcmp(argv[i], "--variants") == 0)
			only_variants = argv[i + 1];
		else if (strcmp(argv[i], "--kind") == 0)
			only_kind = argv[i + 1];
		else if (strcmp(argv[i], "--seconds") == 0)
			seconds = atoi(argv[i + 1]);
		else
			return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	{
		char info[600];
		PGconn *c;

		snprintf(info, sizeof(info), "%s user=postgres dbname=postgres", conninfo);
		c = PQconnectdb(info);
		must(c, "CREATE DATABASE alloc");
		PQfinish(c);
	}
	pg = open_connection();
	monitor = open_connection();
	for (size_t i = 0; i < sizeof(setup) / sizeof(setup[0]); i++)
		must(pg, setup[i]);
	must(pg, plain);
	must(monitor, "SELECT pg_postmaster_start_time()::text");
	snprintf(started, sizeof(started), "%.59s", last);
	if (failures > 0)
		return 1;
	/* the keeper and the pusher must not change the compared data; they are tested below */
	until = now_ms() + seconds * 600;
	every_n = seconds == 0;
	try_calls(until);
	reset(NULL);
	must(pg, "SELECT sum(total_bytes) FROM pg_backend_memory_contexts");
	memory = atoll(last);
	try_workers(now_ms() + seconds * 400);
	must(monitor, "SELECT pg_postmaster_start_time()::text");
	if (strcmp(last, started) != 0)
		failure("the server was restarted by itself");
	printf(
		"alloc: %ld calls, in %ld an allocation failed, %ld of them did their work all the same; %ld turns of "
		"workers, in %ld an allocation failed; a backend had %" PRId64 " kB at the end\n",
		tried, fired_count, survived, worker_tries, worker_fired, memory / 1024);
	return failures > 0 ? 1 : 0;
}
