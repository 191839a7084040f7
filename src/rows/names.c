/*
 * names.c
 *		Checks which characters names of sessions, owners and namespaces may contain.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "rows/names.h"

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
