/*
 * xact_key_list.h
 *		A list of keys that can be searched.
 */
#ifndef SS_XACT_KEY_LIST_H
#define SS_XACT_KEY_LIST_H

#include "base/key.h"

typedef struct SsXactKey
{
	uint32 hash;
	uint8 what;         /* flags SS_CHANGED_ and SS_KEY_ */
	uint8 ledger_flags; /* flags SS_CHANGED_ that the ledger has */
	bool entered;       /* is in the ledger */
	SsKey key;
} SsXactKey;

/* All zero when it is empty; its memory is in TopMemoryContext. */
typedef struct SsXactKeyList
{
	SsXactKey *keys;
	int n;
	int capacity;
	int32 *buckets; /* indexes of keys by hash: open addressing, 2 * capacity */
} SsXactKeyList;

extern SsXactKey *ss_xact_key_list_find(const SsXactKeyList *list, const SsKey *key, uint32 hash);
extern SsXactKey *ss_xact_key_list_append(SsXactKeyList *list, const SsKey *key, uint32 hash);
extern void ss_xact_key_list_truncate(SsXactKeyList *list, int kept);
extern void ss_xact_key_list_clear(SsXactKeyList *list);

#endif
