/*
 * cached.h
 *		Rows as the pusher reads them, and what it must know of our tables.
 */
#ifndef SS_CACHED_H
#define SS_CACHED_H

#include "lib/stringinfo.h"
#include "storage/block.h"

#include "rows/namespaces.h"
#include "rows/touches.h"

/* A walk over the blocks of conversation_sessions, from a random one on; begins as zeroes. */
typedef struct SsTableWalk
{
	bool begun;
	bool done;
	BlockNumber nblocks; /* when it began */
	BlockNumber first;
	BlockNumber block; /* the next */
} SsTableWalk;

/* A key that is asked for, and what its row says. */
typedef struct SsCachedRow
{
	const SsKey *key;
	const SsPolicy *policy; /* NULL: not to be read */
	bool document;          /* is it wanted? */
	/* the answer */
	bool alive;
	bool large;   /* over the limit */
	bool foreign; /* its text cannot be converted to UTF-8 */
	bool later;   /* did not fit */
	int64 life;   /* how long a copy may live, us */
	int offset;   /* of the document in the text, and how long it is */
	int length;
} SsCachedRow;

typedef enum SsTableState
{
	SS_TABLES_FINE,
	SS_TABLES_GONE,   /* the extension is not there any more */
	SS_TABLES_LOCKED, /* somebody has them for himself, for now */
	SS_TABLES_BROKEN  /* changes can go unnoticed */
} SsTableState;

/* What identifies the tables' contents and triggers: another, and anything may have changed. */
typedef struct SsTableMark
{
	struct
	{
		Oid relation;
		Oid storage;
		uint64 triggers;
	} of[2]; /* sessions, history */
} SsTableMark;

extern SsTableState ss_cached_check(SsTableMark *mark, char *trouble, size_t size);
extern SsTableState ss_cached_lock(void);
extern void ss_cached_read(SsCachedRow *rows, int n, int64 most, StringInfo text);
extern SsPolicy *ss_cached_policies(int *count);
extern bool ss_cached_prepared(void);
extern char *ss_cached_settings(void);
extern int ss_cached_block(SsTableWalk *walk, SsKey *keys, int most);

#endif
