/*
 * health_workers.c
 *		Part of session_health(): the launcher, the keeper, rows that are set aside, pending touches.
 *
 * All of it is in shared memory, and copied from there under the main lock.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"

#include "base/clock.h"
#include "health/health_words.h"
#include "health/health_workers.h"
#include "shared/counters.h"
#include "shared/databases.h"
#include "touch/touch_slots.h"

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

/* Add the groups "launcher", "keeper", "set_aside" and "touches" and their warnings. */
void
ss_health_workers(SsReport *report)
{
	add_workers(report);
	add_set_aside(report);
	add_touches(report);
}
