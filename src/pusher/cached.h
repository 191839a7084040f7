/*
 * cached.h
 *		Reads rows for the pusher, and what it must know of our tables.
 */
#ifndef SS_CACHED_H
#define SS_CACHED_H

#include "lib/stringinfo.h"
#include "storage/block.h"

#include "table/namespaces.h"

/*
 * A walk over all blocks of conversation_sessions, which begins at a random one and wraps around.
 * Zeroed by the caller before the first call of ss_cached_block.
 */
typedef struct SsTableWalk
{
	bool begun;
	bool done;
	BlockNumber nblocks; /* size of the table when the walk began */
	BlockNumber first;
	BlockNumber block; /* the next to visit */
} SsTableWalk;

/* A key to be read, and the answer. */
typedef struct SsCachedRow
{
	const SsKey *key;
	const SsPolicy *policy; /* NULL: the row is not read */
	bool document;          /* the text is wanted, not only the life */
	/* the answer */
	bool alive;    /* the session is alive, and has what the key names */
	bool large;    /* the text exceeds the limit */
	bool foreign;  /* the text cannot be converted to UTF-8 */
	bool later;    /* not read, because the batch was full */
	int64 life_us; /* how long a copy may live; if not alive, what is left of the row's life */
	int offset;    /* position and length of the document in the text */
	int length;
} SsCachedRow;

extern void ss_cached_read(SsCachedRow *rows, int n, int64 max, StringInfo text);
extern SsPolicy *ss_cached_policies(int *count);
extern bool ss_cached_prepared(void);
extern char *ss_cached_settings(void);
extern int ss_cached_block(SsTableWalk *walk, SsKey *keys, int max);

#endif
