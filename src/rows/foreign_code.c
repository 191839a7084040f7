/*
 * foreign_code.c
 *		Functions and foreign keys of other people that our statements reach.
 *
 * The owner of the tables may attach functions to them: as triggers, in constraints, domains,
 * index expressions, defaults and rules.  In a call of ours they run with the owner's rights,
 * while the session belongs to the caller.  So, while a call acts as the owner (ss_sql_acts_as_owner):
 *
 *	- A function runs only if its owner has the rights of the tables' owner.  Else whoever was granted
 *	  TRIGGER could take these rights.  What else such a role chooses is in rows/foreign_triggers.c.
 *	- A function that sets a search_path has pg_temp at its end.  Where it is not
 *	  named the server searches it first, and what is in there is the caller's.
 *	- A function that sets none runs under SS_SEARCH_PATH.  A table or type named without a
 *	  schema is then found in pg_temp or not at all.  So it does not run while the session has temporary
 *	  tables or types of a role that is not trusted.
 *	- A function of PL/pgSQL does not run with variables of types of a role that is not trusted
 *	  (rows/plpgsql_types.c).
 *	- Foreign keys from tables whose owner is not trusted are not enforced on rows of our
 *	  tables, nor of other tables of a role that is trusted: their actions would fire that table's triggers with the owner's rights, and
 *	  their checks would stop the purge.
 *	- Deferrable triggers and constraints act at the end of the statement, for the server
 *	  refuses to defer them in a security-restricted operation.
 *
 * Functions in C are made by superusers; the names in an SQL function with a parsed body
 * were resolved when it was made.  Both are exempt from what is said of paths.
 *
 * Functions are met through fmgr_hook, which the server asks about each function when an
 * executor node, a trigger or an expression is set up, so nested calls are met as
 * well.  (Not a call in an expression of a PL/pgSQL function that was evaluated earlier in the
 * transaction under the same path: that means what it meant to the function's owner,
 * unless others can create functions in a schema of that path.)  The hooks do nothing
 * unless a call acts as the owner, and what they change the end of the function's call restores.
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

#include "compat.h"
#include "rows/catalog.h"
#include "rows/foreign_code.h"
#include "rows/foreign_triggers.h"
#include "rows/plpgsql_types.h"
#include "rows/sql.h"

/* What matters of a function. */
typedef struct Code
{
	Oid owner;
	bool resolved; /* its names were resolved when it was made */
	char *path;    /* the search_path that it sets, or NULL */
} Code;

/*
 * What is kept of a function, for one place that calls it: of the call that runs, what ran around it, and
 * what another hook keeps.  The place may be met again within the call, if the function leads back to it.
 */
typedef struct Running
{
	Oid around;
	bool guarded; /* it runs with the owner's rights */
	bool busy;
	struct Running *outer; /* of the call of the same place around this one, or NULL */
	Datum next;
} Running;

static needs_fmgr_hook_type next_needs_fmgr_hook = NULL;
static fmgr_hook_type next_fmgr_hook = NULL;
static ExecutorStart_hook_type next_executor_start = NULL;

/* The innermost function, if it runs under SS_SEARCH_PATH for want of a path of its own. */
static Oid running = InvalidOid;

/* The search_path among the settings of a function, or NULL. */
static char *
path_among(ArrayType *settings)
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

/* Look a function up; false when it is gone. */
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
	code->path = no_settings ? NULL : path_among(DatumGetArrayTypeP(value));
	ReleaseSysCache(tuple);
	return true;
}

/* The names of a search_path without pg_temp, quoted; *last: it was named, once and at the end. */
static char *
without_temp(const char *path, bool *last)
{
	StringInfoData out;
	List *names = NIL;
	ListCell *cell;
	int temps = 0;

	initStringInfo(&out);
	*last = false;
	/* a path that is no list would have been refused */
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

/* Put pg_temp at the end of the path in force, until the function ends that has set it. */
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

/* The owner of a table or type, or InvalidOid for what no search for either finds. */
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

/* Has this session temporary tables or types of a role that is not trusted? */
static bool
has_alien_temps(void)
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
	/* all that a schema holds depends on it */
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

/* The ALTER that gives a function a path that is safe. */
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

/* What is wrong with a function, for any caller? */
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

/* A function of a role that is not trusted would run, or its trigger would fire. */
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
		 errhint("Give the function another owner, or drop the trigger, constraint, default, "
				 "index or rule that calls it.")));
}

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
 * A function is about to run with the owner's rights: refuse it, or see to it that its names mean
 * what its owner meant.  True when it runs under SS_SEARCH_PATH.
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
	/* called by a function that sets a path: it runs under that */
	if (strcmp(namespace_search_path, SS_SEARCH_PATH) != 0)
		return false;
	if (has_alien_temps())
		error_no_path(function, _("It sets no search_path, and this session has temporary objects "
								  "that names in it could mean."));
	return true;
}

static bool
needs_fmgr(Oid function)
{
	HeapTuple tuple;
	bool needed;

	if (next_needs_fmgr_hook != NULL && next_needs_fmgr_hook(function))
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
		if (next_fmgr_hook != NULL)
			next_fmgr_hook(event, function, &call->next);
		if (acting)
			ss_plpgsql_types_enter();
		call->around = running;
		call->guarded = acting;
		call->busy = true;
		call->outer = outer;
		running = inside;
		return;
	}
	running = call->around;
	if (call->guarded)
		ss_plpgsql_types_leave();
	call->busy = call->outer != NULL;
	if (call->outer != NULL)
	{
		Running *outer = call->outer;

		call->around = outer->around;
		call->guarded = outer->guarded;
		call->outer = outer->outer;
		pfree(outer);
	}
	if (next_fmgr_hook != NULL)
		next_fmgr_hook(event, function, &call->next);
}

/* Say under which path a function has run that did not find what it names. */
static void
say_path(void *arg)
{
	Oid before = (Oid) (uintptr_t) arg;
	int code = geterrcode();

	if (!OidIsValid(running) || OidIsValid(before))
		return;
	if (code == ERRCODE_UNDEFINED_TABLE || code == ERRCODE_UNDEFINED_FUNCTION ||
		code == ERRCODE_UNDEFINED_OBJECT)
		errcontext("function %s, which sets no search_path and so runs under pg_catalog; %s",
				   format_procedure_qualified(running), ss_foreign_code_remedy(running));
}

/* Around a plan: until the caller restores error_context_stack, errors say what say_path adds. */
void
ss_foreign_code_watch(ErrorContextCallback *context)
{
	context->callback = say_path;
	context->arg = (void *) (uintptr_t) running;
	context->previous = error_context_stack;
	error_context_stack = context;
}

/* Are foreign keys from this table to ours ignored, because its owner is not trusted? */
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

/* Is it a trigger of such a foreign key, on the table that is referred to? */
bool
ss_foreign_key_trigger_is_ignored(const Trigger *trigger)
{
	return trigger->tgisinternal && OidIsValid(trigger->tgconstrrelid) &&
		   RI_FKey_trigger_type(trigger->tgfoid) == RI_TRIGGER_PK &&
		   ss_foreign_key_is_ignored(trigger->tgconstrrelid);
}

/*
 * The triggers of a table as a statement that is about to run shall see them.  Foreign keys are
 * ignored on tables of roles that are trusted: what these lend is what an action would run with.
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

/* The events (TRIGGER_TYPE_INSERT and so on) that a statement may cause. */
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

/* The executor opens the partitions that rows are routed to, or moved to, when it meets the first. */
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

static void
on_executor_start(QueryDesc *query, int eflags)
{
	ListCell *cell;

	if (next_executor_start != NULL)
		next_executor_start(query, eflags);
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
		/* the executor's own copy */
		adapt_triggers(info->ri_TrigDesc, ss_catalog_has_owner_privs(rel->rd_rel->relowner));
	}
}

/* Once, from _PG_init. */
void
ss_foreign_code_init(void)
{
	next_needs_fmgr_hook = needs_fmgr_hook;
	needs_fmgr_hook = needs_fmgr;
	next_fmgr_hook = fmgr_hook;
	fmgr_hook = on_fmgr;
	next_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = on_executor_start;
}
