/*
 * aside.c
 *		Rows that could not be processed, set aside so that they hold up no others.
 *
 * Somebody's foreign key, trigger, rule or constraint may refuse what we do to a row, or the row
 * may be damaged or too large.  A batch that fails for such a reason is repeated row by row, each
 * in a subtransaction of its own (ss_aside_try), and a row that fails is set aside: it is left out
 * until its time has come, which is the later the more often it failed (at most 5 minutes).
 *
 *	- An error that says nothing about the row is raised again (ss_aside_fault): interrupts and
 *	  the end of the server are never swallowed, and a serialization failure is the caller's.
 *	- Memory is bounded.  When more than a few rows of a namespace fail, the namespace is set
 *	  aside as a whole, so that a foreign key that refuses a million rows costs a few attempts and
 *	  not a million.  A worker that visits rows in an order walks through such a namespace apart,
 *	  a few rows at a time, and goes on where it stopped (ss_aside_next_walk); others try a few of
 *	  its rows when its time has come.  When all entries are taken, the namespace that has most of
 *	  them is set aside as a whole.  A worker has no more entries than that: where each is of
 *	  another namespace, the one that is due first is forgotten, and so its row is tried earlier.
 *	  A call, which must try no row twice to come to an end, has one more for each such namespace.
 *	- An entry that is due and does not fail again is forgotten.
 *
 * Copies in Redis: who sets a row aside sees to it that Redis has no copy of it that is out of date.
 * For the purge nothing is to be done, for a copy ends no later than its session; nor for touches,
 * which say that a session ends later than the copy does.
 *
 * The entries are in the memory of the process, and so end with it: all rows are then tried again.
 * What they add up to is in shared memory, guarded by the main lock, for session_health() and
 * session_metrics().  It is written when something changes, which is bounded by what fails.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "cache/ledger.h"
#include "rows/aside.h"
#include "rows/errors.h"
#include "rows/touches.h"

#define MAX_ENTRIES 1024
#define MAX_OF_NAMESPACE 64 /* entries of a worker */
#define MAX_PROBES 20       /* rows of a namespace that may fail before it is set aside again */
#define MAX_DONE 50         /* that do not fail: it is set aside no more */
#define BACKOFF_FIRST USECS_PER_SEC
#define BACKOFF_MAX (INT64CONST(300) * USECS_PER_SEC)
#define FORGET_AFTER (INT64CONST(30) * USECS_PER_SEC) /* of being due */
#define LOG_EVERY (INT64CONST(10) * USECS_PER_SEC)
#define WALK_SHARE 50 /* walks take no more than this part of the time */

typedef struct Entry
{
	SsKey key; /* without an id: the namespace */
	uint32 hash;
	int failures; /* in a row */
	bool busy;    /* somebody held a lock: no trouble */
	TimestampTz retry_at;
	/* of a namespace */
	int probes; /* rows that failed since it was due */
	int done;   /* and that did not */
	SsAsideWalk walk;
} Entry;

struct SsAside
{
	SsWork work;
	bool of_worker;
	bool walks; /* namespaces are left to ss_aside_next_walk */
	int most;   /* entries of a namespace */
	int n;
	int room;
	Entry *entries;
	MemoryContext context;
	TimestampTz logged_at;
	SsAsideReport report;
};

void (*ss_aside_rolled_back)(void) = NULL;

static const char *const names[SS_WORKS] = {
	[SS_WORK_PURGE] = "purging an expired session",
	[SS_WORK_TOUCH] = "writing the new expiry of a session",
	[SS_WORK_HISTORY] = "removing messages of an ended session",
	[SS_WORK_EVENTS] = "removing old events",
	[SS_WORK_SAMPLE] = "writing session_samples",
	[SS_WORK_PUSH] = "reading a session for Redis",
	[SS_WORK_SCRUB] = "reading a session to compare it with Redis",
};

static void tell(SsAside *aside);

static SsAside *
make(SsWork work, MemoryContext context)
{
	SsAside *aside = MemoryContextAllocZero(context, sizeof(SsAside));

	aside->work = work;
	aside->context = context;
	aside->most = MAX_ENTRIES;
	return aside;
}

/* For the life of a worker; what an earlier one has reported is forgotten. */
SsAside *
ss_aside_of_worker(SsWork work, bool walks)
{
	SsAside *aside = make(work, TopMemoryContext);
	SsDb *db = ss_shared_my_db();

	aside->of_worker = true;
	aside->walks = walks;
	aside->most = MAX_OF_NAMESPACE;
	if (db != NULL)
	{
		ss_shared_lock(false);
		aside->report = db->aside[work];
		ss_shared_unlock();
		tell(aside);
	}
	return aside;
}

/* For one call, in which no row is tried twice. */
SsAside *
ss_aside_of_call(SsWork work, MemoryContext context)
{
	return make(work, context);
}

/*
 * What does an error say about the row?  Classes 08, 25, 53, 57 and 58 are about the server or the
 * transaction.  A worker has few locks and may give way to everybody; for a caller a failure to
 * serialize, a deadlock or a lock_timeout of its own is an answer.
 */
SsFault
ss_aside_fault(const ErrorData *error)
{
	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case ERRCODE_CONNECTION_EXCEPTION:
		case ERRCODE_INVALID_TRANSACTION_STATE:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_SYSTEM_ERROR:
			return SS_FAULT_OTHER;
		case ERRCODE_TRANSACTION_ROLLBACK:
			return MyBgworkerEntry != NULL ? SS_FAULT_BUSY : SS_FAULT_OTHER;
		default:
			break;
	}
	if (error->elevel >= FATAL)
		return SS_FAULT_OTHER;
	if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		return MyBgworkerEntry != NULL ? SS_FAULT_BUSY : SS_FAULT_OTHER;
	return SS_FAULT_ROW;
}

/*
 * Run work in a subtransaction.  True when it is kept; *error tells whether it was an error that
 * undid it, one of a row: others are raised again.
 */
bool
ss_aside_try(SsSubxactWork work, void *arg, ErrorData **error)
{
	bool done = ss_subxact_run(work, arg, error);

	/* an abort unblocks signals: see workers/stop.c */
	if (!done && ss_aside_rolled_back != NULL)
		ss_aside_rolled_back();
	if (*error != NULL && ss_aside_fault(*error) == SS_FAULT_OTHER)
		ReThrowError(*error);
	return done;
}

bool
ss_aside_is_empty(const SsAside *aside)
{
	return aside == NULL || aside->n == 0;
}

/* Of a call: warn that rows were left out because they failed. */
void
ss_aside_warn(const SsAside *aside, const char *what)
{
	const SsAsideReport *report = &aside->report;

	if (report->failures == 0)
		return;
	ereport(WARNING,
			(errcode(report->last_code),
			 errmsg("%llu %s could not be removed", (unsigned long long) report->failures, what),
			 errdetail("The last of namespace \"%s\": %s", report->last_ns, report->last_error),
			 errhint("Look for a foreign key, a trigger or a rule that refuses it.")));
}

static bool
is_namespace(const Entry *entry)
{
	return entry->key.idlen == 0;
}

static bool
is_of(const Entry *entry, const SsKey *key)
{
	return entry->key.nslen == key->nslen && memcmp(entry->key.bytes, key->bytes, key->nslen) == 0;
}

static Entry *
find(const SsAside *aside, const SsKey *key)
{
	uint32 hash = ss_key_hash(key);

	for (int i = 0; i < aside->n; i++)
		if (aside->entries[i].hash == hash && ss_key_equal(&aside->entries[i].key, key))
			return &aside->entries[i];
	return NULL;
}

static Entry *
find_namespace(const SsAside *aside, const SsKey *key)
{
	for (int i = 0; i < aside->n; i++)
		if (is_namespace(&aside->entries[i]) && is_of(&aside->entries[i], key))
			return &aside->entries[i];
	return NULL;
}

/* Until when is a row set aside?  0 when it is not. */
TimestampTz
ss_aside_until(const SsAside *aside, const SsKey *key)
{
	TimestampTz until = 0;
	uint32 hash;

	if (ss_aside_is_empty(aside))
		return 0;
	hash = ss_key_hash(key);
	for (int i = 0; i < aside->n; i++)
	{
		const Entry *entry = &aside->entries[i];

		if (is_namespace(entry) && is_of(entry, key))
			until = Max(until, aside->walks ? DT_NOEND : entry->retry_at);
		else if (entry->hash == hash && ss_key_equal(&entry->key, key))
			until = Max(until, entry->retry_at);
	}
	return until;
}

/* Is it set aside, and its time has not come? */
bool
ss_aside_holds(const SsAside *aside, const SsKey *key, TimestampTz now)
{
	return !ss_aside_is_empty(aside) && ss_aside_until(aside, key) > now;
}

/* Remember the last failure, without what may be values of a row. */
static void
remember(SsAside *aside, const SsKey *key, const ErrorData *error)
{
	SsAsideReport *last = &aside->report;
	const char *message = ss_error_names_no_values(error) ? error->message : "see the server log";

	last->failures++;
	last->last_error_at = GetCurrentTimestamp();
	last->last_code = error->sqlerrcode;
	memcpy(last->last_ns, key->bytes, key->nslen);
	last->last_ns[key->nslen] = '\0';
	strlcpy(last->last_error, message, SS_MESSAGE_LEN);
	last->last_error[pg_mbcliplen(last->last_error, strlen(last->last_error), SS_MESSAGE_LEN - 1)] =
		'\0';
}

/* Tell shared memory what there is. */
static void
tell(SsAside *aside)
{
	SsDb *db = aside->of_worker ? ss_shared_my_db() : NULL;

	aside->report.rows = aside->report.namespaces = 0;
	for (int i = 0; i < aside->n; i++)
		if (is_namespace(&aside->entries[i]))
			aside->report.namespaces++;
		else if (!aside->entries[i].busy)
			aside->report.rows++;
	if (db == NULL)
		return;
	ss_shared_lock(true);
	db->aside[aside->work] = aside->report;
	ss_shared_unlock();
}

/* Say what happened in the server log, and nowhere else, but not too often. */
static void
log_failure(SsAside *aside, const SsKey *key, const ErrorData *error)
{
	TimestampTz now = GetCurrentTimestamp();
	const char *detail = error->detail_log ? error->detail_log : error->detail;

	if (now >= aside->logged_at && now - aside->logged_at < LOG_EVERY)
		return;
	aside->logged_at = now;
	ereport(LOG_SERVER_ONLY,
			(errcode(error->sqlerrcode),
			 errmsg("session_store set a row aside: %s", error->message),
			 errdetail_internal("While %s in namespace \"%.*s\".%s%s", names[aside->work],
								key->nslen, key->bytes, detail ? " " : "", detail ? detail : ""),
			 error->context ? errcontext_msg("%s", error->context) : 0));
}

static TimestampTz
backoff(const SsAside *aside, int failures)
{
	if (!aside->of_worker)
		return DT_NOEND;
	return GetCurrentTimestamp() + Min(BACKOFF_FIRST << Min(Max(failures, 1) - 1, 10), BACKOFF_MAX);
}

static void
drop(SsAside *aside, int i)
{
	aside->entries[i] = aside->entries[--aside->n];
}

/* Drop the one that is due first. */
static void
drop_first(SsAside *aside)
{
	int first = 0;

	for (int i = 1; i < aside->n; i++)
		if (aside->entries[i].retry_at < aside->entries[first].retry_at)
			first = i;
	drop(aside, first);
}

static Entry *
append_entry(SsAside *aside)
{
	if (aside->n == aside->room)
	{
		int room = aside->room == 0 ? 16 : aside->room * 2;

		if (aside->entries == NULL)
			aside->entries = MemoryContextAlloc(aside->context, sizeof(Entry) * room);
		else
			aside->entries = repalloc(aside->entries, sizeof(Entry) * room);
		aside->room = room;
	}
	memset(&aside->entries[aside->n], 0, sizeof(Entry));
	return &aside->entries[aside->n++];
}

/* How many rows of a namespace are set aside one by one? */
static int
count_of(const SsAside *aside, const SsKey *key)
{
	int n = 0;

	for (int i = 0; i < aside->n; i++)
		n += !is_namespace(&aside->entries[i]) && is_of(&aside->entries[i], key) ? 1 : 0;
	return n;
}

/* Drop the rows of a namespace that are set aside one by one. */
static void
drop_rows_of(SsAside *aside, const SsKey *key)
{
	for (int i = aside->n - 1; i >= 0; i--)
		if (!is_namespace(&aside->entries[i]) && is_of(&aside->entries[i], key))
			drop(aside, i);
}

/* Set a namespace aside as a whole. */
static void
add_namespace(SsAside *aside, const SsKey *key)
{
	Entry *entry;

	drop_rows_of(aside, key);
	entry = append_entry(aside);
	ss_key_set(&entry->key, key->bytes, key->nslen, "", 0);
	entry->hash = ss_key_hash(&entry->key);
	entry->failures = 1;
	entry->retry_at = backoff(aside, 1);
	memcpy(entry->walk.ns, key->bytes, key->nslen);
	entry->walk.check_at = DT_NOBEGIN;
}

/* All entries are taken: set the namespace aside of which most rows are. */
static void
make_room(SsAside *aside)
{
	SsKey largest;
	int most = 1;

	for (int i = 0; i < aside->n; i++)
	{
		int n = is_namespace(&aside->entries[i]) ? 0 : count_of(aside, &aside->entries[i].key);

		if (n > most)
		{
			most = n;
			ss_key_copy(&largest, &aside->entries[i].key);
		}
	}
	if (most > 1)
		add_namespace(aside, &largest);
	else if (aside->of_worker)
		drop_first(aside);
}

static Entry *
new_entry(SsAside *aside)
{
	if (aside->n >= MAX_ENTRIES)
		make_room(aside);
	return append_entry(aside);
}

/* A row of a namespace that is set aside has failed again. */
static void
probe_failed(SsAside *aside, Entry *entry)
{
	entry->done = 0;
	if (++entry->probes < MAX_PROBES)
		return;
	entry->probes = 0;
	entry->failures++;
	entry->retry_at = backoff(aside, entry->failures);
}

/* Set a row aside that has failed; without an error it is one that somebody has locked. */
void
ss_aside_add(SsAside *aside, const SsKey *key, const ErrorData *error)
{
	Entry *entry = find(aside, key);
	Entry *of_namespace = find_namespace(aside, key);
	bool busy = error == NULL || ss_aside_fault(error) == SS_FAULT_BUSY;

	if (of_namespace != NULL)
	{
		if (!aside->walks && of_namespace->retry_at <= GetCurrentTimestamp())
			probe_failed(aside, of_namespace);
	}
	else if (entry == NULL && count_of(aside, key) >= aside->most)
		add_namespace(aside, key);
	if (of_namespace == NULL && (entry != NULL || find_namespace(aside, key) == NULL))
	{
		if (entry == NULL)
		{
			entry = new_entry(aside);
			ss_key_copy(&entry->key, key);
			entry->hash = ss_key_hash(key);
		}
		entry->busy = busy;
		entry->failures++;
		entry->retry_at = backoff(aside, entry->failures);
	}
	if (!busy)
	{
		remember(aside, key, error);
		log_failure(aside, key, error);
	}
	tell(aside);
}

/* A row was processed, or there is nothing to be done about it any more. */
void
ss_aside_done(SsAside *aside, const SsKey *key)
{
	Entry *entry;

	if (ss_aside_is_empty(aside))
		return;
	if ((entry = find(aside, key)) != NULL)
	{
		drop(aside, (int) (entry - aside->entries));
		tell(aside);
	}
	else if (!aside->walks && (entry = find_namespace(aside, key)) != NULL)
	{
		entry->failures = 1;
		if (++entry->done >= MAX_DONE)
		{
			drop(aside, (int) (entry - aside->entries));
			tell(aside);
		}
	}
}

/* Forget what was due for some time and did not fail again. */
void
ss_aside_tidy(SsAside *aside, TimestampTz now)
{
	int before = aside->n;

	for (int i = aside->n - 1; i >= 0; i--)
		if (aside->entries[i].retry_at < now - FORGET_AFTER &&
			!(aside->walks && is_namespace(&aside->entries[i])))
			drop(aside, i);
	if (aside->n != before)
		tell(aside);
}

static Datum
to_array(Datum *elems, int n)
{
	return PointerGetDatum(construct_array(elems, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/*
 * What a statement must leave out, as arrays of text: namespaces, and of single rows their
 * namespaces and their ids.
 */
void
ss_aside_arrays(const SsAside *aside, TimestampTz now, Datum arrays[3])
{
	int n = aside == NULL ? 0 : aside->n;
	Datum *elems[3];
	int filled[3] = {0};

	for (int a = 0; a < 3; a++)
		elems[a] = palloc(sizeof(Datum) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		const Entry *entry = &aside->entries[i];
		const char *id = entry->key.bytes + entry->key.nslen;
		Datum ns;

		if (entry->retry_at <= now && !(aside->walks && is_namespace(entry)))
			continue;
		ns = PointerGetDatum(cstring_to_text_with_len(entry->key.bytes, entry->key.nslen));
		if (is_namespace(entry))
		{
			elems[0][filled[0]++] = ns;
			continue;
		}
		elems[1][filled[1]++] = ns;
		elems[2][filled[2]++] = PointerGetDatum(cstring_to_text_with_len(id, entry->key.idlen));
	}
	for (int a = 0; a < 3; a++)
		arrays[a] = to_array(elems[a], filled[a]);
}

/* The namespace to be walked through next, if one is due. */
bool
ss_aside_next_walk(SsAside *aside, TimestampTz now, SsAsideWalk *walk)
{
	for (int i = 0; aside->walks && i < aside->n; i++)
		if (is_namespace(&aside->entries[i]) && aside->entries[i].retry_at <= now)
		{
			*walk = aside->entries[i].walk;
			return true;
		}
	return false;
}

/*
 * A step of such a walk is over: so many rows failed and so many did not, and it has ended or
 * stopped at a row.  A walk on which none fails is the last.
 */
void
ss_aside_walked(SsAside *aside, const SsAsideWalk *walk, int failed, int done, bool ended,
				int64 took)
{
	SsKey key;
	Entry *entry;

	ss_key_set(&key, walk->ns, strlen(walk->ns), "", 0);
	if ((entry = find(aside, &key)) == NULL)
		return;
	if (failed == 0 && (done >= MAX_DONE || (ended && !walk->failed)))
	{
		drop(aside, (int) (entry - aside->entries));
		tell(aside);
		return;
	}
	entry->walk = *walk;
	entry->walk.failed = walk->failed || failed > 0;
	if (ended)
	{
		entry->walk.check_at = DT_NOBEGIN;
		entry->walk.place = 0;
		entry->walk.failed = false;
	}
	entry->failures = done > 0 ? 1 : entry->failures + 1;
	entry->retry_at = Max(backoff(aside, entry->failures),
						  GetCurrentTimestamp() + took * WALK_SHARE);
}
