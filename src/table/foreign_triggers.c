/*
 * foreign_triggers.c
 *		Decides which triggers may fire while a call acts as the owner of the tables.
 *
 * A role that was granted TRIGGER on a table chooses three things that run with the rights of the
 * role that changes a row, and a trigger does not record who created it.  So the same rules apply
 * to all triggers (for trusted roles, see foreign_code.c):
 *
 *	- The function must belong to a trusted role even if it is SECURITY DEFINER, because it could
 *	  change settings of the session or skip the row.  Functions in C are created by superusers.
 *	- The WHEN condition may call only functions that have no effect and read nothing: immutable
 *	  ones, the server's functions on dates and times and for joining text, and pg_trigger_depth().
 *	  PostgreSQL checks EXECUTE as the role that changes the row, and calls no hook for built-in
 *	  functions, so nothing else would stop the condition from calling any function.
 *	- A function in C may be given arguments only if untrusted roles may not execute it, and so
 *	  cannot attach it, because it may take its arguments for names or for SQL.  (What a trusted
 *	  role's function in another language does with TG_ARGV is the responsibility of that role.)
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/dependency.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "nodes/nodeFuncs.h"
#include "nodes/primnodes.h"
#include "parser/parse_type.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "compat.h"
#include "table/catalog.h"
#include "table/foreign_code.h"
#include "table/foreign_triggers.h"
#include "table/plpgsql_types.h"

/* Is a type a date, a time or an interval? */
static bool
is_datetime_type(Oid type)
{
	char category;
	bool preferred;

	get_type_category_preferred(type, &category, &preferred);
	return category == TYPCATEGORY_DATETIME || category == TYPCATEGORY_TIMESPAN;
}

/* Does a stable built-in function deal with dates and times only? */
static bool
is_datetime_function(Oid function)
{
	Oid *types;
	int n;

	if (is_datetime_type(get_func_signature(function, &types, &n)))
		return true;
	for (int i = 0; i < n; i++)
		if (!is_datetime_type(types[i]))
			return false;
	return n > 0;
}

/*
 * Built-in functions that are not immutable but have no effect and read nothing.  Those that join
 * text are marked stable because the output functions of their arguments may be.
 */
static const Oid harmless[] = {F_CLOCK_TIMESTAMP, F_PG_TRIGGER_DEPTH, F_TEXTANYCAT,
							   F_ANYTEXTCAT,      F_CONCAT,           F_CONCAT_WS,
							   F_FORMAT_TEXT,     F_FORMAT_TEXT_ANY};

/* Is a function one that a condition may not call?  A callback of check_functions_in_node. */
static bool
is_unsafe_function(Oid function, void *unused)
{
	if (func_volatile(function) == PROVOLATILE_IMMUTABLE)
		return false;
	if (function >= FirstNormalObjectId)
		return true;
	for (int i = 0; i < (int) lengthof(harmless); i++)
		if (function == harmless[i])
			return false;
	return func_volatile(function) == PROVOLATILE_VOLATILE || !is_datetime_function(function);
}

/* Does an expression contain anything that a condition may not? */
static bool
is_unsafe(Node *node, void *unused)
{
	if (node == NULL)
		return false;
	if (check_functions_in_node(node, is_unsafe_function, NULL) || SsIsJsonQuery(node))
		return true;
	if (IsA(node, CoerceToDomain) && !ss_type_is_trusted(((CoerceToDomain *) node)->resulttype))
		return true;
	return expression_tree_walker(node, SsWalker(is_unsafe), NULL);
}

/* May a role that is not trusted execute a function, and so create a trigger with it? */
static bool
is_executable_by_others(HeapTuple function)
{
	bool is_default;
	bool open = false;
	Datum value = SysCacheGetAttr(PROCOID, function, Anum_pg_proc_proacl, &is_default);
	Acl *acl;

	if (is_default)
		return true;
	acl = DatumGetAclP(value);
	for (int i = 0; i < ACL_NUM(acl) && !open; i++)
	{
		const AclItem *item = &ACL_DAT(acl)[i];

		open = (ACLITEM_GET_PRIVS(*item) & ACL_EXECUTE) != 0 &&
			   (item->ai_grantee == ACL_ID_PUBLIC || !ss_catalog_has_owner_privs(item->ai_grantee));
	}
	return open;
}

/* Apply the rules on the function of a trigger and its arguments. */
static SsTriggerFault
function_fault(const Trigger *trigger)
{
	HeapTuple tuple;
	Form_pg_proc form;
	SsTriggerFault fault = SS_TRIGGER_SOUND;

	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(trigger->tgfoid));
	if (!HeapTupleIsValid(tuple))
		return SS_TRIGGER_SOUND;
	form = (Form_pg_proc) GETSTRUCT(tuple);
	if (form->prolang != ClanguageId && form->prolang != INTERNALlanguageId)
	{
		if (!ss_catalog_has_owner_privs(form->proowner))
			fault = SS_TRIGGER_NOT_TRUSTED;
	}
	else if (form->prolang == ClanguageId && trigger->tgnargs > 0 &&
			 is_executable_by_others(tuple) &&
			 getExtensionOfObject(ProcedureRelationId, trigger->tgfoid) !=
				 get_extension_oid("session_store", true))
		fault = SS_TRIGGER_ARGUMENTS;
	ReleaseSysCache(tuple);
	return fault;
}

/* Would a trigger be refused for every caller? */
SsTriggerFault
ss_trigger_fault(const Trigger *trigger)
{
	SsTriggerFault fault;

	if (trigger->tgisinternal || trigger->tgenabled == TRIGGER_DISABLED)
		return SS_TRIGGER_SOUND;
	fault = function_fault(trigger);
	if (fault == SS_TRIGGER_SOUND && trigger->tgqual != NULL &&
		is_unsafe(stringToNode(trigger->tgqual), NULL))
		fault = SS_TRIGGER_CONDITION;
	return fault;
}

/* Why a trigger does not fire, translated; for SS_TRIGGER_CONDITION and SS_TRIGGER_ARGUMENTS. */
const char *
ss_trigger_fault_detail(SsTriggerFault fault)
{
	return fault == SS_TRIGGER_CONDITION
			   ? _("Its WHEN condition calls a function that is not immutable, or uses a domain of "
				   "a role that does not have the privileges of the tables' owner.")
			   : _("Its function is written in C, takes arguments from the trigger, and may be "
				   "executed by roles that do not have the privileges of the tables' owner.");
}

/* What to do about it, palloced. */
char *
ss_trigger_fault_remedy(SsTriggerFault fault, const Trigger *trigger)
{
	return fault == SS_TRIGGER_CONDITION
			   ? pstrdup(_("Move the condition into the trigger's function."))
			   : psprintf(_("Run REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC, or drop the trigger."),
						  format_procedure_qualified(trigger->tgfoid));
}

/* May a trigger fire on one of these events (TRIGGER_TYPE_INSERT and so on)? */
static bool
may_fire(const Trigger *trigger, int events)
{
	char other = SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA
					 ? TRIGGER_FIRES_ON_ORIGIN
					 : TRIGGER_FIRES_ON_REPLICA;

	return (trigger->tgtype & events) != 0 && trigger->tgenabled != other;
}

/* Raise an error if one of these events may fire a trigger of a table that must not fire. */
void
ss_triggers_check(Oid table, const TriggerDesc *triggers, int events)
{
	for (int i = 0; i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];
		SsTriggerFault fault;

		if (!may_fire(trigger, events))
			continue;
		fault = ss_trigger_fault(trigger);
		if (fault == SS_TRIGGER_SOUND)
			continue;
		if (fault == SS_TRIGGER_NOT_TRUSTED)
			ss_error_code_not_trusted(trigger->tgfoid);
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("trigger \"%s\" of table \"%s\" does not fire with the rights of the owner "
						"of the session tables",
						trigger->tgname, get_rel_name(table)),
				 errdetail_internal("%s", ss_trigger_fault_detail(fault)),
				 errhint("%s", ss_trigger_fault_remedy(fault, trigger))));
	}
}
