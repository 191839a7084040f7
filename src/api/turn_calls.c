/*
 * turn_calls.c
 *		SQL functions about the turn of a session.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "api/args.h"
#include "function.h"
#include "row/turn.h"
#include "sessions/read.h"
#include "sessions/turn_wait.h"
#include "sessions/turns.h"
#include "table/sql.h"

SS_FUNCTION(session_turn_begin, 1_0, INT8OID, TEXTOID, INTERVALOID, INTERVALOID, TEXTOID, TEXTOID);
SS_FUNCTION(session_turn_renew, 1_0, BOOLOID, TEXTOID, INT8OID, INTERVALOID, TEXTOID);
SS_FUNCTION(session_turn_end, 1_0, BOOLOID, TEXTOID, INT8OID, TEXTOID);
SS_ROWS_FUNCTION(session_turn, 1_0, true, SS_COLUMNS(TEXTOID, TIMESTAMPTZOID), TEXTOID, TEXTOID);

/* The token of a turn. */
static int64
arg_token(FunctionCallInfo fcinfo, int arg)
{
	ss_arg_require(fcinfo, arg, "turn");
	return ss_arg_turn(fcinfo, arg);
}

/* A call of session_turn_begin(). */
typedef struct BeginCall
{
	FunctionCallInfo fcinfo;
	SsTarget target;
	SsTurnBegin begin;
} BeginCall;

/*
 * One attempt to begin the turn.  The namespace and the rights of the caller are checked each time: they
 * may be changed while the call waits.
 */
static bool
attempt_to_begin(void *arg)
{
	BeginCall *call = arg;
	SsCaller caller;
	bool begun;

	ss_arg_target(call->fcinfo, 0, 4, &call->target);
	PreventCommandIfReadOnly("session_turn_begin()");
	ss_sql_enter(&caller);
	begun = ss_turn_begin(&call->target, &call->begin);
	ss_sql_leave(&caller);
	return begun;
}

/* Detoasts a text argument, as its TOAST value may be removed while the call waits. */
static void
detoast_arg(FunctionCallInfo fcinfo, int arg)
{
	if (!PG_ARGISNULL(arg))
		fcinfo->args[arg].value = PointerGetDatum(PG_GETARG_TEXT_PP(arg));
}

static Datum
session_turn_begin(PG_FUNCTION_ARGS)
{
	BeginCall call = {.fcinfo = fcinfo};
	bool begun;

	call.begin.ttl_us = ss_arg_turn_ttl(fcinfo, 1);
	call.begin.wait_us = ss_arg_wait(fcinfo, 2);
	call.begin.holder = ss_arg_name(fcinfo, 3, "holder");
	if (call.begin.wait_us > 0)
	{
		detoast_arg(fcinfo, 0);
		detoast_arg(fcinfo, 4);
		begun = ss_turn_wait(fcinfo->flinfo, &call.target.key, &call.begin, attempt_to_begin,
							 &call);
	}
	else
		begun = attempt_to_begin(&call);
	if (!begun)
		PG_RETURN_NULL();
	PG_RETURN_INT64(call.begin.turn);
}

static Datum
session_turn_renew(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsCaller caller;
	int64 turn = arg_token(fcinfo, 1);
	int64 ttl_us = ss_arg_turn_ttl(fcinfo, 2);
	bool held;

	ss_arg_target(fcinfo, 0, 3, &target);
	PreventCommandIfReadOnly("session_turn_renew()");
	ss_sql_enter(&caller);
	held = ss_turn_renew(&target, turn, ttl_us);
	ss_sql_leave(&caller);
	PG_RETURN_BOOL(held);
}

static Datum
session_turn_end(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsCaller caller;
	int64 turn = arg_token(fcinfo, 1);
	bool held;

	ss_arg_target(fcinfo, 0, 2, &target);
	PreventCommandIfReadOnly("session_turn_end()");
	ss_sql_enter(&caller);
	held = ss_turn_end_by_call(&target, turn);
	ss_sql_leave(&caller);
	PG_RETURN_BOOL(held);
}

/* Without the token, which only its holder needs. */
static Datum
session_turn(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	SsTarget target;
	SsRow row;

	if (ss_arg_read_target(fcinfo, 0, 1, &target) &&
		ss_session_read(&target, SS_FIELD_TURN, &row) &&
		ss_turn_is_held(&row, GetCurrentTimestamp()))
	{
		Datum values[2] = {row.turn_holder, TimestampTzGetDatum(row.turn_until)};
		bool nulls[2] = {row.turn_holder == (Datum) 0, false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
