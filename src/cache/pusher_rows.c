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
#include "clock.h"
#include "compat.h"
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
ss_pusher_end_xact(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(false);
	MemoryContextSwitchTo(ss_pusher.cycle_context);
}

/*
 * Was the change of this policy flushed already, as the transaction that made it requested?
 * Each request covers the first change that is seen after it.
 */
static bool
was_flushed(SsPusher *p, const char *ns)
{
	const SsCache *cache = &p->db->cache;
	bool found = false;

	ss_databases_lock(false);
	for (int i = 0; i < SS_POLICY_CHANGES; i++)
	{
		const SsPolicyChange *change = &cache->policy_changes[i];

		if (strcmp(change->ns, ns) == 0 && change->number != p->changes_seen[i] &&
			change->number <= p->proto.policies_covered)
		{
			p->changes_seen[i] = change->number;
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

/* Do copies have to be deleted that were made under the present policies? */
static bool
must_flush(SsPusher *p, const SsPolicy *fresh, int n)
{
	bool must = false;

	for (int i = 0; i < p->npolicies; i++)
	{
		const SsPolicy *before = &p->policies[i];

		if (ss_policy_effect(before, policy_named(before->name, fresh, n)) != SS_POLICY_NOTHING &&
			!was_flushed(p, before->name))
			must = true;
	}
	return must;
}

/*
 * Fills in the prefixes of namespaces whose policies are about to change, and those that the
 * guard shall name or forget.
 */
void
ss_pusher_changing_prefixes(SsPusher *p, SsPrefixes *prefixes)
{
	const SsCache *cache = &p->db->cache;

	ss_prefixes_clear(prefixes);
	for (int i = 0; i < p->npolicies; i++)
	{
		bool changing = false;

		ss_databases_lock(false);
		for (int j = 0; j < SS_POLICY_CHANGES; j++)
			changing = changing || (strcmp(cache->policy_changes[j].ns, p->policies[i].name) == 0 &&
									cache->policy_changes[j].number > p->proto.policies_covered);
		ss_databases_unlock();
		if (changing)
			ss_pusher_add_prefixes(prefixes, &p->keys[i]);
	}
	for (int i = 0; i < p->prefixes.count; i++)
		if (!p->prefixes.prefix[i].named)
			(void) ss_prefixes_add(prefixes, p->prefixes.prefix[i].text,
								   strlen(p->prefixes.prefix[i].text));
}

/*
 * The guard must name a prefix before there is a copy under it: otherwise the next pusher,
 * perhaps after a crash, cannot know that copies of a dropped namespace may exist.  A prefix
 * that no policy has any more is forgotten after a last flush, because from then on it may
 * belong to another application.
 */
void
ss_pusher_name_prefixes(SsPusher *p)
{
	for (int i = 0; i < p->prefixes.count; i++)
		if (!p->prefixes.prefix[i].named)
		{
			ss_proto_flush_names(&p->proto);
			return;
		}
}

/* Updates the known prefixes from policies that were just read. */
static void
own_prefixes(SsPusher *p, const SsKeyPrefixes *keys, int n)
{
	SsPrefixes *all = &p->prefixes;

	for (int i = 0; i < all->count; i++)
		all->prefix[i].owned = false;
	for (int i = 0; i < n; i++)
		ss_pusher_add_prefixes(all, &keys[i]);
	for (int i = 0; i < all->count; i++)
		all->prefix[i].named = all->prefix[i].named && all->prefix[i].owned;
	ss_pusher_name_prefixes(p);
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
ss_pusher_read_policies(SsPusher *p)
{
	uint64 begun = ss_memo_begin(&p->policies_memo);
	MemoryContext context = AllocSetContextCreate(p->cycle_context, "session_store pusher policies",
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
	ss_pusher_keep_denied(p, fresh, keys, n);
	MemoryContextSwitchTo(old);
	if (must_flush(p, fresh, n))
		ss_proto_flush(&p->proto);
	own_prefixes(p, keys, n);
	if (p->policies_context != NULL)
		MemoryContextDelete(p->policies_context);
	MemoryContextSetParent(context, TopMemoryContext);
	p->policies_context = context;
	p->policies = fresh;
	p->keys = keys;
	p->npolicies = n;
	ss_memo_end(&p->policies_memo, begun);
}

/* The prefix of keys of this part in a namespace; NULL if it has no such keys in Redis. */
static const char *
prefix_of(const SsPusher *p, int i, uint8 part)
{
	if (p->policies[i].cache == SS_CACHE_OFF || p->keys[i].denied != NULL)
		return NULL;
	return part == SS_PART_TAIL ? p->keys[i].tail : p->keys[i].document;
}

/* The policy of a key's namespace, if it may have such copies; else NULL. */
const SsPolicy *
ss_pusher_policy_of(const SsPusher *p, const SsKey *key)
{
	for (int i = 0; i < p->npolicies; i++)
		if (strlen(p->policies[i].name) == key->nslen &&
			memcmp(p->policies[i].name, key->bytes, key->nslen) == 0)
			return prefix_of(p, i, key->part) != NULL ? &p->policies[i] : NULL;
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
ss_pusher_make_key(SsPusher *p, const SsKey *key, SsPayload *payload)
{
	const SsPolicy *policy = ss_pusher_policy_of(p, key);
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
	begins = prefix_of(p, policy - p->policies, key->part);
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
key_of(int op)
{
	return &ss_ledger_slot(ss_ledger, ss_pusher.proto.ops[op].slot)->key;
}

/* Sets the keys of operations whose rows were not read. */
void
ss_pusher_make_keys(void)
{
	MemoryContextReset(ss_pusher.batch_context);
	MemoryContextSwitchTo(ss_pusher.batch_context);
	for (int i = 0; i < ss_pusher.proto.nops; i++)
		ss_pusher_make_key(&ss_pusher, key_of(i), &ss_pusher.payloads[i]);
	MemoryContextSwitchTo(ss_pusher.cycle_context);
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
read_rows(int from, int to)
{
	SsProto *proto = &ss_pusher.proto;
	SsCachedRow rows[SS_BATCH_MAX];
	/* read before the rows, because a copy must not outlive its session */
	SsMonotonic now = ss_monotonic();
	TimestampTz time = GetCurrentTimestamp();

	for (int i = from; i < to; i++)
	{
		rows[i].key = key_of(i);
		rows[i].policy = ss_pusher_policy_of(&ss_pusher, rows[i].key);
		rows[i].document = proto->ops[i].document;
		if (rows[i].policy != NULL && ss_aside_holds(ss_pusher.push_aside, rows[i].key, time))
			rows[i].policy = NULL;
		if (rows[i].policy != NULL && !has_name(rows[i].key))
		{
			ss_pusher_untranslatable(&ss_pusher, ss_pusher.push_aside, rows[i].key);
			rows[i].policy = NULL;
		}
		/* what is hardly used gets no copy, so its document is not needed */
		if (rows[i].policy != NULL && !ss_hot_wants_copy(rows[i].key, rows[i].policy))
			rows[i].policy = NULL;
	}
	ss_cached_read(rows + from, to - from, ss_cache_max_bytes, &ss_pusher.documents);
	for (int i = from; i < to; i++)
	{
		bool copy = rows[i].policy != NULL && rows[i].alive && !rows[i].large && !rows[i].foreign;

		proto->ops[i].found = rows[i].later ? SS_FOUND_LATER : copy ? SS_FOUND_COPY : SS_FOUND_NONE;
		proto->ops[i].until = now + rows[i].life;
		ss_pusher.payloads[i].length = rows[i].length;
		/* the text may still be moved by repalloc: see point_to_documents */
		ss_pusher.offsets[i] = rows[i].offset;
		ss_pusher.too_large += rows[i].large ? 1 : 0;
		if (rows[i].foreign)
			ss_pusher_untranslatable(&ss_pusher, ss_pusher.push_aside, rows[i].key);
		else if (rows[i].policy != NULL && !rows[i].later)
			ss_aside_done(ss_pusher.push_aside, rows[i].key);
	}
}

/* Sets keys and documents of the operations, once the text does not move any more. */
static void
point_to_documents(void)
{
	MemoryContextSwitchTo(ss_pusher.batch_context);
	for (int i = 0; i < ss_pusher.proto.nops; i++)
	{
		int length = ss_pusher.payloads[i].length;

		ss_pusher_make_key(&ss_pusher, key_of(i), &ss_pusher.payloads[i]);
		ss_pusher.payloads[i].document = ss_pusher.documents.data + ss_pusher.offsets[i];
		ss_pusher.payloads[i].length = length;
	}
	MemoryContextSwitchTo(ss_pusher.cycle_context);
}

/*
 * In PG_CATCH: aborts the transaction and returns the error, in cycle_context.
 * ERRCODE_LOCK_NOT_AVAILABLE means that another session holds a lock that we need, and perhaps
 * waits for us.
 */
ErrorData *
ss_pusher_catch_error(void)
{
	ErrorData *error;

	MemoryContextSwitchTo(ss_pusher.cycle_context);
	error = CopyErrorData();
	FlushErrorState();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(ss_pusher.cycle_context);
	return error;
}

/* Records for health whether a lock prevented that our tables are read. */
void
ss_pusher_set_locked(bool locked)
{
	ss_pusher.locked = locked;
	ss_pusher.lock_skips += locked ? 1 : 0;
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
try_read(int from, int to, bool *locked, ErrorData **error)
{
	ErrorData *volatile caught = NULL;
	volatile bool held = false;
	volatile bool refused = false;

	PG_TRY();
	{
		SsTableState state;

		ss_pusher_begin_xact();
		state = ss_cached_lock();
		refused = state == SS_TABLES_LOCKED;
		if (state == SS_TABLES_FINE && ss_pusher_tables_are_known(&ss_pusher))
			read_rows(from, to);
		else
			held = true; /* or about to be checked: not now */
		ss_pusher_end_xact();
	}
	PG_CATCH();
	{
		caught = ss_pusher_catch_error();
		held = refused = caught->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
	}
	PG_END_TRY();
	ss_pusher_set_locked(refused);
	*error = caught;
	*locked = held;
	return caught == NULL && !held;
}

/*
 * One of the rows cannot be read: reads each alone.  Those that fail are set aside, and their
 * keys deleted; what does not fit into the batch is left for later.
 */
static void
read_one_by_one(bool *locked)
{
	SsProto *proto = &ss_pusher.proto;
	ErrorData *error;

	resetStringInfo(&ss_pusher.documents);
	for (int i = 0; i < proto->nops && !*locked; i++)
	{
		proto->ops[i].found = SS_FOUND_LATER;
		ss_pusher.payloads[i].length = 0;
		ss_pusher.offsets[i] = 0;
		if (ss_pusher.documents.len >= ALONE_BYTES || try_read(i, i + 1, locked, &error) || *locked)
			continue;
		ss_pusher_set_aside(&ss_pusher, ss_pusher.push_aside, key_of(i), error);
		proto->ops[i].found = SS_FOUND_NONE;
	}
}

/* Reads the rows of proto.ops, for SS_DO_READ. */
void
ss_pusher_read_rows(void)
{
	SsProto *proto = &ss_pusher.proto;
	ErrorData *error;
	bool locked;

	/* an unlisted transaction may be prepared by now, and its commit would not be reported */
	if (ss_pusher.unlisted_ended != ss_ledger_unlisted_ended(&ss_pusher.db->cache.control))
		ss_memo_make_stale(&ss_pusher.tables_memo);
	MemoryContextReset(ss_pusher.batch_context);
	MemoryContextSwitchTo(ss_pusher.batch_context);
	initStringInfo(&ss_pusher.documents);
	MemoryContextSwitchTo(ss_pusher.cycle_context);
	if (!try_read(0, proto->nops, &locked, &error) && !locked)
		read_one_by_one(&locked);
	if (locked)
	{
		ss_proto_unreadable(proto, ss_monotonic());
		return;
	}
	point_to_documents();
	/* what did not fit is not sent; it is taken again */
	ss_proto_rows(proto, ss_monotonic());
}
