/*
 * foreign_hooks.c
 *		Applies the rules on code of other roles to all that our statements reach.
 *
 * Functions are seen through fmgr_hook, which the server calls when an executor node, a trigger or
 * an expression sets a function up, so nested calls are seen as well.  An exception is a call in a
 * PL/pgSQL expression that was evaluated before in the same transaction under the same
 * search_path.  It means what it meant to the function's owner, unless other roles can create
 * functions in a schema of that path.  Triggers are checked when the executor starts a statement.
 *
 * The hooks do nothing unless a call acts as the owner, and the end of the function's call restores
 * what they changed.  The rules are in foreign_code.c and foreign_triggers.c.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"
#include "utils/syscache.h"

#include "table/acts_as_owner.h"
#include "table/catalog.h"
#include "table/foreign_code.h"
#include "table/foreign_hooks.h"
#include "table/foreign_triggers.h"
#include "table/plpgsql_types.h"

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

/* needs_fmgr_hook: does fmgr_hook have to be called for a function? */
static bool
needs_fmgr(Oid function)
{
	HeapTuple tuple;
	bool needed;

	if (next_hooks.needs_fmgr != NULL && next_hooks.needs_fmgr(function))
		return true;
	if (function < FirstNormalObjectId || !ss_acts_as_owner())
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
		bool acting = ss_acts_as_owner();
		Oid inside = acting && ss_foreign_code_check(function->fn_oid) ? function->fn_oid
																	   : InvalidOid;
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
ss_foreign_hooks_watch(ErrorContextCallback *context)
{
	context->callback = path_context;
	context->arg = (void *) (uintptr_t) running;
	context->previous = error_context_stack;
	error_context_stack = context;
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

/*
 * ExecutorStart_hook: refuse row locks in parallel mode, and check and adapt the triggers of the tables
 * that a statement changes.
 */
static void
on_executor_start(QueryDesc *query, int eflags)
{
	ListCell *cell;

	/* the server asserts this instead; a function that is marked parallel safe may call ours */
	if (query->plannedstmt->rowMarks != NIL && IsInParallelMode() && ss_acts_as_owner())
		PreventCommandIfParallelMode("SELECT FOR UPDATE");
	if (next_hooks.executor_start != NULL)
		next_hooks.executor_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
	if (query->estate->es_opened_result_relations == NIL || !ss_acts_as_owner())
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
ss_foreign_hooks_init(void)
{
	next_hooks.needs_fmgr = needs_fmgr_hook;
	needs_fmgr_hook = needs_fmgr;
	next_hooks.fmgr = fmgr_hook;
	fmgr_hook = on_fmgr;
	next_hooks.executor_start = ExecutorStart_hook;
	ExecutorStart_hook = on_executor_start;
}
