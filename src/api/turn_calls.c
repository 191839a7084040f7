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

static Datum
session_turn_begin(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsCaller caller;
	SsTurnBegin begin = {.ttl_us = ss_arg_turn_ttl(fcinfo, 1), .wait_us = ss_arg_wait(fcinfo, 2)};
	bool begun;

	begin.holder = ss_arg_name(fcinfo, 3, "holder");
	ss_arg_target(fcinfo, 0, 4, &target);
	PreventCommandIfReadOnly("session_turn_begin()");
	ss_turn_check_wait(&begin);
	ss_sql_enter(&caller);
	begun = ss_turn_begin(&target, &begin);
	ss_sql_leave(&caller);
	if (!begun && begin.wait_us > 0 && begin.outcome != SS_TURN_NO_SESSION)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("waiting for a turn is not supported yet")));
	if (!begun)
		PG_RETURN_NULL();
	PG_RETURN_INT64(begin.turn);
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
