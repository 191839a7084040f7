/*
 * health_foreign.c
 *		Part of session_health(): functions, triggers and foreign keys that do not belong to
 *		session_store.
 *
 * It names every function attached to the tables that may be refused (table/foreign_code.c) before
 * a caller meets the error, the triggers that do not fire, and the foreign keys that are not
 * enforced.  Functions that a function calls in turn are not known before it runs.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/regproc.h"

#include "health/health_foreign.h"
#include "table/catalog.h"
#include "table/foreign_code.h"
#include "table/foreign_triggers.h"
#include "table/sql.h"

#define OURS "{=} ANY ($1)"

/*
 * Functions on which the tables depend through anything that runs when rows change, including
 * operators.  pg_depend does not list functions of the server itself.
 */
static SsPlan functions_plan = {
	"WITH RECURSIVE types AS ("
	" SELECT t.oid, t.typbasetype, t.typelem FROM pg_catalog.pg_attribute a"
	"  JOIN pg_catalog.pg_type t ON t.oid {=} a.atttypid WHERE a.attrelid " OURS
	"  AND NOT a.attisdropped"
	" UNION SELECT b.oid, b.typbasetype, b.typelem FROM types t"
	"  JOIN pg_catalog.pg_type b ON b.oid {=} ANY (ARRAY[t.typbasetype, t.typelem])),"
	" parts (class, oid) AS ("
	" SELECT 'pg_catalog.pg_trigger'::pg_catalog.regclass, oid FROM pg_catalog.pg_trigger"
	"  WHERE tgrelid " OURS " AND NOT tgisinternal AND tgenabled {<>} 'D'::\"char\""
	" UNION ALL SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, oid"
	"  FROM pg_catalog.pg_constraint WHERE conrelid " OURS
	" UNION ALL SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, c.oid"
	"  FROM types t JOIN pg_catalog.pg_constraint c ON c.contypid {=} t.oid"
	" UNION ALL SELECT 'pg_catalog.pg_attrdef'::pg_catalog.regclass, oid"
	"  FROM pg_catalog.pg_attrdef WHERE adrelid " OURS
	" UNION ALL SELECT 'pg_catalog.pg_rewrite'::pg_catalog.regclass, oid"
	"  FROM pg_catalog.pg_rewrite WHERE ev_class " OURS
	" UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, indexrelid"
	"  FROM pg_catalog.pg_index WHERE indrelid " OURS ")"
	" SELECT DISTINCT p.oid FROM parts"
	" JOIN pg_catalog.pg_depend d ON d.classid {=} parts.class::pg_catalog.oid"
	"  AND d.objid {=} parts.oid"
	"  AND d.refclassid {=} ANY (ARRAY['pg_catalog.pg_proc'::pg_catalog.regclass,"
	"   'pg_catalog.pg_operator'::pg_catalog.regclass]::pg_catalog.oid[])"
	" LEFT JOIN pg_catalog.pg_operator o ON o.oid {=} CASE WHEN d.refclassid {=}"
	"  'pg_catalog.pg_operator'::pg_catalog.regclass::pg_catalog.oid THEN d.refobjid END"
	" JOIN pg_catalog.pg_proc p ON p.oid {=} COALESCE(o.oprcode::pg_catalog.oid, d.refobjid)"
	" WHERE p.prolang {<>} 13::pg_catalog.oid ORDER BY p.oid",
	1,
	{OIDARRAYOID}};

static SsPlan keys_plan = {
	"SELECT c.conname, c.conrelid, c.confrelid, r.relowner FROM pg_catalog.pg_constraint c"
	" JOIN pg_catalog.pg_class r ON r.oid {=} c.conrelid"
	" WHERE c.contype {=} 'f'::\"char\" AND c.conparentid {=} 0::pg_catalog.oid"
	" AND c.confrelid " OURS " ORDER BY c.oid",
	1,
	{OIDARRAYOID}};

static Datum
our_tables(void)
{
	SsCatalog catalog;
	Datum tables[11];
	int n = 0;

	ss_catalog_get(&catalog);
	tables[n++] = ObjectIdGetDatum(catalog.sessions);
	tables[n++] = ObjectIdGetDatum(catalog.namespaces);
	tables[n++] = ObjectIdGetDatum(catalog.history);
	tables[n++] = ObjectIdGetDatum(catalog.ended);
	tables[n++] = ObjectIdGetDatum(catalog.members);
	tables[n++] = ObjectIdGetDatum(catalog.operations);
	tables[n++] = ObjectIdGetDatum(catalog.events);
	tables[n++] = ObjectIdGetDatum(catalog.samples);
	tables[n++] = ObjectIdGetDatum(catalog.orphans);
	tables[n++] = ObjectIdGetDatum(catalog.claims);
	tables[n++] = ObjectIdGetDatum(catalog.counters);
	return PointerGetDatum(construct_array(tables, n, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}

static Oid
oid_at(SPITupleTable *rows, uint64 i, int column)
{
	bool null;

	return DatumGetObjectId(SPI_getbinval(rows->vals[i], rows->tupdesc, column, &null));
}

static char *
table_name(Oid relid)
{
	char *name = get_rel_name(relid);

	if (name == NULL)
		return "a table that was dropped meanwhile";
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), name);
}

static void
warn_of_function(SsReport *report, Oid function, SsForeignCode *found)
{
	switch (ss_foreign_code_fault(function))
	{
		case SS_CODE_SOUND:
			return;
		case SS_CODE_NOT_TRUSTED:
			found->refused++;
			if (report != NULL)
				ss_report_warn(
					report,
					"function %s is attached to the session tables, but its owner does not "
					"have the privileges of theirs: calls that reach it fail; give it another "
					"owner, or drop what calls it",
					format_procedure_qualified(function));
			return;
		case SS_CODE_NO_SEARCH_PATH:
			found->no_search_path++;
			if (report != NULL)
				ss_report_warn(
					report,
					"function %s is attached to the session tables and sets no search_path: "
					"calls that reach it fail in sessions with temporary objects of other "
					"roles; run %s",
					format_procedure_qualified(function), ss_foreign_code_remedy(function));
			return;
	}
}

/*
 * Warn of triggers that do not fire because of their condition or arguments; those whose function
 * is not trusted are reported with the function.
 */
static void
warn_of_triggers(SsReport *report, Oid table, SsForeignCode *found)
{
	Relation rel = try_table_open(table, AccessShareLock);

	for (int i = 0; rel != NULL && rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &rel->trigdesc->triggers[i];
		SsTriggerFault fault = ss_trigger_fault(trigger);

		if (fault != SS_TRIGGER_CONDITION && fault != SS_TRIGGER_ARGUMENTS)
			continue;
		found->refused++;
		if (report != NULL)
			ss_report_warn(report, "trigger %s of %s makes calls fail: %s %s",
						   quote_identifier(trigger->tgname), table_name(table),
						   ss_trigger_fault_detail(fault), ss_trigger_fault_remedy(fault, trigger));
	}
	if (rel != NULL)
		table_close(rel, AccessShareLock);
}

/* Count the faults, and add a warning for each unless report is NULL. */
void
ss_health_foreign(SsReport *report, const SsHealthLocks *locks, SsForeignCode *found)
{
	SsCaller caller;
	Datum values[1];
	Datum *tables;
	int ntables;
	SPITupleTable *rows;
	uint64 n;

	memset(found, 0, sizeof(*found));
	ss_sql_enter(&caller);
	values[0] = our_tables();
	n = ss_plan_run(&functions_plan, values, NULL, SS_PLAN_READ, 0);
	rows = SPI_tuptable;
	for (uint64 i = 0; i < n; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(caller.outer);

		warn_of_function(report, oid_at(rows, i, 1), found);
		MemoryContextSwitchTo(old);
	}
	deconstruct_array(DatumGetArrayTypeP(values[0]), OIDOID, sizeof(Oid), true, TYPALIGN_INT,
					  &tables, NULL, &ntables);
	for (int i = 0; i < ntables; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(caller.outer);

		if (!ss_health_is_locked(locks, DatumGetObjectId(tables[i])))
			warn_of_triggers(report, DatumGetObjectId(tables[i]), found);
		MemoryContextSwitchTo(old);
	}
	n = ss_plan_run(&keys_plan, values, NULL, SS_PLAN_READ, 0);
	rows = SPI_tuptable;
	for (uint64 i = 0; i < n; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(caller.outer);

		if (ss_foreign_key_is_ignored(oid_at(rows, i, 2)))
		{
			found->ignored_keys++;
			if (report != NULL)
				ss_report_warn(
					report,
					"foreign key %s of %s, which belongs to role \"%s\", is ignored when calls "
					"and workers change or remove rows of %s",
					quote_identifier(SPI_getvalue(rows->vals[i], rows->tupdesc, 1)),
					table_name(oid_at(rows, i, 2)), GetUserNameFromId(oid_at(rows, i, 4), true),
					table_name(oid_at(rows, i, 3)));
		}
		MemoryContextSwitchTo(old);
	}
	ss_sql_leave(&caller);
}
