/*
 * xact_key_list.c
 *		A list of keys that can be searched.
 *
 * An array in the order of addition, with an index by hash.  The index outlives the keys, so that
 * an empty list costs nothing.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "keys/xact_key_list.h"

/* Up to this number keys are searched linearly. */
#define SCAN_MOST 8
#define CAPACITY_FIRST 16
#define CAPACITY_KEPT 1024

/* Adds a key to the index, which has room for it. */
static void
index_key(SsXactKeyList *list, int n)
{
	uint32 mask = list->capacity * 2 - 1;
	uint32 at = list->keys[n].hash & mask;

	while (list->buckets[at] >= 0)
		at = (at + 1) & mask;
	list->buckets[at] = n;
}

/* Doubles the capacity.  May fail for lack of memory, with the old contents intact. */
static void
grow(SsXactKeyList *list)
{
	int more = list->capacity == 0 ? CAPACITY_FIRST : list->capacity * 2;
	int32 *more_buckets = MemoryContextAllocHuge(TopMemoryContext, sizeof(int32) * more * 2);

	/* the array and its index stay consistent if this runs out of memory */
	if (list->keys == NULL)
		list->keys = MemoryContextAlloc(TopMemoryContext, sizeof(SsXactKey) * more);
	else
		list->keys = repalloc_huge(list->keys, sizeof(SsXactKey) * more);
	if (list->buckets != NULL)
		pfree(list->buckets);
	list->buckets = more_buckets;
	list->capacity = more;
	memset(list->buckets, 0xff, sizeof(int32) * more * 2);
	for (int i = 0; i < list->n; i++)
		index_key(list, i);
}

/* The entry of a key; NULL if there is none. */
SsXactKey *
ss_xact_key_list_find(const SsXactKeyList *list, const SsKey *key, uint32 hash)
{
	if (list->n <= SCAN_MOST)
	{
		for (int i = 0; i < list->n; i++)
			if (list->keys[i].hash == hash && ss_key_equal(&list->keys[i].key, key))
				return &list->keys[i];
		return NULL;
	}
	for (uint32 at = hash & (list->capacity * 2 - 1); list->buckets[at] >= 0;
		 at = (at + 1) & (list->capacity * 2 - 1))
	{
		SsXactKey *xact_key = &list->keys[list->buckets[at]];

		if (xact_key->hash == hash && ss_key_equal(&xact_key->key, key))
			return xact_key;
	}
	return NULL;
}

/*
 * Appends a key that the list does not have; its flags are 0.  May raise an error, for lack of
 * memory, with the list as it was.
 */
SsXactKey *
ss_xact_key_list_append(SsXactKeyList *list, const SsKey *key, uint32 hash)
{
	SsXactKey *xact_key;

	if (list->n == list->capacity)
		grow(list);
	xact_key = &list->keys[list->n];
	xact_key->hash = hash;
	xact_key->what = xact_key->ledger_flags = 0;
	xact_key->entered = false;
	ss_key_copy(&xact_key->key, key);
	index_key(list, list->n++);
	return xact_key;
}

/* Removes all keys but the first `kept`.  Cannot fail. */
void
ss_xact_key_list_truncate(SsXactKeyList *list, int kept)
{
	uint32 mask = list->capacity * 2 - 1;

	Assert(kept <= list->n);
	if (kept == 0 && list->n > SCAN_MOST * 4)
	{
		memset(list->buckets, 0xff, sizeof(int32) * list->capacity * 2);
		list->n = 0;
		return;
	}
	/* from the last to the first, so that entries displaced by others are removed before them */
	for (int i = list->n - 1; i >= kept; i--)
	{
		uint32 at = list->keys[i].hash & mask;

		while (list->buckets[at] != i)
			at = (at + 1) & mask;
		list->buckets[at] = -1;
	}
	list->n = kept;
}

/* Removes all keys, and frees memory beyond the usual.  Cannot fail. */
void
ss_xact_key_list_clear(SsXactKeyList *list)
{
	ss_xact_key_list_truncate(list, 0);
	if (list->capacity <= CAPACITY_KEPT)
		return;
	pfree(list->keys);
	pfree(list->buckets);
	memset(list, 0, sizeof(*list));
}
