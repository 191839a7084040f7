/*
 * owner_calls.c
 *		SQL functions about all data of an owner.
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "api/args.h"
#include "function.h"
#include "sessions/export.h"
#include "sessions/forget.h"
#include "table/sql.h"

SS_ROWS_FUNCTION(session_export, 1_0, true, SS_COLUMNS(TEXTOID, TEXTOID, JSONBOID), TEXTOID,
				 TEXTOID, INT4OID, TEXTOID);
SS_FUNCTION(session_forget, 1_0, JSONBOID, TEXTOID, BOOLOID, TEXTOID);

static void
put_item(void *arg, Datum cursor, const char *kind, Datum item)
{
	ReturnSetInfo *rsinfo = arg;
	Datum values[3] = {cursor, CStringGetTextDatum(kind), item};
	bool nulls[3] = {false};

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static Datum
session_export(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsCaller caller;
	Datum owner;
	int32 size;

	ss_arg_require(fcinfo, 0, "owner");
	owner = ss_arg_name(fcinfo, 0, "owner");
	size = ss_arg_page_size(fcinfo, 2);
	ss_arg_namespace(fcinfo, 3, &target);
	ss_sql_enter(&caller);
	ss_export_page(&target, owner, PG_ARGISNULL(1) ? (Datum) 0 : PG_GETARG_DATUM(1), size, put_item,
				   fcinfo->resultinfo);
	ss_sql_leave(&caller);
	return (Datum) 0;
}

static Datum
session_forget(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsCaller caller;
	Datum owner;
	Datum receipt;

	ss_arg_require(fcinfo, 0, "owner");
	owner = ss_arg_name(fcinfo, 0, "owner");
	ss_arg_require(fcinfo, 1, "keep_events");
	ss_arg_namespace(fcinfo, 2, &target);
	ss_sql_enter(&caller);
	receipt = ss_sql_copy_out(&caller, ss_forget(&target, owner, PG_GETARG_BOOL(1)), false, -1);
	ss_sql_leave(&caller);
	PG_RETURN_DATUM(receipt);
}
