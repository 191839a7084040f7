/*
 * model.c
 *		Sessions that only one client changes, so that it can predict their state.
 *
 * Changes are made outside of transactions: what fails has changed nothing, whatever the error. But a
 * connection that was lost leaves the fate of a change open, and so does a cancel: with log_statement_stats,
 * say, the server logs after the commit, and then notices the cancel. Another session is begun then, and
 * after a wipe.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

static void
another(Client *c)
{
	c->model_serial++;
	c->model_exists = false;
	c->model_version = c->model_messages = 0;
	text_clear(&c->model_document);
}

/* Has a statement had its effect, and can that be known? */
static bool
told(Client *c, int wipes)
{
	if (PQstatus(c->pg) != CONNECTION_OK || strcmp(c->state, "57014") == 0 ||
		shared->wipes_active != 0 || shared->wipes_done != wipes)
	{
		another(c);
		return false;
	}
	return c->ok;
}

static void
expect_value(Client *c, int64_t value, const char *what)
{
	__sync_fetch_and_add(&shared->model_checks, 1);
	if (c->value_null || atoll(c->value) != value)
		failure(c, "%s of session %d.%d: %s, expected %" PRId64, what, c->number, c->model_serial,
				c->value_null ? "NULL" : c->value, value);
}

static void
check(Client *c, int wipes)
{
	Text sql = {0};

	if (!c->model_exists)
		run_format(c, NULL, "SELECT coalesce(session_get('%d.%d', 'm')::text, 'true')", c->number,
				   c->model_serial);
	else
	{
		text_printf(&sql,
					"SELECT version = %" PRId64 " AND message_count = %" PRId64
					" AND session_data = (",
					c->model_version, c->model_messages);
		text_add(&sql, c->model_document.data, c->model_document.len);
		text_printf(&sql, ") FROM session_fetch('%d.%d', 'm')", c->number, c->model_serial);
		run_sql(c, sql.data, NULL);
		free(sql.data);
	}
	if (!told(c, wipes))
		return;
	__sync_fetch_and_add(&shared->model_checks, 1);
	if (strcmp(c->value, "t") != 0 && strcmp(c->value, "true") != 0)
	{
		char seen[300];
		char text[300];

		snprintf(seen, sizeof(seen), "%s", c->value);
		run_format(c, NULL, "SELECT left(s::text, 250) FROM session_fetch('%d.%d', 'm') s",
				   c->number, c->model_serial);
		snprintf(text, sizeof(text), "%s", c->value);
		failure(c,
				"session %d.%d is not what it must be (%s): %s; expected %s version %" PRId64
				", %" PRId64 " messages, %.600s",
				c->number, c->model_serial, seen, text, c->model_exists ? "" : "none,",
				c->model_version, c->model_messages,
				c->model_document.data ? c->model_document.data : "");
		another(c);
	}
}

static void
save(Client *c, int wipes)
{
	Text document = {0}, sql = {0};
	bool right = !chance(c, 4);

	gen_document(c, "m", 'a', &document);
	if (strncmp(document.data, "{\"_t\"", 5) == 0)
	{
		text_printf(&sql, "SELECT session_save('%d.%d', ", c->number, c->model_serial);
		text_literal(&sql, document.data, document.len);
		text_printf(&sql, ", if_version => %" PRId64 ", namespace => 'm')",
					c->model_version + (right ? 0 : 1));
		run_sql(c, sql.data, NULL);
		if (told(c, wipes))
		{
			c->model_exists = true;
			expect_value(c, ++c->model_version, "version after a save");
			if (!right)
				failure(c, "a save with a wrong if_version was accepted");
			text_clear(&c->model_document);
			text_literal(&c->model_document, document.data, document.len);
			text_puts(&c->model_document, "::jsonb");
		}
	}
	free(document.data);
	free(sql.data);
}

void
step_model(Client *c)
{
	int wipes = shared->wipes_done;
	int value;

	/* the compared text is in UTF-8 */
	if (c->in_transaction || strcmp(pg_encoding_to_char(PQclientEncoding(c->pg)), "UTF8") != 0)
		return;
	if (shared->wipes_active != 0 || wipes != c->model_wipes ||
		(c->model_exists && c->model_document.len > 100000))
	{
		c->model_wipes = wipes;
		another(c);
		if (shared->wipes_active != 0)
			return;
	}
	if (!c->model_exists)
	{
		save(c, wipes);
		return;
	}
	switch (below(c, 8))
	{
		case 0:
		case 1:
			save(c, wipes);
			break;
		case 2:
			value = below(c, 1000);
			run_format(c, NULL,
					   "SELECT session_merge('%d.%d', '{\"c\": %d}', namespace => 'm') IS NULL",
					   c->number, c->model_serial, value);
			if (told(c, wipes))
			{
				c->model_version++;
				text_printf(&c->model_document, " || '{\"c\": %d}'", value);
			}
			break;
		case 3:
			run_format(
				c, NULL,
				"SELECT session_append('%d.%d', '[{\"_t\":\"m.a\"},{\"_t\":\"m.a\"}]', namespace "
				"=> 'm') IS NULL",
				c->number, c->model_serial);
			if (told(c, wipes))
				c->model_messages += 2;
			break;
		case 4:
			run_format(c, NULL, "SELECT jsonb_array_length(session_pop('%d.%d', 1, 'm', %s))",
					   c->number, c->model_serial, chance(c, 2) ? "true" : "false");
			if (told(c, wipes))
			{
				expect_value(c, c->model_messages > 0 ? 1 : 0, "messages popped");
				c->model_messages -= c->model_messages > 0 ? 1 : 0;
			}
			break;
		case 5:
			run_format(c, NULL, "SELECT session_touch('%d.%d', namespace => 'm') IS NULL",
					   c->number, c->model_serial);
			(void) told(c, wipes);
			break;
		case 6:
			if (!chance(c, 5))
				break;
			run_format(c, NULL, "SELECT session_delete('%d.%d', 'm')::int", c->number,
					   c->model_serial);
			if (told(c, wipes))
			{
				expect_value(c, 1, "deleted");
				another(c);
			}
			return;
		default:
			break;
	}
	wipes = shared->wipes_done;
	if (c->model_exists && shared->wipes_active == 0 && wipes == c->model_wipes &&
		PQstatus(c->pg) == CONNECTION_OK)
		check(c, wipes);
}
