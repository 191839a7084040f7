/*
 * claims.c
 *		Identifies the caller by the JWT claims that PostgREST and Supabase set.
 *
 * The subject is the member "sub" of the object in the setting request.jwt.claims, if it is a JSON
 * string and not empty.  In all other cases there is no subject: if there are no claims, if they
 * are not a JSON object or nested more than CLAIMS_DEPTH_MAX deep, if sub is a number, or if the
 * encoding of the database cannot represent sub.  The claims may also be invalid in that encoding,
 * because settings in a startup packet are not validated.
 *
 * None of these cases is an error.  An error would distinguish calls that read the claims from
 * calls that found no session to ask them about, and would prevent a logout in a namespace that
 * only records the subject.  For that reason the claims are not converted to jsonb, which refuses
 * some valid JSON (1e999999, \u0000).
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "common/jsonapi.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "compat.h"
#include "row/claims.h"

/* The claims of a real token are a few levels deep; the parser recurses. */
#define CLAIMS_DEPTH_MAX 100

/* Append a character given in UTF-8; false if the encoding of the database does not have it. */
static bool
append_utf8(StringInfo out, unsigned char *utf8)
{
	unsigned char converted[MAX_CONVERSION_GROWTH * 4 + 1];
	int len = pg_utf_mblen(utf8);
	Oid proc;

	if (len == 1 || GetDatabaseEncoding() == PG_UTF8)
	{
		appendBinaryStringInfo(out, (char *) utf8, len);
		return true;
	}
	proc = FindDefaultConversionProc(PG_UTF8, GetDatabaseEncoding());
	if (!OidIsValid(proc) ||
		pg_do_encoding_conversion_buf(proc, PG_UTF8, GetDatabaseEncoding(), utf8, len, converted,
									  sizeof(converted), true) != len)
		return false;
	appendStringInfoString(out, (char *) converted);
	return true;
}

/* Decode four hexadecimal digits, which the lexer has checked. */
static pg_wchar
hex4(const char *digits)
{
	char copy[5] = {digits[0], digits[1], digits[2], digits[3], '\0'};

	return (pg_wchar) strtoul(copy, NULL, 16);
}

/*
 * Decode an escape sequence that the lexer has checked; p is behind the backslash.  Returns its
 * end, NULL if it cannot be part of a text.
 */
static const char *
decode_escape(StringInfo out, const char *p, const char *end)
{
	static const char letters[] = "bfnrt";
	static const char meanings[] = "\b\f\n\r\t";
	unsigned char utf8[5] = {0};
	pg_wchar c;

	if (*p != 'u')
	{
		const char *letter = strchr(letters, *p);

		appendStringInfoChar(out, letter != NULL ? meanings[letter - letters] : *p);
		return p + 1;
	}
	c = hex4(p + 1);
	p += 5;
	if (is_utf16_surrogate_first(c))
	{
		if (end - p < 6 || p[0] != '\\' || p[1] != 'u' || !is_utf16_surrogate_second(hex4(p + 2)))
			return NULL;
		c = surrogate_pair_to_codepoint(c, hex4(p + 2));
		p += 6;
	}
	else if (is_utf16_surrogate_second(c))
		return NULL;
	if (c == 0)
		return NULL;
	unicode_to_utf8(c, utf8);
	return append_utf8(out, utf8) ? p : NULL;
}

/* Decode a string token; NULL if it cannot be represented as a text. */
static char *
decode_string(const char *token, const char *end)
{
	StringInfoData out;

	initStringInfo(&out);
	/* skip the quotes */
	for (const char *p = token + 1; p < end - 1;)
	{
		if (*p != '\\')
			appendStringInfoChar(&out, *p++);
		else if ((p = decode_escape(&out, p + 1, end - 1)) == NULL)
			return NULL;
	}
	return out.data;
}

/* State of a pass over the tokens of the claims. */
typedef struct Search
{
	int depth;
	int max_depth;
	bool in_object; /* the outermost value is an object */
	bool key_next;  /* the next token is the name of one of its members */
	bool in_sub;    /* the next token begins the value of "sub" */
	char *subject;
} Search;

/* Process one token. */
static void
visit(Search *search, const JsonLexContext *lex)
{
	switch (lex->token_type)
	{
		case JSON_TOKEN_OBJECT_START:
		case JSON_TOKEN_ARRAY_START:
			if (search->depth == 0)
				search->in_object = search->key_next = lex->token_type == JSON_TOKEN_OBJECT_START;
			else if (search->in_sub)
			{
				search->subject = NULL;
				search->in_sub = false;
			}
			search->depth++;
			search->max_depth = Max(search->max_depth, search->depth);
			break;
		case JSON_TOKEN_OBJECT_END:
		case JSON_TOKEN_ARRAY_END:
			search->depth--;
			break;
		case JSON_TOKEN_COMMA:
			if (search->depth == 1)
				search->key_next = search->in_object;
			break;
		case JSON_TOKEN_COLON:
			break;
		default:
			if (search->depth != 1 || !search->in_object)
				break;
			if (search->key_next)
			{
				char *name = decode_string(lex->token_start, lex->token_terminator);

				search->in_sub = name != NULL && strcmp(name, "sub") == 0;
				search->key_next = false;
			}
			else if (search->in_sub)
			{
				/* of duplicate members the last one counts, as in jsonb */
				search->subject = lex->token_type == JSON_TOKEN_STRING
									  ? decode_string(lex->token_start, lex->token_terminator)
									  : NULL;
				search->in_sub = false;
			}
	}
}

/*
 * Extract the subject from the claims, NULL if there is none.  Allocates in the current context.
 */
static char *
subject_of(const char *claims)
{
	JsonLexContext *lex;
	Search search = {0};

	if (!pg_verifymbstr(claims, (int) strlen(claims), true))
		return NULL;
	lex = SsJsonLexer(claims);
	do
	{
		if (json_lex(lex) != JSON_SUCCESS)
			return NULL;
		visit(&search, lex);
	} while (lex->token_type != JSON_TOKEN_END);
	if (search.subject == NULL || search.subject[0] == '\0' || search.max_depth > CLAIMS_DEPTH_MAX)
		return NULL;
	/* all tokens are valid; check that they form a JSON value */
	return pg_parse_json(SsJsonLexer(claims), &nullSemAction) == JSON_SUCCESS ? search.subject
																			  : NULL;
}

/* The subject in the claims that were read last, in a context of its own. */
static struct
{
	MemoryContext context;
	char *claims; /* NULL: none were read */
	char *subject;
} cache;

/*
 * The subject of the caller, NULL if there is none.  The result is valid until the claims change.
 * It is cached, since the claims are the same for all calls of a request.
 */
char *
ss_claims_subject(void)
{
	const char *claims = GetConfigOption("request.jwt.claims", true, false);
	MemoryContext old;
	char *subject;

	if (claims == NULL || claims[0] == '\0')
		return NULL;
	if (cache.claims != NULL && strcmp(claims, cache.claims) == 0)
		return cache.subject;
	if (cache.context == NULL)
		cache.context = AllocSetContextCreate(TopMemoryContext, "session_store claims",
											  ALLOCSET_SMALL_SIZES);
	cache.claims = NULL;
	MemoryContextReset(cache.context);
	old = MemoryContextSwitchTo(cache.context);
	subject = subject_of(claims);
	cache.subject = subject;
	cache.claims = pstrdup(claims);
	MemoryContextSwitchTo(old);
	return cache.subject;
}
