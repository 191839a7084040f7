/*
 * prefixes.c
 *		The prefixes of our keys in Redis.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "redis/prefixes.h"

/* Removes all prefixes. */
void
ss_prefixes_clear(SsPrefixes *prefixes)
{
	for (int i = 0; i < prefixes->count; i++)
		pfree(prefixes->prefix[i].text);
	prefixes->count = 0;
}

/* The entry of a prefix; NULL if there is none.  Valid until the next ss_prefixes_add. */
SsPrefix *
ss_prefixes_find(const SsPrefixes *prefixes, const char *prefix, size_t len)
{
	for (int i = 0; i < prefixes->count; i++)
		if (strlen(prefixes->prefix[i].text) == len &&
			memcmp(prefixes->prefix[i].text, prefix, len) == 0)
			return &prefixes->prefix[i];
	return NULL;
}

/* Adds a prefix, unless it exists.  The result is valid until the next call. */
SsPrefix *
ss_prefixes_add(SsPrefixes *prefixes, const char *prefix, size_t len)
{
	SsPrefix *entry = ss_prefixes_find(prefixes, prefix, len);
	char *text;
	MemoryContext old;

	if (entry != NULL)
		return entry;
	old = MemoryContextSwitchTo(TopMemoryContext);
	if (prefixes->count == prefixes->room)
	{
		prefixes->room = prefixes->room == 0 ? 16 : prefixes->room * 2;
		prefixes->prefix = prefixes->prefix == NULL
							   ? palloc(sizeof(SsPrefix) * prefixes->room)
							   : repalloc(prefixes->prefix, sizeof(SsPrefix) * prefixes->room);
	}
	text = pnstrdup(prefix, len);
	MemoryContextSwitchTo(old);
	entry = &prefixes->prefix[prefixes->count++];
	entry->text = text;
	entry->owned = entry->named = false;
	return entry;
}

/*
 * A flush of the prefixes `sent` is complete: the guard names those of them that a policy has,
 * and the others are removed.
 */
void
ss_prefixes_flushed(SsPrefixes *prefixes, const SsPrefixes *sent)
{
	int kept = 0;

	for (int i = 0; i < prefixes->count; i++)
	{
		SsPrefix *prefix = &prefixes->prefix[i];

		if (sent == prefixes || ss_prefixes_find(sent, prefix->text, strlen(prefix->text)) != NULL)
		{
			prefix->named = prefix->owned;
			if (!prefix->owned)
			{
				pfree(prefix->text);
				continue;
			}
		}
		prefixes->prefix[kept++] = *prefix;
	}
	prefixes->count = kept;
}
