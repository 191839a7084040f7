/*
 * health.c
 *		session_health(): is everything as it should be, and if not, what to do.
 *
 * Facts under fixed keys, and an array of warnings in words.  A warning says what
 * is wrong and the one thing to do about it; no warnings is good health.
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

#include "api/health.h"
#include "commands/trigger.h"
#include "rows/home.h"
#include "rows/purge.h"
#include "rows/touches.h"
#include "settings.h"
#include "shared.h"

PG_FUNCTION_INFO_V1(session_health);

/* Expired rows that have waited this long for the keeper are worth a word. */
#define BEHIND_WARNING 60.0

/* The report in the making: JSON text, and the warnings apart. */
typedef struct Report
{
	StringInfoData json;
	StringInfoData warnings;
	bool first; /* no comma yet */
} Report;

const char *
ss_task_name(int task)
{
	static const char *const names[SS_TASKS] = {"touch", "purge", "events", "sample"};

	return names[task];
}

static void
add_key(Report *report, const char *key)
{
	if (!report->first)
		appendStringInfoChar(&report->json, ',');
	report->first = false;
	escape_json(&report->json, key);
	appendStringInfoChar(&report->json, ':');
}

static void
add_text(Report *report, const char *key, const char *value)
{
	add_key(report, key);
	if (value == NULL)
		appendStringInfoString(&report->json, "null");
	else
		escape_json(&report->json, value);
}

static void
add_number(Report *report, const char *key, int64 value)
{
	add_key(report, key);
	appendStringInfo(&report->json, INT64_FORMAT, value);
}

static void
add_bool(Report *report, const char *key, bool value)
{
	add_key(report, key);
	appendStringInfoString(&report->json, value ? "true" : "false");
}

static void
add_time(Report *report, const char *key, TimestampTz value)
{
	add_text(report, key,
			 value == 0 || TIMESTAMP_NOT_FINITE(value) ? NULL : timestamptz_to_str(value));
}

static void
open_group(Report *report, const char *key)
{
	add_key(report, key);
	appendStringInfoChar(&report->json, '{');
	report->first = true;
}

static void
close_group(Report *report)
{
	appendStringInfoChar(&report->json, '}');
	report->first = false;
}

static void warn(Report *report, const char *format, ...) pg_attribute_printf(2, 3);

static void
warn(Report *report, const char *format, ...)
{
	char message[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	/* a message that was cut must not end in half a character */
	message[pg_mbcliplen(message, strlen(message), sizeof(message) - 1)] = '\0';
	if (report->warnings.len > 0)
		appendStringInfoChar(&report->warnings, ',');
	escape_json(&report->warnings, message);
}

/* For how many seconds the oldest due row has waited. */
double
ss_health_purge_behind(void)
{
	SsActing acting;
	TimestampTz oldest;
	double behind = 0;

	ss_home_enter(&acting);
	if (ss_purge_oldest(&oldest))
		behind = (GetCurrentTimestamp() - oldest) / (double) USECS_PER_SEC;
	ss_home_leave(&acting);
	return Max(behind, 0);
}

/* Triggers of ours that do not fire always, as pg_restore --disable-triggers leaves them. */
static void
check_triggers(Report *report, Oid relid, int expected)
{
	Relation rel = table_open(relid, AccessShareLock);
	TriggerDesc *triggers = rel->trigdesc;
	int found = 0;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if (strcmp(trigger->tgname, "session_row_guard") != 0 &&
			strncmp(trigger->tgname, "session_namespaces_", 19) != 0)
			continue;
		if (trigger->tgenabled == TRIGGER_FIRES_ALWAYS)
			found++;
		else
		{
			warn(report,
				 "trigger %s of %s does not fire always: ALTER TABLE %s ENABLE ALWAYS TRIGGER %s",
				 trigger->tgname, RelationGetRelationName(rel),
				 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
											RelationGetRelationName(rel)),
				 trigger->tgname);
			expected--;
		}
	}
	if (found < expected)
		warn(report, "a trigger of %s is missing: reinstall the extension",
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
add_tasks(Report *report, const SsDb *db)
{
	open_group(report, "tasks");
	for (int i = 0; i < SS_TASKS; i++)
	{
		const SsTaskState *task = &db->tasks[i];

		open_group(report, ss_task_name(i));
		add_time(report, "last_run", task->last_run);
		add_number(report, "failures", task->failures);
		add_text(report, "last_error", task->last_error[0] ? task->last_error : NULL);
		add_time(report, "last_error_at", task->last_error_at);
		if (task->failures > 0)
		{
			add_time(report, "retry_at", task->retry_at);
			warn(report, "the keeper's task \"%s\" failed %d times in a row: %s", ss_task_name(i),
				 task->failures, task->last_error);
		}
		close_group(report);
	}
	close_group(report);
}

/* The workers, from a copy of what shared memory says. */
static void
add_workers(Report *report)
{
	SsLauncherState launcher = {0};
	SsDb *db = ss_shared_my_db();
	SsDb *copy = palloc0(sizeof(SsDb));

	if (ss_shared != NULL)
	{
		ss_shared_lock(false);
		launcher = ss_shared->launcher;
		if (db != NULL)
			memcpy(copy, db, offsetof(SsDb, counters));
		ss_shared_unlock();
	}

	open_group(report, "launcher");
	add_bool(report, "running", launcher.pid != 0);
	add_number(report, "pid", launcher.pid);
	add_number(report, "databases_waiting", launcher.waiting);
	close_group(report);

	open_group(report, "keeper");
	add_bool(report, "running", copy->keeper_pid != 0);
	add_number(report, "pid", copy->keeper_pid);
	add_text(report, "state", db == NULL ? "unknown" : state_name(copy->state));
	add_time(report, "since", copy->since);
	add_text(report, "last_error", copy->last_error[0] ? copy->last_error : NULL);
	add_time(report, "last_error_at", copy->last_error_at);
	add_number(report, "purge_batch", copy->purge_batch);
	add_tasks(report, copy);
	close_group(report);

	if (ss_shared == NULL || RecoveryInProgress())
		return; /* there are none; or they are the primary's business */
	if (launcher.pid == 0)
		warn(report, "the launcher is not running: see the server log, and max_worker_processes");
	else if (launcher.waiting > 0)
		warn(report,
			 "fewer worker slots than databases, so keepers take turns: raise "
			 "max_worker_processes (now %d)",
			 max_worker_processes);
	else if (copy->keeper_pid == 0 && copy->failures > 0)
		warn(report, "the keeper does not run: %s", copy->last_error);
	else if (copy->keeper_pid == 0 && copy->state != SS_DB_STARTING)
		warn(report, "the keeper does not run; it should within seconds, else see the server log");
	if (launcher.out_of_databases)
		warn(report, "more than %d databases: some have no keeper and no counters",
			 SS_MAX_DATABASES);
}

static void
add_touches(Report *report)
{
	SsTouchCounts counts;
	SsDb *db = ss_shared_my_db();
	uint64 dropped = db ? ss_counter_sum(db, SS_USES_DROPPED) : 0;

	ss_touch_counts(&counts);
	open_group(report, "touches");
	add_number(report, "slots", counts.slots);
	add_number(report, "used", counts.used);
	add_number(report, "noted", db ? ss_counter_sum(db, SS_USES_NOTED) : 0);
	add_number(report, "written", db ? ss_counter_sum(db, SS_USES_WRITTEN) : 0);
	add_number(report, "dropped", dropped);
	close_group(report);
	if (dropped > 0)
		warn(report,
			 "%llu reads did not slide their session, for want of room: raise "
			 "session_store.touch_slots",
			 (unsigned long long) dropped);
}

/* What the tables tell: how far behind the purge is, and whether triggers fire. */
static void
add_tables(Report *report)
{
	SsHome home;
	bool recovery = RecoveryInProgress();
	double behind;

	ss_home_get(&home);
	behind = ss_health_purge_behind();
	open_group(report, "purge");
	add_bool(report, "automatic", ss_shared != NULL && ss_purge_interval > 0 && !recovery);
	add_number(report, "behind_seconds", (int64) behind);
	close_group(report);
	if (!recovery && behind > BEHIND_WARNING)
		warn(report, "the purge is %.0f seconds behind%s", behind,
			 ss_purge_interval == 0 ? ": session_store.purge_interval is 0" : "");

	check_triggers(report, home.sessions, 1);
	check_triggers(report, home.namespaces, 3);
}

Datum
session_health(PG_FUNCTION_ARGS)
{
	Report report = {.first = true};
	char *damage;

	initStringInfo(&report.json);
	initStringInfo(&report.warnings);
	appendStringInfoChar(&report.json, '{');
	add_text(&report, "version", SESSION_STORE_VERSION);
	add_bool(&report, "preloaded", ss_shared != NULL);
	add_bool(&report, "in_recovery", RecoveryInProgress());
	add_workers(&report);
	add_touches(&report);
	if (ss_shared == NULL)
		warn(
			&report,
			"not preloaded, so nothing is purged by itself and reads do not slide: set "
			"shared_preload_libraries = 'session_store' in postgresql.conf and restart the server");

	damage = ss_home_damage();
	if (damage != NULL)
		warn(&report, "%s", damage);
	else
		add_tables(&report);

	add_key(&report, "warnings");
	appendStringInfo(&report.json, "[%s]}", report.warnings.data);
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(report.json.data)));
}
