/*
 * plpgsql_types.c
 *		The types of the variables of PL/pgSQL functions that run with the owner's rights.
 *
 * PL/pgSQL compiles a function once in a session and keeps what the names of types meant then,
 * whatever the search_path is when it runs again.  So a caller who may execute a function could have it
 * compiled under a path of his own, where "amount" or "text" is a domain that he made, and
 * then make a call that runs it as the owner: the domain's constraint would run as well, and it
 * may use the server's own functions for superusers, which no check of functions meets.  (Plans,
 * those of expressions included, are made again when the path changes.)
 *
 * So a function of PL/pgSQL does not run as the owner with a variable of a type that belongs to
 * a role that is not trusted.  The interface for debuggers and profilers shows
 * each function and its variables before they are initialized.  While functions run as the owner it is
 * ours; a plugin that uses it is called as before.
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

#include "compat.h"
#include "rows/catalog.h"
#include "rows/foreign_code.h"
#include "rows/plpgsql_types.h"
#include "rows/sql.h"

static PLpgSQL_plugin **place = NULL; /* where PL/pgSQL looks for a plugin */
static PLpgSQL_plugin *ours = NULL;   /* with what theirs has, but for func_setup */
static PLpgSQL_plugin *theirs = NULL; /* the plugin that was there before, or NULL */
static int depth = 0;

/* The type of a variable, or InvalidOid. */
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

/* Does a type belong to the server or to a role that is trusted? */
bool
ss_type_is_trusted(Oid type)
{
	HeapTuple tuple;
	bool trusted;

	if (type < FirstNormalObjectId)
		return true;
	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	if (!HeapTupleIsValid(tuple))
		return true; /* it was dropped: PL/pgSQL will say so */
	trusted = ss_catalog_has_owner_privs(((Form_pg_type) GETSTRUCT(tuple))->typowner);
	ReleaseSysCache(tuple);
	return trusted;
}

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
				 errdetail("In this session its variable \"%s\" has a type of a role that does "
						   "not have the privileges of that owner.",
						   ((const PLpgSQL_variable *) function->datums[i])->refname),
				 errhint("Name the types of its variables with their schemas, or run %s.",
						 ss_foreign_code_remedy(function->fn_oid))));
	}
}

static void
on_setup(PLpgSQL_execstate *estate, PLpgSQL_function *function)
{
	if (ss_sql_acts_as_owner())
		check_types(function);
	if (theirs == NULL)
		return;
	/* what PL/pgSQL has just told us is for them */
	theirs->error_callback = ours->error_callback;
	theirs->assign_expr = ours->assign_expr;
	theirs->assign_value = ours->assign_value;
	theirs->eval_datum = ours->eval_datum;
	theirs->cast_value = ours->cast_value;
	if (theirs->func_setup != NULL)
		theirs->func_setup(estate, function);
}

/* Until ss_plpgsql_types_leave, functions of PL/pgSQL are checked.  Calls nest. */
void
ss_plpgsql_types_enter(void)
{
	if (depth > 0)
	{
		depth++;
		return;
	}
	if (place == NULL)
		place = (PLpgSQL_plugin **) find_rendezvous_variable("PLpgSQL_plugin");
	if (ours == NULL)
		ours = MemoryContextAlloc(TopMemoryContext, sizeof(PLpgSQL_plugin));
	theirs = *place;
	if (theirs != NULL)
		*ours = *theirs;
	else
		memset(ours, 0, sizeof(PLpgSQL_plugin));
	ours->func_setup = on_setup;
	*place = ours;
	depth = 1;
}

void
ss_plpgsql_types_leave(void)
{
	Assert(depth > 0);
	if (depth == 0 || --depth > 0)
		return;
	if (*place == ours)
	{
		*place = theirs;
		return;
	}
	/* another plugin was loaded meanwhile, and may call this one on: it is what theirs was */
	if (theirs != NULL)
		*ours = *theirs;
	else
		memset(ours, 0, sizeof(PLpgSQL_plugin));
	ours = NULL;
}
