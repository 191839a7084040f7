/*
 * sql.c
 *		Prepared SQL on the extension's tables, run as the owner of the tables.
 *
 * SQL is run between ss_sql_enter and ss_sql_leave: as the owner of the tables, in a
 * security-restricted operation and without row-level policies.  The caller's privileges are
 * checked before that (api/args.c).  There is no PG_TRY: on ERROR the abort of the transaction or
 * subtransaction restores user, security context and search_path, and ends the SPI connection.
 *
 * Every plan is prepared and run under SS_SEARCH_PATH, as is all code that a plan calls, so the
 * caller's search_path has no effect while a call acts as the owner.  foreign_hooks.c does the
 * rest that this needs.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/snapmgr.h"

#include "table/catalog.h"
#include "table/foreign_hooks.h"
#include "table/schema.h"
#include "table/sql.h"

/*
 * State of this backend.
 *
 * `plan` and `text` are those that ss_plan_run is running.  An error leaves them as they are, which is
 * harmless, because they are only compared with the statement that is starting.
 */
static struct
{
	const SsPlan *plan;
	const char *text;           /* its statement, with the names of tables filled in */
	bool path_on_demand;        /* see ss_sql_set_path_on_demand */
	Oid temp_schema;            /* as plan_generation has found it last .. */
	uint64 temp_schema_changes; /* .. and how often it found another */
} state;

/*
 * Should ss_sql_enter leave the search_path alone until the first plan is run?  Set by direct_check.c
 * to whether the last attempt to change a row needed no plan: then the next one needs none either, as
 * a rule, and is spared the change of a setting.
 */
void
ss_sql_set_path_on_demand(bool on_demand)
{
	state.path_on_demand = on_demand;
}

/*
 * Set search_path to SS_SEARCH_PATH.  Returns the GUC nest level for ss_sql_reset_path, 0 if
 * search_path had that value already.
 */
int
ss_sql_set_path(void)
{
	int guc_nest;

	if (strcmp(namespace_search_path, SS_SEARCH_PATH) == 0)
		return 0;
	guc_nest = NewGUCNestLevel();
	(void) set_config_option("search_path", SS_SEARCH_PATH, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	return guc_nest;
}

/* Restore the search_path that ss_sql_set_path replaced. */
void
ss_sql_reset_path(int guc_nest)
{
	if (guc_nest > 0)
		AtEOXact_GUC(true, guc_nest);
}

/*
 * Switch to the owner of the tables and connect to SPI; the state of the caller is saved in
 * *caller.  Raises an error if the extension is not installed or its tables are damaged.
 */
void
ss_sql_enter(SsCaller *caller)
{
	SsCatalog catalog;

	ss_catalog_get(&catalog);
	caller->outer = CurrentMemoryContext;
	GetUserIdAndSecContext(&caller->user, &caller->sec_context);
	SetUserIdAndSecContext(catalog.owner,
						   caller->sec_context | SECURITY_LOCAL_USERID_CHANGE | SS_OWNER_CONTEXT);
	caller->guc_nest = state.path_on_demand ? 0 : ss_sql_set_path();
	SPI_connect();
}

/*
 * Disconnect from SPI and restore the state of the caller.  What was allocated since ss_sql_enter
 * is freed; see ss_sql_copy_out.
 */
void
ss_sql_leave(SsCaller *caller)
{
	SPI_finish();
	ss_sql_reset_path(caller->guc_nest);
	SetUserIdAndSecContext(caller->user, caller->sec_context);
	MemoryContextSwitchTo(caller->outer);
}

/*
 * Get the value of a column that is NOT NULL.  schema.c has checked that the column is, so a null
 * can only come from what it does not see.  It is an error, because callers dereference the value.
 */
Datum
ss_sql_value(HeapTuple tuple, TupleDesc desc, int column, const char *table)
{
	bool null;
	Datum value = SPI_getbinval(tuple, desc, column, &null);

	if (null)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("session_store is damaged: column %s of %s contains a null",
							   SPI_fname(desc, column), table)));
	return value;
}

/* Copy a value from the memory of SPI into the context that was current at ss_sql_enter. */
Datum
ss_sql_copy_out(const SsCaller *caller, Datum value, bool byval, int len)
{
	MemoryContext old = MemoryContextSwitchTo(caller->outer);
	Datum copy = datumCopy(value, byval, len);

	MemoryContextSwitchTo(old);
	return copy;
}

/* Expand a word that stands for columns of conversation_sessions (see SsPlan); false if it is none. */
static bool
expand_columns(StringInfo out, const char *word, int len, const AttrNumber *columns)
{
	bool set = len == 3 && strncmp(word, "set", len) == 0;
	bool names = set || (len == 7 && strncmp(word, "columns", len) == 0);
	bool parameters = set || (len == 6 && strncmp(word, "values", len) == 0);

	if (word[0] == '$')
	{
		for (int i = 1; i <= SS_ROW_ATTRS; i++)
			if (strlen(ss_session_columns[i].name) == len - 1 &&
				strncmp(ss_session_columns[i].name, word + 1, len - 1) == 0)
			{
				appendStringInfo(out, "$%d", i);
				return true;
			}
		elog(ERROR, "no such column: %.*s", len, word);
	}
	if (!names && !parameters)
		return false;
	Assert(columns != NULL);
	for (int i = 0; columns[i] != SS_ROW_NONE; i++)
	{
		appendStringInfoString(out, i > 0 ? ", " : "");
		if (names)
			appendStringInfoString(out, ss_session_columns[columns[i]].name);
		appendStringInfoString(out, set ? " = " : "");
		if (parameters)
			appendStringInfo(out, "$%d", columns[i]);
	}
	return true;
}

/*
 * Expand {table} to the qualified name of one of our tables or functions, {operator} to
 * OPERATOR(pg_catalog.operator), and words for columns as described at SsPlan.  "{}" and a brace that
 * is not closed stay as they are.
 */
static char *
expand(const SsPlan *plan)
{
	static const struct
	{
		const char *word;
		const char *name;
	} names[] = {{"sessions", "conversation_sessions"},
				 {"namespaces", "session_namespaces"},
				 {"history", "conversation_history"},
				 {"ended", "conversation_history_ended"},
				 {"members", "session_members"},
				 {"operations", "session_operations"},
				 {"events", "session_events"},
				 {"counters", "session_counters"},
				 {"samples", "session_samples"},
				 {"orphans", "session_orphans"},
				 {"effective", "session_effective_expiry"},
				 {"contains", "session_contains"},
				 {"claims", "session_cache_claims"}};
	StringInfoData out;

	initStringInfo(&out);
	for (const char *p = plan->sql; *p; p++)
	{
		const char *end;
		int len;
		bool known;

		if (*p != '{' || (end = strchr(p, '}')) == NULL || p[1] == '}')
		{
			appendStringInfoChar(&out, *p);
			continue;
		}
		len = (int) (end - p - 1);
		known = expand_columns(&out, p + 1, len, plan->columns);
		for (int i = 0; i < (int) lengthof(names) && !known; i++)
			if (strlen(names[i].word) == len && strncmp(names[i].word, p + 1, len) == 0)
			{
				appendStringInfo(&out, "%s.%s", ss_catalog_cached()->schema_name, names[i].name);
				known = true;
			}
		if (!known)
			appendStringInfo(&out, "OPERATOR(pg_catalog.%.*s)", len, p + 1);
		p = end;
	}
	return out.data;
}

/* Prepare a plan for the present catalog identity, in place of one for an earlier identity. */
static void
prepare(SsPlan *plan)
{
	SPIPlanPtr fresh;

	/* the old plan may be in use by an outer call, so it is not freed */
	plan->plan = NULL;
	fresh = SPI_prepare_cursor(expand(plan), plan->nargs, plan->argtypes, CURSOR_OPT_GENERIC_PLAN);
	if (fresh == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", plan->sql, SPI_result_code_string(SPI_result));
	if (SPI_keepplan(fresh) != 0)
		elog(ERROR, "could not keep the plan of \"%s\"", plan->sql);
	plan->plan = fresh;
	plan->catalog_identity = ss_catalog_identity();
	plan->planned_at = 0;
}

/*
 * A number that grows whenever the plan cache may replan our statements: when one of our tables is
 * invalidated, and when the session gets or loses its temporary schema, which is part of
 * SS_SEARCH_PATH.
 */
static uint64
plan_generation(void)
{
	Oid schema;
	Oid toast;

	GetTempNamespaceState(&schema, &toast);
	if (schema != state.temp_schema)
	{
		state.temp_schema = schema;
		state.temp_schema_changes++;
	}
	return ss_catalog_invalidations() + state.temp_schema_changes;
}

/*
 * The plan of a query that starts, if it is a statement of ss_plan_run and not one of code that such
 * a statement calls; otherwise NULL.  Compares pointers: a saved plan is never freed, so no other
 * query has its text at the same address.
 */
const SsPlan *
ss_plan_of(const QueryDesc *query)
{
	return state.text != NULL && query->sourceText == state.text ? state.plan : NULL;
}

/* Have a statement planned again when it is next run. */
static void
invalidate_plan(CachedPlanSource *source)
{
	source->is_valid = false;
	if (source->gplan != NULL)
		source->gplan->is_valid = false;
}

/* Execute a statement; returns a result code of SPI. */
static int
execute(const SsPlan *plan, Datum *values, const char *nulls, SsPlanMode mode, long limit)
{
	if (mode == SS_PLAN_LATEST || mode == SS_PLAN_READ_LATEST)
		return SPI_execute_snapshot(plan->plan, values, nulls, GetLatestSnapshot(), InvalidSnapshot,
									mode == SS_PLAN_READ_LATEST, true, limit);
	return SPI_execute_plan(plan->plan, values, nulls, mode == SS_PLAN_READ, limit);
}

#ifdef USE_ASSERT_CHECKING
/* Does the code that runs lie between ss_sql_enter and ss_sql_leave? */
static bool
has_entered(void)
{
	Oid user;
	int sec_context;

	GetUserIdAndSecContext(&user, &sec_context);
	return (sec_context & SS_OWNER_CONTEXT) == SS_OWNER_CONTEXT;
}
#endif

/*
 * Run a statement, preparing it first if necessary.  Returns the number of rows; the rows
 * themselves are in SPI_tuptable.  A limit of 0 means all rows.
 *
 * A generic plan that is made while a table is small would use a sequential scan, and be kept
 * while the table grows.  There is an index for every statement of ours, so the planner's settings
 * make it use that.  They are changed only for a run in which the statement may be planned,
 * because changing them costs as much as running the statement.
 *
 * With these settings the estimated cost of a statement that has to read a whole table is so high
 * that it would be compiled, each time it runs.  None of our statements is worth that.
 */
uint64
ss_plan_run(SsPlan *plan, Datum *values, const char *nulls, SsPlanMode mode, long limit)
{
	int path_nest = ss_sql_set_path();
	const SsPlan *outer_plan = state.plan;
	const char *outer_text = state.text;
	CachedPlanSource *source;
	ErrorContextCallback context;
	SsCatalog catalog;
	uint64 generation;
	int nest = -1;
	int rc;

	Assert(has_entered());
	generation = plan_generation();
	ss_foreign_hooks_watch(&context);

	if (plan->plan == NULL || plan->catalog_identity != ss_catalog_identity())
		prepare(plan);
	if (plan->planned_at != plan_generation())
	{
		nest = NewGUCNestLevel();
		(void) set_config_option("enable_seqscan", "off", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
		(void) set_config_option("enable_sort", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
								 true, 0, false);
		(void) set_config_option("enable_bitmapscan", "off", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
		(void) set_config_option("jit", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
								 false);
	}

	source = linitial(SPI_plan_get_plan_sources(plan->plan));
	state.plan = plan;
	state.text = source->query_string;
	rc = execute(plan, values, nulls, mode, limit);
	state.plan = outer_plan;
	state.text = outer_text;

	if (nest >= 0)
	{
		AtEOXact_GUC(true, nest);
		plan->planned_at = generation;
	}
	/* invalidated during the run, so it may have been planned without our settings */
	else if (generation != plan_generation())
		invalidate_plan(source);
	error_context_stack = context.previous;
	ss_sql_reset_path(path_nest);
	if (rc < 0)
		elog(ERROR, "could not run \"%s\": %s", plan->sql, SPI_result_code_string(rc));
	/*
	 * If a table was altered while the statement waited for a lock, check its columns again before
	 * the result is read.
	 */
	if (!ss_catalog_is_current())
		ss_catalog_get(&catalog);
	return SPI_processed;
}
