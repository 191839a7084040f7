/*
 * plain.c
 *		Random statements of plain SQL on the tables, settings, transactions, and commands of the
 *		owner.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

#define PICK(c, list) (list)[below((c), (int) (sizeof(list) / sizeof((list)[0])))]

/* The key of a session: a namespace, a family and an id as literal. */
static void
place(Client *c, const char **ns, char *family, Text *id)
{
	Text raw = {0};

	*ns = pick_ns(c);
	*family = pick_family(c, *ns);
	gen_id(c, *ns, *family, &raw);
	text_clear(id);
	text_literal(id, raw.data, raw.len);
	free(raw.data);
}

static void
insert_row(Client *c)
{
	const char *ns;
	char family;
	Text id = {0}, sql = {0}, document = {0};
	static const char *const conflicts[] = {
		"",
		"",
		" ON CONFLICT DO NOTHING",
		" ON CONFLICT (namespace, session_id) DO UPDATE SET session_data = EXCLUDED.session_data",
		" ON CONFLICT (namespace, session_id) DO UPDATE SET dead_until = NULL, session_data = "
		"EXCLUDED.session_data",
		" RETURNING version, session_data"};
	Expect expect;

	place(c, &ns, &family, &id);
	expect = (Expect){ns, family, c->iso_family};
	gen_document(c, ns, family, &document);
	text_puts(&sql, "INSERT INTO conversation_sessions (namespace, session_id, session_data");
	if (chance(c, 2))
		text_puts(&sql, ", expires_at, ttl, version, created_at) VALUES (");
	else
		text_puts(&sql, ") VALUES (");
	text_printf(&sql, "'%s', ", ns);
	text_add(&sql, id.data, id.len);
	text_puts(&sql, ", ");
	text_literal(&sql, document.data, document.len);
	if (strstr(sql.data, "created_at) VALUES") != NULL)
		text_printf(&sql, ", %s, %s, %s, %s", gen_timestamp(c), gen_interval(c), gen_int8(c),
					gen_timestamp(c));
	text_printf(&sql, ")%s", PICK(c, conflicts));
	run_sql(c, sql.data, &expect);
	free(id.data);
	free(sql.data);
	free(document.data);
}

static void
update_row(Client *c)
{
	const char *ns;
	char family;
	Text id = {0}, sql = {0}, document = {0};
	Expect expect;

	place(c, &ns, &family, &id);
	expect = (Expect){ns, family, c->iso_family};
	text_puts(&sql, "UPDATE conversation_sessions SET ");
	switch (below(c, 12))
	{
		case 0:
			text_printf(&sql, "expires_at = %s", gen_timestamp(c));
			break;
		case 1:
			text_printf(&sql, "ttl = %s, created_at = %s", gen_interval(c), gen_timestamp(c));
			break;
		case 2:
			text_printf(&sql, "version = %s", gen_int8(c));
			break;
		case 3:
			text_printf(&sql, "dead_until = %s", gen_timestamp(c));
			break;
		case 4:
			text_printf(&sql, "last_seq = %s, message_count = %s", gen_int8(c), gen_int8(c));
			break;
		case 5:
			text_printf(&sql, "check_at = %s", gen_timestamp(c));
			break;
		case 6:
			text_printf(&sql, "history_id = %s", chance(c, 2) ? "NULL" : "gen_random_uuid()");
			break;
		case 7: /* into the same family */
			text_printf(&sql, "session_id = '%c.%d'", family, below(c, 6));
			break;
		case 8:
			text_printf(&sql, "owner_id = %s",
						strcmp(ns, "iso") == 0 ? "NULL"
						: chance(c, 2)         ? "'o1'"
											   : "''");
			break;
		default:
			gen_document(c, ns, family, &document);
			text_puts(&sql, "session_data = ");
			text_literal(&sql, document.data, document.len);
	}
	text_printf(&sql, " WHERE namespace = '%s' AND session_id = ", ns);
	text_add(&sql, id.data, id.len);
	if (chance(c, 3))
		text_puts(&sql, " RETURNING *");
	run_sql(c, sql.data, &expect);
	free(id.data);
	free(sql.data);
	free(document.data);
}

/* History and members by plain SQL. */
static void
change_messages(Client *c)
{
	const char *ns;
	char family;
	Text id = {0};
	char which[400];

	place(c, &ns, &family, &id);
	snprintf(
		which, sizeof(which),
		"(SELECT history_id FROM conversation_sessions WHERE namespace = '%s' AND session_id = "
		"'%c.%d')",
		ns, family, below(c, 5));
	switch (below(c, 7))
	{
		case 0:
			run_format(c, NULL, "DELETE FROM conversation_history WHERE history_id = %s", which);
			break;
		case 1:
			run_format(
				c, NULL,
				"UPDATE conversation_history SET message = '{\"_t\":\"%s.%c\",\"by\":\"hand\"}' "
				"WHERE history_id = %s",
				ns, family, which);
			break;
		case 2:
			run_format(c, NULL,
					   "INSERT INTO conversation_history (history_id, seq, message) SELECT %s, %s, "
					   "'{\"_t\":\"%s.%c\"}'",
					   which, gen_int8(c), ns, family);
			break;
		case 3:
			run_format(c, NULL, "DELETE FROM session_members WHERE history_id = %s", which);
			break;
		case 4:
			run_format(c, NULL,
					   "UPDATE conversation_history SET seq = seq + %s WHERE history_id = %s",
					   gen_int4(c), which);
			break;
		case 5:
			run_format(c, NULL,
					   "UPDATE session_operations SET operation_id = 'op%d', result = %s "
					   "WHERE history_id = %s",
					   below(c, 20), gen_int8(c), which);
			break;
		default:
			run_format(c, NULL, "DELETE FROM session_events WHERE namespace = '%s'", ns);
	}
	free(id.data);
}

void
step_plain(Client *c)
{
	const char *ns = pick_ns(c);
	Expect expect = {ns, 0, c->iso_family};
	Expect own = {NULL, 0, c->iso_family};

	switch (below(c, 16))
	{
		case 0:
		case 1:
		case 2:
			insert_row(c);
			break;
		case 3:
		case 4:
		case 5:
		case 6:
			update_row(c);
			break;
		case 7:
			run_format(
				c, &expect,
				"DELETE FROM conversation_sessions WHERE namespace = '%s' AND session_id LIKE "
				"'%c.%%' RETURNING *",
				ns, pick_family(c, ns));
			break;
		case 8:
			run_format(c, &expect, "SELECT * FROM conversation_sessions WHERE namespace = '%s'%s",
					   ns, chance(c, 2) ? " LIMIT 5 FOR UPDATE SKIP LOCKED" : " LIMIT 20");
			break;
		case 9:
			run_format(c, &expect,
					   "SELECT * FROM conversation_messages WHERE namespace = '%s' LIMIT 20", ns);
			break;
		case 10:
			run_sql(c, "SELECT * FROM session_events LIMIT 20", &own);
			break;
		case 11:
			run_sql(c, "SELECT * FROM session_stats", &own);
			break;
		case 12:
			run_sql(c, "SELECT * FROM session_members LIMIT 20", &own);
			break;
		case 13:
			if (chance(c, 40))
			{
				run_sql(c,
						chance(c, 2) ? "TRUNCATE conversation_sessions"
									 : "DELETE FROM conversation_sessions",
						NULL);
				break;
			}
			/* FALLTHROUGH */
		default:
			change_messages(c);
	}
}

void
step_setting(Client *c)
{
	static const char *const all[] = {
		"SET session_store.direct_rows = off",
		"SET session_store.direct_rows = on",
		"SET session_store.namespace = 'n0'",
		"SET session_store.namespace = '\x01'",
		"SET session_store.fence = 'all'",
		"RESET session_store.fence",
		"SET statement_timeout = '1ms'",
		"SET statement_timeout = '5ms'",
		"SET lock_timeout = '1ms'",
		"RESET lock_timeout",
		"SET enable_indexscan = off",
		"SET enable_seqscan = off",
		"SET enable_bitmapscan = off",
		"SET work_mem = '64kB'",
		"SET jit = on",
		"SET plan_cache_mode = force_generic_plan",
		"SET plan_cache_mode = force_custom_plan",
		"SET default_transaction_isolation = 'serializable'",
		"SET default_transaction_isolation = 'repeatable read'",
		"RESET default_transaction_isolation",
		"SET default_transaction_read_only = on",
		"SET default_transaction_read_only = off",
		"SET synchronous_commit = off",
		"SET timezone = 'Asia/Kathmandu'",
		"SET intervalstyle = 'sql_standard'",
		"SET datestyle = 'SQL, DMY'",
		"SET extra_float_digits = -15",
		"SET search_path = pg_temp, public",
		"SET search_path = ''",
		"SET search_path = public",
		"SET client_min_messages = debug5",
		"RESET client_min_messages",
		"SET client_encoding = 'LATIN1'",
		"RESET client_encoding",
		"SET row_security = off",
		"RESET row_security",
		"SET max_stack_depth = '100kB'",
		"RESET max_stack_depth",
		"SET log_statement_stats = on",
		"SET backslash_quote = off",
		"SET session_replication_role = replica",
		"RESET session_replication_role",
		"SET transform_null_equals = on",
		"SET quote_all_identifiers = on",
		"SELECT set_config(name, 'on', false) FROM pg_settings WHERE name IN "
		"('force_parallel_mode', 'debug_parallel_query')",
		"SELECT set_config(name, 'regress', false) FROM pg_settings WHERE name IN "
		"('force_parallel_mode', 'debug_parallel_query')",
		"SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; "
		"SET min_parallel_table_scan_size = 0",
		"SET idle_in_transaction_session_timeout = '1s'",
		"SET ROLE fuzz_app",
		"SET ROLE fuzz_none",
		"RESET ROLE",
		"RESET ROLE",
	};

	run_sql(c, PICK(c, all), NULL);
	/* not for long, because later statements must have an effect, too */
	if (chance(c, 3))
		run_sql(c, chance(c, 3) ? "DISCARD ALL" : "RESET ALL", NULL);
	else if (!c->superuser || c->iso_family == 0)
		return;
	if (c->iso_family != 0)
		run_format(c, NULL, "SET request.jwt.claims = '{\"sub\": \"%s\"}'",
				   c->iso_family == 'a' ? "alice" : "bob");
}

void
step_transaction(Client *c)
{
	static const char *const begins[] = {"BEGIN",
										 "BEGIN",
										 "BEGIN",
										 "BEGIN ISOLATION LEVEL REPEATABLE READ",
										 "BEGIN ISOLATION LEVEL SERIALIZABLE",
										 "BEGIN READ ONLY",
										 "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY"};
	static const char *const inside[] = {"SAVEPOINT a",
										 "SAVEPOINT a",
										 "SAVEPOINT b",
										 "ROLLBACK TO a",
										 "ROLLBACK TO b",
										 "RELEASE a",
										 "RELEASE b",
										 "COMMIT AND CHAIN",
										 "ROLLBACK AND CHAIN",
										 "SET LOCAL session_store.direct_rows = off",
										 "SET TRANSACTION READ ONLY",
										 "SET CONSTRAINTS ALL IMMEDIATE"};

	if (!c->in_transaction)
		run_sql(c, PICK(c, begins), NULL);
	else if (chance(c, 3))
		run_sql(c, chance(c, 4) ? "ROLLBACK" : "COMMIT", NULL);
	else if (chance(c, 15))
	{
		if (run_format(c, NULL, "PREPARE TRANSACTION 'fuzz%d'", c->number))
			while (!run_format(c, NULL, "%s PREPARED 'fuzz%d'",
							   chance(c, 2) ? "COMMIT" : "ROLLBACK", c->number) &&
				   strcmp(c->state, "42704") != 0)
				if (!client_connect(c))
					return;
	}
	else
		run_sql(c, PICK(c, inside), NULL);
}

/* A change of the schema and its reversal; between the two, all clients have to work with it. */
static const char *const changes[][2] = {
	{"ALTER TABLE conversation_sessions ADD COLUMN fuzz_c text DEFAULT 'x'",
	 "ALTER TABLE conversation_sessions DROP COLUMN IF EXISTS fuzz_c"},
	{"ALTER TABLE conversation_history ADD COLUMN fuzz_c int",
	 "ALTER TABLE conversation_history DROP COLUMN IF EXISTS fuzz_c"},
	{"CREATE TRIGGER fuzz_skip BEFORE INSERT OR UPDATE ON conversation_sessions FOR EACH ROW WHEN "
	 "(NEW.namespace = 'n1') EXECUTE FUNCTION fuzz_skip()",
	 "DROP TRIGGER IF EXISTS fuzz_skip ON conversation_sessions"},
	{"CREATE TRIGGER fuzz_raise AFTER DELETE ON conversation_sessions FOR EACH ROW WHEN "
	 "(OLD.namespace = 'n1') EXECUTE FUNCTION fuzz_raise()",
	 "DROP TRIGGER IF EXISTS fuzz_raise ON conversation_sessions"},
	{"CREATE CONSTRAINT TRIGGER fuzz_later AFTER INSERT OR UPDATE ON conversation_sessions DEFERRABLE "
	 "INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.namespace = 'n3') EXECUTE FUNCTION fuzz_call()",
	 "DROP TRIGGER IF EXISTS fuzz_later ON conversation_sessions"},
	{"CREATE TRIGGER fuzz_inner BEFORE UPDATE ON conversation_sessions FOR EACH ROW WHEN "
	 "(NEW.namespace = 'n3') EXECUTE FUNCTION fuzz_call()",
	 "DROP TRIGGER IF EXISTS fuzz_inner ON conversation_sessions"},
	{"CREATE RULE fuzz_rule AS ON DELETE TO conversation_history DO ALSO NOTIFY fuzz",
	 "DROP RULE IF EXISTS fuzz_rule ON conversation_history"},
	{"ALTER TABLE conversation_sessions DISABLE TRIGGER zz_session_change",
	 "ALTER TABLE conversation_sessions ENABLE ALWAYS TRIGGER zz_session_change"},
	{"ALTER TABLE conversation_sessions SET UNLOGGED",
	 "ALTER TABLE conversation_sessions SET LOGGED"},
	{"CREATE INDEX fuzz_i ON conversation_sessions ((session_data->>'n'))",
	 "DROP INDEX IF EXISTS fuzz_i"},
	{"CREATE INDEX fuzz_u ON conversation_sessions (updated_at)", "DROP INDEX IF EXISTS fuzz_u"},
	{"CREATE TABLE fuzz_ref (ns text, id text, FOREIGN KEY (ns, id) REFERENCES conversation_sessions ON "
	 "DELETE CASCADE); INSERT INTO fuzz_ref SELECT namespace, session_id FROM conversation_sessions "
	 "LIMIT 3",
	 "DROP TABLE IF EXISTS fuzz_ref"},
	{"CREATE TABLE fuzz_ref2 (ns text, id text, FOREIGN KEY (ns, id) REFERENCES "
	 "conversation_sessions); INSERT INTO fuzz_ref2 SELECT namespace, session_id FROM "
	 "conversation_sessions WHERE namespace = 'n2' LIMIT 2",
	 "DROP TABLE IF EXISTS fuzz_ref2"},
	{"REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM fuzz_app",
	 "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO fuzz_app"},
	{"ALTER TABLE conversation_sessions CLUSTER ON conversation_sessions_pkey",
	 "CLUSTER conversation_sessions"},
	{"ALTER TABLE conversation_history RENAME COLUMN seq TO fuzz_seq",
	 "ALTER TABLE conversation_history RENAME COLUMN fuzz_seq TO seq"},
	{"ALTER FUNCTION session_get(text, text) RENAME TO fuzz_get",
	 "ALTER FUNCTION fuzz_get(text, text) RENAME TO session_get"},
	{"ALTER TABLE session_namespaces ADD COLUMN fuzz_c text",
	 "ALTER TABLE session_namespaces DROP COLUMN IF EXISTS fuzz_c"},
};

static const char *const upkeep[] = {
	"VACUUM conversation_sessions",
	"VACUUM (FREEZE) conversation_history",
	"ANALYZE conversation_sessions",
	"REINDEX TABLE conversation_sessions",
	"REINDEX INDEX CONCURRENTLY conversation_sessions_check_at",
	"VACUUM FULL conversation_sessions",
	"CHECKPOINT",
	"SELECT pg_reload_conf()",
	"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fuzz' ORDER BY "
	"random() LIMIT 1",
	"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE "
	"'session_store%' ORDER BY random() LIMIT 1",
	"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'session_store%'",
	"SELECT pg_log_backend_memory_contexts(pid) FROM pg_stat_activity WHERE backend_type LIKE "
	"'session_store%' LIMIT 1",
	"BEGIN; LOCK TABLE conversation_sessions; SELECT pg_sleep(0.1); COMMIT",
	"BEGIN; LOCK TABLE session_namespaces, conversation_history; SELECT pg_sleep(0.1); COMMIT",
	"ALTER SYSTEM SET session_store.cache_max_bytes = '1kB'; SELECT pg_reload_conf()",
	"ALTER SYSTEM RESET session_store.cache_max_bytes; SELECT pg_reload_conf()",
	"ALTER SYSTEM SET session_store.lease = '200ms'; SELECT pg_reload_conf()",
	"ALTER SYSTEM RESET session_store.lease; SELECT pg_reload_conf()",
	"DELETE FROM session_namespaces WHERE name IN ('h0', 'h1')",
	"TRUNCATE session_namespaces",
};

static void
change_policy(Client *c)
{
	static const char *const columns[] = {"ttl",
										  "sliding",
										  "max_lifetime",
										  "cache",
										  "cache_ttl",
										  "hot_uses",
										  "hash_keys",
										  "max_bytes",
										  "max_sessions_per_owner",
										  "on_quota",
										  "tombstone",
										  "allowed_roles",
										  "owner_isolation",
										  "audit",
										  "events_keep",
										  "durability",
										  "tail_prefix",
										  "tail_size",
										  "audit_saves"};
	static const char *const names[] = {"n0", "n1", "n2", "n3", "h0", "h1"};
	const char *column = PICK(c, columns);

	run_format(c, NULL, "UPDATE session_namespaces SET %s = %s WHERE name = '%s'", column,
			   gen_policy(c, column), PICK(c, names));
}

void
step_owner(Client *c)
{
	int which;

	if (!c->superuser)
		return;
	/* the result of hostile policies and TRUNCATE */
	if (chance(c, 4))
		run_sql(c, "SELECT fuzz_namespaces()", NULL);
	switch (below(c, 4))
	{
		case 0:
		case 1:
			change_policy(c);
			return;
		case 2:
			if (c->in_transaction || chance(c, 2))
				return;
			run_sql(c, PICK(c, upkeep), NULL);
			return;
	}
	if (c->in_transaction || !chance(c, 4))
		return;
	which = below(c, (int) (sizeof(changes) / sizeof(changes[0])));
	if (!run_sql(c, changes[which][0], NULL))
		return;
	for (int i = 1 + below(c, 6); i > 0; i--)
		step_call(c);
	/* this must be undone whatever else fails */
	for (int tries = 0; tries < 200; tries++)
	{
		if (!client_connect(c))
			return;
		run_sql(c, "ROLLBACK", NULL);
		run_sql(c, "RESET ALL", NULL);
		c->cancel_next = false;
		if (run_sql(c, changes[which][1], NULL) || strcmp(c->state, "42703") == 0 ||
			strcmp(c->state, "42883") == 0)
			break;
	}
}
