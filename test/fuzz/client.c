/*
 * client.c
 *		Sends statements, limits their time, cancels some, and checks every answer.
 *
 * A failure is: an unexpected loss of the connection, an answer that takes too long, an error of
 * class XX or 58 or 53200, a warning without an error code of its own (by which the server reports
 * a leak), or a tag that does not belong into the answer.
 */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

#define HANG_MS 240000 /* on a busy machine */

int64_t
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t) t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void
failure(Client *c, const char *format, ...)
{
	va_list arguments;
	char text[3000];

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	fprintf(stderr, "FAILURE client %d: %s\n", c->number, text);
	if (c->log != NULL)
	{
		fprintf(c->log, "-- FAILURE: %s\n", text);
		fflush(c->log);
	}
	__sync_fetch_and_add(&shared->failures, 1);
}

static void
count_state(const char *state)
{
	for (int i = 0; i < shared->nstates; i++)
		if (strcmp(shared->state_names[i], state) == 0)
		{
			__sync_fetch_and_add(&shared->states[i], 1);
			return;
		}
	if (shared->nstates < 64)
	{
		int i = __sync_fetch_and_add(&shared->nstates, 1);

		if (i < 64)
		{
			snprintf(shared->state_names[i], sizeof(shared->state_names[i]), "%s", state);
			shared->states[i] = 1;
		}
	}
}

/*
 * Warnings that PostgreSQL gives without the extension, too: VACUUM of tables that are not ours; when a
 * GRANT changes a PL/pgSQL function that is running, and calls itself, in a query with several rows, and
 * the next row compiles it again; and when an exception block of PL/pgSQL is canceled during a report at
 * DEBUG5 while it is rolled back, after which the transaction cannot be ended and the connection is lost.
 */
static const char *const of_server[] = {"skipping \"",
										"trying to insert a function that already exists",
										"AbortSubTransaction while in ABORT state"};

static void
on_notice(void *arg, const PGresult *result)
{
	Client *c = arg;
	const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if (severity == NULL || state == NULL || strcmp(severity, "WARNING") != 0)
		return;
	for (size_t i = 0; i < sizeof(of_server) / sizeof(of_server[0]); i++)
		if (strstr(PQresultErrorMessage(result), of_server[i]) != NULL)
			return;
	if (strcmp(state, "01000") == 0 || strncmp(state, "XX", 2) == 0)
		failure(c, "warning %s: %s", state, PQresultErrorMessage(result));
}

/* Every tag in a text must be an expected one. */
static void
judge_text(Client *c, const char *text, const Expect *expect, const char *sql)
{
	const char *at = text;

	if (text == NULL || expect == NULL)
		return;
	while ((at = strstr(at, "_t\"")) != NULL)
	{
		char ns[8] = {0};
		int n = 0;

		at += 2;
		at += strspn(at, "\\\": ");
		while (n < 7 && ((*at >= 'a' && *at <= 'z') || (*at >= '0' && *at <= '9')))
			ns[n++] = *at++;
		if (n == 0 || *at != '.')
			continue;
		__sync_fetch_and_add(&shared->tags_seen, 1);
		if ((expect->ns != NULL && strcmp(ns, expect->ns) != 0) ||
			(expect->family != 0 && at[1] != expect->family) ||
			(expect->iso_family != 0 && strcmp(ns, "iso") == 0 && at[1] != expect->iso_family))
			failure(c, "foreign tag %s.%c (expected %s.%c, isolated %c) in an answer to: %.500s",
					ns, at[1], expect->ns ? expect->ns : "*", expect->family ? expect->family : '*',
					expect->iso_family ? expect->iso_family : '*', sql);
	}
}

static bool
is_definition(const char *sql)
{
	static const char *const words[] = {"ALTER ",  "CREATE ", "DROP ",  "GRANT ", "REVOKE ",
										"REINDEX", "CLUSTER", "VACUUM", "ANALYZE"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strncmp(sql, words[i], strlen(words[i])) == 0)
			return true;
	return false;
}

static void
judge_error(Client *c, const PGresult *result, const Expect *expect, const char *sql)
{
	static const int fields[] = {PG_DIAG_MESSAGE_PRIMARY, PG_DIAG_MESSAGE_DETAIL,
								 PG_DIAG_MESSAGE_HINT};
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

	/*
	 * libpq's message about a lost connection has no SQLSTATE: the last message of the server
	 * counts
	 */
	if (state != NULL || c->state[0] == '\0')
		snprintf(c->state, sizeof(c->state), "%s", state == NULL ? "" : state);
	__sync_fetch_and_add(&shared->errors, 1);
	count_state(c->state);
	if (strcmp(c->state, "57014") == 0 && PQresultErrorField(result, PG_DIAG_CONTEXT) != NULL &&
		strstr(PQresultErrorField(result, PG_DIAG_CONTEXT), "during exception cleanup") != NULL)
		c->half_open = true;
	for (int i = 0; i < 3; i++)
		judge_text(c, PQresultErrorField(result, fields[i]), expect, sql);
	if (strncmp(c->state, "XX", 2) != 0 && strncmp(c->state, "58", 2) != 0 &&
		strcmp(c->state, "53200") != 0 && strcmp(c->state, "57P02") != 0)
		return;
	/* see of_server */
	if (c->half_open && message != NULL && strstr(message, "UserAbortTransactionBlock") != NULL)
		return;
	/* the server's own messages for two sessions that change a definition at the same time */
	if (is_definition(sql) && message != NULL &&
		(strstr(message, "tuple concurrently") != NULL || strstr(message, "cache lookup") != NULL))
		return;
	failure(c, "%s: %s\n  in: %.1500s", c->state, PQresultErrorMessage(result), sql);
}

static void
judge_answer(Client *c, const PGresult *result, const Expect *expect, const char *sql, bool first)
{
	if (first)
	{
		c->ntuples = PQntuples(result);
		c->value_null = c->ntuples == 0 || PQnfields(result) == 0 || PQgetisnull(result, 0, 0);
		snprintf(c->value, sizeof(c->value), "%s", c->value_null ? "" : PQgetvalue(result, 0, 0));
	}
	if (expect == NULL || (expect->ns == NULL && expect->iso_family == 0))
		return;
	for (int i = 0; i < PQntuples(result); i++)
		for (int j = 0; j < PQnfields(result); j++)
			judge_text(c, PQgetvalue(result, i, j), expect, sql);
}

/* Waits until the result can be read without waiting; cancels meanwhile if that is due. */
static bool
wait_for_answer(Client *c, int64_t cancel_after_us, const char *sql)
{
	int64_t started = now_ms();
	bool canceled = cancel_after_us < 0;

	while (PQisBusy(c->pg))
	{
		struct pollfd p = {PQsocket(c->pg), POLLIN, 0};
		int rc;

		if (!canceled && cancel_after_us < 1000)
		{
			char error[256];
			PGcancel *cancel = PQgetCancel(c->pg);

			if (cancel_after_us > 0)
				usleep((useconds_t) cancel_after_us);
			if (cancel != NULL)
				(void) PQcancel(cancel, error, sizeof(error));
			PQfreeCancel(cancel);
			canceled = true;
			__sync_fetch_and_add(&shared->cancels, 1);
		}
		rc = poll(&p, 1, canceled ? 1000 : (int) (cancel_after_us / 1000));
		if (rc == 0 && !canceled)
			cancel_after_us = 0;
		if (rc > 0 && !PQconsumeInput(c->pg))
			return true; /* PQgetResult tells */
		if (now_ms() - started > HANG_MS)
		{
			failure(c, "no answer within %d s to: %.1500s", HANG_MS / 1000, sql);
			return false;
		}
	}
	return true;
}

static void
note_transaction(Client *c)
{
	PGTransactionStatusType status = PQtransactionStatus(c->pg);

	c->in_transaction = status == PQTRANS_INTRANS || status == PQTRANS_INERROR;
	if (c->wiping && !c->in_transaction)
	{
		c->wiping = false;
		__sync_fetch_and_add(&shared->wipes_done, 1);
		__sync_fetch_and_add(&shared->wipes_active, -1);
	}
}

/*
 * Connects if there is no connection, with the settings that every client has; false when that
 * fails.
 */
bool
client_connect(Client *c)
{
	char info[600];

	if (c->pg != NULL && PQstatus(c->pg) == CONNECTION_OK)
		return true;
	if (c->pg != NULL)
	{
		__sync_fetch_and_add(&shared->reconnects, 1);
		PQfinish(c->pg);
	}
	snprintf(info, sizeof(info),
			 "%s user=%s dbname=fuzz application_name=fuzz client_encoding=UTF8", c->conninfo,
			 c->role);
	c->pg = PQconnectdb(info);
	if (PQstatus(c->pg) != CONNECTION_OK)
	{
		failure(c, "cannot connect: %s", PQerrorMessage(c->pg));
		return false;
	}
	(void) PQsetNoticeReceiver(c->pg, on_notice, c);
	fprintf(c->log, "-- connected as %s, process %d\n", c->role, PQbackendPID(c->pg));
	note_transaction(c);
	c->cancel_next = c->half_open = false;
	if (c->iso_family != 0)
		run_format(c, NULL, "SET request.jwt.claims = '{\"sub\": \"%s\"}'",
				   c->iso_family == 'a' ? "alice" : "bob");
	return true;
}

/*
 * Does it remove all sessions, or seem to?  A form of ALTER TABLE that rewrites a table shows it
 * empty to older snapshots, as the server's manual says.
 */
static bool
is_wipe(const char *sql)
{
	return strcmp(sql, "TRUNCATE conversation_sessions") == 0 ||
		   strcmp(sql, "DELETE FROM conversation_sessions") == 0 ||
		   strncmp(sql, "ALTER TABLE conversation_sessions SET ", 38) == 0;
}

/* One statement, or several that are sent at once; true when none failed. */
bool
run_sql(Client *c, const char *sql, const Expect *expect)
{
	PGresult *result;
	bool first = true;
	int64_t cancel_after = -1;

	if (c->cancel_next)
		cancel_after = chance(c, 2) ? below(c, 3000) : below(c, 30000);
	c->ok = true;
	c->ntuples = 0;
	c->value_null = true;
	c->value[0] = c->state[0] = '\0';
	fprintf(c->log, "%s;%s\n", sql, cancel_after >= 0 ? " -- canceled" : "");
	fflush(c->log);
	__sync_fetch_and_add(&shared->statements, 1);
	if (!c->wiping && is_wipe(sql))
	{
		c->wiping = true;
		__sync_fetch_and_add(&shared->wipes_active, 1);
	}
	if (PQsendQuery(c->pg, sql) == 1)
		while (wait_for_answer(c, cancel_after, sql) || (_exit(3), true))
		{
			ExecStatusType status;

			cancel_after = -1;
			if ((result = PQgetResult(c->pg)) == NULL)
				break;
			status = PQresultStatus(result);
			if (status == PGRES_TUPLES_OK)
			{
				judge_answer(c, result, expect, sql, first);
				first = false;
			}
			else if (status != PGRES_COMMAND_OK && status != PGRES_EMPTY_QUERY)
			{
				c->ok = false;
				judge_error(c, result, expect, sql);
			}
			PQclear(result);
		}
	else
		c->ok = false;
	if (c->state[0])
		fprintf(c->log, "-- %s\n", c->state);
	note_transaction(c);
	if (PQstatus(c->pg) != CONNECTION_OK)
	{
		c->ok = false;
		/*
		 * Terminated by another client, or for idling in a transaction.  Without an SQLSTATE it
		 * was between two statements; the server's log tells other reasons.
		 */
		if (c->state[0] != '\0' && strcmp(c->state, "57P01") != 0 &&
			strcmp(c->state, "25P03") != 0 && !c->half_open)
			failure(c, "connection lost (%s %s) after: %.1500s", c->state, PQerrorMessage(c->pg),
					sql);
	}
	return c->ok;
}

bool
run_format(Client *c, const Expect *expect, const char *format, ...)
{
	va_list arguments;
	char sql[4000];

	va_start(arguments, format);
	vsnprintf(sql, sizeof(sql), format, arguments);
	va_end(arguments);
	return run_sql(c, sql, expect);
}

/* What one client does until the end of its time. */
int
client_main(Client *c, int64_t until_ms)
{
	while (now_ms() < until_ms && shared->failures < 20)
	{
		if (!client_connect(c))
			return 1;
		c->cancel_next = chance(c, 12);
		switch (below(c, 20))
		{
			case 0:
				step_setting(c);
				break;
			case 1:
			case 2:
			case 3:
				step_transaction(c);
				break;
			case 4:
			case 5:
			case 6:
				step_plain(c);
				break;
			case 7:
			case 8:
				step_model(c);
				break;
			case 9:
				step_owner(c);
				break;
			default:
				step_call(c);
		}
		/* a transaction that failed is of no more use */
		if (PQtransactionStatus(c->pg) == PQTRANS_INERROR && !chance(c, 4))
			run_sql(c, chance(c, 2) ? "ROLLBACK" : "ROLLBACK TO a", NULL);
	}
	if (PQstatus(c->pg) == CONNECTION_OK && c->in_transaction)
		run_sql(c, "ROLLBACK", NULL);
	PQfinish(c->pg);
	fclose(c->log);
	return 0;
}
