/*
 * args.c
 *		Fetches and checks the arguments of the SQL functions.
 *
 * Every function obtains its SsTarget here, and thereby the check that the caller may use the
 * namespace.  What follows acts as the owner of the tables (table/sql.c) and does not check the
 * caller again.  All externs raise an error for an invalid argument.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "api/args.h"
#include "base/expiry.h"
#include "base/key.h"
#include "compat.h"
#include "row/errors.h"
#include "settings.h"
#include "shared/counters.h"

/* Raise an error if the argument is null. */
void
ss_arg_require(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be null", name)));
}

static void
check_name(const char *value, int len, const char *name, int min, int max)
{
	if (len < min || len > max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid %s", name),
				 errdetail("It must be between %d and %d bytes long, but it is %d bytes long.", min,
						   max, len)));
	if (!ss_name_is_plain(value, len))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid %s", name),
						errdetail("It must not contain control characters.")));
}

static Datum
arg_name(FunctionCallInfo fcinfo, int arg, const char *name, int min)
{
	text *value;

	if (PG_ARGISNULL(arg))
		return (Datum) 0;
	value = PG_GETARG_TEXT_PP(arg);
	check_name(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), name, min, SS_NAME_MAX);
	return PointerGetDatum(value);
}

/*
 * Return a session id, owner, member or operation id after checking it (1 to 200 bytes without
 * control characters), or (Datum) 0 if the argument is null.  The result points into the argument
 * or its detoasted copy.
 */
Datum
ss_arg_name(FunctionCallInfo fcinfo, int arg, const char *name)
{
	return arg_name(fcinfo, arg, name, 1);
}

/* The same for what an id begins with, which may be empty. */
Datum
ss_arg_prefix(FunctionCallInfo fcinfo, int arg, const char *name)
{
	return arg_name(fcinfo, arg, name, 0);
}

/*
 * Return the elements of an array of names (see ss_arg_name), at most `most`; *n and *nulls are their
 * number and which of them are null.  A null argument has no elements.
 */
Datum *
ss_arg_names(FunctionCallInfo fcinfo, int arg, const char *name, int most, bool **nulls, int *n)
{
	ArrayType *array;
	Datum *values;

	*nulls = NULL;
	*n = 0;
	if (PG_ARGISNULL(arg))
		return NULL;
	array = PG_GETARG_ARRAYTYPE_P(arg);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid %ss", name),
						errdetail("It must be a one-dimensional array.")));
	if (ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)) > most)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("too many %ss", name),
						errdetail("The array has %d elements; at most %d are allowed.",
								  ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)), most),
						errhint("Split them among several calls.")));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, nulls, n);
	for (int i = 0; i < *n; i++)
	{
		text *value = (*nulls)[i] ? NULL : DatumGetTextPP(values[i]);

		if (value != NULL)
			check_name(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), name, 1, SS_NAME_MAX);
	}
	return values;
}

/*
 * Fill in the namespace of the call, its policy and the calling role, or raise an error if the
 * namespace does not exist or the role may not use it.  A null argument means
 * session_store.namespace.  The session id is left unset.
 */
void
ss_arg_namespace(FunctionCallInfo fcinfo, int ns_arg, SsTarget *target)
{
	text *value = PG_ARGISNULL(ns_arg) ? cstring_to_text(ss_namespace) : PG_GETARG_TEXT_PP(ns_arg);
	char *name = VARDATA_ANY(value);
	int len = VARSIZE_ANY_EXHDR(value);

	check_name(name, len, "namespace", 1, SS_NAMESPACE_MAX);
	target->ns = PointerGetDatum(value);
	target->id = (Datum) 0;
	target->role = GetUserId();
	if (!ss_ns_find(name, len, &target->policy))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("namespace \"%s\" does not exist", text_to_cstring(value)),
						errhint("Insert a row into session_namespaces to create it.")));
	if (!ss_ns_allows(&target->policy, target->role))
	{
		ss_counter_add(SS_ERROR_DENIED, 1);
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for namespace \"%s\"", target->policy.name),
				 errdetail("Role \"%s\" does not have the privileges of any role in allowed_roles.",
						   GetUserNameFromId(target->role, false))));
	}
}

/* Set the session id of a target, and the key that is made of it.  The namespace must be set. */
void
ss_target_set_id(SsTarget *target, Datum id)
{
	target->id = id;
	ss_key_from_datums(&target->key, target->ns, id);
}

/*
 * As ss_arg_target, for a call that only reads: false if the session id is null, for which there is
 * no session.  The namespace and the caller are checked first all the same.
 */
bool
ss_arg_read_target(FunctionCallInfo fcinfo, int id_arg, int ns_arg, SsTarget *target)
{
	Datum id = ss_arg_name(fcinfo, id_arg, "session_id");

	ss_arg_namespace(fcinfo, ns_arg, target);
	if (id == (Datum) 0)
		return false;
	ss_target_set_id(target, id);
	return true;
}

/*
 * Fill in the session that the call is about: session id, namespace and policy.  Raises an error if
 * the session id is null.
 */
void
ss_arg_target(FunctionCallInfo fcinfo, int id_arg, int ns_arg, SsTarget *target)
{
	ss_arg_require(fcinfo, id_arg, "session_id");
	(void) ss_arg_read_target(fcinfo, id_arg, ns_arg, target);
}

/*
 * Return a duration in microseconds, or 0 if the argument is null.  The hint, which may be NULL, is
 * for one that is too short.
 */
static int64
arg_duration(FunctionCallInfo fcinfo, int arg, const char *name, const char *too_short_hint)
{
	Interval *span;
	int64 duration_us = 0;

	if (PG_ARGISNULL(arg))
		return 0;
	span = PG_GETARG_INTERVAL_P(arg);
	switch (
		ss_duration(span->month, span->day, span->time, SS_TTL_MIN_US, SS_TTL_MAX_US, &duration_us))
	{
		case SS_DURATION_OK:
			break;
		case SS_DURATION_MONTHS:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid %s", name),
					 errdetail("It must be finite and must not contain months or years, which "
							   "have no fixed length."),
					 errhint("Specify days, hours, minutes or seconds; a day is 24 hours.")));
			break;
		case SS_DURATION_TOO_SHORT:
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid %s", name),
							errdetail("It must be at least 1 millisecond."),
							too_short_hint != NULL ? errhint("%s", too_short_hint) : 0));
			break;
		case SS_DURATION_TOO_LONG:
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid %s", name),
							errdetail("It must be at most 100 years of 365.25 days.")));
			break;
	}
	return duration_us;
}

/* Return a ttl in microseconds, or 0 if the argument is null. */
int64
ss_arg_ttl(FunctionCallInfo fcinfo, int arg)
{
	return arg_duration(fcinfo, arg, "ttl", "Use session_delete() to end a session.");
}

/* Return the period of a counter in microseconds, or 0 if the argument is null. */
int64
ss_arg_period(FunctionCallInfo fcinfo, int arg)
{
	return arg_duration(fcinfo, arg, "period", NULL);
}

/* Return the ttl of a turn in microseconds. */
int64
ss_arg_turn_ttl(FunctionCallInfo fcinfo, int arg)
{
	ss_arg_require(fcinfo, arg, "ttl");
	return arg_duration(fcinfo, arg, "ttl", "Use session_turn_end() to end a turn.");
}

/* Return how long session_turn_begin() may wait, in microseconds. */
int64
ss_arg_wait(FunctionCallInfo fcinfo, int arg)
{
	Interval *span;
	int64 wait_us = 0;

	ss_arg_require(fcinfo, arg, "wait");
	span = PG_GETARG_INTERVAL_P(arg);
	if (ss_duration(span->month, span->day, span->time, 0, SS_USEC_PER_DAY, &wait_us) !=
		SS_DURATION_OK)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid wait"),
						errdetail("It must be between 0 and 1 day, without months.")));
	return wait_us;
}

/*
 * Return the lifetime that the arguments ttl and expires_at give a session; at most one of them may
 * be given.
 */
void
ss_arg_lifetime(FunctionCallInfo fcinfo, int ttl_arg, int expires_arg, SsLifetime *lifetime)
{
	lifetime->ttl_us = ss_arg_ttl(fcinfo, ttl_arg);
	lifetime->expires_at = 0;
	lifetime->given = !PG_ARGISNULL(ttl_arg);
	if (PG_ARGISNULL(expires_arg))
		return;
	if (lifetime->given)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("ttl and expires_at cannot both be specified"),
						errdetail("A session either has a lifetime that restarts, or ends at a "
								  "fixed time.")));
	lifetime->given = true;
	lifetime->ttl_us = SS_FIXED;
	lifetime->expires_at = PG_GETARG_TIMESTAMPTZ(expires_arg);
	if (TIMESTAMP_IS_NOBEGIN(lifetime->expires_at))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid expires_at"),
						errdetail("It must not be -infinity."),
						errhint("Use session_delete() to end a session.")));
	if (TIMESTAMP_IS_NOEND(lifetime->expires_at))
		lifetime->expires_at = SS_FOREVER;
}

/*
 * Return the expected version: SS_ANY_VERSION for null, SS_MUST_NOT_EXIST for 0, SS_MUST_EXIST for
 * -1, else exactly that version.
 */
int64
ss_arg_if_version(FunctionCallInfo fcinfo, int arg)
{
	int64 version;

	if (PG_ARGISNULL(arg))
		return SS_ANY_VERSION;
	version = PG_GETARG_INT64(arg);
	if (version < SS_MUST_EXIST)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid if_version"),
						errdetail("It must be a version, 0 (the session must not exist), -1 (it "
								  "must exist) or NULL (any).")));
	return version;
}

/* Return an integer argument (int8 if wide, else int4), which must be at least "least". */
int64
ss_arg_at_least(FunctionCallInfo fcinfo, int arg, bool wide, const char *name, int64 least)
{
	int64 value = wide ? PG_GETARG_INT64(arg) : PG_GETARG_INT32(arg);

	if (value < least)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid %s", name),
						least == 0 ? errdetail("It must not be negative.")
								   : errdetail("It must be at least " INT64_FORMAT ".", least)));
	return value;
}

/* Return the token of a turn, or SS_TURN_NONE if the argument is null. */
int64
ss_arg_turn(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? SS_TURN_NONE
							 : ss_arg_at_least(fcinfo, arg, true, "turn", SS_TURN_NONE + 1);
}

/* Return the argument page_size. */
int32
ss_arg_page_size(FunctionCallInfo fcinfo, int arg)
{
	int32 size;

	ss_arg_require(fcinfo, arg, "page_size");
	size = PG_GETARG_INT32(arg);
	if (size < 1 || size > SS_PAGE_SIZE_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid page_size"),
						errdetail("It must be between 1 and %d.", SS_PAGE_SIZE_MAX)));
	return size;
}
