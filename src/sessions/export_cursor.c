/*
 * export_cursor.c
 *		The text that says where the next page of an export begins.
 *
 * A cursor is the position of an item, in the form
 *
 *		x1.STAGE.CREATED.SEQ.LEN.ID REST
 *
 * where STAGE is a letter, CREATED and SEQ have 16 hexadecimal digits, LEN has 2 and is the length of
 * ID.  REST follows ID without a space.  See SsExportPosition for what they are.  Clients must not rely
 * on the format, so it may change with the version.
 */
#include "postgres.h"

#include <inttypes.h>

#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "base/key.h"
#include "sessions/export_cursor.h"

#define TAG "x1."
#define UUID_TEXT_LEN 36

/* Makes the cursor of a position. */
Datum
ss_export_cursor_make(const SsExportPosition *position)
{
	char *id = TextDatumGetCString(position->id);

	Assert(strlen(id) <= SS_NAME_MAX);
	return CStringGetTextDatum(psprintf(TAG "%c.%016" PRIx64 ".%016" PRIx64 ".%02x.%s%s",
										(char) position->stage, (uint64) position->created_at,
										(uint64) position->seq, (unsigned int) strlen(id), id,
										TextDatumGetCString(position->rest)));
}

static void
refuse(void)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid page cursor"),
					errhint("Use a page_cursor that session_export() returned.")));
}

/* Reads hexadecimal digits and the dot behind them, and moves *p behind that. */
static uint64
read_number(const char **p, size_t digits)
{
	uint64 number;

	if (strspn(*p, "0123456789abcdef") != digits || (*p)[digits] != '.')
		refuse();
	number = strtou64(*p, NULL, 16);
	*p += digits + 1;
	return number;
}

/* Is this the text of a uuid, as the server writes it? */
static bool
is_uuid(const char *p)
{
	if (strlen(p) != UUID_TEXT_LEN)
		return false;
	for (int i = 0; i < UUID_TEXT_LEN; i++)
	{
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? p[i] != '-' : strchr("0123456789abcdef", p[i]) == NULL)
			return false;
	}
	return true;
}

/* Is this an id or member? */
static bool
is_name(const char *p, int len)
{
	return len >= 1 && len <= SS_NAME_MAX && ss_name_is_plain(p, len) &&
		   pg_verifymbstr(p, len, true);
}

/* Sets the position to that of a cursor, or raises an error if the text is none. */
void
ss_export_cursor_read(Datum cursor, SsExportPosition *position)
{
	const char *p = TextDatumGetCString(cursor);
	size_t id_len;
	bool valid = false;

	if (strncmp(p, TAG, strlen(TAG)) != 0 || p[strlen(TAG)] == '\0' || p[strlen(TAG) + 1] != '.')
		refuse();
	position->stage = (SsExportStage) p[strlen(TAG)];
	p += strlen(TAG) + 2;
	position->created_at = (TimestampTz) read_number(&p, 16);
	position->seq = (int64) read_number(&p, 16);
	id_len = read_number(&p, 2);
	if (strlen(p) < id_len)
		refuse();
	switch (position->stage)
	{
		case SS_EXPORT_SESSION:
		case SS_EXPORT_SUMMARY:
		case SS_EXPORT_MESSAGE:
			valid = is_name(p, (int) id_len) && p[id_len] == '\0';
			break;
		case SS_EXPORT_MEMBER:
			valid = is_name(p, (int) id_len) && is_name(p + id_len, (int) strlen(p + id_len));
			break;
		case SS_EXPORT_UNACCEPTED:
		case SS_EXPORT_ACCEPTED:
		case SS_EXPORT_EVENT:
			valid = id_len == 0 && is_uuid(p);
			break;
	}
	if (!valid)
		refuse();
	position->id = PointerGetDatum(cstring_to_text_with_len(p, (int) id_len));
	position->rest = CStringGetTextDatum(p + id_len);
}
