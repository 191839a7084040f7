/*
 * namespace_row.h
 *		The columns of session_namespaces, by position.
 *
 * Shared by the two files that read such a row: the cache of policies and the
 * trigger that checks them.
 */
#ifndef SS_NAMESPACE_ROW_H
#define SS_NAMESPACE_ROW_H

#include "access/htup_details.h"

/* Zero-based; the install script has the same order. */
typedef enum SsNamespaceColumn
{
	NS_NAME,
	NS_KEY_PREFIX,
	NS_TTL,
	NS_SLIDING,
	NS_MAX_LIFETIME,
	NS_CACHE,
	NS_CACHE_TTL,
	NS_HOT_USES,
	NS_HASH_KEYS,
	NS_MAX_BYTES,
	NS_MAX_SESSIONS_PER_OWNER,
	NS_ON_QUOTA,
	NS_TOMBSTONE,
	NS_ALLOWED_ROLES,
	NS_OWNER_ISOLATION,
	NS_AUDIT,
	NS_EVENTS_KEEP,
	NS_DURABILITY,
	NS_TAIL_PREFIX,
	NS_TAIL_SIZE,
	NS_AUDIT_SAVES,
	Natts_session_namespaces
} SsNamespaceColumn;

/* The table is the user's to extend: what stands behind our columns is not read. */
static inline void
ss_ns_deform(HeapTuple tuple, TupleDesc desc, Datum *values, bool *nulls)
{
	for (int i = 0; i < Natts_session_namespaces; i++)
		values[i] = heap_getattr(tuple, i + 1, desc, &nulls[i]);
}

#endif
