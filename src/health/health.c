/*
 * health.c
 *		session_health(): the state of the extension, and warnings with remedies.
 *
 * The result has facts under fixed keys and an array of warnings as text.  A warning says what is
 * wrong and what to do about it.  An empty array means good health.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xlog.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "health/health.h"
#include "health/health_access.h"
#include "health/health_cache.h"
#include "health/health_foreign.h"
#include "health/health_locks.h"
#include "health/health_words.h"
#include "health/report.h"
#include "commands/trigger.h"
#include "function.h"
#include "settings.h"
#include "shared/counters.h"
#include "shared/databases.h"
#include "table/catalog.h"
#include "table/schema.h"
#include "table/sql.h"
#include "table/subscription.h"
#include "table/triggers.h"
#include "touch/touch_slots.h"
#include "upkeep/orphans.h"
#include "upkeep/purge.h"

SS_FUNCTION(session_health, 1_0, JSONBOID);

/* Warn if an expired row has waited longer than this to be purged (seconds). */
#define BEHIND_WARNING_S 60.0

static SsPlan sizes_plan = {
	"SELECT namespace::pg_catalog.text, sessions::pg_catalog.int8, over_1mb::pg_catalog.int8"
	" FROM {samples} ORDER BY namespace",
	0,
	{InvalidOid}};

/*
 * Set *seconds to how long the oldest row that is due has waited to be purged.  Returns false if
 * the table is locked.
 */
bool
ss_health_purge_behind(const SsHealthLocks *locks, double *seconds)
{
	SsCatalog catalog;
	SsCaller caller;
	TimestampTz oldest;
	double behind = 0;
	SsDb *db = ss_database_mine();

	*seconds = 0;
	ss_catalog_get(&catalog);
	if (ss_health_is_locked(locks, catalog.sessions))
		return false;
	ss_sql_enter(&caller);
	if (ss_purge_oldest(&oldest))
		behind = (GetCurrentTimestamp() - oldest) / (double) USECS_PER_SEC;
	ss_sql_leave(&caller);
	/*
	 * rows that are set aside have a warning of their own, so report how far the keeper has come
	 * with the others
	 */
	if (db != NULL && behind > 0)
	{
		ss_databases_lock(false);
		if (db->aside[SS_WORK_PURGE].rows + db->aside[SS_WORK_PURGE].namespaces > 0 &&
			!TIMESTAMP_NOT_FINITE(db->purge_low) && db->purge_low != 0)
			behind = Min(behind, (GetCurrentTimestamp() - db->purge_low) / (double) USECS_PER_SEC);
		ss_databases_unlock();
	}
	*seconds = Max(behind, 0);
	return true;
}

/*
 * Warn about triggers of session_store that are missing or not ENABLE ALWAYS, as pg_restore
 * --disable-triggers leaves them.
 */
static void
check_triggers(SsReport *report, const SsHealthLocks *locks, Oid relid)
{
	Relation rel;
	TriggerDesc *triggers;
	const SsOwnTrigger *own = NULL;
	bool missing = false;

	if (ss_health_is_locked(locks, relid))
		return;
	rel = table_open(relid, AccessShareLock);
	/* copied because the catalog lookups below may rebuild the relcache entry */
	triggers = CopyTriggerDesc(rel->trigdesc);

	while ((own = ss_own_trigger_next(rel, own)) != NULL)
	{
		const Trigger *trigger = ss_own_trigger_in(own, rel, triggers);

		if (trigger == NULL)
			missing = true;
		else if (trigger->tgenabled != TRIGGER_FIRES_ALWAYS)
			ss_report_warn(
				report,
				"trigger %s of %s does not fire always: ALTER TABLE %s ENABLE ALWAYS TRIGGER %s",
				trigger->tgname, RelationGetRelationName(rel),
				quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
										   RelationGetRelationName(rel)),
				trigger->tgname);
	}
	if (missing)
		ss_report_warn(report, "a trigger of %s is missing: reinstall the extension",
					   RelationGetRelationName(rel));
	table_close(rel, AccessShareLock);
}

static const char *
state_name(SsDbState state)
{
	switch (state)
	{
		case SS_DB_UNKNOWN:
		case SS_DB_STARTING:
			return "starting";
		case SS_DB_RUNNING:
			return "running";
		case SS_DB_ABSENT:
			return "absent";
		case SS_DB_WAITING:
			return "waiting";
	}
	return "unknown";
}

static void
add_tasks(SsReport *report, const SsDb *db)
{
	ss_report_open(report, "tasks");
	for (int i = 0; i < SS_TASKS; i++)
	{
		const SsTaskState *task = &db->tasks[i];

		ss_report_open(report, ss_health_task_name(i));
		ss_report_time(report, "last_run", task->last_run);
		ss_report_number(report, "skipped", task->skipped);
		ss_report_number(report, "failures", task->failures);
		ss_report_text(report, "last_error", task->last_error[0] ? task->last_error : NULL);
		ss_report_time(report, "last_error_at", task->last_error_at);
		if (task->failures > 0)
		{
			ss_report_time(report, "retry_at", task->retry_at);
			ss_report_warn(report, "the keeper's task \"%s\" failed %d times in a row: %s",
						   ss_health_task_name(i), task->failures, task->last_error);
		}
		ss_report_close(report);
	}
	ss_report_close(report);
}

/* Launcher and keeper, from a copy of their state in shared memory. */
static void
add_workers(SsReport *report)
{
	SsLauncherState launcher = {0};
	SsDb *db = ss_database_mine();
	SsDb *copy = palloc0(sizeof(SsDb));

	if (ss_databases != NULL)
	{
		ss_databases_lock(false);
		launcher = ss_databases->launcher;
		if (db != NULL)
			memcpy(copy, db, sizeof(SsDb));
		ss_databases_unlock();
	}

	ss_report_open(report, "launcher");
	ss_report_bool(report, "running", launcher.pid != 0);
	ss_report_number(report, "pid", launcher.pid);
	ss_report_number(report, "databases_waiting", launcher.waiting);
	ss_report_close(report);

	ss_report_open(report, "keeper");
	ss_report_bool(report, "running", copy->keeper_pid != 0);
	ss_report_number(report, "pid", copy->keeper_pid);
	ss_report_text(report, "state", db == NULL ? "unknown" : state_name(copy->state));
	ss_report_time(report, "since", copy->since);
	ss_report_text(report, "last_error", copy->last_error[0] ? copy->last_error : NULL);
	ss_report_time(report, "last_error_at", copy->last_error_at);
	ss_report_number(report, "purge_batch", copy->purge_batch);
	add_tasks(report, copy);
	ss_report_close(report);

	if (ss_databases == NULL || RecoveryInProgress())
		return; /* there are no workers, or they run on the primary */
	if (launcher.pid == 0)
		ss_report_warn(report,
					   "the launcher is not running: see the server log, and max_worker_processes");
	else if (launcher.waiting > 0)
		ss_report_warn(report,
					   "fewer worker slots than databases, so keepers take turns: raise "
					   "max_worker_processes (now %d)",
					   max_worker_processes);
	else if (copy->keeper_pid == 0 && copy->failures > 0)
		ss_report_warn(report, "the keeper does not run: %s", copy->last_error);
	else if (copy->keeper_pid == 0 && copy->state != SS_DB_STARTING)
		ss_report_warn(
			report, "the keeper does not run; it should within seconds, else see the server log");
	if (launcher.out_of_databases)
		ss_report_warn(report, "more than %d databases: some have no keeper and no counters",
					   SS_MAX_DATABASES);
}

/* Copy the reports of the workers of this database about rows that are set aside. */
void
ss_health_set_aside(SsAsideReport reports[SS_WORKS])
{
	SsDb *db = ss_database_mine();

	memset(reports, 0, sizeof(SsAsideReport) * SS_WORKS);
	if (db == NULL)
		return;
	ss_databases_lock(false);
	memcpy(reports, db->aside, sizeof(SsAsideReport) * SS_WORKS);
	ss_databases_unlock();
}

static const char *
work_in_words(int work)
{
	static const char *const words[SS_WORKS] = {
		"expired sessions cannot be removed",
		"reads and touches of sessions cannot be written",
		"messages of ended sessions cannot be removed",
		"old events cannot be removed",
		"session_samples cannot be written",
		"sessions cannot be copied to Redis",
		"sessions cannot be compared with Redis",
		"old operations cannot be removed",
		"counters cannot be removed",
	};

	return words[work];
}

/* Rows that failed and are skipped until they are retried. */
static void
add_set_aside(SsReport *report)
{
	SsAsideReport *reports = palloc(sizeof(SsAsideReport) * SS_WORKS);

	ss_health_set_aside(reports);
	ss_report_open(report, "set_aside");
	for (int i = 0; i < SS_WORKS; i++)
	{
		const SsAsideReport *r = &reports[i];

		ss_report_open(report, ss_health_work_name(i));
		ss_report_number(report, "rows", r->rows);
		ss_report_number(report, "namespaces", r->namespaces);
		ss_report_number(report, "failures", (int64) r->failures);
		ss_report_text(report, "last_namespace", r->failures > 0 ? r->last_ns : NULL);
		ss_report_text(report, "last_sqlstate",
					   r->failures > 0 ? unpack_sql_state(r->last_code) : NULL);
		ss_report_text(report, "last_error", r->failures > 0 ? r->last_error : NULL);
		ss_report_time(report, "last_error_at", r->last_error_at);
		ss_report_close(report);
		if (r->rows + r->namespaces > 0 && r->failures > 0)
			ss_report_warn(
				report,
				"%s: %d rows and %d namespaces as a whole are set aside, the last failure in "
				"namespace %s is %s (SQLSTATE %s): correct the row or what refuses it; it is "
				"tried again within minutes",
				work_in_words(i), r->rows, r->namespaces, r->last_ns, r->last_error,
				unpack_sql_state(r->last_code));
	}
	ss_report_close(report);
}

static void
add_touches(SsReport *report)
{
	SsTouchCounts counts;
	SsDb *db = ss_database_mine();
	uint64 dropped = db ? ss_counter_sum(db, SS_TOUCHES_DROPPED) : 0;

	ss_touch_counts(db == NULL ? -1 : ss_database_number(db), &counts);
	ss_report_open(report, "touches");
	ss_report_number(report, "slots", counts.slots);
	ss_report_number(report, "used", counts.used);
	ss_report_number(report, "mine", counts.mine);
	ss_report_number(report, "share", counts.share);
	ss_report_number(report, "allowed", counts.allowed);
	ss_report_number(report, "noted", db ? ss_counter_sum(db, SS_TOUCHES_NOTED) : 0);
	ss_report_number(report, "written", db ? ss_counter_sum(db, SS_TOUCHES_WRITTEN) : 0);
	ss_report_number(report, "dropped", dropped);
	ss_report_close(report);
	if (db == NULL)
		return;
	if (ss_health_is_recent(db->touch_dropped_at, ss_monotonic()))
		ss_report_warn(
			report,
			"%llu reads did not slide their session, for want of room, so it may end before "
			"its time: this database has %u touch slots, may have %u, and its share is %u; see "
			"whether the keeper's task \"touch\" keeps up and whether another database has "
			"more than its share, or raise session_store.touch_slots",
			(unsigned long long) dropped, counts.mine, counts.allowed, counts.share);
	else if (ss_health_is_recent(ss_databases->touch_dropped_at, ss_monotonic()) &&
			 counts.mine > counts.share)
		ss_report_warn(
			report,
			"this database has %u touch slots, more than its share of %u, while another found "
			"no room: see whether the keeper's task \"touch\" keeps up, or raise "
			"session_store.touch_slots",
			counts.mine, counts.share);
}

/* Numbers and sizes of sessions as of the keeper's last sample. */
static void
add_sizes(SsReport *report)
{
	SsCaller caller;
	uint64 n;
	int64 sessions = 0;
	int64 large = 0;

	ss_sql_enter(&caller);
	n = ss_plan_run(&sizes_plan, NULL, NULL, SS_PLAN_READ, 0);
	for (uint64 i = 0; i < n; i++)
	{
		char *name = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		bool null;
		int64 living = DatumGetInt64(
			SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &null));
		int64 over = DatumGetInt64(
			SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 3, &null));

		sessions += living;
		large += over;
		MemoryContextSwitchTo(caller.outer);
		if (ss_sessions_ceiling > 0 && living > ss_sessions_ceiling)
			ss_report_warn(report,
						   "namespace %s has " INT64_FORMAT
						   " sessions, more than session_store.sessions_ceiling (%d)",
						   name, living, ss_sessions_ceiling);
		if (over > 0)
			ss_report_warn(report,
						   "namespace %s has " INT64_FORMAT
						   " documents over 1 MB: keep large or growing parts elsewhere",
						   name, over);
	}
	ss_sql_leave(&caller);
	ss_report_number(report, "sessions", sessions);
	ss_report_number(report, "sessions_over_1mb", large);
}

/* Conversations without a session, for example after a partial restore. */
static void
add_orphans(SsReport *report)
{
	SsCaller caller;
	TimestampTz oldest;
	int64 count;

	ss_sql_enter(&caller);
	count = ss_orphans_count(&oldest);
	ss_sql_leave(&caller);
	ss_report_open(report, "orphans");
	ss_report_number(report, "conversations", count);
	ss_report_time(report, "since", oldest);
	ss_report_close(report);
	if (count == 0)
		return;
	if (ss_orphan_keep_s == 0)
		ss_report_warn(report,
					   INT64_FORMAT
					   " conversations have messages or members but no session, and stay "
					   "while session_store.orphan_keep is 0: restore their sessions, or "
					   "raise it",
					   count);
	else
		ss_report_warn(report,
					   INT64_FORMAT
					   " conversations have messages or members but no session: restore "
					   "their sessions, or they are removed, the first at %s "
					   "(session_store.orphan_keep)",
					   count, timestamptz_to_str(oldest + ss_orphan_keep_s * USECS_PER_SEC));
}

/*
 * Add the array of tables that the publisher purges.  Returns true if conversation_sessions is one
 * of them.
 */
static bool
add_subscribed(SsReport *report)
{
	const char *separator = "";
	bool sessions = false;

	ss_report_key(report, "left_to_publisher");
	appendStringInfoChar(&report->json, '[');
	for (int i = 0; i < SS_TABLES; i++)
		if (ss_subscribed(i))
		{
			appendStringInfoString(&report->json, separator);
			escape_json(&report->json, ss_table_name(i));
			separator = ",";
			sessions = sessions || i == SS_TABLE_SESSIONS;
		}
	appendStringInfoChar(&report->json, ']');
	return sessions;
}

/* Functions that calls refuse to run, and foreign keys that they ignore. */
static void
add_foreign_code(SsReport *report, const SsHealthLocks *locks)
{
	SsForeignCode found;

	ss_health_foreign(report, locks, &found);
	ss_report_open(report, "foreign_code");
	if (ss_health_count_locked(locks) > 0)
		ss_report_text(report, "functions_refused", NULL);
	else
		ss_report_number(report, "functions_refused", found.refused);
	ss_report_number(report, "functions_without_search_path", found.no_search_path);
	ss_report_number(report, "foreign_keys_ignored", found.ignored_keys);
	ss_report_close(report);
}

/* Warn if the definition of a table was altered.  Returns true if it is intact. */
static bool
is_sound(SsReport *report, const char *table)
{
	char *damage = ss_catalog_damage_of(table);

	if (damage != NULL)
		ss_report_warn(report, "%s", damage);
	return damage == NULL;
}

/*
 * Everything that needs the tables: how far behind the purge is, orphans, sizes, privileges,
 * triggers and locks.
 */
static void
add_tables(SsReport *report, const SsHealthLocks *locks)
{
	SsCatalog catalog;
	SsAccessFaults faults;
	bool recovery = RecoveryInProgress();
	double behind;
	bool known;
	bool subscribed;
	bool claims;

	ss_catalog_get(&catalog);
	known = ss_health_purge_behind(locks, &behind);
	ss_report_open(report, "purge");
	ss_report_bool(report, "automatic",
				   ss_databases != NULL && ss_purge_interval_ms > 0 && !recovery);
	if (known)
		ss_report_number(report, "behind_seconds", (int64) behind);
	else
		ss_report_text(report, "behind_seconds", NULL);
	subscribed = add_subscribed(report);
	ss_report_close(report);
	if (!recovery && behind > BEHIND_WARNING_S && subscribed)
		ss_report_warn(
			report,
			"the purge is %.0f seconds behind: sessions arrive by a subscription, and their "
			"removal by the publisher has not arrived; if this server is to take over, drop "
			"the subscription",
			behind);
	else if (!recovery && behind > BEHIND_WARNING_S)
		ss_report_warn(report, "the purge is %.0f seconds behind%s", behind,
					   ss_purge_interval_ms == 0 ? ": session_store.purge_interval is 0" : "");

	if (is_sound(report, "session_orphans") && ss_health_may_read(locks, catalog.orphans))
		add_orphans(report);
	else if (ss_health_is_locked(locks, catalog.orphans))
		ss_report_text(report, "orphans", NULL);
	if (is_sound(report, "session_samples") && ss_health_may_read(locks, catalog.samples))
		add_sizes(report);
	else if (ss_health_is_locked(locks, catalog.samples))
	{
		ss_report_text(report, "sessions", NULL);
		ss_report_text(report, "sessions_over_1mb", NULL);
	}
	(void) is_sound(report, "session_events");
	(void) is_sound(report, "session_counters");
	claims = is_sound(report, "session_cache_claims");
	add_foreign_code(report, locks);
	ss_health_access(report, locks, &faults);
	check_triggers(report, locks, catalog.sessions);
	check_triggers(report, locks, catalog.history);
	check_triggers(report, locks, catalog.namespaces);
	if (claims)
		check_triggers(report, locks, catalog.claims);
	ss_health_locks(report, locks);
}

/*
 * Build the report of session_health(), without the warnings and the closing brace of the JSON
 * object.  Initializes *report, which must be zeroed.
 */
void
ss_health_report(SsReport *report)
{
	char *damage;

	report->first = true;
	initStringInfo(&report->json);
	initStringInfo(&report->warnings);
	appendStringInfoChar(&report->json, '{');
	ss_report_text(report, "version", SESSION_STORE_VERSION);
	ss_report_bool(report, "preloaded", ss_databases != NULL);
	ss_report_bool(report, "in_recovery", RecoveryInProgress());
	add_workers(report);
	add_set_aside(report);
	add_touches(report);
	ss_health_cache(report);
	if (ss_databases == NULL)
		ss_report_warn(
			report,
			"not preloaded, so nothing is purged by itself and reads do not slide: set "
			"shared_preload_libraries = 'session_store' in postgresql.conf and restart the server");

	damage = ss_catalog_damage();
	if (damage != NULL)
		ss_report_warn(report, "%s", damage);
	else
	{
		char *version = ss_schema_other_version();
		SsHealthLocks locks;

		if (version != NULL)
			ss_report_warn(
				report,
				"the extension has version %s here and its library version %s: run ALTER "
				"EXTENSION session_store UPDATE",
				version, SESSION_STORE_VERSION);
		ss_health_lock(&locks);
		add_tables(report, &locks);
		ss_health_unlock(&locks);
	}
}

static Datum
session_health(PG_FUNCTION_ARGS)
{
	SsReport report = {0};

	ss_health_report(&report);
	ss_report_key(&report, "warnings");
	appendStringInfo(&report.json, "[%s]}", report.warnings.data);
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(report.json.data)));
}
