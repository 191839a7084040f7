/*
 * pusher_policies.c
 *		The policies as the pusher knows them, the prefixes of their keys, and keys in Redis.
 *
 * Copies that a changed policy forbids are flushed before its transaction ends (R14).  The guard in
 * Redis names every prefix under which there may be copies.
 */
#include "postgres.h"

#include "common/cryptohash.h"
#include "common/sha2.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "protocol/protocol.h"
#include "pusher/pusher_policies.h"
#include "pusher/utf8.h"
#include "shared/databases.h"
#include "table/policy_effect.h"

/*
 * Takes the flush that the transaction that changed this policy requested; false if there was
 * none.  Each request covers the first change that is seen after it.
 */
static bool
take_flush(SsPusher *pusher, const char *ns)
{
	const SsCache *cache = &pusher->db->cache;
	bool found = false;

	ss_databases_lock(false);
	for (int i = 0; i < SS_POLICY_CHANGES; i++)
	{
		const SsPolicyChange *change = &cache->policy_changes[i];

		if (strcmp(change->ns, ns) == 0 && change->number != pusher->changes_seen[i] &&
			change->number <= pusher->proto.policies_covered)
		{
			pusher->changes_seen[i] = change->number;
			found = true;
		}
	}
	ss_databases_unlock();
	return found;
}

/* The policy of a namespace; NULL if there is none. */
static const SsPolicy *
policy_named(const char *name, const SsPolicy *policies, int n)
{
	for (int i = 0; i < n; i++)
		if (strcmp(policies[i].name, name) == 0)
			return &policies[i];
	return NULL;
}

/*
 * Compares the present policies with fresh ones; true if copies made under the present ones have to
 * be deleted, and were not when the change was made.
 */
static bool
compare_policies(SsPusher *pusher, const SsPolicy *fresh, int n)
{
	bool must = false;

	for (int i = 0; i < pusher->npolicies; i++)
	{
		const SsPolicy *before = &pusher->policies[i];

		if (ss_policy_effect(before, policy_named(before->name, fresh, n)) != SS_POLICY_NOTHING &&
			!take_flush(pusher, before->name))
			must = true;
	}
	return must;
}

/*
 * Fills in the prefixes of namespaces whose policies are about to change, and those that the
 * guard shall name or forget.
 */
void
ss_pusher_changing_prefixes(SsPusher *pusher, SsPrefixes *prefixes)
{
	const SsCache *cache = &pusher->db->cache;

	ss_prefixes_clear(prefixes);
	for (int i = 0; i < pusher->npolicies; i++)
	{
		bool changing = false;

		ss_databases_lock(false);
		for (int j = 0; j < SS_POLICY_CHANGES; j++)
			changing = changing ||
					   (strcmp(cache->policy_changes[j].ns, pusher->policies[i].name) == 0 &&
						cache->policy_changes[j].number > pusher->proto.policies_covered);
		ss_databases_unlock();
		if (changing)
			ss_pusher_add_prefixes(prefixes, &pusher->keys[i]);
	}
	for (int i = 0; i < pusher->prefixes.count; i++)
		if (!pusher->prefixes.prefix[i].named)
			(void) ss_prefixes_add(prefixes, pusher->prefixes.prefix[i].text,
								   strlen(pusher->prefixes.prefix[i].text));
}

/*
 * The guard must name a prefix before there is a copy under it: otherwise the next pusher,
 * perhaps after a crash, cannot know that copies of a dropped namespace may exist.  A prefix
 * that no policy has any more is forgotten after a last flush, because from then on it may
 * belong to another application.
 */
void
ss_pusher_name_prefixes(SsPusher *pusher)
{
	for (int i = 0; i < pusher->prefixes.count; i++)
		if (!pusher->prefixes.prefix[i].named)
		{
			ss_proto_flush_names(&pusher->proto);
			return;
		}
}

/* Updates the known prefixes from policies that were just read. */
static void
own_prefixes(SsPusher *pusher, const SsKeyPrefixes *keys, int n)
{
	SsPrefixes *all = &pusher->prefixes;

	for (int i = 0; i < all->count; i++)
		all->prefix[i].owned = false;
	for (int i = 0; i < n; i++)
		ss_pusher_add_prefixes(all, &keys[i]);
	for (int i = 0; i < all->count; i++)
		all->prefix[i].named = all->prefix[i].named && all->prefix[i].owned;
	ss_pusher_name_prefixes(pusher);
}

/* Adds the prefixes of a namespace, and marks them as owned. */
void
ss_pusher_add_prefixes(SsPrefixes *prefixes, const SsKeyPrefixes *keys)
{
	if (keys->document != NULL)
		ss_prefixes_add(prefixes, keys->document, strlen(keys->document))->owned = true;
	if (keys->tail != NULL)
		ss_prefixes_add(prefixes, keys->tail, strlen(keys->tail))->owned = true;
}

/* A prefix in UTF-8, in the current memory context; NULL if it is empty or cannot be converted. */
static char *
prefix_in_redis(const char *prefix)
{
	char *name = palloc(SS_UTF8_ROOM(strlen(prefix)));

	return prefix[0] != '\0' && ss_utf8_name(prefix, strlen(prefix), name) >= 0 ? name : NULL;
}

/*
 * New policies are about to replace the known ones: what was denied still is, if the prefixes
 * are the same.
 */
static void
keep_denied(const SsPusher *pusher, const SsPolicy *policies, SsKeyPrefixes *keys, int n)
{
	for (int i = 0; i < pusher->npolicies; i++)
		for (int j = 0; j < n && pusher->keys[i].denied != NULL; j++)
			if (strcmp(pusher->policies[i].name, policies[j].name) == 0 &&
				strcmp(pusher->policies[i].prefix, policies[j].prefix) == 0 &&
				strcmp(pusher->policies[i].tail_prefix, policies[j].tail_prefix) == 0)
				keys[j].denied = pstrdup(pusher->keys[i].denied);
}

/*
 * Reads the policies again, in the transaction at hand.  Copies that a changed policy forbids
 * were flushed before its transaction ended (R14); if they were not, as when Redis was away,
 * everything is flushed before anything else is written.
 */
void
ss_pusher_read_policies(SsPusher *pusher)
{
	uint64 begun = ss_memo_begin(&pusher->policies_memo);
	MemoryContext context = AllocSetContextCreate(pusher->cycle_context,
												  "session_store pusher policies",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	SsPolicy *fresh;
	SsKeyPrefixes *keys;
	int n;

	fresh = ss_cached_policies(&n);
	keys = palloc(sizeof(SsKeyPrefixes) * n);
	for (int i = 0; i < n; i++)
	{
		keys[i].document = prefix_in_redis(fresh[i].prefix);
		keys[i].tail = prefix_in_redis(fresh[i].tail_prefix);
		keys[i].denied = NULL;
	}
	keep_denied(pusher, fresh, keys, n);
	MemoryContextSwitchTo(old);
	if (compare_policies(pusher, fresh, n))
		ss_proto_flush(&pusher->proto);
	own_prefixes(pusher, keys, n);
	if (pusher->policies_context != NULL)
		MemoryContextDelete(pusher->policies_context);
	MemoryContextSetParent(context, TopMemoryContext);
	pusher->policies_context = context;
	pusher->policies = fresh;
	pusher->keys = keys;
	pusher->npolicies = n;
	ss_memo_end(&pusher->policies_memo, begun);
}

/* The prefix of keys of this part in a namespace; NULL if it has no such keys in Redis. */
static const char *
prefix_of(const SsPusher *pusher, int i, uint8 part)
{
	if (pusher->policies[i].cache == SS_CACHE_OFF || pusher->keys[i].denied != NULL)
		return NULL;
	return part == SS_PART_TAIL ? pusher->keys[i].tail : pusher->keys[i].document;
}

/* The policy of a key's namespace, if it may have such copies; else NULL. */
const SsPolicy *
ss_pusher_policy_of(const SsPusher *pusher, const SsKey *key)
{
	for (int i = 0; i < pusher->npolicies; i++)
		if (strlen(pusher->policies[i].name) == key->nslen &&
			memcmp(pusher->policies[i].name, key->bytes, key->nslen) == 0)
			return prefix_of(pusher, i, key->part) != NULL ? &pusher->policies[i] : NULL;
	return NULL;
}

/* Writes the SHA-256 of an id as hexadecimal digits. */
static void
hash_id(const char *id, int len, char *hex)
{
	static ResourceOwner ours = NULL;
	ResourceOwner owner = CurrentResourceOwner;
	uint8 digest[PG_SHA256_DIGEST_LENGTH];
	pg_cryptohash_ctx *ctx;

	/* the server's hashes need a resource owner, and outside a transaction there is none */
	if (ours == NULL)
		ours = ResourceOwnerCreate(NULL, "session_store pusher");
	CurrentResourceOwner = ours;
	ctx = pg_cryptohash_create(PG_SHA256);

	if (ctx == NULL || pg_cryptohash_init(ctx) < 0 ||
		pg_cryptohash_update(ctx, (const uint8 *) id, len) < 0 ||
		pg_cryptohash_final(ctx, digest, sizeof(digest)) < 0)
	{
		if (ctx != NULL)
			pg_cryptohash_free(ctx);
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not hash a session id")));
	}
	pg_cryptohash_free(ctx);
	CurrentResourceOwner = owner;
	for (int i = 0; i < PG_SHA256_DIGEST_LENGTH; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

/*
 * Sets the key in Redis, allocated in the current memory context; NULL without a policy, or
 * for an id that cannot be converted to UTF-8.
 */
void
ss_pusher_make_key(SsPusher *pusher, const SsKey *key, SsPayload *payload)
{
	const SsPolicy *policy = ss_pusher_policy_of(pusher, key);
	char id[SS_UTF8_ROOM(SS_NAME_MAX)];
	const char *begins;
	int prefix;
	int len;
	char *out;

	payload->key = NULL;
	payload->length = 0;
	if (policy == NULL)
		return;
	len = ss_utf8_name(key->bytes + key->nslen, key->idlen, id);
	if (len < 0)
		return;
	begins = prefix_of(pusher, policy - pusher->policies, key->part);
	prefix = strlen(begins);
	out = palloc(prefix + Max(len, PG_SHA256_DIGEST_LENGTH * 2) + 1);
	memcpy(out, begins, prefix);
	if (policy->hash_keys)
	{
		hash_id(id, len, out + prefix);
		len = PG_SHA256_DIGEST_LENGTH * 2;
	}
	else
		memcpy(out + prefix, id, len);
	payload->key = out;
	payload->keylen = prefix + len;
}
