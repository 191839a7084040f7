/*
 * window_calls.c
 *		SQL functions about what a model, or a reader of Redis, gets of a conversation.
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "api/args.h"
#include "function.h"
#include "keys/hot.h"
#include "sessions/document.h"
#include "sessions/read.h"
#include "sessions/summary.h"
#include "sessions/tail.h"
#include "sessions/window.h"
#include "table/namespaces.h"
#include "table/sql.h"

SS_ROWS_FUNCTION(session_window, 1_0, true, SS_COLUMNS(INT8OID, JSONBOID, TIMESTAMPTZOID, INT8OID),
				 TEXTOID, INT4OID, INT4OID, TEXTOID, TEXTOID);
SS_FUNCTION(session_compact, 1_0, INT8OID, TEXTOID, INT8OID, JSONBOID, TEXTOID, INT8OID);
SS_FUNCTION(session_tail, 1_0, JSONBOID, TEXTOID, TEXTOID);

/* Fetch a limit; a null is none. */
static int64
arg_limit(FunctionCallInfo fcinfo, int arg, const char *name)
{
	return PG_ARGISNULL(arg) ? PG_INT64_MAX : ss_arg_at_least(fcinfo, arg, false, name, 1);
}

/* Fetch the limits of the window. */
static void
arg_limits(FunctionCallInfo fcinfo, SsWindowLimits *limits)
{
	char *align;

	limits->max_tokens = arg_limit(fcinfo, 1, "max_tokens");
	limits->max_messages = arg_limit(fcinfo, 2, "max_messages");
	if (PG_ARGISNULL(1) && PG_ARGISNULL(2))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a window needs max_tokens or max_messages"),
						errhint("Specify at least one of them, or use session_history().")));
	ss_arg_require(fcinfo, 3, "align");
	align = text_to_cstring(PG_GETARG_TEXT_PP(3));
	limits->strict = strcmp(align, "strict") == 0;
	if (!limits->strict && strcmp(align, "user") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid align"),
						errdetail("It must be user or strict.")));
}

static void
put_message(void *arg, Datum seq, Datum message, Datum created_at, int64 tokens, bool is_summary)
{
	ReturnSetInfo *rsinfo = arg;
	Datum values[4] = {seq, message, created_at, Int64GetDatum(tokens)};
	bool nulls[4] = {is_summary, false, is_summary, false};

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static Datum
session_window(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsCaller caller;
	SsRow row;
	SsWindowLimits limits;
	ArrayType *token_path;

	arg_limits(fcinfo, &limits);
	if (!ss_arg_read_target(fcinfo, 0, 4, &target) ||
		!ss_session_read(&target, SS_FIELD_SUMMARY, &row))
		return (Datum) 0;
	ss_session_slide(&target, &row, GetCurrentTimestamp());
	ss_hot_count_read(&target.key, &target.policy);
	token_path = ss_ns_token_path(&target.policy);
	ss_sql_enter(&caller);
	ss_window_read(&row, &limits, token_path, put_message, fcinfo->resultinfo);
	ss_sql_leave(&caller);
	return (Datum) 0;
}

static Datum
session_compact(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsCaller caller;
	Datum summary;
	int64 up_to;
	int64 turn = ss_arg_turn(fcinfo, 4);
	int64 messages;
	bool found;

	ss_arg_require(fcinfo, 1, "up_to");
	ss_arg_require(fcinfo, 2, "summary");
	up_to = ss_arg_at_least(fcinfo, 1, true, "up_to", 1);
	summary = JsonbPGetDatum(PG_GETARG_JSONB_P(2));
	ss_arg_target(fcinfo, 0, 3, &target);
	ss_document_check(&target.policy, summary, "summary");
	PreventCommandIfReadOnly("session_compact()");
	ss_sql_enter(&caller);
	found = ss_summary_set(&target, up_to, summary, turn, &messages);
	ss_sql_leave(&caller);
	if (!found)
		PG_RETURN_NULL();
	PG_RETURN_INT64(messages);
}

static Datum
session_tail(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsCaller caller;
	SsRow row;
	Datum tail;

	if (!ss_arg_read_target(fcinfo, 0, 1, &target) ||
		!ss_session_read(&target, SS_FIELD_SUMMARY, &row))
		PG_RETURN_NULL();
	ss_session_slide(&target, &row, GetCurrentTimestamp());
	ss_hot_count_read(&target.key, &target.policy);
	ss_sql_enter(&caller);
	tail = ss_sql_copy_out(&caller, ss_tail_array(&row, target.policy.tail_size), false, -1);
	ss_sql_leave(&caller);
	PG_RETURN_DATUM(tail);
}
