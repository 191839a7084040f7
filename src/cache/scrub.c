/*
 * scrub.c
 *		Compares a sample of Redis with the table, counts what differs and has it repaired.
 *
 * The pusher runs it between two batches, so that nobody else writes to Redis meanwhile.
 * A key that is in the ledger may differ; any other must not.  Copies are read first and
 * rows after: a row that changed in between is in the ledger before anybody can see
 * it.
 *
 * What is found to be wrong enters the ledger as if it had been changed.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "cache/hot.h"
#include "cache/pusher.h"
#include "settings.h"
#include "shared.h"

#define STEP 200 /* keys that a SCAN looks at */
#define JUST_NOW (2 * USECS_PER_SEC)

enum
{
	CHECKED,
	STALE,
	MISSING,
	ORPHANED
};

/* A sample: keys, and what Redis has under them. */
typedef struct Sample
{
	int n;
	SsKey keys[SS_BATCH_MAX];
	SsPayload payloads[SS_BATCH_MAX];
	bool from_redis[SS_BATCH_MAX];
	SsRedisReply *copies;
} Sample;

/* Which session is a key of Redis?  None that we could tell, when ids are hashed. */
static bool
session_of(SsPusher *pusher, const char *name, size_t len, SsKey *key)
{
	for (int i = 0; i < pusher->npolicies; i++)
	{
		const SsPolicy *policy = &pusher->policies[i];
		size_t prefix = strlen(policy->prefix);

		if (len <= prefix || memcmp(name, policy->prefix, prefix) != 0)
			continue;
		if (policy->hash_keys || len - prefix > SS_NAME_MAX)
			return false;
		ss_key_set(key, policy->name, strlen(policy->name), name + prefix, len - prefix);
		return true;
	}
	return false;
}

static bool
sample_redis(SsPusher *pusher, int most, int64 give_up, Sample *sample)
{
	SsRedisReply *reply;
	const SsRedisReply *names;

	if (!ss_wire_scan(&pusher->wire, give_up, &pusher->cursor, STEP, &reply))
		return false;
	names = ss_reply_at(reply, 1);
	for (int i = 0; i < ss_reply_count(names) && sample->n < most; i++)
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

/* Sessions of the table, from a random place on. */
static void
sample_table(SsPusher *pusher, int most, Sample *sample)
{
	const SsPolicy *policy;
	char from[3] = {0};
	uint8 random[3];

	if (pusher->npolicies == 0 || !pg_strong_random(random, sizeof(random)))
		return;
	policy = &pusher->policies[random[2] % pusher->npolicies];
	if (policy->cache == SS_CACHE_OFF || sample->n >= most)
		return;
	from[0] = '0' + random[0] % 75;
	from[1] = '0' + random[1] % 75;
	sample->n += ss_cached_sample(policy->name, random[0] < 64 ? "" : from, most - sample->n,
								  &sample->keys[sample->n]);
}

/* Is a key on its way to Redis anyway? */
static bool
is_under_way(const SsKey *key)
{
	return ss_ledger_has(ss_ledger, key, ss_key_hash(key));
}

static void
repair(SsPusher *pusher, const SsKey *key)
{
	SsControl *control = &pusher->db->cache.control;
	uint32 hash = ss_key_hash(key);

	if (ss_ledger_enter(ss_ledger, control, key, hash, SS_CHANGED_DOCUMENT, ss_monotonic()))
		ss_ledger_settle(ss_ledger, control, key, hash);
}

static void
compare(SsPusher *pusher, Sample *sample, SsCachedRow *rows, const char *documents, int64 counts[4])
{
	for (int i = 0; i < sample->n; i++)
	{
		size_t len;
		const SsRedisReply *copy = ss_reply_at(sample->copies, i);
		bool has = ss_reply_kind(copy) == SS_REPLY_STRING;
		const char *text = ss_reply_text(copy, &len);
		bool alive = rows[i].policy != NULL && rows[i].alive;
		int wrong = -1;

		if (has && !alive)
			wrong = ORPHANED;
		else if (has && (rows[i].large || len != (size_t) rows[i].length ||
						 memcmp(text, documents + rows[i].offset, len) != 0))
			wrong = STALE;
		else if (!has && alive && !rows[i].large && !sample->from_redis[i] &&
				 rows[i].policy->cache == SS_CACHE_ALL)
			wrong = MISSING;
		if (rows[i].later)
			continue;
		counts[CHECKED]++;
		if (wrong < 0 || is_under_way(&sample->keys[i]))
			continue;
		/* its life ended between the two looks */
		if (wrong == ORPHANED && rows[i].life < 0 && rows[i].life > -JUST_NOW)
			continue;
		counts[wrong]++;
		repair(pusher, &sample->keys[i]);
	}
}

/* Rows and copies of the sample; false when Redis does not answer. */
static bool
look_at_both(SsPusher *pusher, Sample *sample, int64 give_up, int64 counts[4])
{
	SsCachedRow *rows = palloc0(sizeof(SsCachedRow) * SS_BATCH_MAX);
	StringInfoData documents;
	MemoryContext context = CurrentMemoryContext;

	for (int i = 0; i < sample->n; i++)
	{
		ss_pusher_make_key(pusher, &sample->keys[i], &sample->payloads[i]);
		if (sample->payloads[i].key == NULL)
		{
			sample->n = i; /* of a namespace that has no copies any more */
			break;
		}
	}
	if (sample->n == 0)
		return true;
	sample->copies = ss_wire_mget(&pusher->wire, give_up, sample->payloads, sample->n);
	if (sample->copies == NULL)
		return false;
	initStringInfo(&documents);
	PG_TRY();
	{
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		MemoryContextSwitchTo(context);
		for (int i = 0; i < sample->n; i++)
		{
			rows[i].key = &sample->keys[i];
			rows[i].policy = ss_pusher_policy(pusher, rows[i].key);
			rows[i].document = true;
		}
		ss_cached_read(rows, sample->n, ss_cache_max_bytes, &documents);
		PopActiveSnapshot();
		CommitTransactionCommand();
		MemoryContextSwitchTo(context);
		compare(pusher, sample, rows, documents.data, counts);
	}
	PG_FINALLY();
	{
		ss_reply_free(sample->copies);
	}
	PG_END_TRY();
	return true;
}

/*
 * Look at up to `sample` sessions, half of them from Redis' side and half from the table's.
 * False when Redis does not answer; the connection is closed then.
 */
bool
ss_scrub(SsPusher *pusher, int sample, int64 give_up, int64 counts[4])
{
	int64 left = sample;
	bool fine = true;

	memset(counts, 0, sizeof(int64) * 4);
	for (int tries = 0; left > 0 && fine && tries < sample / 10 + 4; tries++)
	{
		Sample *s = palloc0(sizeof(Sample));
		int64 before = counts[CHECKED];
		int most = (int) Min(left, SS_BATCH_MAX);

		fine = sample_redis(pusher, (most + 1) / 2, give_up, s);
		if (fine && most > 1)
		{
			StartTransactionCommand();
			PushActiveSnapshot(GetTransactionSnapshot());
			sample_table(pusher, most, s);
			PopActiveSnapshot();
			CommitTransactionCommand();
		}
		fine = fine && look_at_both(pusher, s, give_up, counts);
		left -= counts[CHECKED] - before;
		pfree(s);
	}
	pusher->verified += counts[CHECKED];
	/* a copy that is missing (evicted, or flushed) tells no lie */
	pusher->divergent += counts[STALE] + counts[ORPHANED];
	return fine;
}
