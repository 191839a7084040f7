/*
 * foreign_code.c
 *		Decides which functions and foreign keys of other roles may run with the rights of the owner.
 *
 * The owner of the tables may attach functions to them: in triggers, constraints, domains, index
 * expressions, defaults and rules.  A call of ours runs them with the owner's rights, in the
 * session of a caller who may have few.  A role is called trusted if it has the privileges of the
 * tables' owner.  While a call acts as the owner (ss_acts_as_owner), these rules apply:
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
 * This file decides about one function or foreign key; foreign_hooks.c applies that to all that a
 * statement reaches.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_language.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "table/acts_as_owner.h"
#include "table/catalog.h"
#include "table/foreign_code.h"

/* The properties of a function that the rules depend on. */
typedef struct Code
{
	Oid owner;
	bool resolved; /* names do not depend on search_path when it runs */
	char *path;    /* the search_path that the function sets, or NULL */
} Code;

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
bool
ss_foreign_code_check(Oid function)
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
