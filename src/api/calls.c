/*
 * calls.c
 *		SQL functions about one session.
 *
 * Each function checks its arguments and its caller, enters the security context of the owner of
 * the tables, calls the code in sessions/ and copies the result into the caller's memory context.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "api/args.h"
#include "compat.h"
#include "function.h"
#include "keys/hot.h"
#include "row/errors.h"
#include "row/session.h"
#include "sessions/change.h"
#include "sessions/document.h"
#include "sessions/end.h"
#include "sessions/read.h"
#include "sessions/relaxed.h"
#include "shared/counters.h"
#include "table/sql.h"

SS_FUNCTION(session_create, 1_0, TEXTOID, JSONBOID, INTERVALOID, TEXTOID, TEXTOID, TIMESTAMPTZOID);
SS_FUNCTION(session_save, 1_0, INT8OID, TEXTOID, JSONBOID, INTERVALOID, TEXTOID, INT8OID, TEXTOID,
			TIMESTAMPTZOID, INT8OID);
SS_FUNCTION(session_get, 1_0, JSONBOID, TEXTOID, TEXTOID);
SS_ROWS_FUNCTION(session_fetch, 1_0, true,
				 SS_COLUMNS(TEXTOID, TEXTOID, JSONBOID, TEXTOID, INT8OID, TIMESTAMPTZOID,
							TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID),
				 TEXTOID, TEXTOID);
SS_ROWS_FUNCTION(session_get_many, 1_0, true, SS_COLUMNS(TEXTOID, JSONBOID), TEXTARRAYOID, TEXTOID);
SS_FUNCTION(session_touch, 1_0, TIMESTAMPTZOID, TEXTOID, INTERVALOID, TEXTOID, TIMESTAMPTZOID);
SS_FUNCTION(session_merge, 1_0, JSONBOID, TEXTOID, JSONBOID, INT8OID, TEXTOID, TEXTOID, BOOLOID,
			INT8OID);
SS_FUNCTION(session_incr, 1_0, NUMERICOID, TEXTOID, TEXTARRAYOID, NUMERICOID, NUMERICOID, TEXTOID,
			TEXTOID, INT8OID);
SS_FUNCTION(session_delete, 1_0, BOOLOID, TEXTOID, TEXTOID);
SS_FUNCTION(session_take, 1_0, JSONBOID, TEXTOID, TEXTOID);
SS_FUNCTION(session_regenerate, 1_0, TEXTOID, TEXTOID, TEXTOID, TEXTOID);
SS_FUNCTION(session_exists, 1_0, BOOLOID, TEXTOID, TEXTOID);
SS_FUNCTION(session_ttl, 1_0, INTERVALOID, TEXTOID, TEXTOID);

/* Maximum number of ids in a call of session_get_many(). */
#define GET_MANY_MAX 10000

/* Minimum length of the id that is given to session_regenerate(), in bytes. */
#define NEW_ID_MIN_BYTES 16

/* Common code of session_save() and session_create().  Returns the new version. */
static int64
save(SsTarget *target, Datum document, const SsLifetime *lifetime, Datum owner, int64 if_version,
	 int64 turn)
{
	SsCaller caller;
	SsChange change = {.document_only = true,
					   .replaces_document = true,
					   .optimistic = true,
					   .takes_turn = true,
					   .turn = turn};

	ss_sql_enter(&caller);
	do
	{
		ss_change_begin(&change, target, if_version, owner);
		change.row.data = document;
		ss_lifetime_set(&change.row, lifetime);
	} while (!ss_change_end(&change));
	/* it waited for the row lock until its expires_at: as after a logout */
	if (ss_lifetime_has_ended(lifetime, GetCurrentTimestamp()))
		ForceSyncCommit();
	ss_relaxed_end(&target->policy);
	ss_counter_add(SS_SAVED, 1);
	ss_sql_leave(&caller);
	return change.row.version;
}

/* A session_save() whose expires_at is in the past. */
static void
expire(SsTarget *target, const SsLifetime *lifetime, Datum owner, int64 if_version, int64 turn)
{
	SsCaller caller;

	ss_sql_enter(&caller);
	ss_session_expire(target, lifetime, owner, if_version, turn);
	ss_sql_leave(&caller);
}

static Datum
session_create(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsLifetime lifetime;
	char *id;
	Datum owner = ss_arg_name(fcinfo, 2, "owner");

	ss_arg_lifetime(fcinfo, 1, 4, &lifetime);
	if (ss_lifetime_has_ended(&lifetime, GetCurrentTimestamp()))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid expires_at"),
						errdetail("The expiry of a new session must be in the future.")));
	ss_arg_require(fcinfo, 0, "data");
	ss_arg_namespace(fcinfo, 3, &target);
	ss_document_check(&target.policy, PG_GETARG_DATUM(0), "session document");
	id = ss_session_random_id();
	ss_target_set_id(&target, CStringGetTextDatum(id));
	(void) save(&target, PG_GETARG_DATUM(0), &lifetime, owner, SS_MUST_NOT_EXIST, SS_TURN_NONE);
	PG_RETURN_DATUM(target.id);
}

static Datum
session_save(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsLifetime lifetime;
	Datum owner = ss_arg_name(fcinfo, 3, "owner");
	int64 if_version = ss_arg_if_version(fcinfo, 4);
	int64 turn = ss_arg_turn(fcinfo, 7);

	ss_arg_lifetime(fcinfo, 2, 6, &lifetime);
	ss_arg_require(fcinfo, 1, "data");
	ss_arg_target(fcinfo, 0, 5, &target);
	ss_document_check(&target.policy, PG_GETARG_DATUM(1), "session document");
	if (ss_lifetime_has_ended(&lifetime, GetCurrentTimestamp()))
	{
		expire(&target, &lifetime, owner, if_version, turn);
		PG_RETURN_NULL();
	}
	PG_RETURN_INT64(save(&target, PG_GETARG_DATUM(1), &lifetime, owner, if_version, turn));
}

/* Read groups of fields (SsField) of a session and extend its expiry.  False if there is none. */
static bool
read_and_slide(const SsTarget *target, int fields, SsRow *row)
{
	if (!ss_session_read(target, fields, row))
		return false;
	ss_session_slide(target, row, GetCurrentTimestamp());
	ss_hot_count_read(&target->key, &target->policy);
	return true;
}

static Datum
session_get(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsRow row;

	if (!ss_arg_read_target(fcinfo, 0, 1, &target) ||
		!read_and_slide(&target, SS_FIELD_DOCUMENT, &row))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(row.data);
}

/* A row for each element of the array, in its order.  Memory for one session at a time is used. */
static Datum
session_get_many(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext per_id = AllocSetContextCreate(CurrentMemoryContext, "session_get_many",
												 ALLOCSET_DEFAULT_SIZES);
	SsTarget target;
	Datum *ids;
	bool *null_ids;
	int n;

	ids = ss_arg_names(fcinfo, 0, "session_id", GET_MANY_MAX, &null_ids, &n);
	ss_arg_namespace(fcinfo, 1, &target);
	for (int i = 0; i < n; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(per_id);
		Datum values[2] = {ids[i], (Datum) 0};
		bool nulls[2] = {null_ids[i], true};
		SsRow row;

		CHECK_FOR_INTERRUPTS();
		if (!null_ids[i])
		{
			ss_target_set_id(&target, ids[i]);
			nulls[1] = !read_and_slide(&target, SS_FIELD_DOCUMENT, &row);
			values[1] = nulls[1] ? (Datum) 0 : row.data;
		}
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		MemoryContextSwitchTo(old);
		MemoryContextReset(per_id);
	}
	MemoryContextDelete(per_id);
	return (Datum) 0;
}

static Datum
session_fetch(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	SsTarget target;
	SsRow row;

	if (ss_arg_read_target(fcinfo, 0, 1, &target) &&
		read_and_slide(&target, SS_FIELD_DOCUMENT | SS_FIELD_COUNTERS | SS_FIELD_UPDATED_AT, &row))
	{
		Datum values[9];
		bool nulls[9] = {false};

		values[0] = target.ns;
		values[1] = target.id;
		values[2] = row.data;
		values[3] = row.owner;
		nulls[3] = row.owner_null;
		values[4] = Int64GetDatum(row.version);
		values[5] = TimestampTzGetDatum(row.created_at);
		values[6] = TimestampTzGetDatum(row.updated_at);
		values[7] = TimestampTzGetDatum(row.ends_at);
		values[8] = Int64GetDatum(row.message_count);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* Read a session without extending its expiry. */
static bool
read_without_sliding(FunctionCallInfo fcinfo, SsRow *row)
{
	SsTarget target;

	return ss_arg_read_target(fcinfo, 0, 1, &target) && ss_session_read(&target, 0, row);
}

static Datum
session_exists(PG_FUNCTION_ARGS)
{
	SsRow row;

	PG_RETURN_BOOL(read_without_sliding(fcinfo, &row));
}

static Datum
session_ttl(PG_FUNCTION_ARGS)
{
	SsRow row;

	if (!read_without_sliding(fcinfo, &row))
		PG_RETURN_NULL();
	PG_RETURN_INTERVAL_P(ss_make_interval(Max(row.ends_at - GetCurrentTimestamp(), 0)));
}

static Datum
session_touch(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsCaller caller;
	SsLifetime lifetime;
	TimestampTz expires_at;
	bool found;

	ss_arg_lifetime(fcinfo, 1, 3, &lifetime);
	ss_arg_target(fcinfo, 0, 2, &target);
	/* it may write later, in a batch, but it is a change all the same */
	PreventCommandIfReadOnly("session_touch()");
	PreventCommandDuringRecovery("session_touch()");
	ss_sql_enter(&caller);
	found = ss_session_touch(&target, &lifetime, &expires_at);
	if (found)
		ss_hot_count_read(&target.key, &target.policy);
	ss_sql_leave(&caller);
	if (!found)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(expires_at);
}

static Datum
session_merge(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsCaller caller;
	SsChange change = {.document_only = true,
					   .optimistic = true,
					   .owner_if_new = true,
					   .takes_turn = true,
					   .turn = ss_arg_turn(fcinfo, 6)};
	int64 if_version = ss_arg_if_version(fcinfo, 2);
	Datum owner = ss_arg_name(fcinfo, 4, "owner");
	Datum result;

	ss_arg_require(fcinfo, 1, "patch");
	ss_arg_require(fcinfo, 5, "shallow");
	ss_arg_target(fcinfo, 0, 3, &target);
	ss_sql_enter(&caller);
	do
	{
		ss_change_begin(&change, &target, if_version, owner);
		change.row.data = JsonbPGetDatum(ss_document_merge(DatumGetJsonbP(change.row.data),
														   PG_GETARG_JSONB_P(1),
														   PG_GETARG_BOOL(5)));
		ss_document_check(&target.policy, change.row.data, "session document");
	} while (!ss_change_end(&change));
	ss_relaxed_end(&target.policy);
	ss_counter_add(SS_SAVED, 1);
	result = ss_sql_copy_out(&caller, change.row.data, false, -1);
	ss_sql_leave(&caller);
	PG_RETURN_DATUM(result);
}

/* Return a numeric argument.  NaN is refused, and infinity unless allowed. */
static Numeric
arg_numeric(FunctionCallInfo fcinfo, int arg, const char *name, bool infinity)
{
	Numeric value = PG_GETARG_NUMERIC(arg);

	if (numeric_is_nan(value) || (!infinity && numeric_is_inf(value)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must be a number", name)));
	return value;
}

static void
arg_path(FunctionCallInfo fcinfo, int arg, Datum **path, int *npath)
{
	ArrayType *array = PG_GETARG_ARRAYTYPE_P(arg);
	bool *nulls;

	if (ARR_NDIM(array) > 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid path"),
						errdetail("It must be a one-dimensional array.")));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, path, &nulls, npath);
	if (*npath == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid path"),
						errdetail("It must have at least one element.")));
	for (int i = 0; i < *npath; i++)
		if (nulls[i])
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("path must not contain a null element")));
}

static Datum
session_incr(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsCaller caller;
	/* the result that max would be exceeded needs the row lock, too */
	SsChange change = {.document_only = true,
					   .optimistic = PG_ARGISNULL(3),
					   .owner_if_new = true,
					   .takes_turn = true,
					   .turn = ss_arg_turn(fcinfo, 6)};
	Datum owner = ss_arg_name(fcinfo, 5, "owner");
	Datum *path;
	int npath;
	Numeric by;
	Numeric max = NULL;
	Numeric sum = NULL;
	Jsonb *document;
	Datum result = (Datum) 0;

	ss_arg_require(fcinfo, 1, "path");
	ss_arg_require(fcinfo, 2, "by");
	arg_path(fcinfo, 1, &path, &npath);
	by = arg_numeric(fcinfo, 2, "by", false);
	if (!PG_ARGISNULL(3))
		max = arg_numeric(fcinfo, 3, "max", true);
	ss_arg_target(fcinfo, 0, 4, &target);
	PreventCommandIfReadOnly("session_incr()");

	ss_sql_enter(&caller);
	do
	{
		ss_change_begin(&change, &target, SS_ANY_VERSION, owner);
		document = ss_document_incr(DatumGetJsonbP(change.row.data), path, npath, by, max, &sum);
		if (document == NULL)
			break; /* the sum would exceed max: change nothing */
		change.row.data = JsonbPGetDatum(document);
		ss_document_check(&target.policy, change.row.data, "session document");
	} while (!ss_change_end(&change));
	ss_relaxed_end(&target.policy);
	if (document != NULL)
	{
		ss_counter_add(SS_SAVED, 1);
		result = ss_sql_copy_out(&caller, NumericGetDatum(sum), false, -1);
	}
	ss_sql_leave(&caller);
	if (document == NULL)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(result);
}

static Datum
session_delete(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsCaller caller;
	bool deleted;

	ss_arg_target(fcinfo, 0, 1, &target);
	ss_sql_enter(&caller);
	deleted = ss_session_delete(&target);
	ss_sql_leave(&caller);
	PG_RETURN_BOOL(deleted);
}

static Datum
session_take(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsCaller caller;
	Datum document = (Datum) 0;
	bool taken;

	ss_arg_target(fcinfo, 0, 1, &target);
	PreventCommandIfReadOnly("session_take()");
	ss_sql_enter(&caller);
	taken = ss_session_take(&target, &document);
	if (taken)
		document = ss_sql_copy_out(&caller, document, false, -1);
	ss_sql_leave(&caller);
	if (!taken)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(document);
}

/* Return the id that session_regenerate() shall give to a session, or 0 for a random one. */
static Datum
arg_new_id(FunctionCallInfo fcinfo, int arg, const SsTarget *target)
{
	Datum id = ss_arg_name(fcinfo, arg, "new_session_id");

	if (id == (Datum) 0)
		return id;
	if (VARSIZE_ANY_EXHDR(DatumGetPointer(id)) < NEW_ID_MIN_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid new_session_id"),
				 errdetail("It must be at least %d bytes long, but it is %d bytes long.",
						   NEW_ID_MIN_BYTES, (int) VARSIZE_ANY_EXHDR(DatumGetPointer(id))),
				 errhint("Specify an id that cannot be guessed, or omit it to use a random one.")));
	if (DatumGetBool(DirectFunctionCall2Coll(texteq, C_COLLATION_OID, id, target->id)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cannot regenerate a session under the id that it has"),
				 errhint("Specify another new_session_id, or omit it to use a random one.")));
	return id;
}

static Datum
session_regenerate(PG_FUNCTION_ARGS)
{
	SsTarget target;
	SsTarget renamed;
	SsCaller caller;
	Datum id;
	bool found;

	ss_arg_target(fcinfo, 0, 1, &target);
	id = arg_new_id(fcinfo, 2, &target);
	renamed = target;
	ss_target_set_id(&renamed, id != (Datum) 0 ? id : CStringGetTextDatum(ss_session_random_id()));
	ss_sql_enter(&caller);
	found = id != (Datum) 0 ? ss_session_regenerate_as(&target, &renamed)
							: ss_session_regenerate(&target, &renamed);
	ss_sql_leave(&caller);
	if (!found)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(renamed.id);
}
