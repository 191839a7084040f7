/*
 * utf8.c
 *		Conversion between the database encoding and UTF-8, for Redis.
 *
 * Everything that is sent to Redis is UTF-8: documents, keys, and the input of hashed keys.
 *
 *	database		text of the database			in UTF-8
 *	UTF8			always valid					the same
 *	SQL_ASCII		any bytes						the same, if they are valid UTF-8
 *	others			always valid					by the server's conversion, if there is one and it
 *													knows the characters
 *
 * ASCII characters are the same in all of these.  What cannot be converted is refused, and never
 * reaches Redis in another form.
 *
 * The conversion functions are looked up once, in a transaction.  After that they are called
 * outside transactions as well, because keys are also made there.  They report what they cannot
 * convert instead of raising an error.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "pusher/utf8.h"

/* Maximum number of bytes that are converted at a time. */
#define PIECE_BYTES 4096

static struct
{
	bool looked_up;
	FmgrInfo to_utf8;
	FmgrInfo to_database;
} conversions;

/* Look up a conversion function; it stays unset if there is none. */
static void
look_up(FmgrInfo *function, int from, int to)
{
	Oid proc = FindDefaultConversionProc(from, to);

	if (OidIsValid(proc))
		fmgr_info_cxt(proc, function, TopMemoryContext);
}

/*
 * Look up the conversion functions.  Called in a transaction, before any other function of this
 * file is used in the process; further calls do nothing.
 */
void
ss_utf8_init(void)
{
	int encoding = GetDatabaseEncoding();

	if (conversions.looked_up)
		return;
	if (encoding != PG_UTF8 && encoding != PG_SQL_ASCII)
	{
		look_up(&conversions.to_utf8, encoding, PG_UTF8);
		look_up(&conversions.to_database, PG_UTF8, encoding);
	}
	conversions.looked_up = true;
}

/*
 * Convert a short text into out, terminated by NUL.  Returns the length of the result, or -1 if
 * not all of the text can be converted.
 */
static int
convert(FmgrInfo *function, int from, int to, const char *text, int len, char *out)
{
	Datum done;

	Assert(conversions.looked_up);
	if (!OidIsValid(function->fn_oid))
		return -1;
	done = FunctionCall6(function, Int32GetDatum(from), Int32GetDatum(to),
						 CStringGetDatum(unconstify(char *, text)), CStringGetDatum(out),
						 Int32GetDatum(len), BoolGetDatum(true));
	return DatumGetInt32(done) == len ? strlen(out) : -1;
}

static bool
is_ascii(const char *text, int len)
{
	for (int i = 0; i < len; i++)
		if (IS_HIGHBIT_SET(text[i]))
			return false;
	return true;
}

/* Is a text of the database the same in UTF-8?  ASCII is, in every server encoding. */
bool
ss_utf8_is_same(const char *text, int len)
{
	return GetDatabaseEncoding() == PG_UTF8 || is_ascii(text, len);
}

/*
 * Append a text of the database in UTF-8.  Returns false if it cannot be converted; the contents
 * of out are then undefined from its old end on.
 */
bool
ss_utf8_append(StringInfo out, const char *text, int len)
{
	int encoding = GetDatabaseEncoding();

	if (ss_utf8_is_same(text, len) ||
		(encoding == PG_SQL_ASCII && pg_encoding_verifymbstr(PG_UTF8, text, len) == len))
	{
		appendBinaryStringInfo(out, text, len);
		return true;
	}
	if (encoding == PG_SQL_ASCII)
		return false;
	while (len > 0)
	{
		int piece = len <= PIECE_BYTES ? len : pg_mbcliplen(text, len, PIECE_BYTES);
		int added;

		if (piece == 0)
			return false;
		enlargeStringInfo(out, SS_UTF8_ROOM(piece));
		added = convert(&conversions.to_utf8, encoding, PG_UTF8, text, piece, out->data + out->len);
		if (added < 0)
			return false;
		out->len += added;
		text += piece;
		len -= piece;
	}
	return true;
}

/*
 * Convert a name of the database to the name that stands for it in Redis.  out has
 * SS_UTF8_ROOM(len) bytes.  Returns the length of the result, or -1 if there is none.
 *
 * Different names of the database never get the same name in Redis.  Some encodings have several
 * codes for one character; only the one that the conversion back returns has a name.
 */
int
ss_utf8_name(const char *name, int len, char *out)
{
	StringInfoData text;
	char *back;
	int n = -1;
	int m;

	if (ss_utf8_is_same(name, len))
	{
		memcpy(out, name, len);
		out[len] = '\0';
		return len;
	}
	initStringInfo(&text);
	if (ss_utf8_append(&text, name, len))
	{
		back = palloc(SS_UTF8_ROOM(text.len));
		m = ss_utf8_to_database(text.data, text.len, back);
		if (m == len && memcmp(back, name, len) == 0)
		{
			n = text.len;
			memcpy(out, text.data, n + 1);
		}
		pfree(back);
	}
	pfree(text.data);
	return n;
}

/*
 * The inverse of ss_utf8_name.  out has SS_UTF8_ROOM(len) bytes.  Returns the length of the
 * result, or -1 if there is none.
 */
int
ss_utf8_to_database(const char *name, int len, char *out)
{
	int encoding = GetDatabaseEncoding();

	if (memchr(name, '\0', len) != NULL || pg_encoding_verifymbstr(PG_UTF8, name, len) != len)
		return -1;
	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII || is_ascii(name, len))
	{
		memcpy(out, name, len);
		out[len] = '\0';
		return len;
	}
	return convert(&conversions.to_database, PG_UTF8, encoding, name, len, out);
}
