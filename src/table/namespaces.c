/*
 * namespaces.c
 *		Backend-local cache of policies, the rows of session_namespaces.
 *
 * The trigger on the table (namespace_trigger.c) invalidates the table's relation cache entry with
 * each change.  That message is transactional, reaches all backends and standbys, and empties this
 * cache.  Policies are read in a snapshot that is taken for the purpose, never in the
 * transaction's: a policy read in an old snapshot would stay cached after the message about its
 * change.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/expiry.h"
#include "table/catalog.h"
#include "table/namespaces.h"
#include "table/schema.h"

/* The cache of policies.  It may be read only after refresh(). */
static struct
{
	MemoryContext context;
	HTAB *policies; /* by name, in the context */
	SsMemo memo;    /* of policies */
} cache = {.memo = {SS_OUR_TABLES}};

/* Create the cache, or empty it after an invalidation.  Pointers to entries become invalid. */
static void
refresh(void)
{
	HASHCTL ctl = {0};
	uint64 begun;

	if (cache.policies != NULL && ss_memo_is_current(&cache.memo))
		return;

	begun = ss_memo_begin(&cache.memo);
	cache.policies = NULL;
	if (cache.context == NULL)
		cache.context = AllocSetContextCreate(TopMemoryContext, "session_store policies",
											  ALLOCSET_SMALL_SIZES);
	MemoryContextReset(cache.context);
	ctl.keysize = SS_NAMESPACE_MAX + 1;
	ctl.entrysize = sizeof(SsPolicy);
	ctl.hcxt = cache.context;
	cache.policies = hash_create("session_store policies", 16, &ctl,
								 HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	ss_memo_end(&cache.memo, begun);
}

/*
 * An interval in microseconds.  The trigger has validated it; otherwise the result is SS_TTL_MIN_US.
 */
static int64
interval_usec(Datum value)
{
	Interval *span = DatumGetIntervalP(value);
	int64 result;

	if (ss_duration(span->month, span->day, span->time, 0, PG_INT64_MAX, &result) != SS_DURATION_OK)
		return SS_TTL_MIN_US;
	return result;
}

/* Convert the column cache. */
static SsCaching
caching(const char *name)
{
	return strcmp(name, "off") == 0   ? SS_CACHE_OFF
		   : strcmp(name, "all") == 0 ? SS_CACHE_ALL
									  : SS_CACHE_HOT;
}

/* Does the column on_quota say that the oldest session is evicted? */
static bool
evicts(const char *on_quota)
{
	return strcmp(on_quota, "evict") == 0;
}

/* Convert the column durability. */
static bool
is_relaxed(const char *durability)
{
	return strcmp(durability, "relaxed") == 0;
}

/* Convert the column turns. */
static bool
requires_turns(const char *turns)
{
	return strcmp(turns, "required") == 0;
}

/* Fill in the policy that namespace "default" has without a row.  *policy was zeroed before. */
void
ss_ns_built_in(SsPolicy *policy)
{
	policy->ttl_us = SS_DEFAULT_TTL_US;
	policy->max_lifetime_us = SS_NO_LIMIT;
	policy->tombstone_us = SS_DEFAULT_TOMBSTONE_US;
	policy->operation_keep_us = SS_DEFAULT_OPERATION_KEEP_US;
	policy->max_bytes = SS_DEFAULT_MAX_BYTES;
	policy->evict = evicts(SS_DEFAULT_ON_QUOTA);
	policy->sliding = SS_DEFAULT_SLIDING;
	policy->audit = SS_DEFAULT_AUDIT;
	policy->audit_saves = SS_DEFAULT_AUDIT_SAVES;
	policy->relaxed = is_relaxed(SS_DEFAULT_DURABILITY);
	policy->owner_isolation = SS_DEFAULT_OWNER_ISOLATION;
	policy->turns_required = requires_turns(SS_DEFAULT_TURNS);
	policy->cache = caching(SS_DEFAULT_CACHE);
	policy->hash_keys = SS_DEFAULT_HASH_KEYS;
	policy->cache_ttl_us = SS_DEFAULT_CACHE_TTL_US;
	policy->hot_uses = SS_DEFAULT_HOT_USES;
	strlcpy(policy->prefix, SS_DEFAULT_PREFIX, sizeof(policy->prefix));
	policy->tail_size = SS_DEFAULT_TAIL_SIZE;
	policy->nroles = -1;
}

/*
 * Read a policy from a row of session_namespaces.  *policy was zeroed and its name set before.
 * Its roles and token_path are allocated in the context.
 */
void
ss_ns_read(SsPolicy *policy, HeapTuple tuple, TupleDesc desc, MemoryContext context)
{
	Datum values[SS_NS_ATTRS + 1];
	bool nulls[SS_NS_ATTRS + 1];

	ss_ns_deform(tuple, desc, values, nulls);
	policy->ttl_us = nulls[SS_NS_TTL] ? SS_FIXED : interval_usec(values[SS_NS_TTL]);
	policy->max_lifetime_us = nulls[SS_NS_MAX_LIFETIME] ? SS_NO_LIMIT
														: interval_usec(values[SS_NS_MAX_LIFETIME]);
	policy->tombstone_us = interval_usec(values[SS_NS_TOMBSTONE]);
	policy->operation_keep_us = interval_usec(values[SS_NS_OPERATION_KEEP]);
	policy->max_bytes = DatumGetInt64(values[SS_NS_MAX_BYTES]);
	policy->max_per_owner = nulls[SS_NS_MAX_SESSIONS_PER_OWNER]
								? 0
								: DatumGetInt32(values[SS_NS_MAX_SESSIONS_PER_OWNER]);
	policy->evict = evicts(TextDatumGetCString(values[SS_NS_ON_QUOTA]));
	policy->sliding = DatumGetBool(values[SS_NS_SLIDING]);
	policy->audit = DatumGetBool(values[SS_NS_AUDIT]);
	policy->audit_saves = DatumGetBool(values[SS_NS_AUDIT_SAVES]);
	policy->relaxed = is_relaxed(TextDatumGetCString(values[SS_NS_DURABILITY]));
	policy->owner_isolation = DatumGetBool(values[SS_NS_OWNER_ISOLATION]);
	policy->turns_required = requires_turns(TextDatumGetCString(values[SS_NS_TURNS]));
	policy->cache = caching(TextDatumGetCString(values[SS_NS_CACHE]));
	policy->cache_ttl_us = interval_usec(values[SS_NS_CACHE_TTL]);
	policy->hot_uses = DatumGetInt32(values[SS_NS_HOT_USES]);
	policy->hash_keys = DatumGetBool(values[SS_NS_HASH_KEYS]);
	/* with owner isolation, keys in Redis must not reveal the ids of other owners' sessions */
	if (policy->owner_isolation && !policy->hash_keys)
		policy->cache = SS_CACHE_OFF;
	strlcpy(policy->prefix, TextDatumGetCString(values[SS_NS_KEY_PREFIX]), sizeof(policy->prefix));
	if (!nulls[SS_NS_TAIL_PREFIX])
		strlcpy(policy->tail_prefix, TextDatumGetCString(values[SS_NS_TAIL_PREFIX]),
				sizeof(policy->tail_prefix));
	policy->tail_size = DatumGetInt32(values[SS_NS_TAIL_SIZE]);
	if (!nulls[SS_NS_TOKEN_PATH])
	{
		ArrayType *path = DatumGetArrayTypeP(values[SS_NS_TOKEN_PATH]);

		policy->has_token_path = true;
		policy->token_path = MemoryContextAlloc(context, VARSIZE(path));
		memcpy(policy->token_path, path, VARSIZE(path));
	}
	policy->nroles = -1;
	if (!nulls[SS_NS_ALLOWED_ROLES])
	{
		Datum *elems;
		bool *elem_nulls;

		deconstruct_array(DatumGetArrayTypeP(values[SS_NS_ALLOWED_ROLES]), NAMEOID, NAMEDATALEN,
						  false, TYPALIGN_CHAR, &elems, &elem_nulls, &policy->nroles);
		policy->roles = MemoryContextAlloc(context, sizeof(NameData) * Max(policy->nroles, 1));
		for (int i = 0; i < policy->nroles; i++)
			if (elem_nulls[i])
				memset(&policy->roles[i], 0, sizeof(NameData));
			else
				policy->roles[i] = *DatumGetName(elems[i]);
	}
}

/*
 * Find the policy of a namespace, in the cache or in the table; NULL if there is none.  The
 * pointer is valid until the next lookup.  That a name does not exist is not cached.
 */
static SsPolicy *
lookup(const char *name, int len)
{
	char key[SS_NAMESPACE_MAX + 1] = {0};
	SsPolicy *entry;
	SsPolicy fresh;
	SsCatalog catalog;
	Relation rel;
	SysScanDesc scan;
	ScanKeyData skey;
	HeapTuple tuple;
	bool exists;
	MemoryContext scratch;
	MemoryContext old;

	if (len < 1 || len > SS_NAMESPACE_MAX || memchr(name, '\0', len) != NULL)
		return NULL;
	memcpy(key, name, len);

	ss_catalog_get(&catalog);
	refresh();
	entry = hash_search(cache.policies, key, HASH_FIND, NULL);
	if (entry != NULL)
		return entry;

	scratch = AllocSetContextCreate(CurrentMemoryContext, "session_store policy",
									ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(scratch);
	do
	{
		refresh();
		memset(&fresh, 0, sizeof(fresh));
		fresh.read_at = ss_monotonic();
		memcpy(fresh.name, key, sizeof(key));

		/* given no snapshot, systable_beginscan takes a new catalog snapshot */
		rel = table_open(catalog.namespaces, AccessShareLock);
		/* check the columns again, in case the table was altered while we waited for the lock */
		ss_catalog_get(&catalog);
		ScanKeyInit(&skey, 1, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(key));
		scan = systable_beginscan(rel, catalog.namespaces_pkey, true, NULL, 1, &skey);
		tuple = systable_getnext(scan);
		exists = HeapTupleIsValid(tuple);
		if (exists)
			ss_ns_read(&fresh, tuple, RelationGetDescr(rel), cache.context);
		else if (strcmp(key, SS_DEFAULT_NAMESPACE) == 0)
		{
			ss_ns_built_in(&fresh);
			exists = true;
		}
		systable_endscan(scan);
		table_close(rel, AccessShareLock);
		/*
		 * if a policy was changed meanwhile, the one that was read may be out of date: read again
		 */
	} while (!ss_memo_is_current(&cache.memo));
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);

	if (!exists)
		return NULL;
	entry = hash_search(cache.policies, key, HASH_ENTER, NULL);
	*entry = fresh;
	return entry;
}

/*
 * Copy the policy of a namespace, without its roles and token_path; false if there is no such
 * namespace.
 */
bool
ss_ns_find(const char *name, int len, SsPolicy *policy)
{
	SsPolicy *found = lookup(name, len);

	if (found == NULL)
		return false;
	*policy = *found;
	policy->roles = NULL; /* owned by the cache */
	policy->token_path = NULL;
	return true;
}

/*
 * The token_path of the namespace of a policy that ss_ns_find has copied, allocated in the current
 * memory context; NULL if it has none.
 */
ArrayType *
ss_ns_token_path(const SsPolicy *found)
{
	SsPolicy *policy;
	ArrayType *path;

	if (!found->has_token_path)
		return NULL;
	/* the copy does not have it, because it belongs to the cache */
	policy = lookup(found->name, (int) strlen(found->name));
	if (policy == NULL || policy->token_path == NULL)
		return NULL;
	path = palloc(VARSIZE(policy->token_path));
	memcpy(path, policy->token_path, VARSIZE(policy->token_path));
	return path;
}

/*
 * A number that changes when any transaction may have changed a policy.  Reads no table and cannot
 * fail, so it may be called while a transaction commits.  Without `news` no invalidations are
 * processed, and it is the number of the policies that were found last.
 */
uint64
ss_ns_generation(bool news)
{
	if (news)
		AcceptInvalidationMessages();
	return ss_catalog_changes(SS_OUR_TABLES);
}

/*
 * May a role use the namespace of a policy that ss_ns_find has copied?  If that has allowed_roles, it
 * must have the privileges of one of them or of the tables' owner.
 */
bool
ss_ns_allows(const SsPolicy *found, Oid role)
{
	int len = strlen(found->name);
	SsPolicy *policy;
	SsCatalog catalog;
	uint64 roles;
	bool allowed;

	if (found->nroles < 0)
		return true;
	/* the copy has no roles, which belong to the cache */
	policy = lookup(found->name, len);
	if (policy == NULL)
		return false;
	if (policy->nroles < 0)
		return true;
	roles = ss_catalog_changes(SS_ROLES);
	if (policy->memo_role == role && policy->memo_roles == roles)
		return policy->memo_allowed;

	ss_catalog_get(&catalog);
	allowed = has_privs_of_role(role, catalog.owner);
	for (int i = 0; i < policy->nroles && !allowed; i++)
	{
		/* the role may not exist, or not any more */
		Oid named = get_role_oid(NameStr(policy->roles[i]), true);

		allowed = OidIsValid(named) && has_privs_of_role(role, named);
	}

	/*
	 * the checks may have processed invalidations, so look up the entry again to store the result
	 */
	policy = lookup(found->name, len);
	if (policy != NULL)
	{
		policy->memo_role = role;
		/* as they were before the checks: a change during them makes the result stale */
		policy->memo_roles = roles;
		policy->memo_allowed = allowed;
	}
	return allowed;
}
