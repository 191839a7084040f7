/*
 * namespaces.c
 *		Policies: the rows of session_namespaces, as the calls see them.
 *
 * Each backend keeps the policies that it used.  The trigger on the table
 * (namespace_trigger.c) invalidates the table's relation cache entry with each
 * change; that message is transactional, reaches every backend and standby, and
 * empties this cache.  Policies are read with a snapshot taken for the purpose,
 * never with the transaction's: an old one would be remembered past the message
 * that it came after.
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

#include "compat.h"
#include "rows/catalog.h"
#include "rows/expiry.h"
#include "rows/namespaces.h"
#include "rows/schema.h"
#include "shared.h"

static MemoryContext policies_context = NULL;
static HTAB *policies = NULL;
static bool policies_stale = false;
static uint64 policies_generation = 1; /* counts invalidations */
static uint64 roles_generation = 1;

static void
namespaces_changed(Oid relid)
{
	policies_stale = true;
	policies_generation++;
}

static void
roles_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	roles_generation++;
}

/* Make the table of policies, or empty it when the table of rows changed. */
static void
refresh(void)
{
	HASHCTL ctl = {0};
	static bool registered = false;

	if (!registered)
	{
		ss_catalog_on_invalidation(namespaces_changed);
		CacheRegisterSyscacheCallback(AUTHOID, roles_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, roles_changed, (Datum) 0);
		registered = true;
	}
	if (policies != NULL && !policies_stale)
		return;

	policies = NULL;
	if (policies_context == NULL)
		policies_context = AllocSetContextCreate(TopMemoryContext, "session_store policies",
												 ALLOCSET_SMALL_SIZES);
	MemoryContextReset(policies_context);
	ctl.keysize = SS_NAMESPACE_MAX + 1;
	ctl.entrysize = sizeof(SsPolicy);
	ctl.hcxt = policies_context;
	policies = hash_create("session_store policies", 16, &ctl,
						   HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	policies_stale = false;
}

/* The policy of "default" while it has no row. */
void
ss_ns_built_in(SsPolicy *policy)
{
	policy->ttl = SS_DEFAULT_TTL;
	policy->max_lifetime = SS_NO_LIMIT;
	policy->tombstone = INT64CONST(300) * USECS_PER_SEC;
	policy->max_bytes = 8 * 1024 * 1024;
	policy->evict = true;
	policy->sliding = true;
	policy->cache = SS_CACHE_HOT;
	policy->cache_ttl = SS_DEFAULT_CACHE_TTL;
	policy->hot_uses = 1;
	strlcpy(policy->prefix, SS_DEFAULT_PREFIX, sizeof(policy->prefix));
	policy->nroles = -1;
}

/* The bytes of an interval that the trigger has let in, so it converts. */
static int64
duration(Datum value)
{
	Interval *span = DatumGetIntervalP(value);
	int64 result;

	if (ss_duration(span->month, span->day, span->time, 0, PG_INT64_MAX, &result) != SS_DURATION_OK)
		return SS_TTL_MIN;
	return result;
}

static SsCaching
caching(const char *name)
{
	return strcmp(name, "off") == 0   ? SS_CACHE_OFF
		   : strcmp(name, "all") == 0 ? SS_CACHE_ALL
									  : SS_CACHE_HOT;
}

/* Translate a row of session_namespaces, but for its name; its roles are kept in the context. */
void
ss_ns_read(SsPolicy *policy, HeapTuple tuple, TupleDesc desc, MemoryContext context)
{
	Datum values[Natts_session_namespaces];
	bool nulls[Natts_session_namespaces];

	ss_ns_deform(tuple, desc, values, nulls);
	policy->ttl = duration(values[NS_TTL]);
	policy->max_lifetime = nulls[NS_MAX_LIFETIME] ? SS_NO_LIMIT : duration(values[NS_MAX_LIFETIME]);
	policy->tombstone = duration(values[NS_TOMBSTONE]);
	policy->max_bytes = DatumGetInt64(values[NS_MAX_BYTES]);
	policy->max_per_owner = nulls[NS_MAX_SESSIONS_PER_OWNER]
								? 0
								: DatumGetInt32(values[NS_MAX_SESSIONS_PER_OWNER]);
	policy->evict = strcmp(TextDatumGetCString(values[NS_ON_QUOTA]), "evict") == 0;
	policy->sliding = DatumGetBool(values[NS_SLIDING]);
	policy->audit = DatumGetBool(values[NS_AUDIT]);
	policy->audit_saves = DatumGetBool(values[NS_AUDIT_SAVES]);
	policy->relaxed = strcmp(TextDatumGetCString(values[NS_DURABILITY]), "relaxed") == 0;
	policy->owner_isolation = DatumGetBool(values[NS_OWNER_ISOLATION]);
	policy->cache = caching(TextDatumGetCString(values[NS_CACHE]));
	policy->cache_ttl = duration(values[NS_CACHE_TTL]);
	policy->hot_uses = DatumGetInt32(values[NS_HOT_USES]);
	policy->hash_keys = DatumGetBool(values[NS_HASH_KEYS]);
	/* what hides owners from each other in SQL must not show all of them in Redis */
	if (policy->owner_isolation && !policy->hash_keys)
		policy->cache = SS_CACHE_OFF;
	strlcpy(policy->prefix, TextDatumGetCString(values[NS_KEY_PREFIX]), sizeof(policy->prefix));
	if (!nulls[NS_TAIL_PREFIX])
		strlcpy(policy->tail_prefix, TextDatumGetCString(values[NS_TAIL_PREFIX]),
				sizeof(policy->tail_prefix));
	policy->tail_size = DatumGetInt32(values[NS_TAIL_SIZE]);
	policy->nroles = -1;
	if (!nulls[NS_ALLOWED_ROLES])
	{
		Datum *elems;
		bool *elem_nulls;

		deconstruct_array(DatumGetArrayTypeP(values[NS_ALLOWED_ROLES]), NAMEOID, NAMEDATALEN, false,
						  TYPALIGN_CHAR, &elems, &elem_nulls, &policy->nroles);
		policy->roles = MemoryContextAlloc(context, sizeof(NameData) * Max(policy->nroles, 1));
		for (int i = 0; i < policy->nroles; i++)
			if (elem_nulls[i])
				memset(&policy->roles[i], 0, sizeof(NameData));
			else
				policy->roles[i] = *DatumGetName(elems[i]);
	}
}

/*
 * The cached policy of a namespace, or NULL when there is none.  The pointer is
 * good until the next look-up.  Unknown names are not remembered.
 */
static SsPolicy *
lookup(const char *name, int len)
{
	char key[SS_NAMESPACE_MAX + 1] = {0};
	SsPolicy *entry;
	SsPolicy fresh;
	uint64 generation;
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
	entry = hash_search(policies, key, HASH_FIND, NULL);
	if (entry != NULL)
		return entry;

	scratch = AllocSetContextCreate(CurrentMemoryContext, "session_store policy",
									ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(scratch);
	do
	{
		refresh();
		generation = policies_generation;
		memset(&fresh, 0, sizeof(fresh));
		fresh.read_at = ss_monotonic();
		memcpy(fresh.name, key, sizeof(key));

		/* without a snapshot of its own, a system scan takes a new one */
		rel = table_open(catalog.namespaces, AccessShareLock);
		/* it may have been altered while we waited for the lock */
		ss_catalog_get(&catalog);
		ScanKeyInit(&skey, 1, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(key));
		scan = systable_beginscan(rel, catalog.namespaces_pkey, true, NULL, 1, &skey);
		tuple = systable_getnext(scan);
		exists = HeapTupleIsValid(tuple);
		if (exists)
			ss_ns_read(&fresh, tuple, RelationGetDescr(rel), policies_context);
		else if (strcmp(key, SS_DEFAULT_NAMESPACE) == 0)
		{
			ss_ns_built_in(&fresh);
			exists = true;
		}
		systable_endscan(scan);
		table_close(rel, AccessShareLock);
		/* changed while we read: what we read may be older than the message */
	} while (generation != policies_generation);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);

	if (!exists)
		return NULL;
	entry = hash_search(policies, key, HASH_ENTER, NULL);
	*entry = fresh;
	return entry;
}

/* Copy out the policy of a namespace; false when there is no such namespace. */
bool
ss_ns_find(const char *name, int len, SsPolicy *policy)
{
	SsPolicy *found = lookup(name, len);

	if (found == NULL)
		return false;
	*policy = *found;
	policy->roles = NULL; /* belongs to the cache */
	return true;
}

/*
 * A number that is another once a policy may have been changed, by whatever transaction.  It reads
 * no table and cannot fail, so that it may be asked while a transaction commits.  Without news, it is
 * that of the policies that were found last.
 */
uint64
ss_ns_generation(bool news)
{
	if (news)
		AcceptInvalidationMessages();
	return policies_generation;
}

/*
 * May this role use the namespace?  The roles that are named, those that have
 * their privileges, and whoever has those of the tables' owner.
 */
bool
ss_ns_allows(const char *name, int len, Oid role)
{
	SsPolicy *policy = lookup(name, len);
	SsCatalog catalog;
	bool allowed;

	if (policy == NULL)
		return false;
	if (policy->nroles < 0)
		return true;
	if (policy->memo_role == role && policy->memo_generation == roles_generation)
		return policy->memo_allowed;

	ss_catalog_get(&catalog);
	allowed = has_privs_of_role(role, catalog.owner);
	for (int i = 0; i < policy->nroles && !allowed; i++)
	{
		/* a role that does not exist (any more) allows nobody */
		Oid named = get_role_oid(NameStr(policy->roles[i]), true);

		allowed = OidIsValid(named) && has_privs_of_role(role, named);
	}

	/* the checks may have read catalogs, and so emptied the cache: look again */
	policy = lookup(name, len);
	if (policy != NULL)
	{
		policy->memo_role = role;
		policy->memo_generation = roles_generation;
		policy->memo_allowed = allowed;
	}
	return allowed;
}
