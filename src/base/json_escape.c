/*
 * json_escape.c
 *		Escapes what JSON strings may hold and jsonb refuses: NUL and lone surrogates.
 *
 * A JSON string is a sequence of UTF-16 code units, in which any may be written as \uXXXX.  jsonb
 * refuses U+0000, and a surrogate that is not part of a pair.  Each of these, and the escape
 * character itself, is replaced by five characters: the escape character and the code unit as four
 * lowercase hexadecimal digits.  So two strings that differ still differ when they are escaped.
 *
 * The functions work on the text of a JSON document, in any encoding in which no byte of a multibyte
 * character is ASCII (all encodings of a server).  They do not parse it, because they need not:
 *
 *	- In valid JSON a backslash occurs only within a string, where it begins an escape sequence.  What
 *	  is to be escaped cannot be written in another way than \uXXXX: a control character must be
 *	  escaped, and no encoding has surrogates.
 *	- In text that is not valid JSON, a valid escape sequence is replaced by valid ones, so that the
 *	  text stays invalid.  jsonb's input function, which is called next, reports that.
 *
 * So there is no recursion, and no memory is allocated.  Pure C, tested by test/unit.
 */
#include "base/json_escape.h"

#include <string.h>

#include "base/hex.h"

/* The length of \uXXXX. */
#define UNIT_BYTES 6

/* The escape character in the text of a document. */
#define ESCAPE "\\u0010"

static bool
is_high_surrogate(int unit)
{
	return unit >= 0xD800 && unit <= 0xDBFF;
}

static bool
is_low_surrogate(int unit)
{
	return unit >= 0xDC00 && unit <= 0xDFFF;
}

/* Is a code unit escaped, given that it is not part of a surrogate pair? */
static bool
needs_escape(int unit)
{
	return unit == 0 || unit == SS_JSON_ESCAPE || is_high_surrogate(unit) || is_low_surrogate(unit);
}

/* Returns the value of four hexadecimal digits at the beginning of a text, or -1. */
static int
hex_unit(const char *text, size_t len)
{
	int unit = 0;

	if (len < 4)
		return -1;
	for (int i = 0; i < 4; i++)
	{
		int digit = ss_hex_value(text[i]);

		if (digit < 0)
			return -1;
		unit = unit * 16 + digit;
	}
	return unit;
}

/* Returns the code unit if a text begins with \uXXXX, else -1. */
static int
escaped_unit(const char *text, size_t len)
{
	return len < UNIT_BYTES || text[0] != '\\' || text[1] != 'u' ? -1 : hex_unit(text + 2, len - 2);
}

/* Returns the length of the escape sequence, other than \uXXXX, that a backslash begins. */
static size_t
other_escape(size_t len)
{
	return len < 2 ? len : 2;
}

/* Returns how much of a text, which begins with a backslash, need not be escaped; 0: it begins with
 * a code unit that has to be. */
static size_t
plain_escape(const char *text, size_t len)
{
	int unit = escaped_unit(text, len);

	if (unit < 0)
		return other_escape(len);
	if (is_high_surrogate(unit) &&
		is_low_surrogate(escaped_unit(text + UNIT_BYTES, len - UNIT_BYTES)))
		return 2 * UNIT_BYTES;
	return needs_escape(unit) ? 0 : UNIT_BYTES;
}

/*
 * Escapes the text of a JSON document; returns the length of the result, which is len if nothing is
 * escaped.  Writes it to `out`, which has room for it, unless `out` is NULL.
 */
size_t
ss_json_escape(const char *text, size_t len, char *out, SsJsonCheck check)
{
	const char *end = text + len;
	const char *begin = text; /* of what has not been written yet */
	size_t length = len;

	while ((text = memchr(text, '\\', end - text)) != NULL)
	{
		size_t plain = plain_escape(text, end - text);

		check();
		if (plain > 0)
		{
			text += plain;
			continue;
		}
		length += SS_JSON_ESCAPE_BYTES;
		if (out != NULL)
		{
			memcpy(out, begin, text - begin);
			out += text - begin;
			memcpy(out, ESCAPE, UNIT_BYTES);
			out += UNIT_BYTES;
			for (int i = 2; i < UNIT_BYTES; i++)
				*out++ = text[i] >= 'A' && text[i] <= 'F' ? text[i] - 'A' + 'a' : text[i];
		}
		text += UNIT_BYTES;
		begin = text;
	}
	if (out != NULL)
		memcpy(out, begin, end - begin);
	return length;
}

/* Returns the code unit that follows an escape character, or -1 if escaping produces no such text. */
static int
unescaped_unit(const char *text, size_t len)
{
	int unit = hex_unit(text, len);

	if (unit < 0 || !needs_escape(unit))
		return -1;
	for (int i = 0; i < 4; i++)
		if (text[i] >= 'A' && text[i] <= 'F')
			return -1;
	return unit;
}

/*
 * Restores, in place, the text of a document that was escaped; it is as jsonb's output function
 * returns it.  False if escaping cannot have produced it; the text is then undefined.
 */
bool
ss_json_unescape(char *text, size_t *len, SsJsonCheck check)
{
	const char *in = text;
	const char *end = text + *len;
	const char *next;
	const char *high_end = NULL; /* where the last escaped high surrogate ended */
	char *out = text;

	while ((next = memchr(in, '\\', end - in)) != NULL)
	{
		size_t left = end - next;
		size_t kept; /* of the text from `in`, including the escape sequence */
		size_t skipped = 0;

		check();
		if (escaped_unit(next, left) != SS_JSON_ESCAPE)
			kept = next - in + other_escape(left);
		else
		{
			int unit = unescaped_unit(next + UNIT_BYTES, left - UNIT_BYTES);

			/* a pair would not have been escaped */
			if (unit < 0 || (is_low_surrogate(unit) && next == high_end))
				return false;
			/* keep \u, and the four digits after \u0010 instead of its own */
			kept = next - in + 2;
			skipped = SS_JSON_ESCAPE_BYTES;
			if (is_high_surrogate(unit))
				high_end = next + UNIT_BYTES + SS_JSON_ESCAPE_BYTES;
		}
		if (out != in)
			memmove(out, in, kept);
		out += kept;
		in += kept + skipped;
	}
	if (out != in)
		memmove(out, in, end - in);
	*len = out + (end - in) - text;
	return true;
}
