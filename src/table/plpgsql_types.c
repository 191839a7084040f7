/*
 * plpgsql_types.c
 *		Checks the types of variables in PL/pgSQL functions that run with the owner's rights.
 *
 * PL/pgSQL compiles a function once per session and keeps the types that its names meant then,
 * whatever search_path is when the function runs again.  So a caller that may execute a function
 * could have it compiled under a search_path of its own, in which "amount" or "text" is a domain
 * that the caller created, and then make a call that runs the function as the owner.  The
 * constraint of the domain would run as the owner as well, and could use built-in functions that
 * are restricted to superusers, which no check of functions sees.  (Plans, also of expressions,
 * are not affected: they are made again if search_path changes.)
 *
 * Therefore a PL/pgSQL function does not run as the owner with a variable whose type belongs to a
 * role that is not trusted (foreign_code.c).  The interface for debuggers and profilers, a struct
 * of callbacks behind a rendezvous variable, shows each function with its variables before they
 * are initialized.  While functions run as the owner it points to our struct, from which a plugin
 * that was there before is called.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "plpgsql.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "table/acts_as_owner.h"
#include "table/catalog.h"
#include "table/foreign_code.h"
#include "table/plpgsql_types.h"

/* State of this backend. */
static struct
{
	PLpgSQL_plugin **set;   /* the rendezvous variable */
	PLpgSQL_plugin *ours;   /* the callbacks of theirs, except for func_setup */
	PLpgSQL_plugin *theirs; /* the plugin that was set before, or NULL */
	int depth;              /* calls of ss_plpgsql_types_enter not yet left */
} plugin;

/* The type of a variable; InvalidOid if the datum is none, or has no type of its own. */
static Oid
type_of(const PLpgSQL_datum *datum)
{
	switch (datum->dtype)
	{
		case PLPGSQL_DTYPE_VAR:
		case PLPGSQL_DTYPE_PROMISE:
			return ((const PLpgSQL_var *) datum)->datatype->typoid;
		case PLPGSQL_DTYPE_REC:
			return ((const PLpgSQL_rec *) datum)->rectypeid;
		default:
			return InvalidOid;
	}
}

/* Is a type built in, or owned by a trusted role? */
bool
ss_type_is_trusted(Oid type)
{
	HeapTuple tuple;
	bool trusted;

	if (type < FirstNormalObjectId)
		return true;
	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	if (!HeapTupleIsValid(tuple))
		return true; /* dropped; PL/pgSQL raises the error */
	trusted = ss_catalog_has_owner_privs(((Form_pg_type) GETSTRUCT(tuple))->typowner);
	ReleaseSysCache(tuple);
	return trusted;
}

/* Raise an error if a variable has a type that is not trusted. */
static void
check_types(const PLpgSQL_function *function)
{
	for (int i = 0; i < function->ndatums; i++)
	{
		Oid type = type_of(function->datums[i]);

		if (ss_type_is_trusted(type))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("function %s does not run with the rights of the owner of the session "
						"tables",
						function->fn_signature),
				 errdetail("In this session its variable \"%s\" has a type that belongs "
						   "to a role without the privileges of that owner.",
						   ((const PLpgSQL_variable *) function->datums[i])->refname),
				 errhint("Schema-qualify the types of its variables, or run %s.",
						 ss_foreign_code_remedy(function->fn_oid))));
	}
}

/* The func_setup callback: called before the variables of a function are initialized. */
static void
on_setup(PLpgSQL_execstate *estate, PLpgSQL_function *function)
{
	if (ss_acts_as_owner())
		check_types(function);
	if (plugin.theirs == NULL)
		return;
	/* pass on the function pointers that PL/pgSQL has just set in our struct */
	plugin.theirs->error_callback = plugin.ours->error_callback;
	plugin.theirs->assign_expr = plugin.ours->assign_expr;
	plugin.theirs->assign_value = plugin.ours->assign_value;
	plugin.theirs->eval_datum = plugin.ours->eval_datum;
	plugin.theirs->cast_value = plugin.ours->cast_value;
	if (plugin.theirs->func_setup != NULL)
		plugin.theirs->func_setup(estate, function);
}

/* Check PL/pgSQL functions until the matching ss_plpgsql_types_leave.  Calls nest. */
void
ss_plpgsql_types_enter(void)
{
	if (plugin.depth > 0)
	{
		plugin.depth++;
		return;
	}
	if (plugin.set == NULL)
		plugin.set = (PLpgSQL_plugin **) find_rendezvous_variable("PLpgSQL_plugin");
	if (plugin.ours == NULL)
		plugin.ours = MemoryContextAlloc(TopMemoryContext, sizeof(PLpgSQL_plugin));
	plugin.theirs = *plugin.set;
	if (plugin.theirs != NULL)
		*plugin.ours = *plugin.theirs;
	else
		memset(plugin.ours, 0, sizeof(PLpgSQL_plugin));
	plugin.ours->func_setup = on_setup;
	*plugin.set = plugin.ours;
	plugin.depth = 1;
}

/* End a matching ss_plpgsql_types_enter; called after an error as well (by fmgr_hook). */
void
ss_plpgsql_types_leave(void)
{
	Assert(plugin.depth > 0);
	if (plugin.depth == 0 || --plugin.depth > 0)
		return;
	if (*plugin.set == plugin.ours)
	{
		*plugin.set = plugin.theirs;
		return;
	}
	/*
	 * Another plugin was set meanwhile, which may call our struct as its predecessor.  Give that
	 * the callbacks of theirs, and never free it.
	 */
	if (plugin.theirs != NULL)
		*plugin.ours = *plugin.theirs;
	else
		memset(plugin.ours, 0, sizeof(PLpgSQL_plugin));
	plugin.ours = NULL;
}
