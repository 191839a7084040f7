/*
 * json_text.c
 *		Converts jsonb to text in UTF-8 for Redis, up to a maximum length.
 *
 * The text is that of jsonb's output function, byte for byte, converted to UTF-8.  It is produced
 * token by token, and abandoned as soon as it exceeds the maximum:
 *
 *	- A document is not detoasted if the size of its binary form shows that the text would be too
 *	  long.
 *	- The length of a number is computed before it is printed: 6 bytes can represent 131,072
 *	  digits.
 *	- A string is appended in pieces.
 *
 * So memory is bounded: the binary form is at most four times the maximum, and the text exceeds it
 * by at most one piece.  Interrupts are checked for at each token.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/toast_internals.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "compat.h"
#include "pusher/json_text.h"
#include "pusher/utf8.h"

/* Maximum number of bytes of a string that are converted to UTF-8 at a time. */
#define PIECE_BYTES 4096

/* Bytes of the binary form besides its values, which dominate in very short documents. */
#define OVERHEAD_BYTES 24

/* The header of a numeric on disk, of one or two 16-bit words (see numeric.c of the server). */
#define NUMBER_IS_SHORT(h) (((h) &0xC000) == 0x8000)
#define NUMBER_IS_SPECIAL(h) (((h) &0xC000) == 0xC000)
#define SHORT_IS_NEGATIVE(h) (((h) &0x2000) != 0)
#define SHORT_SCALE(h) (((h) &0x1F80) >> 7)
#define SHORT_WEIGHT(h) (((h) &0x003F) - ((h) &0x0040))
#define LONG_IS_NEGATIVE(h) (((h) &0xC000) == 0x4000)
#define LONG_SCALE(h) ((h) &0x3FFF)

/* A text under construction. */
typedef struct Writer
{
	StringInfo out;
	int64 end; /* maximum length of out */
	SsJsonResult result;
} Writer;

/*
 * A lower bound for the length of a document as text, without detoasting it.  A one-digit number,
 * with the comma and space after it, takes 12 bytes in binary for 3 of text; everything else takes
 * less per byte of text.
 */
int64
ss_json_least(Datum document)
{
	return Max((int64) toast_raw_datum_size(document) - OVERHEAD_BYTES, 0) / 4;
}

/* Record why the text is abandoned; returns false for the caller to return. */
static bool
give_up(Writer *w, SsJsonResult result)
{
	w->result = result;
	return false;
}

/* Append bytes in UTF-8; false if the text would be too long. */
static bool
add(Writer *w, const char *text, int len)
{
	if (w->out->len + (int64) len > w->end)
		return give_up(w, SS_JSON_LARGE);
	appendBinaryStringInfo(w->out, text, len);
	return true;
}

/* The length of a number when printed, or an upper bound for it. */
static int64
number_length(Numeric number)
{
	const char *data = VARDATA_ANY(number);
	int len = VARSIZE_ANY_EXHDR(number);
	uint16 header;
	int16 weight;
	int scale;
	bool negative;
	int64 length;
	int words; /* of the header */

	memcpy(&header, data, sizeof(header));
	if (NUMBER_IS_SPECIAL(header))
		return strlen("-Infinity"); /* not in JSON, but possible in a damaged document */
	if (NUMBER_IS_SHORT(header))
	{
		words = 1;
		negative = SHORT_IS_NEGATIVE(header);
		scale = SHORT_SCALE(header);
		weight = SHORT_WEIGHT(header);
	}
	else
	{
		words = 2;
		negative = LONG_IS_NEGATIVE(header);
		scale = LONG_SCALE(header);
		memcpy(&weight, data + sizeof(header), sizeof(weight));
	}
	/* digits before the point; a number below 1 begins with a zero */
	length = 1;
	if (len > words * (int) sizeof(int16) && weight >= 0)
	{
		int16 digits; /* the first four decimal digits */

		memcpy(&digits, data + words * sizeof(int16), sizeof(digits));
		length = (int64) weight * 4 + (digits >= 1000  ? 4
									   : digits >= 100 ? 3
									   : digits >= 10  ? 2
													   : 1);
	}
	return length + (scale > 0 ? scale + 1 : 0) + (negative ? 1 : 0);
}

static bool
add_number(Writer *w, Numeric number)
{
	int64 length = number_length(number);
	char *text;
	bool fine;

	if (w->out->len + length > w->end)
		return give_up(w, SS_JSON_LARGE);
	text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(number)));
	Assert(strlen(text) <= length);
	fine = add(w, text, strlen(text));
	pfree(text);
	return fine;
}

static bool
needs_escape(char c)
{
	return (unsigned char) c < 0x20 || c == '"' || c == '\\';
}

static bool
add_escape(Writer *w, char c)
{
	static const char letters[] = "\bb\ff\nn\rr\tt\"\"\\\\";
	char text[8];

	for (int i = 0; letters[i]; i += 2)
		if (letters[i] == c)
		{
			text[0] = '\\';
			text[1] = letters[i + 1];
			return add(w, text, 2);
		}
	snprintf(text, sizeof(text), "\\u%04x", (unsigned char) c);
	return add(w, text, 6);
}

/* Append part of a string that is in UTF-8. */
static bool
add_escaped(Writer *w, const char *text, int len)
{
	const char *end = text + len;

	while (text < end)
	{
		const char *plain = text;

		while (text < end && !needs_escape(*text))
			text++;
		if (text > plain && !add(w, plain, text - plain))
			return false;
		if (text < end && !add_escape(w, *text++))
			return false;
	}
	return true;
}

/* Append a string that has to be converted to UTF-8. */
static bool
add_converted(Writer *w, const char *text, int len)
{
	StringInfoData piece;
	bool fine = true;

	if (GetDatabaseEncoding() == PG_SQL_ASCII)
		/* verify the whole string, because a piece could end within a character */
		return pg_encoding_verifymbstr(PG_UTF8, text, len) == len ? add_escaped(w, text, len)
																  : give_up(w, SS_JSON_FOREIGN);
	initStringInfo(&piece);
	while (fine && len > 0)
	{
		int n = len <= PIECE_BYTES ? len : pg_mbcliplen(text, len, PIECE_BYTES);

		resetStringInfo(&piece);
		fine = n > 0 && ss_utf8_append(&piece, text, n) ? add_escaped(w, piece.data, piece.len)
														: give_up(w, SS_JSON_FOREIGN);
		text += n;
		len -= n;
	}
	pfree(piece.data);
	return fine;
}

static bool
add_string(Writer *w, const char *text, int len)
{
	return add(w, "\"", 1) &&
		   (ss_utf8_is_same(text, len) ? add_escaped(w, text, len) : add_converted(w, text, len)) &&
		   add(w, "\"", 1);
}

static bool
add_scalar(Writer *w, const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvNull:
			return add(w, "null", 4);
		case jbvString:
			return add_string(w, value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return add_number(w, value->val.numeric);
		case jbvBool:
			return value->val.boolean ? add(w, "true", 4) : add(w, "false", 5);
		default:
			ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
							errmsg("unexpected type %d of a value in a JSON document",
								   (int) value->type)));
	}
	return false;
}

/* Append all tokens of a document, up to the first failure. */
static void
add_tokens(Writer *w, JsonbContainer *root)
{
	JsonbIterator *it = JsonbIteratorInit(root);
	JsonbIteratorToken token;
	JsonbValue value;
	bool scalar = false; /* the document is a scalar, which is stored as an array of one */
	bool comma = false;  /* the next token follows a value in its array or object */
	bool fine = true;

	while (fine && (token = JsonbIteratorNext(&it, &value, false)) != WJB_DONE)
	{
		bool ends = token == WJB_END_ARRAY || token == WJB_END_OBJECT;
		bool begins = token == WJB_BEGIN_ARRAY || token == WJB_BEGIN_OBJECT;

		CHECK_FOR_INTERRUPTS();
		if (comma && !ends)
			fine = add(w, ", ", 2);
		if (!fine)
			break;
		/* no comma after an opening bracket or a key */
		comma = !begins && token != WJB_KEY;
		switch (token)
		{
			case WJB_BEGIN_ARRAY:
				scalar = scalar || value.val.array.rawScalar;
				fine = scalar || add(w, "[", 1);
				break;
			case WJB_END_ARRAY:
				fine = scalar || add(w, "]", 1);
				break;
			case WJB_BEGIN_OBJECT:
				fine = add(w, "{", 1);
				break;
			case WJB_END_OBJECT:
				fine = add(w, "}", 1);
				break;
			case WJB_KEY:
				fine = add_string(w, value.val.string.val, value.val.string.len) && add(w, ": ", 2);
				break;
			case WJB_VALUE:
			case WJB_ELEM:
				fine = add_scalar(w, &value);
				break;
			default:
				ereport(ERROR,
						(errcode(ERRCODE_DATA_CORRUPTED),
						 errmsg("unexpected type %d of a token in a JSON document", (int) token)));
		}
	}
}

/*
 * Append a document as text of at most `most` bytes.  If the result is not SS_JSON_FINE, nothing
 * is appended.  Allocates in the current memory context.
 */
SsJsonResult
ss_json_append(StringInfo out, Datum document, int64 most)
{
	Writer w = {out, out->len + most, SS_JSON_FINE};
	int start = out->len;
	Jsonb *json;

	if (most < 0 || ss_json_least(document) > most)
		return SS_JSON_LARGE;
	json = DatumGetJsonbP(document);
	add_tokens(&w, &json->root);
	if ((Pointer) json != DatumGetPointer(document))
		pfree(json);
	if (w.result != SS_JSON_FINE)
	{
		out->len = start;
		out->data[start] = '\0';
	}
	return w.result;
}
