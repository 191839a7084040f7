/*
 * conversation.c
 *		SQL functions about conversations: messages, forks and members.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "api/args.h"
#include "function.h"
#include "keys/hot.h"
#include "row/access.h"
#include "sessions/amend.h"
#include "sessions/append.h"
#include "sessions/change.h"
#include "sessions/document.h"
#include "sessions/fork.h"
#include "sessions/history.h"
#include "sessions/history_read.h"
#include "sessions/members.h"
#include "sessions/read.h"
#include "table/sql.h"

SS_FUNCTION(session_append, 1_0, INT8OID, TEXTOID, JSONBOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID,
			INT4OID, INT8OID);
SS_FUNCTION(session_replace_tail, 1_0, INT8OID, TEXTOID, INT4OID, JSONBOID, JSONBOID, TEXTOID,
			TEXTOID, INT8OID);
SS_ROWS_FUNCTION(session_history, 1_0, true, SS_COLUMNS(INT8OID, JSONBOID, TIMESTAMPTZOID), TEXTOID,
				 INT4OID, INT8OID, TEXTOID, INT8OID, INT4OID);
SS_FUNCTION(session_pop, 1_0, JSONBOID, TEXTOID, INT4OID, TEXTOID, BOOLOID, INT8OID);
SS_FUNCTION(session_amend, 1_0, BOOLOID, TEXTOID, INT8OID, JSONBOID, TEXTOID, INT8OID);
SS_FUNCTION(session_trim, 1_0, INT8OID, TEXTOID, INT4OID, TEXTOID, INT8OID);
SS_FUNCTION(session_fork, 1_0, TEXTOID, TEXTOID, TEXTOID, INT8OID, TEXTOID);
SS_FUNCTION(session_absorb, 1_0, INT8OID, TEXTOID, TEXTOID, TEXTOID);
SS_FUNCTION(session_share, 1_0, BOOLOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID);
SS_FUNCTION(session_unshare, 1_0, BOOLOID, TEXTOID, TEXTOID, TEXTOID);
SS_FUNCTION(session_accept, 1_0, BOOLOID, TEXTOID, TEXTOID);
SS_ROWS_FUNCTION(session_members, 1_0, true, SS_COLUMNS(TEXTOID, TEXTOID, TIMESTAMPTZOID), TEXTOID,
				 TEXTOID);

static void
refuse_messages(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid messages"),
			 errdetail("%s", what), errhint("Specify a JSON object or an array of JSON objects.")));
}

/* Split an array of messages into documents. */
static void
unpack_messages(Jsonb *array, SsMessages *messages)
{
	JsonbIterator *it = JsonbIteratorInit(&array->root);
	JsonbValue element;

	messages->count = 0;
	messages->message = palloc_extended(sizeof(Datum) * JB_ROOT_COUNT(array), MCXT_ALLOC_HUGE);
	(void) JsonbIteratorNext(&it, &element, true);
	while (JsonbIteratorNext(&it, &element, true) == WJB_ELEM)
	{
		CHECK_FOR_INTERRUPTS();
		if (element.type != jbvBinary || !JsonContainerIsObject(element.val.binary.data))
			refuse_messages("An element of the array is not an object.");
		messages->message[messages->count++] = JsonbPGetDatum(JsonbValueToJsonb(&element));
	}
}

/* Fetch one message, or an array of them, and check the size of each.  allow_empty: "[]" is valid. */
static void
arg_messages(FunctionCallInfo fcinfo, int arg, const SsPolicy *policy, bool allow_empty,
			 SsMessages *messages)
{
	Jsonb *given = PG_GETARG_JSONB_P(arg);

	if (JB_ROOT_IS_SCALAR(given))
		refuse_messages("A scalar is not a message.");
	if (JB_ROOT_IS_ARRAY(given))
		unpack_messages(given, messages);
	else
	{
		messages->count = 1;
		messages->message = palloc(sizeof(Datum));
		messages->message[0] = JsonbPGetDatum(given);
	}
	if (messages->count == 0 && !allow_empty)
		refuse_messages("The array is empty.");
	for (int i = 0; i < messages->count; i++)
		ss_document_check(policy, messages->message[i], "message");
}

static Datum
session_append(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsCaller caller;
	SsAppend append = {.keep = -1};
	bool allow_empty;
	int64 last;

	ss_arg_require(fcinfo, 1, "messages");
	append.operation_id = ss_arg_name(fcinfo, 2, "operation_id");
	append.owner = ss_arg_name(fcinfo, 4, "owner");
	if (!PG_ARGISNULL(5))
		append.patch = PG_GETARG_JSONB_P(5);
	if (!PG_ARGISNULL(6))
		append.keep = ss_arg_at_least(fcinfo, 6, false, "keep", 0);
	append.turn = ss_arg_turn(fcinfo, 7);
	ss_arg_target(fcinfo, 0, 3, &target);
	/* without messages the call must have something else to do */
	allow_empty = append.operation_id != (Datum) 0 || append.patch != NULL || append.keep >= 0;
	arg_messages(fcinfo, 1, &target.policy, allow_empty, &append.messages);
	ss_sql_enter(&caller);
	last = ss_history_append(&target, &append);
	ss_sql_leave(&caller);
	PG_RETURN_INT64(last);
}

static Datum
session_replace_tail(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsCaller caller;
	SsReplacement replacement = {0};
	int64 last;
	bool found;

	ss_arg_require(fcinfo, 1, "n");
	ss_arg_require(fcinfo, 2, "messages");
	replacement.n = ss_arg_at_least(fcinfo, 1, false, "n", 0);
	if (!PG_ARGISNULL(3))
	{
		replacement.expected = PG_GETARG_JSONB_P(3);
		if (!JB_ROOT_IS_ARRAY(replacement.expected) || JB_ROOT_IS_SCALAR(replacement.expected))
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid expected"),
							errdetail("It must be an array of messages.")));
	}
	replacement.operation_id = ss_arg_name(fcinfo, 4, "operation_id");
	replacement.turn = ss_arg_turn(fcinfo, 6);
	ss_arg_target(fcinfo, 0, 5, &target);
	arg_messages(fcinfo, 2, &target.policy, true, &replacement.messages);
	PreventCommandIfReadOnly("session_replace_tail()");
	ss_sql_enter(&caller);
	found = ss_history_replace_tail(&target, &replacement, &last);
	ss_sql_leave(&caller);
	if (!found)
		PG_RETURN_NULL();
	PG_RETURN_INT64(last);
}

static void
put_message(void *arg, Datum seq, Datum message, Datum created_at)
{
	ReturnSetInfo *rsinfo = arg;
	Datum values[3] = {seq, message, created_at};
	bool nulls[3] = {false};

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* Fetch the window of session_history(). */
static void
arg_window(FunctionCallInfo fcinfo, SsWindow *window)
{
	*window = (SsWindow) SS_WINDOW_ALL;
	if (!PG_ARGISNULL(1))
		window->last = ss_arg_at_least(fcinfo, 1, false, "last", 0);
	if (!PG_ARGISNULL(2))
		window->up_to = ss_arg_at_least(fcinfo, 2, true, "before", 1) - 1;
	if (!PG_ARGISNULL(4))
	{
		int64 after = ss_arg_at_least(fcinfo, 4, true, "after", 0);

		window->from = after == PG_INT64_MAX ? after : after + 1;
		if (after == PG_INT64_MAX)
			window->up_to = after - 1; /* no seq is higher: there are no messages */
	}
	if (!PG_ARGISNULL(5))
		window->first = ss_arg_at_least(fcinfo, 5, false, "first", 0);
	if (window->last >= 0 && window->first >= 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("last and first cannot be combined"),
						errhint("Specify last for the newest messages, or first for the oldest.")));
}

static Datum
session_history(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsCaller caller;
	SsRow row;
	SsWindow window;

	arg_window(fcinfo, &window);
	if (!ss_arg_read_target(fcinfo, 0, 3, &target) || !ss_session_read(&target, 0, &row))
		return (Datum) 0;
	ss_session_slide(&target, &row, GetCurrentTimestamp());
	ss_hot_count_read(&target.key, &target.policy);
	ss_sql_enter(&caller);
	ss_history_read(&row, &window, put_message, fcinfo->resultinfo);
	ss_sql_leave(&caller);
	return (Datum) 0;
}

static Datum
empty_array(void)
{
	return DirectFunctionCall1(jsonb_in, CStringGetDatum("[]"));
}

static Datum
session_pop(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsCaller caller;
	Datum popped;
	int64 turn = ss_arg_turn(fcinfo, 4);
	int64 n;

	ss_arg_require(fcinfo, 1, "n");
	n = ss_arg_at_least(fcinfo, 1, false, "n", 0);
	ss_arg_require(fcinfo, 3, "from_start");
	ss_arg_target(fcinfo, 0, 2, &target);
	PreventCommandIfReadOnly("session_pop()");
	ss_sql_enter(&caller);
	if (ss_history_pop(&target, n, PG_GETARG_BOOL(3), turn, &popped) && popped != (Datum) 0)
		popped = ss_sql_copy_out(&caller, popped, false, -1);
	ss_sql_leave(&caller);
	PG_RETURN_DATUM(popped != (Datum) 0 ? popped : empty_array());
}

static Datum
session_amend(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsCaller caller;
	Jsonb *message;
	int64 turn = ss_arg_turn(fcinfo, 4);
	int64 seq;
	bool found;

	ss_arg_require(fcinfo, 1, "seq");
	ss_arg_require(fcinfo, 2, "message");
	seq = ss_arg_at_least(fcinfo, 1, true, "seq", 1);
	message = PG_GETARG_JSONB_P(2);
	if (!JB_ROOT_IS_OBJECT(message))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid message"),
						errdetail("It is not an object."), errhint("Specify a JSON object.")));
	ss_arg_target(fcinfo, 0, 3, &target);
	ss_document_check(&target.policy, JsonbPGetDatum(message), "message");
	PreventCommandIfReadOnly("session_amend()");
	ss_sql_enter(&caller);
	found = ss_history_amend(&target, seq, JsonbPGetDatum(message), turn);
	ss_sql_leave(&caller);
	PG_RETURN_BOOL(found);
}

static Datum
session_trim(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsCaller caller;
	int64 turn = ss_arg_turn(fcinfo, 3);
	int64 removed;
	int64 keep;
	bool found;

	ss_arg_require(fcinfo, 1, "keep");
	keep = ss_arg_at_least(fcinfo, 1, false, "keep", 0);
	ss_arg_target(fcinfo, 0, 2, &target);
	PreventCommandIfReadOnly("session_trim()");
	ss_sql_enter(&caller);
	found = ss_history_trim(&target, keep, turn, &removed);
	ss_sql_leave(&caller);
	if (!found)
		PG_RETURN_NULL();
	PG_RETURN_INT64(removed);
}

/* Are two ids equal? */
static bool
same_id(Datum a, Datum b)
{
	return DatumGetBool(DirectFunctionCall2Coll(texteq, C_COLLATION_OID, a, b));
}

static Datum
session_fork(PG_FUNCTION_ARGS)
{
	SsTarget source;
	SsTarget fork;
	SsCaller caller;
	int64 up_to = PG_INT64_MAX;
	Datum id = ss_arg_name(fcinfo, 1, "new_session_id");
	bool found;

	if (!PG_ARGISNULL(2))
		up_to = ss_arg_at_least(fcinfo, 2, true, "up_to", 1);
	ss_arg_target(fcinfo, 0, 3, &source);
	if (id != (Datum) 0 && same_id(id, source.id))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cannot fork a session onto itself"),
				 errhint("Specify another new_session_id, or omit it to use a random one.")));
	PreventCommandIfReadOnly("session_fork()");
	fork = source;
	ss_target_set_id(&fork, id != (Datum) 0 ? id : CStringGetTextDatum(ss_session_random_id()));
	ss_sql_enter(&caller);
	found = ss_session_fork(&source, &fork, up_to);
	ss_sql_leave(&caller);
	if (!found)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(fork.id);
}

static Datum
session_absorb(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsTarget source;
	SsCaller caller;
	Datum id;
	int64 moved;
	bool found;

	ss_arg_require(fcinfo, 0, "target");
	ss_arg_require(fcinfo, 1, "source");
	id = ss_arg_name(fcinfo, 0, "target");
	ss_arg_namespace(fcinfo, 2, &target);
	ss_target_set_id(&target, id);
	source = target;
	ss_target_set_id(&source, ss_arg_name(fcinfo, 1, "source"));
	if (same_id(target.id, source.id))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a session cannot absorb itself")));
	PreventCommandIfReadOnly("session_absorb()");
	ss_sql_enter(&caller);
	found = ss_session_absorb(&target, &source, &moved);
	ss_sql_leave(&caller);
	if (!found)
		PG_RETURN_NULL();
	PG_RETURN_INT64(moved);
}

static Datum
session_share(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsCaller caller;
	Datum member;
	char *role;
	SsNeed need;
	bool found;

	ss_arg_require(fcinfo, 1, "member");
	ss_arg_require(fcinfo, 2, "role");
	member = ss_arg_name(fcinfo, 1, "member");
	role = TextDatumGetCString(PG_GETARG_DATUM(2));
	if (!ss_access_need_of_role(role, &need))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid role"),
						errdetail("It must be viewer, editor or owner.")));
	ss_arg_target(fcinfo, 0, 3, &target);
	PreventCommandIfReadOnly("session_share()");
	ss_sql_enter(&caller);
	found = ss_member_set(&target, member, role);
	ss_sql_leave(&caller);
	PG_RETURN_BOOL(found);
}

static Datum
session_unshare(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsCaller caller;
	Datum member;
	bool found;

	ss_arg_require(fcinfo, 1, "member");
	member = ss_arg_name(fcinfo, 1, "member");
	ss_arg_target(fcinfo, 0, 2, &target);
	PreventCommandIfReadOnly("session_unshare()");
	ss_sql_enter(&caller);
	found = ss_member_remove(&target, member);
	ss_sql_leave(&caller);
	PG_RETURN_BOOL(found);
}

static Datum
session_accept(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsCaller caller;
	SsRow row;
	bool found;

	ss_arg_target(fcinfo, 0, 1, &target);
	PreventCommandIfReadOnly("session_accept()");
	if (!ss_session_read(&target, 0, &row))
		PG_RETURN_BOOL(false);
	ss_sql_enter(&caller);
	found = ss_member_accept(&row);
	ss_sql_leave(&caller);
	PG_RETURN_BOOL(found);
}

static Datum
session_members(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	SsTarget target;
	SsCaller caller;
	SsRow row;
	uint64 n;

	if (!ss_arg_read_target(fcinfo, 0, 1, &target) || !ss_session_read(&target, 0, &row))
		return (Datum) 0;
	ss_sql_enter(&caller);
	n = ss_members_read(&row);
	for (uint64 i = 0; i < n; i++)
	{
		Datum values[3];
		bool nulls[3];

		for (int column = 0; column < 3; column++)
			values[column] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, column + 1,
										   &nulls[column]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	ss_sql_leave(&caller);
	return (Datum) 0;
}
