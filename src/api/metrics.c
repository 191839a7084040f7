/*
 * metrics.c
 *		session_metrics(): counters and gauges in the Prometheus text format.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "api/health.h"
#include "rows/home.h"
#include "rows/touches.h"
#include "shared.h"

PG_FUNCTION_INFO_V1(session_metrics);

/* The order of SsCounter. */
static const struct
{
	const char *name;
	const char *help;
} counters[SS_COUNTERS] = {
	[SS_SAVED] = {"saves", "Saves, merges and increments."},
	[SS_CREATED] = {"creations", "Sessions that began."},
	[SS_READ] = {"reads", "Reads by get, fetch, exists and ttl."},
	[SS_MISSED] = {"misses", "Reads that found no living session."},
	[SS_TOUCHED] = {"touches", "Calls of session_touch that found a session."},
	[SS_DELETED] = {"deletions", "Sessions ended by delete, delete_all and clear."},
	[SS_REGENERATED] = {"regenerations", "Sessions that got a new id."},
	[SS_EVICTED] = {"evictions", "Sessions ended by their owner's quota."},
	[SS_PURGED] = {"purged", "Expired rows and tombstones removed."},
	[SS_USES_NOTED] = {"touches_noted", "Touches and sliding reads noted in shared memory."},
	[SS_USES_WRITTEN] = {"touches_written", "Notes written to the table."},
	[SS_USES_DROPPED] = {"touches_dropped", "Reads that could not be noted."},
	[SS_ERROR_CONFLICT] = {"errors_conflict", "Version conflicts (40001)."},
	[SS_ERROR_DEAD] = {"errors_dead", "Writes to a dead id (SST10)."},
	[SS_ERROR_QUOTA] = {"errors_quota", "Sessions refused by a quota (53400)."},
	[SS_ERROR_DENIED] = {"errors_denied", "Callers that were not allowed (42501)."},
	[SS_FENCED] = {"fenced", "Commits that waited at the fence."},
	[SS_FENCE_MICROSECONDS] = {"fence_microseconds", "How long they waited, together."},
	[SS_FENCE_EXPIRED] = {"fence_expired", "Of these, who waited for the end of the lease."},
	[SS_UNLISTED] = {"unlisted",
					 "Transactions too large for the ledger, after which all is flushed."},
	[SS_WANTED] = {"wanted", "Reads by SQL that offered a session to the cache."},
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
	{"tombstones", "Ids that are dead for now."},
	{"messages", "Messages of living sessions."},
	{"bytes", "Bytes of documents, before compression."},
	{"largest_bytes", "The largest document seen by the sample."},
	{"sessions_over_1mb", "Documents of more than 1 MB."},
	{"sample_age_seconds", "How old the sample is."},
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

/* A label's value may hold anything but what is escaped here. */
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
	SsDb *db = ss_shared_my_db();

	if (db == NULL)
		return;
	for (int i = 0; i < SS_COUNTERS; i++)
	{
		char *name = psprintf("%s_total", counters[i].name);

		head(out, name, counters[i].help, "counter");
		appendStringInfo(out, "session_store_%s " UINT64_FORMAT "\n", name, ss_counter_sum(db, i));
	}
}

static void
add_samples(StringInfo out)
{
	SsActing acting;
	uint64 n;

	ss_home_enter(&acting);
	n = ss_plan_run(&samples_plan, NULL, NULL, SS_PLAN_READ, 0);
	for (int g = 0; g < (int) lengthof(gauges); g++)
	{
		MemoryContext old = MemoryContextSwitchTo(acting.outer);

		head(out, gauges[g].name, gauges[g].help, "gauge");
		for (uint64 i = 0; i < n; i++)
		{
			char *ns = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
			char *value = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, g + 2);

			appendStringInfo(out, "session_store_%s{namespace=\"%s\"} %s\n", gauges[g].name,
							 escape_label(ns), value);
		}
		MemoryContextSwitchTo(old);
	}
	ss_home_leave(&acting);
}

static void
add_workers(StringInfo out)
{
	SsDb *db = ss_shared_my_db();
	SsTouchCounts notes;
	int failing = 0;
	bool keeper = false;
	int waiting;

	ss_shared_lock(false);
	waiting = ss_shared->launcher.waiting;
	if (db != NULL)
	{
		keeper = db->keeper_pid != 0;
		for (int i = 0; i < SS_TASKS; i++)
			failing += db->tasks[i].failures > 0 ? 1 : 0;
	}
	ss_shared_unlock();
	gauge(out, "keeper_up", "1 while the keeper of this database runs.", keeper ? 1 : 0);
	gauge(out, "keeper_tasks_failing", "Tasks of the keeper that fail at present.", failing);
	gauge(out, "databases_waiting", "Databases that wait for a worker slot.", waiting);
	ss_touch_counts(&notes);
	gauge(out, "touch_slots", "Room for noted reads, in the whole server.", notes.slots);
	gauge(out, "touch_slots_used", "Reads noted and not written.", notes.used);
}

Datum
session_metrics(PG_FUNCTION_ARGS)
{
	StringInfoData out;

	initStringInfo(&out);
	gauge(&out, "preloaded", "1 when the library was preloaded.", ss_shared != NULL ? 1 : 0);
	gauge(&out, "purge_behind_seconds", "How long the oldest due row has waited.",
		  ss_health_purge_behind());
	if (ss_shared != NULL)
		add_workers(&out);
	add_counters(&out);
	add_samples(&out);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}
