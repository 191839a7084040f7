/*
 * key.h
 *		The key of a session: database, namespace and id, as used in shared memory; and names.
 *
 * Redis has up to two keys for a session: its document and the tail of its history.  The ledger
 * treats each as a key of its own (part); everything else knows only sessions, with part 0.
 *
 * A session, an owner and a member have names of at most SS_NAME_MAX bytes, a namespace one of at
 * most SS_NAMESPACE_MAX, all without control characters.
 *
 * What the simulator uses is pure C and stands in this file; key.c has the functions that use the
 * server.
 */
#ifndef SS_KEY_H
#define SS_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Maximum lengths in bytes of a namespace, and of ids, owners and members. */
#define SS_NAMESPACE_MAX 63
#define SS_NAME_MAX 200

/* The namespace of calls that name none, unless session_store.namespace is set. */
#define SS_DEFAULT_NAMESPACE "default"

/* Values of part. */
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

/* The number of bytes in use in bytes[]. */
static inline int
ss_key_length(const SsKey *key)
{
	return key->nslen + key->idlen;
}

/* Are two keys the same, part included? */
static inline bool
ss_key_equal(const SsKey *a, const SsKey *b)
{
	return a->database == b->database && a->part == b->part && a->nslen == b->nslen &&
		   a->idlen == b->idlen && memcmp(a->bytes, b->bytes, ss_key_length(a)) == 0;
}

/* Copy the part of a key that is in use; the rest of *to is left as it is and never read. */
static inline void
ss_key_copy(SsKey *to, const SsKey *from)
{
	memcpy(to, from, offsetof(SsKey, bytes) + ss_key_length(from));
}

/*
 * The hash of a key: FNV-1a, folded to 32 bits.  Not one of the server's hashes, because the ledger
 * is pure C.
 */
static inline uint32_t
ss_key_hash(const SsKey *key)
{
	uint64_t hash = UINT64_C(14695981039346656037) ^ key->database;
	int len = ss_key_length(key);

	/* places the parts of a session as far apart as two sessions */
	hash = (hash ^ (key->part << 8 | key->nslen)) * UINT64_C(1099511628211);
	for (int i = 0; i < len; i++)
		hash = (hash ^ (uint8_t) key->bytes[i]) * UINT64_C(1099511628211);
	hash ^= hash >> 32;
	return (uint32_t) (hash ^ hash >> 15);
}

#ifdef POSTGRES_H
extern bool ss_name_is_plain(const char *name, int len);
extern void ss_key_set(SsKey *key, const char *ns, int nslen, const char *id, int idlen);
extern bool ss_key_from_datums(SsKey *key, Datum ns, Datum id);
#endif

#endif
