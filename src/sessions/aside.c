/*
 * aside.c
 *		Sets aside rows that cannot be processed, so that they hold up no others.
 *
 * A foreign key, trigger, rule or constraint of a user may refuse what we do to a row, or the row
 * may be damaged or too large.  A batch that fails for such a reason is repeated row by row, each
 * in a subtransaction of its own (ss_aside_try).  A row that fails is set aside: it is left out
 * until its retry time, which is later the more often it failed (at most 5 minutes).
 *
 *	- An error that does not concern the row is raised again (ss_aside_fault).  Interrupts and
 *	  shutdown are never swallowed, and serialization failures are passed to the caller.
 *	- Memory is bounded.  If more than a few rows of a namespace fail, the namespace is set aside
 *	  as a whole, so that a foreign key that refuses a million rows costs a few attempts and not a
 *	  million.  A worker that visits rows in an order walks through such a namespace separately, a
 *	  few rows at a time, and continues where it stopped (ss_aside_next_walk).  Other workers try a
 *	  few of its rows at each retry time.  When all entries are in use, the namespace with most of
 *	  them is set aside as a whole.  If each is of another namespace, a worker drops the entry with
 *	  the earliest retry time, so that its row is tried early.  A call must try no row twice, or it
 *	  might not end; so it adds an entry beyond the limit for each such namespace.
 *	- An entry whose retry time has passed and which did not fail again is dropped.
 *
 * Copies in Redis: the code that sets a row aside ensures that Redis has no outdated copy of it.
 * Nothing needs to be done by the purge, because a copy expires no later than its session, nor for
 * touches, which only extend a session beyond its copy.
 *
 * Entries are in the memory of the process and end with it; all rows are then tried again.  A
 * summary for session_health() and session_metrics() is in shared memory, guarded by the main
 * lock.  It is written when an entry changes, so its cost is bounded by the number of failures.
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

#include "row/errors.h"
#include "sessions/aside.h"

#define MAX_ENTRIES 1024
#define MAX_OF_NAMESPACE 64 /* entries of a worker for one namespace */
#define MAX_PROBES 20       /* failures in a namespace until it waits for its next retry time */
#define MAX_DONE 50         /* successes in a namespace, after which its entry is dropped */
#define BACKOFF_FIRST_US USECS_PER_SEC
#define BACKOFF_MAX_US (INT64CONST(300) * USECS_PER_SEC)
#define DROP_AFTER_US (INT64CONST(30) * USECS_PER_SEC) /* after the retry time */
#define LOG_EVERY_US (INT64CONST(10) * USECS_PER_SEC)
#define WALK_SHARE 50 /* walks take at most 1/50 of the time */

/* A row, or a namespace, that is set aside. */
typedef struct Entry
{
	SsKey key; /* without an id for a whole namespace */
	uint32 hash;
	int failures; /* consecutive */
	bool busy;    /* the row was only locked by another session */
	TimestampTz retry_at;
	/* for a whole namespace */
	int probes; /* rows that failed since its retry time */
	int done;   /* rows that succeeded since then */
	SsAsideWalk walk;
} Entry;

struct SsAside
{
	SsWork work;
	bool of_worker; /* for the life of a worker; otherwise for one call */
	bool walks;     /* rows of namespaces are left to ss_aside_next_walk */
	int most;       /* maximum number of entries for the rows of one namespace */
	int n;          /* entries in use */
	int room;       /* entries allocated */
	Entry *entries; /* in context */
	MemoryContext context;
	TimestampTz logged_at; /* time of the last message in the server log */
	SsAsideReport report;  /* copied to shared memory for a worker */
};

void (*ss_aside_rolled_back)(void) = NULL;

/* What a worker was doing, for the server log. */
static const char *const names[SS_WORKS] = {
	[SS_WORK_PURGE] = "purging an expired session",
	[SS_WORK_TOUCH] = "writing the new expiry of a session",
	[SS_WORK_HISTORY] = "removing messages of an ended session",
	[SS_WORK_EVENTS] = "removing old events",
	[SS_WORK_SAMPLE] = "writing session_samples",
	[SS_WORK_PUSH] = "reading a session for Redis",
	[SS_WORK_SCRUB] = "reading a session to compare it with Redis",
	[SS_WORK_OPERATIONS] = "removing old operations",
	[SS_WORK_COUNTERS] = "purging a counter",
};

static void publish_report(SsAside *aside);

/* Create an empty set of rows in a context. */
static SsAside *
create(SsWork work, MemoryContext context)
{
	SsAside *aside = MemoryContextAllocZero(context, sizeof(SsAside));

	aside->work = work;
	aside->context = context;
	aside->most = MAX_ENTRIES;
	return aside;
}

/*
 * Create the set of a worker, for its lifetime.  Counters in shared memory go on from those of an
 * earlier worker; its entries are lost.  With walks, the worker calls ss_aside_next_walk.
 */
SsAside *
ss_aside_of_worker(SsWork work, bool walks)
{
	SsAside *aside = create(work, TopMemoryContext);
	SsDb *db = ss_database_mine();

	aside->of_worker = true;
	aside->walks = walks;
	aside->most = MAX_OF_NAMESPACE;
	if (db != NULL)
	{
		ss_databases_lock(false);
		aside->report = db->aside[work];
		ss_databases_unlock();
		publish_report(aside);
	}
	return aside;
}

/* Create the set of one call, in which no row is tried twice; freed with its context. */
SsAside *
ss_aside_of_call(SsWork work, MemoryContext context)
{
	return create(work, context);
}

/*
 * Does an error concern the row?  Classes 08, 25, 53, 57 and 58 concern the server or the
 * transaction.  A worker yields to other sessions: it treats serialization failures, deadlocks and
 * lock timeouts as a row that is busy.  In a call these are errors of the call.
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
 * Run work in a subtransaction.  Returns true if it committed.  Otherwise work returned false, and
 * *error is NULL, or it raised an error that concerns the row, and *error is a copy of it, which
 * the caller frees.  Other errors are raised again.
 */
bool
ss_aside_try(SsSubxactWork work, void *arg, ErrorData **error)
{
	bool done = ss_subxact_run(work, arg, error);

	/* ss_stop_defer_again in the keeper, as an abort unblocks signals; see workers/stop.c */
	if (!done && ss_aside_rolled_back != NULL)
		ss_aside_rolled_back();
	if (*error != NULL && ss_aside_fault(*error) == SS_FAULT_OTHER)
		ReThrowError(*error);
	return done;
}

/* Is nothing set aside?  A NULL set is empty. */
bool
ss_aside_is_empty(const SsAside *aside)
{
	return aside == NULL || aside->n == 0;
}

/* At the end of a call: warn that rows were left out because they failed. */
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
			 errhint("Check for a foreign key, trigger or rule that prevents it.")));
}

static bool
is_namespace(const Entry *entry)
{
	return entry->key.idlen == 0;
}

/* Is an entry in the namespace of a key? */
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

/* The time until which a row is set aside; 0 if it is not. */
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

/* Is a row set aside, with its retry time in the future? */
bool
ss_aside_holds(const SsAside *aside, const SsKey *key, TimestampTz now)
{
	return !ss_aside_is_empty(aside) && ss_aside_until(aside, key) > now;
}

/* Store a failure in the report, without text that may contain values of the row. */
static void
record_failure(SsAside *aside, const SsKey *key, const ErrorData *error)
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

/* Count the entries, and copy the report of a worker to shared memory. */
static void
publish_report(SsAside *aside)
{
	SsDb *db = aside->of_worker ? ss_database_mine() : NULL;

	aside->report.rows = aside->report.namespaces = 0;
	for (int i = 0; i < aside->n; i++)
		if (is_namespace(&aside->entries[i]))
			aside->report.namespaces++;
		else if (!aside->entries[i].busy)
			aside->report.rows++;
	if (db == NULL)
		return;
	ss_databases_lock(true);
	db->aside[aside->work] = aside->report;
	ss_databases_unlock();
}

/* Write a failure to the server log only, and not more often than each LOG_EVERY_US. */
static void
log_failure(SsAside *aside, const SsKey *key, const ErrorData *error)
{
	TimestampTz now = GetCurrentTimestamp();
	const char *detail = error->detail_log ? error->detail_log : error->detail;

	if (now >= aside->logged_at && now - aside->logged_at < LOG_EVERY_US)
		return;
	aside->logged_at = now;
	ereport(LOG_SERVER_ONLY,
			(errcode(error->sqlerrcode),
			 errmsg("session_store set a row aside: %s", error->message),
			 errdetail_internal("While %s in namespace \"%.*s\".%s%s", names[aside->work],
								key->nslen, key->bytes, detail ? " " : "", detail ? detail : ""),
			 error->context ? errcontext_msg("%s", error->context) : 0));
}

/* The retry time after a number of failures.  A call retries nothing. */
static TimestampTz
backoff(const SsAside *aside, int failures)
{
	if (!aside->of_worker)
		return DT_NOEND;
	return GetCurrentTimestamp() +
		   Min(BACKOFF_FIRST_US << Min(Max(failures, 1) - 1, 10), BACKOFF_MAX_US);
}

/* Drop an entry, moving the last one into its place. */
static void
drop(SsAside *aside, int i)
{
	aside->entries[i] = aside->entries[--aside->n];
}

/* Drop the entry with the earliest retry time. */
static void
drop_earliest(SsAside *aside)
{
	int first = 0;

	for (int i = 1; i < aside->n; i++)
		if (aside->entries[i].retry_at < aside->entries[first].retry_at)
			first = i;
	drop(aside, first);
}

/* Append a zeroed entry, enlarging the array.  Pointers to other entries become invalid. */
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

/* Count the entries for single rows of a namespace. */
static int
count_of(const SsAside *aside, const SsKey *key)
{
	int n = 0;

	for (int i = 0; i < aside->n; i++)
		n += !is_namespace(&aside->entries[i]) && is_of(&aside->entries[i], key) ? 1 : 0;
	return n;
}

/* Drop the entries for single rows of a namespace. */
static void
drop_rows_of(SsAside *aside, const SsKey *key)
{
	for (int i = aside->n - 1; i >= 0; i--)
		if (!is_namespace(&aside->entries[i]) && is_of(&aside->entries[i], key))
			drop(aside, i);
}

/* Set a namespace aside as a whole, in place of its rows. */
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

/* Make room when all entries are in use: set aside the namespace that has most of them. */
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
		drop_earliest(aside);
}

static Entry *
new_entry(SsAside *aside)
{
	if (aside->n >= MAX_ENTRIES)
		make_room(aside);
	return append_entry(aside);
}

/* A row of a namespace that is set aside as a whole has failed. */
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

/* Set aside a row that has failed.  Without an error, it is locked by another session. */
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
		record_failure(aside, key, error);
		log_failure(aside, key, error);
	}
	publish_report(aside);
}

/* A row was processed, or no longer needs to be. */
void
ss_aside_done(SsAside *aside, const SsKey *key)
{
	Entry *entry;

	if (ss_aside_is_empty(aside))
		return;
	if ((entry = find(aside, key)) != NULL)
	{
		drop(aside, (int) (entry - aside->entries));
		publish_report(aside);
	}
	else if (!aside->walks && (entry = find_namespace(aside, key)) != NULL)
	{
		entry->failures = 1;
		if (++entry->done >= MAX_DONE)
		{
			drop(aside, (int) (entry - aside->entries));
			publish_report(aside);
		}
	}
}

/* Begins a pass. */
void
ss_aside_pass_begin(SsAsidePass *pass, SsAside *aside)
{
	memset(pass, 0, sizeof(*pass));
	pass->aside = aside;
	pass->began = GetCurrentTimestamp();
}

/* Has a pass reached its limits? */
bool
ss_aside_pass_is_over(const SsAsidePass *pass)
{
	return pass->done >= SS_ASIDE_PASS_ROWS ||
		   GetCurrentTimestamp() - pass->began > SS_ASIDE_PASS_US;
}

/*
 * Processes a row by work(arg), in a subtransaction, and sets it aside if that raises an error.  The
 * key is NULL if the row has no valid one; such a row cannot be set aside.  True if the row was
 * processed, false also if it is set aside already, or its namespace since the pass began.
 */
bool
ss_aside_pass_visit(SsAsidePass *pass, const SsKey *key, SsSubxactWork work, void *arg)
{
	ErrorData *error;
	bool done;

	if (key != NULL && ss_aside_holds(pass->aside, key, pass->began))
		return false;
	done = ss_aside_try(work, arg, &error);
	if (done)
	{
		pass->done++;
		if (key != NULL)
			ss_aside_done(pass->aside, key);
	}
	else if (error != NULL && key != NULL)
		ss_aside_add(pass->aside, key, error);
	pass->progressed = pass->progressed || done || (error != NULL && key != NULL);
	if (error != NULL)
		FreeErrorData(error);
	return done;
}

/* Drop entries whose retry time has passed long enough ago without another failure. */
void
ss_aside_tidy(SsAside *aside, TimestampTz now)
{
	int before = aside->n;

	for (int i = aside->n - 1; i >= 0; i--)
		if (aside->entries[i].retry_at < now - DROP_AFTER_US &&
			!(aside->walks && is_namespace(&aside->entries[i])))
			drop(aside, i);
	if (aside->n != before)
		publish_report(aside);
}

static Datum
to_array(Datum *elems, int n)
{
	return PointerGetDatum(construct_array(elems, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/*
 * What a statement has to leave out, as three arrays of text: whole namespaces, and for single
 * rows their namespaces and their ids.  The arrays are palloced; aside may be NULL.
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

/* Find a namespace whose next walk is due; false if there is none. */
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
 * Report a step of a walk that took `took` microseconds: how many rows failed and how many did
 * not, where it stopped (*walk), and whether it reached the end.  After a walk without failures
 * the namespace is no longer set aside.
 */
void
ss_aside_walked(SsAside *aside, const SsAsideWalk *walk, int failed, int done, bool ended,
				int64 took_us)
{
	SsKey key;
	Entry *entry;

	ss_key_set(&key, walk->ns, strlen(walk->ns), "", 0);
	if ((entry = find(aside, &key)) == NULL)
		return;
	if (failed == 0 && (done >= MAX_DONE || (ended && !walk->failed)))
	{
		drop(aside, (int) (entry - aside->entries));
		publish_report(aside);
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
						  GetCurrentTimestamp() + took_us * WALK_SHARE);
}
