/*
 * foreign_code.c
 *		Controls the functions and foreign keys of other roles that our statements reach.
 *
 * The owner of the tables may attach functions to them: in triggers, constraints, domains, index
 * expressions, defaults and rules.  A call of ours runs them with the owner's rights, in the
 * session of a caller who may have few.  A role is called trusted if it has the privileges of the
 * tables' owner.  While a call acts as the owner (ss_sql_acts_as_owner), these rules apply:
 *
 *	- A function runs only if its owner is trusted.  Otherwise any role that was granted TRIGGER
 *	  could acquire the owner's rights.  foreign_triggers.c covers what else such a role can
 *	  choose.
 *	- If a function sets a search_path, pg_temp is moved to its end.  The server searches pg_temp
 *	  first unless the path names it, and the objects in it are the caller's.
 *	- A function that sets no search_path runs under SS_SEARCH_PATH.  It then finds a table or type
 *	  that is named without a schema in pg_temp or not at all.  So it does not run if the session
 *	  has temporary tables or types of a role that is not trusted.
 *	- A PL/pgSQL function does not run with variables whose types belong to a role that is not
 *	  trusted (plpgsql_types.c).
 *	- Foreign keys from tables whose owner is not trusted are not enforced on rows of our tables,
 *	  nor on rows of other tables that a trusted role owns.  Their actions would fire triggers of
 *	  the referencing table with the owner's rights, and their checks would stop the purge.
 *	- Deferrable triggers and constraints are run at the end of the statement, because the server
 *	  refuses to defer them in a security-restricted operation.  The executor opens some partitions
 *	  after our hook has run; statements that reach a deferred trigger there fail.
 *
 * Functions written in C are created by superusers, and the names in an SQL function with a parsed
 * body were resolved when it was created.  Both are exempt from the rules about search_path.
 *
 * Functions are seen through fmgr_hook, which the server calls when an executor node, a trigger or
 * an expression sets a function up, so nested calls are seen as well.  An exception is a call in a
 * PL/pgSQL expression that was evaluated before in the same transaction under the same
 * search_path.  It means what it meant to the function's owner, unless other roles can create
 * functions in a schema of that path.  The hooks do nothing unless a call acts as the owner, and
 * the end of the function's call restores what they changed.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_language.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/regproc.h"
#include "utils/reltrigger.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "rows/catalog.h"
#include "rows/foreign_code.h"
#include "rows/foreign_triggers.h"
#include "rows/plpgsql_types.h"
#include "rows/sql.h"

/* The properties of a function that the rules depend on. */
typedef struct Code
{
	Oid owner;
	bool resolved; /* names do not depend on search_path when it runs */
	char *path;    /* the search_path that the function sets, or NULL */
} Code;

/*
 * State of a running function, kept in the private argument of fmgr_hook.  There is one argument
 * for each FmgrInfo, which may be entered again before the first call ends if the function is
 * recursive; the state of the outer call is then saved in a copy.
 */
typedef struct Running
{
	Oid around;            /* value of running outside this call */
	bool as_owner;         /* the function runs with the owner's rights */
	bool busy;             /* a call is in progress */
	struct Running *outer; /* saved state of an outer call through the same FmgrInfo, or NULL */
	Datum next;            /* private argument of the next hook */
} Running;

/* The hooks that were there before ours; NULL if there were none. */
static struct
{
	needs_fmgr_hook_type needs_fmgr;
	fmgr_hook_type fmgr;
	ExecutorStart_hook_type executor_start;
} next_hooks;

/*
 * The innermost running function if it sets no search_path, and so runs under SS_SEARCH_PATH; set and
 * restored by our fmgr_hook, after an error too.
 */
static Oid running = InvalidOid;

/* Find search_path in the settings of a function (proconfig); NULL if it is not set. */
static char *
find_path_setting(ArrayType *settings)
{
	static const char prefix[] = "search_path=";
	Datum *items;
	int n;

	deconstruct_array(settings, TEXTOID, -1, false, TYPALIGN_INT, &items, NULL, &n);
	for (int i = 0; i < n; i++)
	{
		char *item = TextDatumGetCString(items[i]);

		if (strncmp(item, prefix, strlen(prefix)) == 0)
			return item + strlen(prefix);
	}
	return NULL;
}

/* Look up a function; false if it no longer exists. */
static bool
find_code(Oid function, Code *code)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc form;
	Datum value;
	bool no_settings;
	bool no_body;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_proc) GETSTRUCT(tuple);
	code->owner = form->proowner;
	(void) SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosqlbody, &no_body);
	code->resolved = form->prolang == INTERNALlanguageId || form->prolang == ClanguageId ||
					 (form->prolang == SQLlanguageId && !no_body);
	value = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_proconfig, &no_settings);
	code->path = no_settings ? NULL : find_path_setting(DatumGetArrayTypeP(value));
	ReleaseSysCache(tuple);
	return true;
}

/*
 * The schemas of a search_path without pg_temp, quoted.  *last is set if pg_temp was named exactly
 * once, at the end.
 */
static char *
without_temp(const char *path, bool *last)
{
	StringInfoData out;
	List *names = NIL;
	ListCell *cell;
	int temps = 0;

	initStringInfo(&out);
	*last = false;
	/* the setting was validated when it was set, so this cannot fail */
	(void) SplitIdentifierString(pstrdup(path), ',', &names);
	foreach (cell, names)
	{
		const char *name = lfirst(cell);

		*last = strcmp(name, "pg_temp") == 0;
		if (*last)
			temps++;
		else
			appendStringInfo(&out, "%s%s", out.len > 0 ? ", " : "", quote_identifier(name));
	}
	*last = *last && temps == 1;
	return out.data;
}

/*
 * Move pg_temp to the end of the current search_path.  The function that set the search_path
 * restores it when it returns.
 */
static void
put_temp_last(void)
{
	bool last;
	char *names = without_temp(namespace_search_path, &last);

	if (!last)
		(void) set_config_option("search_path",
								 names[0] ? psprintf("%s, pg_temp", names) : "pg_temp", PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/*
 * The owner of a dependent table or type; InvalidOid for other objects, which names cannot refer
 * to.
 */
static Oid
owner_of(Form_pg_depend depend)
{
	Oid owner = InvalidOid;
	HeapTuple tuple;

	if (depend->classid == RelationRelationId)
	{
		tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(depend->objid));
		if (HeapTupleIsValid(tuple))
			owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	}
	else if (depend->classid == TypeRelationId)
	{
		tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(depend->objid));
		if (HeapTupleIsValid(tuple))
			owner = ((Form_pg_type) GETSTRUCT(tuple))->typowner;
	}
	else
		return InvalidOid;
	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return owner;
}

/* Does this session have temporary tables or types of a role that is not trusted? */
static bool
has_untrusted_temps(void)
{
	bool found = false;
	Oid schema;
	Oid toast;
	Relation rel;
	SysScanDesc scan;
	ScanKeyData keys[2];
	HeapTuple tuple;

	GetTempNamespaceState(&schema, &toast);
	if (!OidIsValid(schema))
		return false;
	/* everything in a schema depends on it */
	rel = table_open(DependRelationId, AccessShareLock);
	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(NamespaceRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(schema));
	scan = systable_beginscan(rel, DependReferenceIndexId, true, NULL, 2, keys);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Oid owner = owner_of((Form_pg_depend) GETSTRUCT(tuple));

		found = OidIsValid(owner) && !ss_catalog_has_owner_privs(owner);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * The ALTER FUNCTION command that gives a function a safe search_path; empty if it does not exist.
 */
char *
ss_foreign_code_remedy(Oid function)
{
	Code code = {0};
	char *path;
	bool last;

	if (!find_code(function, &code))
		return pstrdup("");
	if (code.path != NULL)
		path = without_temp(code.path, &last);
	else
		path = psprintf("pg_catalog, %s",
						quote_identifier(get_namespace_name(get_func_namespace(function))));
	return psprintf("ALTER FUNCTION %s SET search_path = %s%spg_temp",
					format_procedure_qualified(function), path, path[0] ? ", " : "");
}

/* Would a function be refused for every caller? */
SsCodeFault
ss_foreign_code_fault(Oid function)
{
	Code code = {0};

	if (!find_code(function, &code))
		return SS_CODE_SOUND;
	if (!ss_catalog_has_owner_privs(code.owner))
		return SS_CODE_NOT_TRUSTED;
	return code.resolved || code.path != NULL ? SS_CODE_SOUND : SS_CODE_NO_SEARCH_PATH;
}

/* Raise the error for a function, or the function of a trigger, whose owner is not trusted. */
void
ss_error_code_not_trusted(Oid function)
{
	Code code = {0};

	(void) find_code(function, &code);
	ereport(
		ERROR,
		(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
		 errmsg("function %s does not run with the rights of the owner of the session tables",
				format_procedure_qualified(function)),
		 errdetail("It belongs to role \"%s\", which does not have the privileges of that owner.",
				   GetUserNameFromId(code.owner, true)),
		 errhint("Change the owner of the function, or drop the trigger, "
				 "constraint, default, index or rule that calls it.")));
}

/* Raise the error for a function that sets no search_path. */
static void
error_no_path(Oid function, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("function %s does not run with the rights of the owner of the session tables",
					format_procedure_qualified(function)),
			 errdetail_internal("%s", detail),
			 errhint("Run %s.", ss_foreign_code_remedy(function))));
}

/*
 * Apply the rules to a function that is about to run with the owner's rights: raise an error, or
 * adjust search_path.  Returns true if the function sets no search_path and runs under
 * SS_SEARCH_PATH.
 */
static bool
check_code(Oid function)
{
	Code code = {0};

	if (!find_code(function, &code))
		return false;
	if (!ss_catalog_has_owner_privs(code.owner))
		ss_error_code_not_trusted(function);
	if (code.resolved)
		return false;
	if (code.path != NULL)
	{
		put_temp_last();
		return false;
	}
	/* the calling function has set a search_path, under which this one runs */
	if (strcmp(namespace_search_path, SS_SEARCH_PATH) != 0)
		return false;
	if (has_untrusted_temps())
		error_no_path(
			function,
			_("It sets no search_path, and names in it could refer to temporary objects of this session."));
	return true;
}

/* needs_fmgr_hook: does fmgr_hook have to be called for a function? */
static bool
needs_fmgr(Oid function)
{
	HeapTuple tuple;
	bool needed;

	if (next_hooks.needs_fmgr != NULL && next_hooks.needs_fmgr(function))
		return true;
	if (function < FirstNormalObjectId || !ss_sql_acts_as_owner())
		return false;
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(tuple))
		return false;
	needed = ((Form_pg_proc) GETSTRUCT(tuple))->prolang != ClanguageId;
	ReleaseSysCache(tuple);
	return needed;
}

/* fmgr_hook: called at the start and end of a function, the end by error included. */
static void
on_fmgr(FmgrHookEventType event, FmgrInfo *function, Datum *arg)
{
	Running *call = (Running *) DatumGetPointer(*arg);

	if (event == FHET_START)
	{
		bool acting = ss_sql_acts_as_owner();
		Oid inside = acting && check_code(function->fn_oid) ? function->fn_oid : InvalidOid;
		Running *outer = NULL;

		if (call == NULL)
		{
			call = MemoryContextAllocZero(function->fn_mcxt, sizeof(Running));
			*arg = PointerGetDatum(call);
		}
		else if (call->busy)
		{
			outer = MemoryContextAlloc(function->fn_mcxt, sizeof(Running));
			*outer = *call;
		}
		if (next_hooks.fmgr != NULL)
			next_hooks.fmgr(event, function, &call->next);
		if (acting)
			ss_plpgsql_types_enter();
		call->around = running;
		call->as_owner = acting;
		call->busy = true;
		call->outer = outer;
		running = inside;
		return;
	}
	running = call->around;
	if (call->as_owner)
		ss_plpgsql_types_leave();
	call->busy = call->outer != NULL;
	if (call->outer != NULL)
	{
		Running *outer = call->outer;

		call->around = outer->around;
		call->as_owner = outer->as_owner;
		call->outer = outer->outer;
		pfree(outer);
	}
	if (next_hooks.fmgr != NULL)
		next_hooks.fmgr(event, function, &call->next);
}

/*
 * Error context callback: if a function that sets no search_path did not find an object, say so.
 * Its argument is the value of running outside the statement.
 */
static void
path_context(void *arg)
{
	Oid before = (Oid) (uintptr_t) arg;
	int code = geterrcode();

	if (!OidIsValid(running) || OidIsValid(before))
		return;
	if (code == ERRCODE_UNDEFINED_TABLE || code == ERRCODE_UNDEFINED_FUNCTION ||
		code == ERRCODE_UNDEFINED_OBJECT)
		errcontext("function %s, which sets no search_path and therefore runs "
				   "with search_path pg_catalog; %s",
				   format_procedure_qualified(running), ss_foreign_code_remedy(running));
}

/* Push path_context for the run of a plan.  The caller restores error_context_stack. */
void
ss_foreign_code_watch(ErrorContextCallback *context)
{
	context->callback = path_context;
	context->arg = (void *) (uintptr_t) running;
	context->previous = error_context_stack;
	error_context_stack = context;
}

/* Are foreign keys from a table to ours ignored, because its owner is not trusted? */
bool
ss_foreign_key_is_ignored(Oid table)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	bool ignored;

	if (!HeapTupleIsValid(tuple))
		return false;
	ignored = !ss_catalog_has_owner_privs(((Form_pg_class) GETSTRUCT(tuple))->relowner);
	ReleaseSysCache(tuple);
	return ignored;
}

/* Is this a trigger of an ignored foreign key, on the referenced table? */
bool
ss_foreign_key_trigger_is_ignored(const Trigger *trigger)
{
	return trigger->tgisinternal && OidIsValid(trigger->tgconstrrelid) &&
		   RI_FKey_trigger_type(trigger->tgfoid) == RI_TRIGGER_PK &&
		   ss_foreign_key_is_ignored(trigger->tgconstrrelid);
}

/*
 * Adapt the executor's copy of a table's triggers: none is deferrable, and those of ignored
 * foreign keys are disabled.  The latter only if the owner of the table is trusted, since these
 * are the rights that an action would gain.
 */
static void
adapt_triggers(TriggerDesc *triggers, bool trusted)
{
	for (int i = 0; i < triggers->numtriggers; i++)
	{
		Trigger *trigger = &triggers->triggers[i];

		trigger->tgdeferrable = trigger->tginitdeferred = false;
		if (trusted && ss_foreign_key_trigger_is_ignored(trigger))
			trigger->tgenabled = TRIGGER_DISABLED;
	}
}

/* The trigger events (TRIGGER_TYPE_INSERT and so on) that a statement may cause. */
static int
events_of(const QueryDesc *query)
{
	const int all = TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE;

	if (query->plannedstmt->hasModifyingCTE || !IsA(query->planstate, ModifyTableState))
		return all;
	switch (query->operation)
	{
		case CMD_INSERT:
			return ((ModifyTable *) query->planstate->plan)->onConflictAction == ONCONFLICT_UPDATE
					   ? TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE
					   : TRIGGER_TYPE_INSERT;
		case CMD_UPDATE:
			return TRIGGER_TYPE_UPDATE;
		case CMD_DELETE:
			return TRIGGER_TYPE_DELETE;
		default:
			return all;
	}
}

/*
 * Check the triggers of all partitions.  The executor opens a partition when the first row is
 * routed or moved to it, which no hook sees.
 */
static void
check_partitions(Oid table)
{
	ListCell *cell;

	foreach (cell, find_all_inheritors(table, AccessShareLock, NULL))
	{
		Relation part = table_open(lfirst_oid(cell), NoLock);

		if (part->trigdesc != NULL)
			ss_triggers_check(RelationGetRelid(part), part->trigdesc,
							  TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE);
		table_close(part, NoLock);
	}
}

/* ExecutorStart_hook: check and adapt the triggers of the tables that a statement changes. */
static void
on_executor_start(QueryDesc *query, int eflags)
{
	ListCell *cell;

	if (next_hooks.executor_start != NULL)
		next_hooks.executor_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
	if (query->estate->es_opened_result_relations == NIL || !ss_sql_acts_as_owner())
		return;
	foreach (cell, query->estate->es_opened_result_relations)
	{
		ResultRelInfo *info = lfirst(cell);
		Relation rel = info->ri_RelationDesc;

		if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
			check_partitions(RelationGetRelid(rel));
		if (info->ri_TrigDesc == NULL)
			continue;
		ss_triggers_check(RelationGetRelid(rel), info->ri_TrigDesc, events_of(query));
		adapt_triggers(info->ri_TrigDesc, ss_catalog_has_owner_privs(rel->rd_rel->relowner));
	}
}

/* Install the hooks.  Called once, by _PG_init. */
void
ss_foreign_code_init(void)
{
	next_hooks.needs_fmgr = needs_fmgr_hook;
	needs_fmgr_hook = needs_fmgr;
	next_hooks.fmgr = fmgr_hook;
	fmgr_hook = on_fmgr;
	next_hooks.executor_start = ExecutorStart_hook;
	ExecutorStart_hook = on_executor_start;
}
