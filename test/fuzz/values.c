/*
 * values.c
 *		Random values of every type that a function takes, most of them hostile.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

#define PICK(c, list) (list)[below((c), (int) (sizeof(list) / sizeof((list)[0])))]

/* "m" belongs to the models; all clients use the others. */
const char *
pick_ns(Client *c)
{
	static const char *const all[] = {"n0", "n0", "n0", "n1", "n2",  "n2",
									  "n3", "n3", "h0", "h1", "iso", "iso"};

	return PICK(c, all);
}

char
pick_family(Client *c, const char *ns)
{
	if (strcmp(ns, "iso") == 0 && c->iso_family != 0)
		return c->iso_family;
	return (char) ('a' + below(c, strcmp(ns, "iso") == 0 ? 2 : 4));
}

static void
repeat(Text *out, const char *what, int times)
{
	for (int i = 0; i < times; i++)
		text_puts(out, what);
}

/* An id of a family: its first byte says which. */
void
gen_id(Client *c, const char *ns, char family, Text *out)
{
	static const char *const odd[] = {
		"'",        "\"",
		"\\",       "%",
		"_",        "*",
		"\x01",     "\n",
		"\x7f",     "\xc3\xa9",
		"\xff",     "\xf0\x9f\x98\x80",
		"\xc3",     " ",
		"\xe2\x80", "\xc2\x80",
		"\t",       "{}",
		"$1",       ":guard",
		"\xc0\x80", "\xed\xa0\x80",
		"?[",       "\xf4\x8f\xbf\xbf",
		"\r\n*1",   "--",
		";DROP",    "::",
	};
	size_t start = out->len;

	text_add(out, &family, 1);
	switch (below(c, 12))
	{
		case 0: /* of one byte */
			break;
		case 1:
			text_puts(out, PICK(c, odd));
			break;
		case 2: /* the longest, or one byte more */
			repeat(out, "x", 198 + below(c, 3));
			break;
		case 3:
			repeat(out, PICK(c, odd), 1 + below(c, 60));
			break;
		case 4: /* one that a call made */
			for (int i = 0; i < c->nmade; i++)
				if (strcmp(c->made[i].ns, ns) == 0 && c->made[i].family == family)
				{
					out->len = start;
					text_puts(out, c->made[i].id);
					break;
				}
			break;
		default:
			text_printf(out, ".%d", below(c, 5));
	}
	if (chance(c, 200))
	{
		out->len = start;
		text_add(out, "", 0);
	}
}

static void
gen_number(Client *c, Text *out)
{
	static const char *const odd[] = {
		"0",        "-0",        "1e1000",   "1e131071",
		"1e131072", "1e999999",  "-1e16383", "1e-16383",
		"1e-16384", "1e-100000", "0.1",      "9223372036854775808",
		"1E400",    "NaN",       "01",       "1.",
		".5",       "+1",        "-",        "123456789012345678901234567890.123456789"};

	switch (below(c, 8))
	{
		case 0:
			text_puts(out, PICK(c, odd));
			break;
		case 1:
			text_puts(out, "1");
			repeat(out, "7", below(c, 3000));
			break;
		default:
			text_printf(out, "%d", below(c, 1000) - 500);
	}
}

static void
gen_string(Client *c, Text *out)
{
	static const char *const odd[] = {"\\u0000",
									  "\\ud800",
									  "\\udc00\\ud800",
									  "\\ud83d\\ude00",
									  "\xc3\xa9",
									  "\xff",
									  "\\x",
									  "\\",
									  "\\u00e9",
									  "\\\"",
									  "\n",
									  "\\n",
									  "\x01",
									  "",
									  "\\/",
									  "\\u",
									  "\xf0\x9f\x98\x80",
									  "\\uffff"};

	text_puts(out, "\"");
	switch (below(c, 6))
	{
		case 0:
			text_puts(out, PICK(c, odd));
			break;
		case 1:
			repeat(out, "word ", below(c, 2000));
			break;
		default:
			text_printf(out, "s%d", below(c, 100));
	}
	text_puts(out, "\"");
}

static void
gen_value(Client *c, int depth, Text *out)
{
	int n;

	switch (below(c, depth > 3 ? 5 : 8))
	{
		case 0:
			text_puts(out, "null");
			break;
		case 1:
			text_puts(out, chance(c, 2) ? "true" : "false");
			break;
		case 2:
		case 3:
			gen_number(c, out);
			break;
		case 4:
			gen_string(c, out);
			break;
		case 5:
			n = below(c, 4);
			text_puts(out, "[");
			for (int i = 0; i < n; i++)
			{
				if (i > 0)
					text_puts(out, ",");
				gen_value(c, depth + 1, out);
			}
			text_puts(out, "]");
			break;
		default:
			n = below(c, 4);
			text_puts(out, "{");
			for (int i = 0; i < n; i++)
			{
				if (i > 0)
					text_puts(out, ",");
				text_printf(out, "\"k%d\":", below(c, 3));
				gen_value(c, depth + 1, out);
			}
			text_puts(out, "}");
	}
}

/* A member of unusual size or depth. */
static void
gen_bulk(Client *c, Text *out)
{
	static const int depths[] = {50, 99, 101, 1000, 3000, 6000, 10000, 50000};
	int n;

	switch (below(c, 12))
	{
		case 0:
			n = PICK(c, depths);
			repeat(out, "[", n);
			repeat(out, "]", chance(c, 10) ? n - 1 : n);
			break;
		case 1:
			n = PICK(c, depths);
			repeat(out, "{\"a\":", n);
			text_puts(out, "1");
			repeat(out, "}", n);
			break;
		case 2:
			n = 1 + below(c, 5000);
			text_puts(out, "[0");
			repeat(out, ",1", n);
			text_puts(out, "]");
			break;
		case 3: /* text that does not compress, and goes to TOAST */
			n = 500 + below(c, 3000);
			text_puts(out, "\"");
			for (int i = 0; i < n; i++)
				text_printf(out, "%x", below(c, 0x10000));
			text_puts(out, "\"");
			break;
		case 4:
			if (chance(c, 20))
			{
				text_puts(out, "\"");
				repeat(out, "0123456789abcdef", 600000); /* above max_bytes */
				text_puts(out, "\"");
				break;
			}
			/* FALLTHROUGH */
		default:
			gen_value(c, 0, out);
	}
}

static void
gen_object(Client *c, const char *ns, char family, Text *out)
{
	text_printf(out, "{\"_t\":\"%s.%c\"", ns, family);
	for (int i = below(c, 4); i > 0; i--)
	{
		text_printf(out, ",\"k%d\":", below(c, 3)); /* duplicate keys included */
		gen_value(c, 0, out);
	}
	if (chance(c, 4))
	{
		text_puts(out, ",\"b\":");
		gen_bulk(c, out);
	}
	if (chance(c, 3))
		text_printf(out, ",\"n\":%d", below(c, 10));
	text_puts(out, "}");
}

void
gen_document(Client *c, const char *ns, char family, Text *out)
{
	switch (below(c, 25))
	{
		case 0:
			gen_value(c, 2, out);
			break;
		case 1:
			text_puts(out, "[");
			gen_object(c, ns, family, out);
			text_puts(out, "]");
			break;
		case 2:
			text_puts(out, chance(c, 2) ? "{}" : "null");
			break;
		case 3:
			if (chance(c, 4))
			{
				text_puts(out, "{\"broken\"");
				break;
			}
			/* FALLTHROUGH */
		default:
			gen_object(c, ns, family, out);
	}
}

void
gen_messages(Client *c, const char *ns, char family, Text *out)
{
	static const int counts[] = {0, 1, 2, 3, 20, 200};
	int n;

	if (chance(c, 3))
	{
		gen_document(c, ns, family, out);
		return;
	}
	n = PICK(c, counts);
	text_puts(out, "[");
	for (int i = 0; i < n; i++)
	{
		if (i > 0)
			text_puts(out, ",");
		if (n > 10)
			text_printf(out, "{\"_t\":\"%s.%c\",\"i\":%d}", ns, family, i);
		else
			gen_object(c, ns, family, out);
	}
	text_puts(out, "]");
}

const char *
gen_interval(Client *c)
{
	static const char *const all[] = {"NULL",
									  "NULL",
									  "'0'",
									  "'-1 day'",
									  "'1 ms'",
									  "'1 us'",
									  "'999 us'",
									  "'20 ms'",
									  "'100 ms'",
									  "'1 s'",
									  "'1 hour'",
									  "'30 days'",
									  "'100 years'",
									  "'36525 days'",
									  "'876600 hours'",
									  "'876600 hours 1 us'",
									  "'1 mon'",
									  "'1 mon -30 days'",
									  "'178000000 years'",
									  "'-178000000 years'",
									  "'infinity'",
									  "'-infinity'",
									  "'2147483647 days'",
									  "'-2147483648 days'",
									  "'2147483647 days 2562047788:00:54.775807'",
									  "'1 day -24 hours'",
									  "'1 day -23:59:59.999'",
									  "'2 days -9223372036854775 ms'",
									  "make_interval(secs => 1e12)",
									  "'abc'"};

	return PICK(c, all);
}

const char *
gen_timestamp(Client *c)
{
	static const char *const all[] = {"'infinity'",
									  "'-infinity'",
									  "'4714-11-24 00:00:00+00 BC'",
									  "'294276-12-31 23:59:59.999999+00'",
									  "'epoch'",
									  "'now'",
									  "clock_timestamp() + '1 hour'",
									  "clock_timestamp() + '1 day'",
									  "clock_timestamp() + '100 ms'",
									  "clock_timestamp() - '1 s'",
									  "clock_timestamp() + '99 years'",
									  "'2000-01-01'",
									  "NULL",
									  "'9999-12-31'"};

	return PICK(c, all);
}

const char *
gen_numeric(Client *c)
{
	static const char *const all[] = {"1",
									  "1",
									  "0",
									  "-1",
									  "NULL",
									  "'NaN'",
									  "'Infinity'",
									  "'-Infinity'",
									  "1e1000",
									  "'1e131071'",
									  "'1e-16383'",
									  "0.000000001",
									  "9223372036854775807",
									  "-9223372036854775808",
									  "(10::numeric ^ 100000)",
									  "0.5",
									  "1e308",
									  "-1e131071"};

	return PICK(c, all);
}

const char *
gen_int8(Client *c)
{
	static const char *const all[] = {"NULL",
									  "NULL",
									  "0",
									  "1",
									  "2",
									  "3",
									  "-1",
									  "-2",
									  "10",
									  "9223372036854775807",
									  "9223372036854775806",
									  "'-9223372036854775808'"};

	return PICK(c, all);
}

const char *
gen_int4(Client *c)
{
	static const char *const all[] = {"NULL", "0",  "1",    "2",     "5",          "-1",
									  "20",   "50", "1000", "10000", "2147483647", "'-2147483648'"};

	return PICK(c, all);
}

/* A value for a column of session_namespaces. */
const char *
gen_policy(Client *c, const char *column)
{
	static const char *const caches[] = {"'off'", "'hot'", "'all'", "'none'"};
	static const char *const bools[] = {"true", "false"};
	static const char *const sizes[] = {"16",        "15",        "100", "8388608",
										"268435455", "268435456", "0"};
	static const char *const quotas[] = {"NULL", "NULL", "1", "2", "0", "2147483647"};
	static const char *const rows[] = {"'evict'", "'refuse'", "'x'"};
	static const char *const durable[] = {"'strict'", "'relaxed'", "''"};
	static const char *const roles[] = {"NULL",
										"NULL",
										"'{fuzz_app,fuzz_claims,fuzz_sql}'",
										"'{}'",
										"'{NULL}'",
										"'{{a,b},{c,d}}'",
										"'{no_such_role}'"};
	static const char *const tails[] = {"NULL",       "NULL", "'tail:' || name || ':'",
										"'session:'", "''",   "repeat('x', 100)"};
	static const char *const sliding_ttl[] = {"'1 hour'", "'200 ms'", "'2 s'", "'1 day'"};

	if (strcmp(column, "cache") == 0)
		return PICK(c, caches);
	if (strcmp(column, "max_bytes") == 0)
		return PICK(c, sizes);
	if (strcmp(column, "max_sessions_per_owner") == 0)
		return PICK(c, quotas);
	if (strcmp(column, "on_quota") == 0)
		return PICK(c, rows);
	if (strcmp(column, "durability") == 0)
		return PICK(c, durable);
	if (strcmp(column, "allowed_roles") == 0)
		return PICK(c, roles);
	if (strcmp(column, "tail_prefix") == 0)
		return PICK(c, tails);
	if (strcmp(column, "tail_size") == 0 || strcmp(column, "hot_uses") == 0)
		return gen_int4(c);
	if (strcmp(column, "ttl") == 0 && chance(c, 2))
		return PICK(c, sliding_ttl);
	if (strcmp(column, "ttl") == 0 || strcmp(column, "cache_ttl") == 0 ||
		strcmp(column, "tombstone") == 0 || strcmp(column, "events_keep") == 0 ||
		strcmp(column, "max_lifetime") == 0)
		return gen_interval(c);
	return PICK(c, bools);
}
