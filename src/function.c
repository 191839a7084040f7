/*
 * function.c
 *		Checks that C functions are declared in pg_proc as they expect.
 *
 * The check is made once per function and backend, and again after a change of pg_proc.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "function.h"

static SsFunction *all_verified = NULL;

static void
proc_callback(Datum arg, int cacheid, uint32 hashvalue)
{
	while (all_verified != NULL)
	{
		all_verified->verified = InvalidOid;
		all_verified->columns_checked = false;
		all_verified = all_verified->next_verified;
	}
}

/* "session_get_1_0(text, text) returning jsonb" */
static char *
describe(const SsFunction *function)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfo(&out, "%s(", function->symbol);
	for (int i = 1; i <= function->nargs; i++)
		appendStringInfo(&out, "%s%s", i > 1 ? ", " : "", format_type_be(function->types[i]));
	appendStringInfo(&out, ") returning %s%s", function->set ? "a set of " : "",
					 function->types[0] == RECORDOID ? "rows of " : "");
	if (function->types[0] != RECORDOID)
		appendStringInfoString(&out, format_type_be(function->types[0]));
	else
		for (int i = 0; i < SS_FUNCTION_COLUMNS && OidIsValid(function->columns[i]); i++)
			appendStringInfo(&out, "%s%s", i > 0 ? ", " : "", format_type_be(function->columns[i]));
	return out.data;
}

static void
refuse(FunctionCallInfo fcinfo, const SsFunction *function)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
			 fcinfo->flinfo != NULL && OidIsValid(fcinfo->flinfo->fn_oid)
				 ? errmsg("declaration of function %s does not match the session_store library",
						  format_procedure(fcinfo->flinfo->fn_oid))
				 : errmsg("function %s of session_store was called with %d arguments",
						  function->symbol, PG_NARGS()),
			 errdetail("The library has version %s and expects %s.", SESSION_STORE_VERSION,
					   describe(function)),
			 errhint("Run ALTER EXTENSION session_store UPDATE.")));
}

static bool
is_declared_so(Oid oid, SsFunction *function)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(oid));
	Form_pg_proc proc;
	bool same;

	if (!HeapTupleIsValid(tuple))
		return false;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	same = proc->prokind == PROKIND_FUNCTION && proc->proretset == function->set &&
		   proc->pronargs == function->nargs &&
		   memcmp(proc->proargtypes.values, &function->types[1], function->nargs * sizeof(Oid)) ==
			   0 &&
		   (function->types[0] == RECORDOID ? type_is_rowtype(proc->prorettype)
											: proc->prorettype == function->types[0]);
	if (same)
	{
		function->out_arguments = proc->prorettype == RECORDOID &&
								  !heap_attisnull(tuple, Anum_pg_proc_proargmodes, NULL);
		function->columns_checked = false;
	}
	ReleaseSysCache(tuple);
	return same;
}

/*
 * Compare the call and the entry in pg_proc with what the function expects, raise an error if they
 * differ, and remember an entry that is correct.
 */
void
ss_function_verify(FunctionCallInfo fcinfo, SsFunction *function)
{
	static bool registered = false;

	if (!registered)
	{
		CacheRegisterSyscacheCallback(PROCOID, proc_callback, (Datum) 0);
		registered = true;
	}
	if (function->nargs < 0)
	{
		function->nargs = 0;
		while (function->nargs + 1 < SS_FUNCTION_TYPES &&
			   OidIsValid(function->types[function->nargs + 1]))
			function->nargs++;
	}
	if (PG_NARGS() != function->nargs)
		refuse(fcinfo, function);
	/* C code that calls without an entry in pg_proc is trusted */
	if (fcinfo->flinfo == NULL || fcinfo->flinfo->fn_oid == function->verified)
		return;
	if (!is_declared_so(fcinfo->flinfo->fn_oid, function))
		refuse(fcinfo, function);
	if (!OidIsValid(function->verified))
	{
		function->next_verified = all_verified;
		all_verified = function;
	}
	function->verified = fcinfo->flinfo->fn_oid;
}

static bool
has_columns(TupleDesc desc, const SsFunction *function)
{
	int n = 0;

	while (n < SS_FUNCTION_COLUMNS && OidIsValid(function->columns[n]))
		n++;
	if (desc->natts != n)
		return false;
	for (int i = 0; i < n; i++)
		if (TupleDescAttr(desc, i)->attisdropped ||
			TupleDescAttr(desc, i)->atttypid != function->columns[i])
			return false;
	return true;
}

/*
 * Prepare the call of a function that returns rows: check the columns, which the type of the
 * result or the query may have changed without a change of pg_proc unless there are OUT arguments, and
 * set up the tuplestore of a set.
 */
void
ss_function_begin_rows(FunctionCallInfo fcinfo, SsFunction *function)
{
	TupleDesc desc = NULL;

	if (function->set)
	{
		InitMaterializedSRF(fcinfo, 0);
		desc = ((ReturnSetInfo *) fcinfo->resultinfo)->setDesc;
	}
	else if (function->columns_checked && fcinfo->flinfo->fn_oid == function->verified)
		return;
	else if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		refuse(fcinfo, function);
	if (!has_columns(desc, function))
		refuse(fcinfo, function);
	function->columns_checked = function->out_arguments &&
								fcinfo->flinfo->fn_oid == function->verified;
}
