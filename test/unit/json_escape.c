/*
 * json_escape.c
 *		Unit test of src/base/json_escape.c: given texts, and random strings compared with a reference
 *		that works on their UTF-16 code units.
 *
 * run-json_escape [ROUNDS [SEED]]
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_escape.h"
#include "check.h"

#define MOST_UNITS 24
#define MOST_BYTES 4096

/* A string: UTF-16 code units. */
typedef struct Units
{
	int n;
	int unit[MOST_UNITS * 5 + 8];
} Units;

static uint64_t state;
static long checks;

static uint32_t
draw(uint32_t below)
{
	state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t) (state >> 33) % below;
}

static void
count_check(void)
{
	checks++;
}

static bool
is_high(int unit)
{
	return unit >= 0xD800 && unit <= 0xDBFF;
}

static bool
is_low(int unit)
{
	return unit >= 0xDC00 && unit <= 0xDFFF;
}

/* Escapes into exactly as much memory as is needed, so that a write beyond it is detected. */
static char *
escape(const char *text, size_t len, size_t *result_len)
{
	char *copy = malloc(len + 1); /* likewise for reads */
	char *out;

	memcpy(copy, text, len);
	copy = realloc(copy, len > 0 ? len : 1);
	*result_len = ss_json_escape(copy, len, NULL, count_check);
	out = malloc(*result_len + 1);
	if (ss_json_escape(copy, len, out, count_check) != *result_len)
		abort();
	out[*result_len] = '\0';
	free(copy);
	return out;
}

/* NULL if the text is refused. */
static char *
unescape(const char *text)
{
	size_t len = strlen(text);
	char *copy = malloc(len > 0 ? len : 1);
	char *result = NULL;

	memcpy(copy, text, len);
	if (ss_json_unescape(copy, &len, count_check))
	{
		result = malloc(len + 1);
		memcpy(result, copy, len);
		result[len] = '\0';
	}
	free(copy);
	return result;
}

static bool
escapes_to(const char *text, const char *wanted)
{
	size_t len;
	char *out = escape(text, strlen(text), &len);
	bool same = len == strlen(wanted) && strcmp(out, wanted) == 0;

	if (!same)
		printf("%s: %s instead of %s\n", text, out, wanted);
	free(out);
	return same;
}

/* expected is NULL if the text is refused. */
static bool
unescapes_to(const char *text, const char *wanted)
{
	char *out = unescape(text);
	bool same = out == NULL || wanted == NULL ? out == wanted : strcmp(out, wanted) == 0;

	if (!same)
		printf("%s: %s instead of %s\n", text, out == NULL ? "refused" : out, wanted);
	free(out);
	return same;
}

static void
given_texts(void)
{
	/* nothing to escape: text, pairs, other escape sequences, backslashes before a u */
	static const char *const plain[] = {"", "{}", "\"a\\n\\\\\\\"\\/\"", "\"\\ud83d\\ude00\"",
										"\"\\uD83D\\uDE00\"", "\"\\\\u0000\"", "\"\\\\\\\\ud800\"",
										"\"\\u0001\\u000f\\u0011\\u001f\"", "\"\\ud7ff\\ue000\"",
										"u0000", "\"\xf0\x9f\x98\x80\xe9\"",
										/* not JSON */
										"\\", "\"\\", "\\u", "\\u000", "\"\\u00g0\"", "\"\\U0000\"",
										"\\x\\u"};

	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
	{
		CHECK(escapes_to(plain[i], plain[i]));
		CHECK(unescapes_to(plain[i], plain[i]));
	}

	CHECK(escapes_to("\"\\u0000\"", "\"\\u00100000\""));
	CHECK(escapes_to("\"\\u0010\"", "\"\\u00100010\""));
	CHECK(escapes_to("\"\\ud800\"", "\"\\u0010d800\""));
	CHECK(escapes_to("\"\\uDBFF\"", "\"\\u0010dbff\""));
	CHECK(escapes_to("\"\\udc00\"", "\"\\u0010dc00\""));
	CHECK(escapes_to("\"\\uDFff\"", "\"\\u0010dfff\""));
	/* only lone ones */
	CHECK(
		escapes_to("\"\\ud83d\\ud83d\\ude00\\ude00\"", "\"\\u0010d83d\\ud83d\\ude00\\u0010de00\""));
	CHECK(escapes_to("\"\\ud83dx\\ude00\"", "\"\\u0010d83dx\\u0010de00\""));
	CHECK(escapes_to("\"\\ud83d\",\"\\ude00\"", "\"\\u0010d83d\",\"\\u0010de00\""));
	CHECK(escapes_to("\"\\ude00\\ud83d\"", "\"\\u0010de00\\u0010d83d\""));
	CHECK(escapes_to("\"\\ud83d\\\\ude00\"", "\"\\u0010d83d\\\\ude00\""));
	CHECK(escapes_to("\"\\ud83d\\u0000\"", "\"\\u0010d83d\\u00100000\""));
	CHECK(escapes_to("\"\\\\\\u0000\"", "\"\\\\\\u00100000\""));
	CHECK(escapes_to("{\"\\u0000\": \"\\u0000\"}", "{\"\\u00100000\": \"\\u00100000\"}"));
	CHECK(escapes_to("\\ud800\\", "\\u0010d800\\"));

	CHECK(unescapes_to("\"\\u00100000\"", "\"\\u0000\""));
	CHECK(unescapes_to("\"a\\u00100010b\\u0010d800c\"", "\"a\\u0010b\\ud800c\""));
	CHECK(unescapes_to("\"\\u00100010d800\"", "\"\\u0010d800\""));
	CHECK(unescapes_to("\"\\u0010dc00\\u0010d800\"", "\"\\udc00\\ud800\""));
	CHECK(unescapes_to("\"\\u0010d800x\\u0010dc00\"", "\"\\ud800x\\udc00\""));
	CHECK(unescapes_to("\"\\u0010d800\", \"\\u0010dc00\"", "\"\\ud800\", \"\\udc00\""));
	CHECK(unescapes_to("\"\\u0010d800\\u00100000\\u0010dc00\"", "\"\\ud800\\u0000\\udc00\""));
	/* texts that escaping cannot produce */
	CHECK(unescapes_to("\"\\u0010\"", NULL));
	CHECK(unescapes_to("\"\\u0010", NULL));
	CHECK(unescapes_to("\"\\u0010000\"", NULL));
	CHECK(unescapes_to("\"\\u00100001\"", NULL));
	CHECK(unescapes_to("\"\\u00100041\"", NULL));
	CHECK(unescapes_to("\"\\u0010D800\"", NULL));
	CHECK(unescapes_to("\"\\u0010d7ff\"", NULL));
	CHECK(unescapes_to("\"\\u0010e000\"", NULL));
	CHECK(unescapes_to("\"\\u0010\\u0010\"", NULL));
	CHECK(unescapes_to("\"\\u0010d800\\u0010dc00\"", NULL));
	CHECK(unescapes_to("\"\\u00100010\\u0010\"", NULL));
	CHECK(checks > 0);
}

/* A random string; those to be escaped, their neighbours and letters of escapes are frequent. */
static void
draw_units(Units *units)
{
	static const int some[] = {0,      0x10,   0x10,   0xD800, 0xDBFF, 0xDC00, 0xDFFF, 0xD7FF,
							   0xE000, 0xD83D, 0xDE00, '\\',   '"',    'u',    '0',    '1',
							   'd',    '8',    'D',    '\n',   0xE9,   0x20AC, 0xFFFF, 1};

	units->n = draw(MOST_UNITS + 1);
	for (int i = 0; i < units->n; i++)
		units->unit[i] = draw(8) > 0 ? some[draw(sizeof(some) / sizeof(some[0]))]
									 : (int) draw(0x10000);
}

/* Appends a character in UTF-8. */
static char *
put_utf8(char *out, int c)
{
	if (c < 0x80)
		*out++ = c;
	else if (c < 0x800)
	{
		*out++ = 0xC0 | c >> 6;
		*out++ = 0x80 | (c & 0x3F);
	}
	else if (c < 0x10000)
	{
		*out++ = 0xE0 | c >> 12;
		*out++ = 0x80 | (c >> 6 & 0x3F);
		*out++ = 0x80 | (c & 0x3F);
	}
	else
	{
		*out++ = 0xF0 | c >> 18;
		*out++ = 0x80 | (c >> 12 & 0x3F);
		*out++ = 0x80 | (c >> 6 & 0x3F);
		*out++ = 0x80 | (c & 0x3F);
	}
	return out;
}

/*
 * Writes a string as JSON.  freely: in any valid way, drawn at random; else as jsonb's output function
 * does, which escapes only quotes, backslashes and control characters.
 */
static void
write_json(const Units *units, bool freely, char *out)
{
	*out++ = '"';
	for (int i = 0; i < units->n; i++)
	{
		int c = units->unit[i];
		bool pair = is_high(c) && i + 1 < units->n && is_low(units->unit[i + 1]);
		bool must = c < 0x20 || (!pair && (is_high(c) || is_low(c)));

		if (c == '"' || c == '\\' || (c == '\n' && !freely))
			out += sprintf(out, "\\%c", c == '\n' ? 'n' : c);
		else if (must || (freely && draw(2) == 0))
		{
			out += sprintf(out, freely && draw(2) ? "\\u%04X" : "\\u%04x", c);
			if (pair)
				out += sprintf(out, freely && draw(2) ? "\\u%04X" : "\\u%04x", units->unit[++i]);
		}
		else if (pair)
			out = put_utf8(out, 0x10000 + ((c - 0xD800) << 10) + (units->unit[++i] - 0xDC00));
		else
			out = put_utf8(out, c);
	}
	*out++ = '"';
	*out = '\0';
}

/* Reads a string that write_json or the code under test wrote; false if it is none. */
static bool
read_json(const char *in, Units *units)
{
	units->n = 0;
	if (*in++ != '"')
		return false;
	while (*in != '"')
	{
		unsigned char c = *in++;
		unsigned int unit;

		if (c < 0x20 || units->n + 2 > (int) (sizeof(units->unit) / sizeof(units->unit[0])))
			return false;
		if (c == '\\' && *in == 'u')
		{
			if (strspn(in + 1, "0123456789abcdefABCDEF") < 4 || sscanf(in + 1, "%4x", &unit) != 1)
				return false;
			units->unit[units->n++] = unit;
			in += 5;
		}
		else if (c == '\\')
			units->unit[units->n++] = *in++ == 'n' ? '\n' : in[-1];
		else if (c < 0x80)
			units->unit[units->n++] = c;
		else
		{
			int more = c >= 0xF0 ? 3 : c >= 0xE0 ? 2 : 1;
			int value = c & (0x3F >> more);

			for (int i = 0; i < more; i++)
				value = value << 6 | (*in++ & 0x3F);
			if (value >= 0x10000)
				units->unit[units->n++] = 0xD800 + ((value - 0x10000) >> 10);
			units->unit[units->n++] = value >= 0x10000 ? 0xDC00 + ((value - 0x10000) & 0x3FF)
													   : value;
		}
	}
	return in[1] == '\0';
}

static bool
same_units(const Units *a, const Units *b)
{
	return a->n == b->n && memcmp(a->unit, b->unit, a->n * sizeof(a->unit[0])) == 0;
}

/* The result that escaping a string must have. */
static void
reference(const Units *from, Units *to)
{
	to->n = 0;
	for (int i = 0; i < from->n; i++)
	{
		int c = from->unit[i];
		char digits[5];

		if (is_high(c) && i + 1 < from->n && is_low(from->unit[i + 1]))
		{
			to->unit[to->n++] = c;
			to->unit[to->n++] = from->unit[++i];
			continue;
		}
		if (c != 0 && c != 0x10 && !is_high(c) && !is_low(c))
		{
			to->unit[to->n++] = c;
			continue;
		}
		to->unit[to->n++] = 0x10;
		snprintf(digits, sizeof(digits), "%04x", (unsigned int) c & 0xFFFF);
		for (int d = 0; d < 4; d++)
			to->unit[to->n++] = digits[d];
	}
}

/* A string, written in some way, is escaped as the reference says, and restored. */
static void
round_trip(void)
{
	Units given;
	Units wanted;
	Units found;
	char text[MOST_BYTES];
	size_t len;
	char *escaped;
	char *back;

	draw_units(&given);
	reference(&given, &wanted);
	write_json(&given, true, text);
	escaped = escape(text, strlen(text), &len);
	CHECK(read_json(escaped, &found) && same_units(&found, &wanted));
	free(escaped);

	write_json(&wanted, false, text);
	back = unescape(text);
	CHECK(back != NULL && read_json(back, &found) && same_units(&found, &given));
	free(back);
}

/* Any string is refused, or is what the reference makes of the result. */
static void
any_string(void)
{
	Units given;
	Units back;
	Units wanted;
	char text[MOST_BYTES];
	char *result;

	draw_units(&given);
	if (draw(2) == 0)
	{
		/* an escaped string in which one code unit was changed, removed or doubled */
		Units plain = given;
		int at;

		reference(&plain, &given);
		at = given.n > 0 ? (int) draw(given.n) : 0;
		switch (given.n == 0 ? 9 : draw(3))
		{
			case 0:
				given.unit[at] = given.unit[draw(given.n)];
				break;
			case 1:
				given.n--;
				memmove(&given.unit[at], &given.unit[at + 1], (given.n - at) * sizeof(int));
				break;
			case 2:
				memmove(&given.unit[at + 1], &given.unit[at], (given.n - at) * sizeof(int));
				given.n++;
				break;
		}
	}
	/* jsonb has neither of these */
	for (int i = 0; i < given.n; i++)
		if (is_high(given.unit[i]) && i + 1 < given.n && is_low(given.unit[i + 1]))
			i++;
		else if (given.unit[i] == 0 || is_high(given.unit[i]) || is_low(given.unit[i]))
			given.unit[i] = '0';
	write_json(&given, false, text);
	result = unescape(text);
	if (result != NULL)
	{
		CHECK(read_json(result, &back));
		reference(&back, &wanted);
		CHECK(same_units(&given, &wanted));
		free(result);
	}
	else
	{
		CHECK(memchr(text, '\\', strlen(text)) != NULL);
	}
}

int
main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 100000;
	const char *seed = argc > 2 ? argv[2] : getenv("SESSION_STORE_SEED");

	state = seed != NULL ? strtoull(seed, NULL, 10) : 1;
	printf("json_escape: seed %" PRIu64 ", %d rounds\n", state, rounds);
	given_texts();
	for (int i = 0; i < rounds; i++)
	{
		round_trip();
		any_string();
	}
	return report();
}
