/*
 * pusher_rows.c
 *		What the pusher reads from the database: policies, and the rows that it is about to copy.
 *
 * Reads are made in short transactions, which end before anything is sent.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "cache/hot.h"
#include "cache/ledger_shmem.h"
#include "cache/pusher.h"
#include "cache/pusher_check.h"
#include "cache/pusher_denied.h"
#include "cache/pusher_rows.h"
#include "clock.h"
#include "databases.h"
#include "rows/policy_effect.h"
#include "rows/utf8.h"
#include "settings.h"

/* Rows that are read one by one end a batch when it has this much text. */
#define ALONE_BYTES (256 * 1024)

/* Begins a transaction with a snapshot. */
void
ss_pusher_begin_xact(void)
{
	StartTransactionCommand();
	ss_utf8_init();
	PushActiveSnapshot(GetTransactionSnapshot());
}

/* Commits it. */
void
ss_pusher_end_xact(SsPusher *pusher)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(false);
	MemoryContextSwitchTo(pusher->cycle_context);
}

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
	ss_pusher_keep_denied(pusher, fresh, keys, n);
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

static const SsKey *
key_of(SsPusher *pusher, int op)
{
	return &ss_ledger_slot(ss_ledger, pusher->proto.ops[op].slot)->key;
}

/* Sets the keys of operations whose rows were not read. */
void
ss_pusher_make_keys(SsPusher *pusher)
{
	MemoryContextReset(pusher->batch_context);
	MemoryContextSwitchTo(pusher->batch_context);
	for (int i = 0; i < pusher->proto.nops; i++)
		ss_pusher_make_key(pusher, key_of(pusher, i), &pusher->payloads[i]);
	MemoryContextSwitchTo(pusher->cycle_context);
}

/* Can the id of a session be converted to UTF-8? */
static bool
has_name(const SsKey *key)
{
	char id[SS_UTF8_ROOM(SS_NAME_MAX)];

	return ss_utf8_name(key->bytes + key->nslen, key->idlen, id) >= 0;
}

/* Reads the rows of operations from..to-1; in a transaction. */
static void
read_rows(SsPusher *pusher, int from, int to)
{
	SsProto *proto = &pusher->proto;
	SsCachedRow rows[SS_BATCH_MAX];
	/* read before the rows, because a copy must not outlive its session */
	SsMonotonic now = ss_monotonic();
	TimestampTz time = GetCurrentTimestamp();

	for (int i = from; i < to; i++)
	{
		rows[i].key = key_of(pusher, i);
		rows[i].policy = ss_pusher_policy_of(pusher, rows[i].key);
		rows[i].document = proto->ops[i].document;
		if (rows[i].policy != NULL && ss_aside_holds(pusher->push_aside, rows[i].key, time))
			rows[i].policy = NULL;
		if (rows[i].policy != NULL && !has_name(rows[i].key))
		{
			ss_pusher_untranslatable(pusher, pusher->push_aside, rows[i].key);
			rows[i].policy = NULL;
		}
		/* what is hardly used gets no copy, so its document is not needed */
		if (rows[i].policy != NULL && !ss_hot_wants_copy(rows[i].key, rows[i].policy))
			rows[i].policy = NULL;
	}
	ss_cached_read(rows + from, to - from, ss_cache_max_bytes, &pusher->documents);
	for (int i = from; i < to; i++)
	{
		bool copy = rows[i].policy != NULL && rows[i].alive && !rows[i].large && !rows[i].foreign;

		proto->ops[i].found = rows[i].later ? SS_FOUND_LATER : copy ? SS_FOUND_COPY : SS_FOUND_NONE;
		proto->ops[i].until = now + rows[i].life_us;
		pusher->payloads[i].length = rows[i].length;
		/* the text may still be moved by repalloc: see point_to_documents */
		pusher->offsets[i] = rows[i].offset;
		pusher->too_large += rows[i].large ? 1 : 0;
		if (rows[i].foreign)
			ss_pusher_untranslatable(pusher, pusher->push_aside, rows[i].key);
		else if (rows[i].policy != NULL && !rows[i].later)
			ss_aside_done(pusher->push_aside, rows[i].key);
	}
}

/* Sets keys and documents of the operations, once the text does not move any more. */
static void
point_to_documents(SsPusher *pusher)
{
	MemoryContextSwitchTo(pusher->batch_context);
	for (int i = 0; i < pusher->proto.nops; i++)
	{
		int length = pusher->payloads[i].length;

		ss_pusher_make_key(pusher, key_of(pusher, i), &pusher->payloads[i]);
		pusher->payloads[i].document = pusher->documents.data + pusher->offsets[i];
		pusher->payloads[i].length = length;
	}
	MemoryContextSwitchTo(pusher->cycle_context);
}

/*
 * In PG_CATCH: aborts the transaction and returns the error, in cycle_context.
 * ERRCODE_LOCK_NOT_AVAILABLE means that another session holds a lock that we need, and perhaps
 * waits for us.
 */
ErrorData *
ss_pusher_catch_error(SsPusher *pusher)
{
	ErrorData *error;

	MemoryContextSwitchTo(pusher->cycle_context);
	error = CopyErrorData();
	FlushErrorState();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(pusher->cycle_context);
	return error;
}

/* Records for health whether a lock prevented that our tables are read. */
void
ss_pusher_set_locked(SsPusher *pusher, bool locked)
{
	pusher->locked = locked;
	pusher->lock_skips += locked ? 1 : 0;
}

/* Writes a caught error to the server log. */
void
ss_pusher_log(const ErrorData *error)
{
	ereport(LOG, (errcode(error->sqlerrcode), errmsg("session_store: %s", error->message),
				  error->detail ? errdetail_internal("%s", error->detail) : 0,
				  error->context ? errcontext_msg("%s", error->context) : 0));
}

/*
 * Sets a row aside that failed when it was read alone.  An error that says nothing about the
 * row is rethrown.
 */
void
ss_pusher_set_aside(SsPusher *pusher, SsAside *aside, const SsKey *key, ErrorData *error)
{
	if (ss_aside_fault(error) == SS_FAULT_OTHER)
		ReThrowError(error);
	ss_aside_add(aside, key, error);
	pusher->unreadable++;
}

/* The same for a session whose id or text cannot be converted to UTF-8. */
void
ss_pusher_untranslatable(SsPusher *pusher, SsAside *aside, const SsKey *key)
{
	ErrorData error = {.elevel = ERROR,
					   .sqlerrcode = ERRCODE_FEATURE_NOT_SUPPORTED,
					   .domain = PG_TEXTDOMAIN("postgres"),
					   .message = "the session id or the document cannot be converted to UTF-8"};

	ss_pusher_set_aside(pusher, aside, key, &error);
}

/*
 * Reads rows from..to-1 in a transaction of their own.  Returns false if they could not be
 * read: either *locked is set, or *error is the reason.
 */
static bool
try_read(SsPusher *pusher, int from, int to, bool *locked, ErrorData **error)
{
	ErrorData *volatile caught = NULL;
	volatile bool held = false;
	volatile bool refused = false;

	PG_TRY();
	{
		SsTableState state;

		ss_pusher_begin_xact();
		state = ss_tables_lock();
		refused = state == SS_TABLES_LOCKED;
		if (state == SS_TABLES_FINE && ss_pusher_tables_are_known(pusher))
			read_rows(pusher, from, to);
		else
			held = true; /* or about to be checked: not now */
		ss_pusher_end_xact(pusher);
	}
	PG_CATCH();
	{
		caught = ss_pusher_catch_error(pusher);
		held = refused = caught->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
	}
	PG_END_TRY();
	ss_pusher_set_locked(pusher, refused);
	*error = caught;
	*locked = held;
	return caught == NULL && !held;
}

/*
 * One of the rows cannot be read: reads each alone.  Those that fail are set aside, and their
 * keys deleted; what does not fit into the batch is left for later.
 */
static void
read_one_by_one(SsPusher *pusher, bool *locked)
{
	SsProto *proto = &pusher->proto;
	ErrorData *error;

	resetStringInfo(&pusher->documents);
	for (int i = 0; i < proto->nops && !*locked; i++)
	{
		proto->ops[i].found = SS_FOUND_LATER;
		pusher->payloads[i].length = 0;
		pusher->offsets[i] = 0;
		if (pusher->documents.len >= ALONE_BYTES || try_read(pusher, i, i + 1, locked, &error) ||
			*locked)
			continue;
		ss_pusher_set_aside(pusher, pusher->push_aside, key_of(pusher, i), error);
		proto->ops[i].found = SS_FOUND_NONE;
	}
}

/* Reads the rows of proto.ops, for SS_DO_READ. */
void
ss_pusher_read_rows(SsPusher *pusher)
{
	SsProto *proto = &pusher->proto;
	ErrorData *error;
	bool locked;

	/* an unlisted transaction may be prepared by now, and its commit would not be reported */
	if (pusher->unlisted_ended != ss_ledger_unlisted_ended(&pusher->db->cache.control))
		ss_memo_make_stale(&pusher->tables_memo);
	MemoryContextReset(pusher->batch_context);
	MemoryContextSwitchTo(pusher->batch_context);
	initStringInfo(&pusher->documents);
	MemoryContextSwitchTo(pusher->cycle_context);
	if (!try_read(pusher, 0, proto->nops, &locked, &error) && !locked)
		read_one_by_one(pusher, &locked);
	if (locked)
	{
		ss_proto_unreadable(proto, ss_monotonic());
		return;
	}
	point_to_documents(pusher);
	/* what did not fit is not sent; it is taken again */
	ss_proto_rows(proto, ss_monotonic());
}
