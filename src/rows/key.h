/*
 * key.h
 *		A session, by name: what everything in shared memory is keyed by.
 *
 * Redis has up to two keys of a session, its document and the tail of its history.  Each
 * is a key of its own to the ledger; everything else knows sessions only.
 *
 * Pure C, for the simulator.
 */
#ifndef SS_KEY_H
#define SS_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SS_NAMESPACE_MAX 63
#define SS_NAME_MAX 200

/* Which of a session's keys in Redis. */
#define SS_PART_DOCUMENT 0
#define SS_PART_TAIL 1

typedef struct SsKey
{
	uint32_t database; /* an Oid */
	uint8_t part;
	uint8_t nslen;
	uint8_t idlen;
	char bytes[SS_NAMESPACE_MAX + SS_NAME_MAX]; /* namespace, then id */
} SsKey;

static inline int
ss_key_length(const SsKey *key)
{
	return key->nslen + key->idlen;
}

static inline bool
ss_key_equal(const SsKey *a, const SsKey *b)
{
	return a->database == b->database && a->part == b->part && a->nslen == b->nslen &&
		   a->idlen == b->idlen && memcmp(a->bytes, b->bytes, ss_key_length(a)) == 0;
}

/* What of a key is in use; the rest is never read. */
static inline void
ss_key_copy(SsKey *to, const SsKey *from)
{
	memcpy(to, from, offsetof(SsKey, bytes) + ss_key_length(from));
}

#endif
