/*
 * codec.c
 *		Converts any JSON text to jsonb and back, strings with NUL and lone surrogates included.
 *
 * The escaping is done in the text (base/json_escape.c); parsing, checking and printing it is left to
 * the input and output functions of jsonb, so that everything else is exactly as with these: invalid
 * JSON is 22P02, an escape sequence that the server encoding cannot represent is their error, and
 * nesting is bounded by max_stack_depth.
 *
 * Results are palloc'd, or are the argument.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/json_escape.h"
#include "compat.h"
#include "sessions/codec.h"

static void
check_interrupts(void)
{
	CHECK_FOR_INTERRUPTS();
}

/* Converts JSON text to jsonb; what jsonb refuses in a string is escaped. */
Jsonb *
ss_codec_encode(const text *json)
{
	const char *given = VARDATA_ANY(json);
	size_t len = VARSIZE_ANY_EXHDR(json);
	size_t escaped_len = ss_json_escape(given, len, NULL, check_interrupts);
	char *escaped = MemoryContextAllocHuge(CurrentMemoryContext, escaped_len + 1);
	Jsonb *document;

	(void) ss_json_escape(given, len, escaped, check_interrupts);
	escaped[escaped_len] = '\0';
	document = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(escaped)));
	pfree(escaped);
	return document;
}

/* Converts a document that ss_codec_encode returned back to JSON text.  22023 for any other. */
text *
ss_codec_decode(Jsonb *document)
{
	char *json = JsonbToCString(NULL, &document->root, VARSIZE(document));
	size_t len = strlen(json);
	text *result;

	if (!ss_json_unescape(json, &len, check_interrupts))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("document cannot be decoded"),
				 errdetail("It has a string in which U+0010 is not followed by four lowercase "
						   "hexadecimal digits of a character that is escaped."),
				 errhint("Decode only what session_json_encode() has encoded.")));
	result = cstring_to_text_with_len(json, len);
	pfree(json);
	return result;
}
