/*
 * page_cursor.c
 *		The text that says where the next page of a listing begins.
 *
 * A cursor is the position of a row in the order of its listing.  It names the order and the version
 * of its format:
 *
 *		c1.CREATED.ID	newest first: created_at as 16 hexadecimal digits, and the session id
 *		i1.LEN.ID		by id: the length of id_prefix as 2 hexadecimal digits, and the session id,
 *						which begins with id_prefix
 *
 * Clients must not rely on the format, so it may change with the version.
 */
#include "postgres.h"

#include <inttypes.h>

#include "utils/builtins.h"

#include "base/key.h"
#include "sessions/page_cursor.h"

#define NEWEST_FIRST_TAG "c1."
#define BY_ID_TAG "i1."
#define TAG_LEN 3

/* Makes the cursor of a row of a listing.  id_prefix is used only in the order SS_BY_ID. */
Datum
ss_page_cursor_make(SsListOrder order, Datum id_prefix, TimestampTz created_at, Datum session_id)
{
	char *id = TextDatumGetCString(session_id);
	char *cursor;

	if (order == SS_NEWEST_FIRST)
		cursor = psprintf(NEWEST_FIRST_TAG "%016" PRIx64 ".%s", (uint64) created_at, id);
	else
	{
		text *prefix = DatumGetTextPP(id_prefix);
		size_t len = VARSIZE_ANY_EXHDR(prefix);

		Assert(strncmp(id, VARDATA_ANY(prefix), len) == 0);
		cursor = psprintf(BY_ID_TAG "%02x.%s", (unsigned int) len, id);
	}
	return CStringGetTextDatum(cursor);
}

static void
refuse(const char *detail)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid page cursor"),
					detail != NULL ? errdetail_internal("%s", detail) : 0,
					errhint("Use a page_cursor that session_list() returned, with the same "
							"id_prefix.")));
}

/* Reads hexadecimal digits up to a dot, and moves *p behind that. */
static uint64
read_number(const char **p, int digits)
{
	uint64 number;

	if (strspn(*p, "0123456789abcdef") != digits || (*p)[digits] != '.')
		refuse(NULL);
	number = strtou64(*p, NULL, 16);
	*p += digits + 1;
	return number;
}

/*
 * Sets the position of a page, whose order is set, to that of a cursor.  Raises an error if the text
 * is not a cursor of a listing in this order and with this id_prefix.
 */
void
ss_page_cursor_read(Datum cursor, Datum id_prefix, SsPage *page)
{
	const char *p = TextDatumGetCString(cursor);
	SsListOrder order = SS_NEWEST_FIRST;
	size_t prefix_len = 0;

	if (strncmp(p, BY_ID_TAG, TAG_LEN) == 0)
		order = SS_BY_ID;
	else if (strncmp(p, NEWEST_FIRST_TAG, TAG_LEN) != 0)
		refuse(NULL);
	p += TAG_LEN;
	if (order == SS_BY_ID)
		prefix_len = read_number(&p, 2);
	else
		page->created_at = (TimestampTz) read_number(&p, 16);
	if (strlen(p) < 1 || strlen(p) > SS_NAME_MAX || strlen(p) < prefix_len ||
		!ss_name_is_plain(p, (int) strlen(p)))
		refuse(NULL);
	if (order != page->order)
		refuse(order == SS_BY_ID
				   ? "It is of a listing with id_prefix, which is in the order of the ids."
				   : "It is of a listing without id_prefix, which has the newest first.");
	if (order == SS_BY_ID)
	{
		text *prefix = DatumGetTextPP(id_prefix);

		if (prefix_len != VARSIZE_ANY_EXHDR(prefix) ||
			memcmp(p, VARDATA_ANY(prefix), prefix_len) != 0)
			refuse("It is of a listing with another id_prefix.");
	}
	page->session_id = CStringGetTextDatum(p);
}
