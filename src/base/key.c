/*
 * key.c
 *		Makes the keys of sessions, and checks which characters names may contain.
 */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"

#include "base/key.h"
#include "compat.h"

/*
 * Is a name free of control characters?  These are the C0 set, DEL and, in UTF-8, the C1 set.
 * They would break logs, and tools that read keys.
 */
bool
ss_name_is_plain(const char *name, int len)
{
	const unsigned char *p = (const unsigned char *) name;
	bool utf8 = GetDatabaseEncoding() == PG_UTF8;

	for (int i = 0; i < len; i++)
	{
		if (p[i] < 0x20 || p[i] == 0x7f)
			return false;
		if (utf8 && p[i] == 0xc2 && i + 1 < len && p[i + 1] < 0xa0)
			return false;
	}
	return true;
}

/*
 * Make the key of a session of this database.  The names must not be longer than any name may be.
 */
void
ss_key_set(SsKey *key, const char *ns, int nslen, const char *id, int idlen)
{
	Assert(nslen <= SS_NAMESPACE_MAX && idlen <= SS_NAME_MAX);
	key->database = MyDatabaseId;
	key->part = SS_PART_DOCUMENT;
	key->nslen = nslen;
	key->idlen = idlen;
	memcpy(key->bytes, ns, nslen);
	memcpy(key->bytes + nslen, id, idlen);
}

/*
 * The same from the columns of a row.  Returns false if they are too long.  Our trigger refuses
 * such rows, but it can be disabled, and no content of a table may overrun a buffer.
 */
bool
ss_key_from_datums(SsKey *key, Datum ns, Datum id)
{
	text *n = DatumGetTextPP(ns);
	text *i = DatumGetTextPP(id);

	if (VARSIZE_ANY_EXHDR(n) > SS_NAMESPACE_MAX || VARSIZE_ANY_EXHDR(i) > SS_NAME_MAX)
		return false;
	ss_key_set(key, VARDATA_ANY(n), VARSIZE_ANY_EXHDR(n), VARDATA_ANY(i), VARSIZE_ANY_EXHDR(i));
	return true;
}
