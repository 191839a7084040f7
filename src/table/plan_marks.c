/*
 * plan_marks.c
 *		Tells a trigger which statement of ours has fired it.
 *
 * A statement of ours may fire triggers of the tables' owner, rules and actions of foreign keys, and
 * these may run any statement, also on our tables.  What holds for our statement must not hold for
 * those.  So the marks are not in a variable but in the executor's copy of the BEFORE triggers, of
 * which each statement has its own for each table: tginitdeferred marks a statement of ours, and
 * tgconstrindid holds its flags (SsPlanFlag).  In the catalog both are 0 for such triggers.  The
 * copy ends with its statement, so there is nothing to restore after an error.
 *
 * The flags are set in the statement as we wrote it, and not in those that a rule adds to it.
 */
#include "postgres.h"

#include "catalog/pg_trigger.h"
#include "executor/executor.h"

#include "table/plan_marks.h"

static ExecutorStart_hook_type next_executor_start = NULL;

/* ExecutorStart_hook: mark the triggers of the tables that a statement of ours changes. */
static void
on_executor_start(QueryDesc *query, int eflags)
{
	const SsPlan *plan;
	ListCell *cell;

	if (next_executor_start != NULL)
		next_executor_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
	if (query->estate->es_opened_result_relations == NIL || (plan = ss_plan_of(query)) == NULL)
		return;
	foreach (cell, query->estate->es_opened_result_relations)
	{
		TriggerDesc *triggers = ((ResultRelInfo *) lfirst(cell))->ri_TrigDesc;

		for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
			if (TRIGGER_FOR_BEFORE(triggers->triggers[i].tgtype))
			{
				triggers->triggers[i].tginitdeferred = true;
				triggers->triggers[i].tgconstrindid = query->plannedstmt->canSetTag ? plan->flags
																					: 0;
			}
	}
}

/* Called once, by _PG_init, after ss_foreign_hooks_init, whose hook clears tginitdeferred. */
void
ss_plan_marks_init(void)
{
	next_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = on_executor_start;
}

/* Was a BEFORE trigger fired by a statement of ours, or by one that a rule has added to it? */
bool
ss_plan_fired(const Trigger *trigger)
{
	return trigger->tginitdeferred;
}

/* Was a BEFORE trigger fired by a statement of ours that has a flag? */
bool
ss_plan_fired_with(const Trigger *trigger, SsPlanFlag flag)
{
	return trigger->tginitdeferred && (trigger->tgconstrindid & flag) != 0;
}
