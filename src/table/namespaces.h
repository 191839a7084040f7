/*
 * namespaces.h
 *		Backend-local cache of policies, the rows of session_namespaces.
 */
#ifndef SS_NAMESPACES_H
#define SS_NAMESPACES_H

#include "access/htup.h"
#include "access/tupdesc.h"
#include "utils/array.h"

#include "base/clock.h"
#include "base/key.h"

/* The key_prefix of namespace "default", unless a row says otherwise. */
#define SS_DEFAULT_PREFIX "session:"

/*
 * The defaults of the columns, which are the policy of namespace "default" as long as it has no row.
 * The install script says the same; test/t/077_lists_in_c.pl compares them.  Intervals are in
 * microseconds.
 */
#define SS_DEFAULT_TTL_US (INT64CONST(3600) * USECS_PER_SEC)
#define SS_DEFAULT_SLIDING true
#define SS_DEFAULT_CACHE "hot"
#define SS_DEFAULT_CACHE_TTL_US (INT64CONST(300) * USECS_PER_SEC)
#define SS_DEFAULT_HOT_USES 1
#define SS_DEFAULT_HASH_KEYS false
#define SS_DEFAULT_MAX_BYTES 8388608
#define SS_DEFAULT_ON_QUOTA "evict"
#define SS_DEFAULT_TOMBSTONE_US (INT64CONST(300) * USECS_PER_SEC)
#define SS_DEFAULT_OWNER_ISOLATION false
#define SS_DEFAULT_AUDIT false
#define SS_DEFAULT_EVENTS_KEEP "30 days"
#define SS_DEFAULT_DURABILITY "strict"
#define SS_DEFAULT_TAIL_SIZE 20
#define SS_DEFAULT_AUDIT_SAVES false
#define SS_DEFAULT_OPERATION_KEEP_US (INT64CONST(86400) * USECS_PER_SEC)
#define SS_DEFAULT_TURNS "optional"

/* Maximum length of key_prefix and tail_prefix in bytes. */
#define SS_PREFIX_MAX 100

/* The column cache. */
typedef enum SsCaching
{
	SS_CACHE_OFF,
	SS_CACHE_HOT,
	SS_CACHE_ALL
} SsCaching;

/* A policy: a row of session_namespaces. */
typedef struct SsPolicy
{
	char name[SS_NAMESPACE_MAX + 1]; /* hash key, zero padded */
	int64 ttl_us;                    /* SS_FIXED: sessions are kept until they are deleted */
	int64 max_lifetime_us;           /* SS_NO_LIMIT for none */
	int64 tombstone_us;
	int64 operation_keep_us;
	int64 max_bytes;
	int32 max_per_owner; /* 0 for no limit */
	bool evict;          /* at max_per_owner, evict the oldest session; otherwise refuse */
	bool sliding;
	bool audit;
	bool audit_saves;
	bool relaxed; /* saves may commit asynchronously (relaxed.c) */
	bool owner_isolation;
	bool turns_required; /* changes of an existing session need a turn */
	SsMonotonic read_at; /* changes committed before are included */
	SsCaching cache;
	bool hash_keys;
	int64 cache_ttl_us;
	int32 hot_uses;
	char prefix[SS_PREFIX_MAX + 1];
	char tail_prefix[SS_PREFIX_MAX + 1]; /* empty if tails are not cached */
	int32 tail_size;
	ArrayType *token_path; /* NULL in a copy; see ss_ns_token_path */
	bool has_token_path;   /* the column is not null */
	/* allowed_roles, and the cached result of ss_ns_allows for one role */
	int nroles; /* -1 if the column is null: no role is excluded */
	NameData *roles;
	Oid memo_role;
	bool memo_allowed;
	uint64 memo_roles; /* ss_catalog_changes(SS_ROLES) then */
} SsPolicy;

extern void ss_ns_read(SsPolicy *policy, HeapTuple tuple, TupleDesc desc, MemoryContext context);
extern void ss_ns_built_in(SsPolicy *policy);
extern bool ss_ns_find(const char *name, int len, SsPolicy *policy);
extern uint64 ss_ns_generation(bool news);
extern bool ss_ns_allows(const SsPolicy *policy, Oid role);
extern ArrayType *ss_ns_token_path(const SsPolicy *policy);

#endif
