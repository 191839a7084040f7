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
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"
#include "utils/timestamp.h"

#include "health/health.h"
#include "health/health_access.h"
#include "health/health_cache.h"
#include "health/health_foreign.h"
#include "health/health_locks.h"
#include "health/health_workers.h"
#include "health/report.h"
#include "function.h"
#include "settings.h"
#include "shared/databases.h"
#include "table/catalog.h"
#include "table/schema.h"
#include "table/sql.h"
#include "table/subscription.h"
#include "table/triggers.h"
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
	ss_health_workers(report);
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
