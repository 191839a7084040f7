/*
 * metrics.c
 *		session_metrics(): counters and gauges in the Prometheus text format.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "function.h"
#include "health/health.h"
#include "health/health_access.h"
#include "health/health_foreign.h"
#include "health/health_locks.h"
#include "health/health_words.h"
#include "health/health_workers.h"
#include "settings.h"
#include "shared/counters.h"
#include "shared/databases.h"
#include "shared/ledger_shmem.h"
#include "table/catalog.h"
#include "table/sql.h"
#include "table/subscription.h"
#include "touch/touch_slots.h"
#include "upkeep/orphans.h"

SS_FUNCTION(session_metrics, 1_0, TEXTOID);

/* Names and HELP texts of the counters. */
static const struct
{
	const char *name;
	const char *help;
} counters[SS_COUNTERS] = {
	[SS_SAVED] = {"saves", "Saves, merges and increments."},
	[SS_CREATED] = {"creations", "Sessions created."},
	[SS_READ] = {"reads", "Reads by get, get_many, fetch, history, members, exists and ttl."},
	[SS_MISSED] = {"misses", "Reads that found no living session."},
	[SS_TOUCHED] = {"touches", "Calls of session_touch that found a session."},
	[SS_DELETED] = {"deletions", "Sessions ended by delete, take, delete_all and clear."},
	[SS_REGENERATED] = {"regenerations", "Sessions regenerated under a new id."},
	[SS_EVICTED] = {"evictions", "Sessions ended by their owner's quota."},
	[SS_PURGED] = {"purged", "Expired rows and tombstones removed."},
	[SS_APPENDED] = {"messages_appended", "Messages appended to histories."},
	[SS_MESSAGES_REMOVED] = {"messages_removed", "Messages popped, trimmed and replaced."},
	[SS_MESSAGES_PURGED] = {"messages_purged", "Messages removed after the end of their session."},
	[SS_FORKED] = {"forks", "Sessions forked."},
	[SS_ABSORBED] = {"absorptions", "Sessions merged into another."},
	[SS_SHARED_WITH] = {"shares", "Calls of session_share that found a session."},
	[SS_TOUCHES_NOTED] =
		{"touches_noted",
		 "Touches and sliding reads recorded in shared memory as pending touches."},
	[SS_TOUCHES_WRITTEN] = {"touches_written", "Pending touches written to the table."},
	[SS_TOUCHES_DROPPED] = {"touches_dropped",
							"Reads that could not be recorded as pending touches."},
	[SS_ERROR_CONFLICT] = {"errors_conflict", "Version conflicts (40001)."},
	[SS_ERROR_DEAD] = {"errors_dead", "Writes to a dead id (SST10)."},
	[SS_ERROR_QUOTA] = {"errors_quota", "Sessions refused by a quota (53400)."},
	[SS_ERROR_DENIED] = {"errors_denied", "Calls refused for lack of privileges (42501)."},
	[SS_FENCED] = {"fenced", "Commits that waited at the fence."},
	[SS_FENCE_MICROSECONDS] = {"fence_microseconds",
							   "Total time that commits waited at the fence."},
	[SS_FENCE_EXPIRED] = {"fence_expired",
						  "Commits that waited at the fence until the lease expired."},
	[SS_UNLISTED] = {"unlisted", "Transactions that did not fit into the ledger, after each of "
								 "which all copies are flushed."},
	[SS_UNLISTED_NO_ROOM] =
		{"unlisted_no_room",
		 "Unlisted transactions that were not too large, but found no room in the ledger."},
	[SS_WANTED] = {"wanted", "Reads by SQL that requested a copy of a session in the cache."},
	[SS_HITS] = {"hits", "Calls of session_hit that counted or took back."},
	[SS_COUNTERS_PURGED] = {"counters_purged", "Counters removed after the end of their period."},
	[SS_TURNS_BEGUN] = {"turns_begun", "Turns begun."},
	[SS_TURN_WAITS] = {"turn_waits", "Calls of session_turn_begin that waited."},
	[SS_TURN_WAKES] = {"turn_wakes", "Turns begun after a wait that a commit ended."},
	[SS_ERROR_TURN] = {"errors_turn", "Changes refused for lack of a valid turn (SST12)."},
	[SS_ERROR_TOO_LARGE] = {"errors_too_large", "Documents over max_bytes (54000)."},
};

static SsPlan samples_plan = {
	"SELECT namespace, sessions, owned, expired, tombstones, messages, total_bytes, max_bytes,"
	" over_1mb, pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() {-} sampled_at)::"
	"pg_catalog.int8 FROM {samples} ORDER BY namespace",
	0,
	{InvalidOid}};

static const struct
{
	const char *name;
	const char *help;
} gauges[] = {
	{"sessions", "Living sessions at the last sample."},
	{"sessions_owned", "Living sessions that have an owner."},
	{"sessions_expired", "Expired rows not purged yet."},
	{"tombstones", "Tombstones, whose ids cannot be reused yet."},
	{"messages", "Messages of living sessions."},
	{"bytes", "Bytes of documents, before compression."},
	{"largest_bytes", "The largest document seen by the sample."},
	{"sessions_over_1mb", "Documents of more than 1 MB."},
	{"sample_age_seconds", "Age of the sample."},
};

static void
head(StringInfo out, const char *name, const char *help, const char *type)
{
	appendStringInfo(out, "# HELP session_store_%s %s\n# TYPE session_store_%s %s\n", name, help,
					 name, type);
}

static void
gauge(StringInfo out, const char *name, const char *help, double value)
{
	head(out, name, help, "gauge");
	appendStringInfo(out, "session_store_%s %.15g\n", name, value);
}

static void
count(StringInfo out, const char *name, const char *help, uint64 value)
{
	char *total = psprintf("%s_total", name);

	head(out, total, help, "counter");
	appendStringInfo(out, "session_store_%s " UINT64_FORMAT "\n", total, value);
}

/* Escape the value of a label. */
static char *
escape_label(const char *value)
{
	StringInfoData out;

	initStringInfo(&out);
	for (const char *p = value; *p; p++)
	{
		if (*p == '\\' || *p == '"')
			appendStringInfoChar(&out, '\\');
		appendStringInfoChar(&out, *p);
	}
	return out.data;
}

static void
add_counters(StringInfo out)
{
	SsDb *db = ss_database_mine();

	if (db == NULL)
		return;
	for (int i = 0; i < SS_COUNTERS; i++)
		count(out, counters[i].name, counters[i].help, ss_counter_sum(db, i));
}

static void
add_samples(StringInfo out)
{
	SsCaller caller;
	uint64 n;

	ss_sql_enter(&caller);
	n = ss_plan_run(&samples_plan, NULL, NULL, SS_PLAN_READ, 0);
	for (int g = 0; g < (int) lengthof(gauges); g++)
	{
		MemoryContext old = MemoryContextSwitchTo(caller.outer);

		head(out, gauges[g].name, gauges[g].help, "gauge");
		for (uint64 i = 0; i < n; i++)
		{
			char *ns = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
			char *value = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, g + 2);

			/* a child table, whose rows are read as well, may contain nulls */
			if (ns == NULL || value == NULL)
				continue;
			appendStringInfo(out, "session_store_%s{namespace=\"%s\"} %s\n", gauges[g].name,
							 escape_label(ns), value);
		}
		MemoryContextSwitchTo(old);
	}
	ss_sql_leave(&caller);
}

static void
add_foreign_code(StringInfo out, const SsHealthLocks *locks)
{
	SsForeignCode found;

	ss_health_foreign(NULL, locks, &found);
	if (ss_health_count_locked(locks) == 0)
		gauge(out, "functions_refused",
			  "Functions on the tables that do not run because of who owns them.", found.refused);
	gauge(out, "functions_without_search_path", "Functions on the tables that set no search_path.",
		  found.no_search_path);
	gauge(out, "foreign_keys_ignored", "Foreign keys to the tables that are not enforced.",
		  found.ignored_keys);
}

static void
add_access(StringInfo out, const SsHealthLocks *locks)
{
	SsAccessFaults found;
	SsCatalog catalog;

	ss_catalog_get(&catalog);
	ss_health_access(NULL, locks, &found);
	gauge(out, "tables_of_other_owners", "Tables of session_store that its functions cannot read.",
		  found.foreign_tables);
	if (!ss_health_is_locked(locks, catalog.namespaces))
		gauge(out, "unknown_roles", "Names in allowed_roles that are not names of roles.",
			  found.unknown_roles);
	gauge(out, "tables_locked",
		  "Tables of session_store that were not read because they were locked.",
		  ss_health_count_locked(locks));
}

static void
add_workers(StringInfo out)
{
	SsDb *db = ss_database_mine();
	SsTouchCounts counts;
	int failing = 0;
	int skipping = 0;
	uint64 skips = 0;
	bool keeper = false;
	int waiting;

	ss_databases_lock(false);
	waiting = ss_databases->launcher.waiting;
	if (db != NULL)
	{
		keeper = db->keeper_pid != 0;
		for (int i = 0; i < SS_TASKS; i++)
		{
			failing += db->tasks[i].failures > 0 ? 1 : 0;
			skipping += db->tasks[i].skipped > 0 ? 1 : 0;
		}
		skips = db->keeper_skips;
	}
	ss_databases_unlock();
	gauge(out, "keeper_up", "1 while the keeper of this database runs.", keeper ? 1 : 0);
	gauge(out, "keeper_tasks_failing", "Tasks of the keeper that are failing.", failing);
	gauge(out, "keeper_tasks_locked", "Tasks of the keeper that are skipped because of a lock.",
		  skipping);
	count(out, "keeper_lock_skips", "Times that a task was skipped because of a lock.", skips);
	gauge(out, "databases_waiting", "Databases whose keeper waits for a worker slot.", waiting);
	ss_touch_counts(db == NULL ? -1 : ss_database_number(db), &counts);
	gauge(out, "touch_slots", "Slots for pending touches, in the whole server.", counts.slots);
	gauge(out, "touch_slots_used", "Pending touches of all databases.", counts.used);
	gauge(out, "touch_slots_mine", "Pending touches of this database.", counts.mine);
	gauge(out, "touch_slots_share",
		  "Slots for pending touches that are guaranteed to this database.", counts.share);
	gauge(out, "touch_slots_allowed",
		  "Slots for pending touches that this database may use at present.", counts.allowed);
}

/* Rows and namespaces that are set aside, by kind of work. */
static void
add_set_aside(StringInfo out)
{
	SsAsideReport *reports = palloc(sizeof(SsAsideReport) * SS_WORKS);

	ss_health_set_aside(reports);
	head(out, "rows_set_aside", "Rows that failed and wait to be retried.", "gauge");
	for (int i = 0; i < SS_WORKS; i++)
		appendStringInfo(out, "session_store_rows_set_aside{work=\"%s\"} %d\n",
						 ss_health_work_name(i), reports[i].rows);
	head(out, "namespaces_set_aside",
		 "Namespaces set aside as a whole because too many of their rows failed.", "gauge");
	for (int i = 0; i < SS_WORKS; i++)
		appendStringInfo(out, "session_store_namespaces_set_aside{work=\"%s\"} %d\n",
						 ss_health_work_name(i), reports[i].namespaces);
	head(out, "row_failures_total", "Failed attempts at single rows.", "counter");
	for (int i = 0; i < SS_WORKS; i++)
		appendStringInfo(out, "session_store_row_failures_total{work=\"%s\"} " UINT64_FORMAT "\n",
						 ss_health_work_name(i), reports[i].failures);
}

/* The cache, as last reported by its pusher. */
static void
add_cache(StringInfo out)
{
	SsDb *db = ss_database_mine();
	SsCacheReport r = {0};
	SsMonotonic now = ss_monotonic();
	bool up = false;

	if (db != NULL)
	{
		ss_databases_lock(false);
		r = db->cache.report;
		up = db->cache.pusher_pid != 0;
		ss_databases_unlock();
	}
	gauge(out, "cache_configured", "1 if a Redis is configured.", ss_redis_url[0] ? 1 : 0);
	gauge(out, "cache_pusher_up", "1 while the pusher of this database runs.", up ? 1 : 0);
	gauge(out, "cache_connected", "1 while it is connected to Redis.", r.connected ? 1 : 0);
	gauge(out, "cache_running", "1 while copies are written and leases granted.",
		  r.running ? 1 : 0);
	gauge(out, "cache_locked",
		  "1 while a lock keeps the pusher from reading the tables of session_store.",
		  r.locked ? 1 : 0);
	count(out, "cache_lock_skips", "Times that the pusher skipped its work because of a lock.",
		  r.lock_skips);
	gauge(out, "cache_using_fallback", "1 while readers get their sessions by SQL.",
		  r.running ? 0 : 1);
	gauge(out, "cache_breaker_open", "1 while the pusher does not try to connect to Redis.",
		  !r.connected && r.failures > 0 ? 1 : 0);
	gauge(out, "cache_latency_seconds", "Duration of the last request to Redis.",
		  r.latency_us / 1000000.0);
	gauge(out, "cache_lease_left_seconds", "Remaining lifetime of the lease.",
		  Max(r.lease_end - now, 0) / 1000000.0);
	gauge(out, "cache_dirty", "Changed sessions that wait to be written to Redis.", r.dirty);
	gauge(out, "cache_in_doubt", "Sessions in doubt: the transaction that changed them is ending.",
		  r.in_doubt);
	gauge(out, "cache_oldest_dirty_seconds",
		  "How long the oldest session has waited to be written to Redis.",
		  r.oldest != 0 ? Max(now - r.oldest, 0) / 1000000.0 : 0);
	if (ss_ledger != NULL)
	{
		gauge(out, "cache_ledger_used", "Keys in the ledger, of the whole server.",
			  ss_ledger_used(ss_ledger));
		gauge(out, "cache_ledger_room", "Keys that the ledger has room for.",
			  ss_ledger_room(ss_ledger));
	}
	if (ss_ledger != NULL && db != NULL)
	{
		int member = ss_database_number(db);

		gauge(out, "cache_ledger_mine", "Keys in the ledger, of this database.",
			  ss_ledger_count(ss_ledger, member));
		gauge(out, "cache_ledger_share", "Keys that are guaranteed to this database.",
			  ss_ledger_share_of(ss_ledger, member));
		gauge(out, "cache_ledger_allowed", "Keys that this database may have at present.",
			  ss_ledger_allowed(ss_ledger, member));
	}
	gauge(out, "redis_memory_bytes", "Memory that Redis uses.", r.redis_memory_bytes);
	gauge(out, "redis_memory_limit_bytes", "maxmemory of Redis; 0 for none.",
		  r.redis_memory_limit_bytes);
	count(out, "cache_reconnects", "Reconnections to Redis.", r.connects > 0 ? r.connects - 1 : 0);
	count(out, "cache_batches", "Batches sent.", r.batches);
	count(out, "cache_written", "Copies written.", r.sets);
	count(out, "cache_deleted", "Copies deleted.", r.deletes);
	count(out, "cache_prolonged", "Copies prolonged.", r.expires);
	count(out, "cache_late", "Batches that reached Redis too late and did nothing.", r.late);
	count(out, "cache_lost", "Times that Redis was found to have lost writes.", r.lost);
	count(out, "cache_flushes", "Flushes of all copies.", r.flushes);
	count(out, "cache_takeovers", "Takeovers from another server.", r.takeovers);
	count(out, "cache_too_large", "Documents over cache_max_bytes.", r.too_large);
	count(out, "cache_refused_for_memory",
		  "Documents that Redis refused because its memory was full.", r.no_room);
	gauge(out, "cache_namespaces_denied", "Namespaces whose keys the ACL of Redis denies.",
		  r.denied);
	count(out, "cache_verified", "Copies compared with the table.", r.verified);
	count(out, "cache_divergence", "Copies that differed.", r.divergent);
	gauge(out, "cache_diverging",
		  "1 until a pass over all keys of Redis finds no copy that differs.", r.diverging ? 1 : 0);
}

/* Count the conversations without a session that the keeper has recorded. */
static int64
count_orphans(void)
{
	SsCaller caller;
	TimestampTz oldest;
	int64 orphans;

	ss_sql_enter(&caller);
	orphans = ss_orphans_count(&oldest);
	ss_sql_leave(&caller);
	return orphans;
}

/* For alerts: the number of warnings of session_health(). */
static int
count_warnings(void)
{
	SsReport report = {0};

	ss_health_report(&report);
	return report.nwarnings;
}

/* Count the tables that a subscription replicates. */
static int
count_subscribed(void)
{
	int subscribed = 0;

	for (int i = 0; i < SS_TABLES; i++)
		subscribed += ss_subscribed(i) ? 1 : 0;
	return subscribed;
}

static Datum
session_metrics(PG_FUNCTION_ARGS)
{
	StringInfoData out;
	SsCatalog catalog;
	SsHealthLocks locks;
	double behind;

	ss_catalog_get(&catalog);
	ss_health_lock(&locks);
	initStringInfo(&out);
	gauge(&out, "preloaded", "1 if the library was preloaded.", ss_databases != NULL ? 1 : 0);
	gauge(&out, "warnings", "Warnings of session_health().", count_warnings());
	if (ss_health_purge_behind(&locks, &behind))
		gauge(&out, "purge_behind_seconds",
			  "How long the oldest row that is due has waited to be purged.", behind);
	if (ss_health_may_read(&locks, catalog.orphans))
		gauge(&out, "orphans", "Conversations that have messages or members but no session.",
			  count_orphans());
	gauge(&out, "subscribed_tables",
		  "Tables that a subscription replicates and the publisher purges.", count_subscribed());
	add_foreign_code(&out, &locks);
	add_access(&out, &locks);
	if (ss_databases != NULL)
	{
		add_workers(&out);
		add_set_aside(&out);
	}
	add_counters(&out);
	add_cache(&out);
	if (ss_health_may_read(&locks, catalog.samples))
		add_samples(&out);
	ss_health_unlock(&locks);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}
