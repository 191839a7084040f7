/*
 * scrub.c
 *		Compares a sample of Redis with the table, counts differences and has them repaired.
 *
 * The pusher runs it between two batches, so that nothing else writes to Redis meanwhile.  A key
 * that is in the ledger may differ; any other must not.  Copies are read before their rows: a row
 * that changes in between is in the ledger before its change is visible.
 *
 * A key that differs enters the ledger as if its session had been changed.
 *
 * Memory: copies are read in parts, by the sizes that Redis reports first.  A copy that is larger
 * than copies may be is wrong, and is not read.
 *
 * Time: a step ends after a tenth of a second, because nothing is pushed meanwhile.  The keys that it
 * did not compare are the sample of the next step.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "pusher/pusher_denied.h"
#include "pusher/pusher_policies.h"
#include "pusher/pusher_rows.h"
#include "pusher/scrub.h"
#include "pusher/utf8.h"
#include "redis/wire_keys.h"
#include "settings.h"
#include "shared/ledger_shmem.h"

#define STEP 100            /* keys per SCAN, approximately */
#define FROM_TABLE 30       /* minimum number of keys from the table with each page */
#define BLOCKS_FROM_TABLE 8 /* from at most this many blocks */
#define JUST_NOW_US (2 * USECS_PER_SEC)
#define SLICE_US (USECS_PER_SEC / 10) /* time limit, because nothing is pushed meanwhile */
#define PART_BYTES (256 * 1024)       /* copies read at a time, unless a single one is larger */

enum
{
	CHECKED,
	STALE,
	MISSING,
	ORPHANED
};

/* A sample, or a part of one: keys and their copies in Redis. */
typedef struct Sample
{
	int n;
	SsKey keys[SS_SAMPLE_MOST];
	SsPayload payloads[SS_SAMPLE_MOST];
	bool from_redis[SS_SAMPLE_MOST];
	const SsRedisReply *copies[SS_SAMPLE_MOST];
	bool oversized; /* all copies of this part are too large, and are not read */
} Sample;

/* The length of the prefix, if it is not empty and the key starts with it and is longer; else 0. */
static size_t
begins_with(const char *name, size_t len, const char *prefix)
{
	size_t n = prefix == NULL ? 0 : strlen(prefix);

	return n > 0 && len > n && memcmp(name, prefix, n) == 0 ? n : 0;
}

/*
 * Finds the session of a key of Redis.  False if it is unknown: the ids are hashed, or are not
 * text in the encoding of the database.
 */
static bool
session_of(SsPusher *pusher, const char *name, size_t len, SsKey *key)
{
	for (int i = 0; i < pusher->npolicies; i++)
	{
		const SsPolicy *policy = &pusher->policies[i];
		size_t prefix = begins_with(name, len, pusher->keys[i].document);
		uint8 part = SS_PART_DOCUMENT;
		char id[SS_UTF8_ROOM(SS_UTF8_ROOM(SS_NAME_MAX))];
		int idlen;

		if (prefix == 0)
		{
			prefix = begins_with(name, len, pusher->keys[i].tail);
			part = SS_PART_TAIL;
		}
		if (prefix == 0)
			continue;
		if (policy->hash_keys || policy->cache == SS_CACHE_OFF ||
			len - prefix >= SS_UTF8_ROOM(SS_NAME_MAX))
			return false;
		idlen = ss_utf8_to_database(name + prefix, len - prefix, id);
		if (idlen < 0 || idlen > SS_NAME_MAX)
			return false;
		ss_key_set(key, policy->name, strlen(policy->name), id, idlen);
		key->part = part;
		return true;
	}
	return false;
}

/* Begins a transaction on our tables; false if another session has them locked. */
static bool
begin(SsPusher *pusher)
{
	ss_pusher_begin_xact();
	if (ss_tables_lock() == SS_TABLES_FINE)
		return true;
	pusher->scrub_locked = true;
	ss_pusher_set_locked(pusher, true);
	ss_pusher_end_xact(pusher);
	return false;
}

/* Adds a page of Redis' keys, starting at a cursor. */
static bool
sample_redis(SsPusher *pusher, uint64 *cursor, SsMonotonic give_up, Sample *sample)
{
	SsRedisReply *reply;
	const SsRedisReply *names;

	if (!ss_wire_scan(&pusher->wire, give_up, cursor, STEP, &reply))
		return false;
	names = ss_reply_at(reply, 1);
	for (int i = 0; i < ss_reply_count(names) && sample->n < SS_SAMPLE_MOST; i++)
	{
		size_t len;
		const char *name = ss_reply_text(ss_reply_at(names, i), &len);

		if (!session_of(pusher, name, len, &sample->keys[sample->n]))
			continue;
		sample->from_redis[sample->n] = true;
		sample->n++;
	}
	ss_reply_free(reply);
	return true;
}

/* Adds a session of the table, and its tail if the namespace has tails. */
static void
add_session(SsPusher *pusher, Sample *sample, const SsKey *key)
{
	const SsPolicy *policy = ss_pusher_policy_of(pusher, key);

	if (policy == NULL || policy->cache == SS_CACHE_OFF)
		return;
	sample->keys[sample->n++] = *key;
	if (policy->tail_prefix[0] == '\0')
		return;
	sample->keys[sample->n] = *key;
	sample->keys[sample->n++].part = SS_PART_TAIL;
}

/*
 * Adds sessions of the table, block by block from a random one on, until there are enough; so
 * each row has the same probability.  A walk that is continued visits each block once.
 */
static void
sample_table(SsPusher *pusher, SsTableWalk *walk, Sample *sample)
{
	int enough = sample->n + FROM_TABLE;
	SsKey *keys = palloc(sizeof(SsKey) * MaxHeapTuplesPerPage);

	for (int i = 0; i < BLOCKS_FROM_TABLE && !walk->done && sample->n < enough &&
					sample->n + 2 * MaxHeapTuplesPerPage <= SS_SAMPLE_MOST;
		 i++)
	{
		int n = ss_cached_block(walk, keys, MaxHeapTuplesPerPage);

		for (int k = 0; k < n; k++)
			add_session(pusher, sample, &keys[k]);
	}
	pfree(keys);
}

/* Will the key be written to Redis anyway? */
static bool
is_under_way(const SsKey *key)
{
	return ss_ledger_has(ss_ledger, key, ss_key_hash(key));
}

/* Has the pusher write the key again. */
static void
repair(SsPusher *pusher, const SsKey *key)
{
	SsControl *control = &pusher->db->cache.control;
	uint32 hash = ss_key_hash(key);

	if (ss_ledger_enter(ss_ledger, control, key, hash, SS_CHANGED_DOCUMENT, ss_monotonic()))
		ss_ledger_resolve(ss_ledger, control, key, hash);
}

/* Compares those of a sample whose rows were read; the rest stays in it. */
static void
compare(SsPusher *pusher, Sample *sample, SsCachedRow *rows, const char *documents, int64 counts[4])
{
	int left = 0;

	for (int i = 0; i < sample->n; i++)
	{
		size_t len = 0;
		const SsRedisReply *copy = sample->copies[i];
		bool oversized = sample->oversized;
		bool has = oversized || ss_reply_kind(copy) == SS_REPLY_STRING;
		const char *text = oversized ? NULL : ss_reply_text(copy, &len);
		bool none = rows[i].large || rows[i].foreign;
		bool alive = rows[i].policy != NULL && rows[i].alive;
		int wrong = -1;

		if (rows[i].later)
		{
			sample->keys[left] = sample->keys[i];
			sample->from_redis[left] = sample->from_redis[i];
			sample->copies[left++] = copy;
			continue;
		}
		if (has && !alive)
			wrong = ORPHANED;
		else if (has && (none || oversized || len != (size_t) rows[i].length ||
						 memcmp(text, documents + rows[i].offset, len) != 0))
			wrong = STALE;
		else if (!has && alive && !none && !sample->from_redis[i] &&
				 rows[i].policy->cache == SS_CACHE_ALL)
			wrong = MISSING;
		counts[CHECKED]++;
		ss_aside_done(pusher->scrub_aside, &sample->keys[i]);
		if (wrong < 0 || is_under_way(&sample->keys[i]))
			continue;
		/* its life ended between the two reads */
		if (wrong == ORPHANED && rows[i].life_us < 0 && rows[i].life_us > -JUST_NOW_US)
			continue;
		counts[wrong]++;
		repair(pusher, &sample->keys[i]);
	}
	sample->n = left;
}

/*
 * Compares a part with its rows in one snapshot, in batches limited by the memory for
 * documents, of at least one row.  Keys that were not compared stay in the part: for want of
 * time, or because our tables are locked.
 */
static void
compare_batches(SsPusher *pusher, Sample *part, SsMonotonic stop, int64 counts[4])
{
	SsCachedRow *rows = palloc(sizeof(SsCachedRow) * SS_SAMPLE_MOST);
	StringInfoData documents;
	MemoryContext context = CurrentMemoryContext;

	initStringInfo(&documents);
	if (!begin(pusher))
		return;
	MemoryContextSwitchTo(context);
	do
	{
		memset(rows, 0, sizeof(SsCachedRow) * part->n);
		for (int i = 0; i < part->n; i++)
		{
			rows[i].key = &part->keys[i];
			rows[i].policy = ss_pusher_policy_of(pusher, rows[i].key);
			rows[i].document = true;
		}
		resetStringInfo(&documents);
		ss_cached_read(rows, part->n, ss_cache_max_bytes, &documents);
		compare(pusher, part, rows, documents.data, counts);
	} while (part->n > 0 && ss_monotonic() < stop);
	ss_pusher_end_xact(pusher);
	MemoryContextSwitchTo(context);
	pfree(documents.data);
	pfree(rows);
}

/* The same; returns NULL, or the error that aborted its transaction. */
static ErrorData *
try_compare(SsPusher *pusher, Sample *part, SsMonotonic stop, int64 counts[4])
{
	ErrorData *volatile error = NULL;

	PG_TRY();
	{
		compare_batches(pusher, part, stop, counts);
	}
	PG_CATCH();
	{
		error = ss_pusher_catch_error(pusher);
	}
	PG_END_TRY();
	if (error != NULL && error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
	{
		pusher->scrub_locked = true;
		ss_pusher_set_locked(pusher, true);
	}
	return error;
}

/*
 * Compares one key of a part, whose row or a row beside it cannot be read.  If it is this one, it
 * is set aside, and the pusher deletes its copy.
 */
static void
compare_alone(SsPusher *pusher, const Sample *part, int i, Sample *one, SsMonotonic stop,
			  int64 counts[4])
{
	ErrorData *error;

	one->n = 1;
	one->oversized = part->oversized;
	ss_key_copy(&one->keys[0], &part->keys[i]);
	one->from_redis[0] = part->from_redis[i];
	one->copies[0] = part->copies[i];
	error = try_compare(pusher, one, stop, counts);
	if (error == NULL || pusher->scrub_locked)
		return;
	ss_pusher_set_aside(pusher, pusher->scrub_aside, &part->keys[i], error);
	if (part->oversized || ss_reply_kind(part->copies[i]) == SS_REPLY_STRING)
		repair(pusher, &part->keys[i]);
}

/*
 * Compares a part with its rows; if one of them cannot be read, each row alone.  Keys that were
 * not compared stay in the part.
 */
static void
compare_rows(SsPusher *pusher, Sample *part, SsMonotonic stop, int64 counts[4])
{
	int left = 0;
	Sample *one;

	if (try_compare(pusher, part, stop, counts) == NULL || pusher->scrub_locked)
		return;
	one = palloc(sizeof(Sample));
	for (int i = 0; i < part->n; i++)
	{
		if (!pusher->scrub_locked)
			compare_alone(pusher, part, i, one, stop, counts);
		if (!pusher->scrub_locked)
			continue;
		part->keys[left] = part->keys[i];
		part->from_redis[left++] = part->from_redis[i];
	}
	part->n = left;
	pfree(one);
}

/* Reads the copies of a part and compares them with the rows; false if Redis does not answer. */
static bool
compare_copies(SsPusher *pusher, Sample *part, SsMonotonic give_up, SsMonotonic stop,
			   int64 counts[4])
{
	SsRedisReply *copies = part->oversized
							   ? NULL
							   : ss_wire_mget(&pusher->wire, give_up, part->payloads, part->n);

	if (copies == NULL && !part->oversized)
		return false;
	PG_TRY();
	{
		for (int i = 0; i < part->n; i++)
			part->copies[i] = copies == NULL ? NULL : ss_reply_at(copies, i);
		compare_rows(pusher, part, stop, counts);
	}
	PG_FINALLY();
	{
		ss_reply_free(copies);
	}
	PG_END_TRY();
	return true;
}

/*
 * Sets the keys in Redis.  A session without a key, or one that is set aside, is removed from
 * the sample.
 */
static void
make_keys(SsPusher *pusher, Sample *sample)
{
	int left = 0;
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < sample->n; i++)
	{
		if (ss_aside_holds(pusher->scrub_aside, &sample->keys[i], now))
			continue;
		ss_pusher_make_key(pusher, &sample->keys[i], &sample->payloads[left]);
		if (sample->payloads[left].key == NULL)
			continue;
		sample->keys[left] = sample->keys[i];
		sample->from_redis[left++] = sample->from_redis[i];
	}
	sample->n = left;
}

/*
 * Selects the first part of from..to-1 of a sample by the sizes of the copies, and returns its
 * length.
 */
static int
take_part(const Sample *sample, const int64 *sizes, int from, int to, Sample *part)
{
	int64 bytes = 0;

	part->n = 0;
	part->oversized = sizes[from] > ss_cache_max_bytes;
	for (int i = from; i < to; i++)
	{
		int64 size = sizes[i] < 0 ? ss_cache_max_bytes : sizes[i];

		if (part->oversized != (size > ss_cache_max_bytes) ||
			(!part->oversized && i > from && bytes + size > PART_BYTES))
			break;
		bytes += size;
		part->keys[part->n] = sample->keys[i];
		part->from_redis[part->n] = sample->from_redis[i];
		part->payloads[part->n++] = sample->payloads[i];
	}
	return part->n;
}

/* Adds keys of a sample, from one on, to those that are left. */
static void
leave(SsSampleRest *rest, const Sample *sample, int from)
{
	for (int i = from; i < sample->n; i++)
	{
		rest->keys[rest->n] = sample->keys[i];
		rest->from_redis[rest->n++] = sample->from_redis[i];
	}
}

/*
 * Compares a sample part by part until the time limit.  Keys that were not compared are in
 * `rest` afterwards.  False if Redis does not answer.
 */
static bool
compare_all(SsPusher *pusher, Sample *sample, SsSampleRest *rest, SsMonotonic give_up,
			int64 counts[4])
{
	int64 *sizes = palloc(sizeof(int64) * SS_SAMPLE_MOST);
	Sample *part = palloc(sizeof(Sample));
	SsMonotonic stop = ss_monotonic() + SLICE_US;
	bool refused = false;
	bool fine = true;
	int next = 0;

	make_keys(pusher, sample);
	if (sample->n > 0 && !ss_wire_sizes(&pusher->wire, give_up, sample->payloads, sample->n, sizes))
		return false;
	for (int i = 0; i < sample->n; i++)
		refused = refused || sizes[i] < 0;
	/* MGET is refused as a whole because of one key that we may not access */
	if (refused &&
		ss_pusher_find_denied(pusher, sample->keys, sample->payloads, sample->n, give_up))
	{
		strlcpy(pusher->wire.error, "Redis does not let us access the keys of a namespace",
				sizeof(pusher->wire.error));
		return false;
	}
	if (pusher->wire.redis == NULL)
		return false;
	/* one part at least, however long it took to get here */
	while (fine && next < sample->n && !pusher->scrub_locked &&
		   (next == 0 || ss_monotonic() < stop))
	{
		next += take_part(sample, sizes, next, sample->n, part);
		fine = compare_copies(pusher, part, give_up, stop, counts);
		leave(rest, part, 0);
	}
	leave(rest, sample, next);
	return fine;
}

/* The sample of a step: what the last one left, or else a page of Redis and rows of the table. */
static bool
take_sample(SsPusher *pusher, uint64 *cursor, SsTableWalk *walk, SsSampleRest *rest,
			SsMonotonic give_up, Sample *sample)
{
	uint64 before = *cursor;

	if (rest->n > 0)
	{
		sample->n = rest->n;
		memcpy(sample->keys, rest->keys, sizeof(SsKey) * rest->n);
		memcpy(sample->from_redis, rest->from_redis, sizeof(bool) * rest->n);
		return true;
	}
	if (!sample_redis(pusher, cursor, give_up, sample))
		return false;
	if (!begin(pusher))
	{
		*cursor = before;
		sample->n = 0;
		return true;
	}
	sample_table(pusher, walk, sample);
	ss_pusher_end_xact(pusher);
	return true;
}

/*
 * Compares a page of Redis' keys, starting at a cursor (0 again after the last), and some
 * sessions of the table, and adds the findings to the counts.  Keys for which there was no time
 * are in `rest`; while there are any, the next step continues with them.  False, with the
 * connection closed, if Redis does not answer.
 */
bool
ss_scrub(SsPusher *pusher, uint64 *cursor, SsTableWalk *walk, SsSampleRest *rest,
		 SsMonotonic give_up, int64 counts[4])
{
	Sample *sample = palloc0(sizeof(Sample));
	int64 found[4] = {0};
	bool fine;

	pusher->scrub_locked = false;
	if (!take_sample(pusher, cursor, walk, rest, give_up, sample))
		return false;
	rest->n = 0;
	fine = compare_all(pusher, sample, rest, give_up, found);
	/* keys that Redis does not answer for shall not stop all others */
	if (!fine)
		rest->n = 0;
	for (int i = 0; i < 4; i++)
		counts[i] += found[i];
	pusher->verified += found[CHECKED];
	/* a missing copy (evicted or flushed) is not a wrong one */
	pusher->divergent += found[STALE] + found[ORPHANED];
	if (found[STALE] + found[ORPHANED] > 0)
		pusher->diverging = true;
	return fine;
}
