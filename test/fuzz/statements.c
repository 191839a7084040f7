/*
 * statements.c
 *		Random calls of the functions in random forms of statements.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

/*
 * Arguments: i id, I another id of the family, d document, m messages, p patch, v interval, o owner,
 * M member, R member's role, 8 bigint, 4 int, # numeric, P path, n namespace, l LIKE pattern, f filter,
 * k operation id, u page cursor, x prefix of ids, A align, b boolean.  Upper-case names in "required" must be given.
 */
typedef struct Call
{
	const char *name;
	const char *kinds;
	const char *names[8];
	int required;
	bool makes_id; /* the result is an id of the family */
	bool reads;    /* of one session, without writing text: others' ids may be tried */
	bool many;     /* about many sessions */
} Call;

static const Call calls[] = {
	{"session_create", "dvon", {"data", "ttl", "owner", "namespace"}, 0, true, false, false},
	{"session_save",
	 "idvo8n",
	 {"session_id", "data", "ttl", "owner", "if_version", "namespace"},
	 2,
	 false,
	 false,
	 false},
	{"session_get", "in", {"session_id", "namespace"}, 1, false, true, false},
	{"session_fetch", "in", {"session_id", "namespace"}, 1, false, true, false},
	{"session_get_many", "Pn", {"session_ids", "namespace"}, 1, false, false, true},
	{"session_json_decode", "d", {"document"}, 1, false, false, true},
	{"session_touch", "ivn", {"session_id", "ttl", "namespace"}, 1, false, true, false},
	{"session_merge",
	 "id8nob",
	 {"session_id", "patch", "if_version", "namespace", "owner", "shallow"},
	 2,
	 false,
	 false,
	 false},
	{"session_incr",
	 "iP##no",
	 {"session_id", "path", "by", "max", "namespace", "owner"},
	 2,
	 false,
	 false,
	 false},
	{"session_hit",
	 "iv88n",
	 {"counter_id", "period", "by", "max", "namespace"},
	 2,
	 false,
	 false,
	 false},
	{"session_hit_reset", "in", {"counter_id", "namespace"}, 1, false, false, false},
	{"session_delete", "in", {"session_id", "namespace"}, 1, false, true, false},
	{"session_take", "in", {"session_id", "namespace"}, 1, false, true, false},
	{"session_regenerate",
	 "inI",
	 {"session_id", "namespace", "new_session_id"},
	 1,
	 true,
	 false,
	 false},
	{"session_exists", "in", {"session_id", "namespace"}, 1, false, true, false},
	{"session_ttl", "in", {"session_id", "namespace"}, 1, false, true, false},
	{"session_append",
	 "imknop4",
	 {"session_id", "messages", "operation_id", "namespace", "owner", "patch", "keep"},
	 2,
	 false,
	 false,
	 false},
	{"session_history",
	 "i48n84",
	 {"session_id", "last", "before", "namespace", "after", "first"},
	 1,
	 false,
	 true,
	 false},
	{"session_replace_tail",
	 "i4mmkn",
	 {"session_id", "n", "messages", "expected", "operation_id", "namespace"},
	 3,
	 false,
	 false,
	 false},
	{"session_window",
	 "i44An",
	 {"session_id", "max_tokens", "max_messages", "align", "namespace"},
	 1,
	 false,
	 true,
	 false},
	{"session_pop", "i4nb", {"session_id", "n", "namespace", "from_start"}, 1, false, true, false},
	{"session_amend",
	 "i8mn",
	 {"session_id", "seq", "message", "namespace"},
	 3,
	 false,
	 false,
	 false},
	{"session_compact",
	 "i8dn",
	 {"session_id", "up_to", "summary", "namespace"},
	 3,
	 false,
	 false,
	 false},
	{"session_tail", "in", {"session_id", "namespace"}, 1, false, true, false},
	{"session_trim", "i4n", {"session_id", "keep", "namespace"}, 2, false, true, false},
	{"session_fork",
	 "iI8n",
	 {"session_id", "new_session_id", "up_to", "namespace"},
	 1,
	 true,
	 false,
	 false},
	{"session_absorb", "iIn", {"target", "source", "namespace"}, 2, false, false, false},
	{"session_share",
	 "iMRn",
	 {"session_id", "member", "role", "namespace"},
	 2,
	 false,
	 false,
	 false},
	{"session_unshare", "iMn", {"session_id", "member", "namespace"}, 2, false, true, false},
	{"session_members", "in", {"session_id", "namespace"}, 1, false, true, false},
	{"session_delete_all",
	 "oin",
	 {"owner", "except_session_id", "namespace"},
	 1,
	 false,
	 false,
	 true},
	{"session_clear", "nlx", {"namespace", "id_like", "id_prefix"}, 1, false, false, true},
	{"session_count",
	 "olnx",
	 {"owner", "id_like", "namespace", "id_prefix"},
	 0,
	 false,
	 false,
	 true},
	{"session_list",
	 "olfu4nxb",
	 {"owner", "id_like", "filter", "after", "page_size", "namespace", "id_prefix", "with_data"},
	 0,
	 false,
	 false,
	 true},
	{"session_purge", "8n", {"max_rows", "namespace"}, 0, false, false, true},
	{"session_health", "", {NULL}, 0, false, false, true},
	{"session_metrics", "", {NULL}, 0, false, false, true},
	{"session_cache_sync", "v", {"timeout"}, 0, false, false, true},
	{"session_cache_verify", "4", {"sample"}, 0, false, false, true},
	{"session_cache_flush", "n", {"namespace"}, 0, false, false, true},
	{"session_may", "noUR", {"namespace", "owner", "history_id", "role"}, 1, false, false, true},
	{"session_effective_expiry",
	 "nit",
	 {"namespace", "session_id", "expires_at"},
	 3,
	 false,
	 false,
	 true},
	{"session_alive",
	 "nitttv",
	 {"namespace", "session_id", "created_at", "expires_at", "dead_until", "ttl"},
	 5,
	 false,
	 false,
	 true},
};

#define NCALLS ((int) (sizeof(calls) / sizeof(calls[0])))
#define FROM_ONE_SESSION 26 /* most calls before this index are about one session */

static const char *
gen_owner(Client *c, const char *ns, char family)
{
	static const char *const all[] = {"NULL",   "NULL",  "'o1'",    "'o2'",
									  "'o3'",   "''",    "'alice'", "repeat('o', 201)",
									  "'\x01'", "'\xff'"};

	/* there, an owner with another's documents would make a correct result look foreign */
	if (strcmp(ns, "iso") == 0)
		return chance(c, 3) ? "NULL" : family == 'a' ? "'alice'" : "'bob'";
	return all[below(c, sizeof(all) / sizeof(all[0]))];
}

static void
gen_argument(Client *c, char kind, const char *ns, char family, char id_family, Text *out)
{
	static const char *const paths[] = {"'{n}'",         "'{k0}'",
										"'{k0,k1}'",     "'{b,0}'",
										"'{}'",          "NULL",
										"'{NULL}'",      "'{{a,b},{c,d}}'",
										"'{b,-1}'",      "'{n,n,n}'",
										"'{\"\"}'",      "'{b,99999999999}'",
										"'[0:1]={a,b}'", "array_fill('a'::text, ARRAY[3000])"};
	static const char *const likes[] = {"NULL",  "'%'",   "'a%'",
										"'_.1'", "'\\'",  "''",
										"'%\\'", "'b.%'", "repeat('%a', 2000)",
										"'\xff'"};
	static const char *const filters[] = {"NULL", "'{}'",   "'{\"n\":1}'",
										  "'[]'", "'null'", "'{\"k0\":{}}'"};
	static const char *const cursors[] = {"NULL",        "''",
										  "'x'",         "'c1.0002f0e5b3c8a000.a.1'",
										  "'\xff'",      "repeat('1', 500)",
										  "'i1.00.a.1'", "'i1.02.a.1'"};
	static const char *const prefixes[] = {"NULL",
										   "''",
										   "'a'",
										   "'a.'",
										   "'b.1'",
										   "'%'",
										   "'\xff'",
										   "repeat('a', 201)",
										   "repeat('b', 200)"};
	static const char *const roles[] = {"'viewer'", "'editor'", "'owner'", "''", "NULL", "'x'"};
	static const char *const aligns[] = {"'user'", "'strict'", "'user'", "'none'", "NULL"};
	Text value = {0};

	switch (kind)
	{
		case 'i':
		case 'I':
			if (chance(c, 60))
			{
				text_puts(out, chance(c, 2) ? "NULL" : "''");
				return;
			}
			text_clear(&value);
			gen_id(c, ns, id_family, &value);
			text_literal(out, value.data, value.len);
			break;
		case 'd':
			gen_document(c, ns, family, &value);
			text_literal(out, value.data, value.len);
			break;
		case 'm':
			gen_messages(c, ns, family, &value);
			text_literal(out, value.data, value.len);
			break;
		case 'v':
			text_puts(out, gen_interval(c));
			break;
		case 't':
			text_puts(out, gen_timestamp(c));
			break;
		case 'o':
			text_puts(out, gen_owner(c, ns, family));
			break;
		case 'M':
			if (strcmp(ns, "iso") == 0)
				text_puts(out, family == 'a' ? "'alice'" : "'bob'");
			else
				text_puts(out, gen_owner(c, ns, family));
			break;
		case 'R':
			text_puts(out, roles[below(c, 6)]);
			break;
		case 'A':
			text_puts(out, aligns[below(c, sizeof(aligns) / sizeof(aligns[0]))]);
			break;
		case '8':
			text_puts(out, gen_int8(c));
			break;
		case '4':
			text_puts(out, gen_int4(c));
			break;
		case '#':
			text_puts(out, gen_numeric(c));
			break;
		case 'P':
			text_puts(out, paths[below(c, sizeof(paths) / sizeof(paths[0]))]);
			break;
		case 'l':
			text_puts(out, likes[below(c, sizeof(likes) / sizeof(likes[0]))]);
			break;
		case 'f':
			text_puts(out, filters[below(c, 6)]);
			break;
		case 'u':
			text_puts(out, cursors[below(c, sizeof(cursors) / sizeof(cursors[0]))]);
			break;
		case 'x':
			text_puts(out, prefixes[below(c, sizeof(prefixes) / sizeof(prefixes[0]))]);
			break;
		case 'U':
			text_puts(out, chance(c, 2) ? "NULL" : "gen_random_uuid()");
			break;
		case 'k':
			if (chance(c, 2))
				text_puts(out, "NULL");
			else
				text_printf(out, chance(c, 20) ? "repeat('k', 201)" : "'op%d'", below(c, 20));
			break;
		case 'b':
			text_puts(out, chance(c, 20) ? "NULL" : chance(c, 2) ? "true" : "false");
			break;
		case 'n':
			text_printf(out, "'%s'", ns);
	}
	free(value.data);
}

static const char *
type_of(char kind)
{
	switch (kind)
	{
		case 'd':
		case 'm':
		case 'f':
			return "jsonb";
		case 'v':
			return "interval";
		case 't':
			return "timestamptz";
		case '8':
			return "bigint";
		case '4':
			return "int";
		case '#':
			return "numeric";
		case 'P':
			return "text[]";
		case 'U':
			return "uuid";
		case 'b':
			return "boolean";
		default:
			return "text";
	}
}

/*
 * The call's text into `out`; or with parameters: the declaration into `types`, the values into
 * `values`.
 */
static void
gen_call(Client *c, const Call *call, const char *ns, char family, Text *out, Text *types,
		 Text *values)
{
	int n = (int) strlen(call->kinds);
	bool named = false;
	int given = 0;
	int id_family = family;

	if (call->reads && strcmp(ns, "iso") == 0 && chance(c, 3))
		id_family = chance(c, 2) ? 'a' : 'b';
	text_printf(out, "%s(", call->name);
	for (int i = 0; i < n; i++)
	{
		bool must = i < call->required || call->kinds[i] == 'n';

		if (!must && chance(c, 2))
		{
			named = true;
			continue;
		}
		if (given++ > 0)
			text_puts(out, ", ");
		if (named)
			text_printf(out, "%s => ", call->names[i]);
		if (types == NULL)
		{
			gen_argument(c, call->kinds[i], ns, family, (char) id_family, out);
			continue;
		}
		text_printf(out, "$%d", given);
		text_printf(types, "%s%s", given > 1 ? "," : "", type_of(call->kinds[i]));
		if (given > 1)
			text_puts(values, ",");
		gen_argument(c, call->kinds[i], ns, family, (char) id_family, values);
	}
	text_puts(out, ")");
}

static void
remember_id(Client *c, const char *ns, char family)
{
	int slot;

	if (!c->ok || c->value_null || c->ntuples != 1 || strlen(c->value) > 200)
		return;
	slot = c->nmade < 16 ? c->nmade++ : below(c, 16);
	snprintf(c->made[slot].id, sizeof(c->made[slot].id), "%.200s", c->value);
	snprintf(c->made[slot].ns, sizeof(c->made[slot].ns), "%s", ns);
	c->made[slot].family = family;
}

/* Forms of a statement that contains a call. */
static const char *const shapes[] = {
	"SELECT %s",
	"SELECT %s",
	"SELECT %s",
	"SELECT * FROM %s",
	"SELECT * FROM %s LIMIT 1",
	"SELECT %s FROM generate_series(1, 3)",
	"SELECT count(*) FROM (SELECT %s FROM generate_series(1, 3) OFFSET 0) s",
	"SELECT 1 WHERE (SELECT %s LIMIT 1) IS NOT NULL",
	"SELECT CASE WHEN random() < 0.5 THEN NULL ELSE (SELECT count(*) FROM %s) END",
	"WITH w AS MATERIALIZED (SELECT %s) SELECT * FROM w",
	"SELECT s.*, t.* FROM generate_series(1, 2) s LEFT JOIN LATERAL (SELECT * FROM %s) t ON true",
	"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) SELECT %s",
	"EXPLAIN (VERBOSE) SELECT %s",
	"SELECT (SELECT %s LIMIT 1), 1 / (random() < 0.7)::int",
	"VALUES ((SELECT count(*) FROM (SELECT %s) s))",
	"SELECT row_to_json(x) FROM %s x",
	"DO $do$ BEGIN PERFORM %s; END $do$",
	"DO $do$ BEGIN PERFORM %s; RAISE EXCEPTION 'undo'; EXCEPTION WHEN OTHERS THEN NULL; END $do$",
	"DO $do$ BEGIN FOR i IN 1..3 LOOP BEGIN PERFORM %s; IF i = 2 THEN RAISE 'undo'; END IF; "
	"EXCEPTION WHEN OTHERS THEN PERFORM 1; END; END LOOP; END $do$",
	"DO $do$ BEGIN PERFORM %s; COMMIT; PERFORM pg_sleep(0); ROLLBACK; END $do$",
	"DO $do$ DECLARE r record; BEGIN FOR r IN SELECT %s LOOP EXIT; END LOOP; END $do$",
	"DECLARE fuzz_h CURSOR WITH HOLD FOR SELECT %s FROM generate_series(1, 3)",
	"DECLARE fuzz_s SCROLL CURSOR WITH HOLD FOR SELECT * FROM %s",
	"CREATE TEMP TABLE fuzz_t ON COMMIT DROP AS SELECT %s AS x",
	"SELECT count(%s) FROM fuzz_scratch WHERE n < 3",
	"SELECT pg_typeof(%s)",
	"SELECT fuzz_nested(2), %s",
};

#define NSHAPES ((int) (sizeof(shapes) / sizeof(shapes[0])))

static void
run_prepared(Client *c, const Call *call, const char *ns, char family, const Expect *expect)
{
	Text sql = {0}, types = {0}, values = {0}, whole = {0};

	gen_call(c, call, ns, family, &sql, &types, &values);
	text_printf(&whole, "PREPARE p%d%s", below(c, 4), types.len ? "(" : "");
	if (types.len)
	{
		text_add(&whole, types.data, types.len);
		text_puts(&whole, ")");
	}
	text_puts(&whole, chance(c, 2) ? " AS SELECT " : " AS SELECT * FROM ");
	text_add(&whole, sql.data, sql.len);
	run_sql(c, "DEALLOCATE ALL", NULL);
	if (run_sql(c, whole.data, expect))
		for (int i = chance(c, 8) ? 7 : 1; i > 0; i--)
		{
			char name[3] = {whole.data[8], whole.data[9], '\0'};
			Text execute = {0};

			text_printf(&execute, "EXECUTE %s%s", name, values.len ? "(" : "");
			if (values.len)
			{
				text_add(&execute, values.data, values.len);
				text_puts(&execute, ")");
			}
			run_sql(c, execute.data, expect);
			free(execute.data);
		}
	free(sql.data);
	free(types.data);
	free(values.data);
	free(whole.data);
}

/* Calls over rows of a table, that the planner may give to parallel workers. */
static void
run_over_rows(Client *c)
{
	static const char *const all[] = {
		"SELECT count(session_get(id, ns)) FROM fuzz_scratch",
		"SELECT count(*) FROM fuzz_scratch s, LATERAL session_history(s.id, 2, NULL, s.ns)",
		"SELECT sum(session_save(id, j, namespace => ns)) FROM fuzz_scratch WHERE n < 30",
		"SELECT bool_and(session_exists(id, ns)) FROM fuzz_scratch",
		"SELECT count(*) FROM fuzz_scratch s JOIN conversation_sessions t ON t.session_id = s.id AND "
		"t.namespace = s.ns WHERE session_alive(t.namespace, t.session_id, t.created_at, "
		"t.expires_at, t.dead_until, t.ttl)",
		"SELECT max(session_append(id, j, namespace => ns)) FROM fuzz_scratch WHERE n < 20",
		"SELECT count(session_delete(id, ns)) FROM fuzz_scratch WHERE n < 20",
		"SELECT ns, count(session_touch(id, NULL, ns)) FROM fuzz_scratch GROUP BY ns",
		"SELECT count(session_ttl(id, ns)) FROM fuzz_scratch",
		"SELECT count(session_incr(id, '{n}', namespace => ns)) FROM fuzz_scratch WHERE n < 30"};

	run_sql(c, all[below(c, sizeof(all) / sizeof(all[0]))], NULL);
}

void
step_call(Client *c)
{
	const Call *call = &calls[chance(c, 6) ? below(c, NCALLS) : below(c, FROM_ONE_SESSION)];
	const char *ns = pick_ns(c);
	char family = pick_family(c, ns);
	bool isolated = strcmp(ns, "iso") == 0;
	Expect expect = {ns, call->many ? 0 : family, c->iso_family};
	Text body = {0}, sql = {0};
	const char *shape;
	const char *at;

	/* in a database in which everything happens at the same time these would only wait */
	if (strncmp(call->name, "session_cache_", 14) == 0 && !chance(c, 10))
		return;
	if (isolated && c->iso_family == 0)
		expect.family = 0; /* any client may have written what a superuser finds there */
	if (chance(c, 12))
	{
		run_over_rows(c);
		return;
	}
	if (chance(c, 6))
	{
		run_prepared(c, call, ns, family, &expect);
		return;
	}
	gen_call(c, call, ns, family, &body, NULL, NULL);
	shape = shapes[chance(c, 2) ? 0 : below(c, NSHAPES)];
	at = strstr(shape, "%s");
	text_add(&sql, shape, (size_t) (at - shape));
	text_add(&sql, body.data, body.len);
	text_puts(&sql, at + 2);
	run_sql(c, sql.data, &expect);
	if (call->makes_id && shape == shapes[0])
		remember_id(c, ns, family);
	if (strncmp(shape, "DECLARE fuzz_h", 14) == 0 && c->ok)
	{
		run_sql(c, "FETCH 2 FROM fuzz_h", &expect);
		run_sql(c, "CLOSE fuzz_h", NULL);
	}
	else if (strncmp(shape, "DECLARE fuzz_s", 14) == 0 && c->ok)
	{
		run_sql(c, "FETCH LAST FROM fuzz_s", &expect);
		run_sql(c, "FETCH PRIOR FROM fuzz_s", &expect);
		run_sql(c, "CLOSE fuzz_s", NULL);
	}
	free(body.data);
	free(sql.data);
}
