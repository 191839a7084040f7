/*
 * errors.c
 *		Raises the errors about sessions.
 *
 * A session id is often a secret, and error messages are logged.  So no message contains one.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/builtins.h"

#include "row/errors.h"
#include "shared/counters.h"
#include "table/sql.h"

/* SST10: the id belongs to a tombstone. */
void
ss_error_dead(const SsTarget *target)
{
	ss_counter_add(SS_ERROR_DEAD, 1);
	ereport(
		ERROR,
		(errcode(ERRCODE_SS_DEAD_ID), errmsg("session has ended"),
		 errdetail("It was deleted, evicted, regenerated or absorbed, and its id "
				   "cannot be reused yet in namespace \"%s\".",
				   target->policy.name),
		 errhint(
			 "Use a new session id, or reuse this one by session_save() with if_version => 0.")));
}

/* SST10 for an INSERT or UPDATE in plain SQL. */
void
ss_error_dead_row(Datum ns)
{
	ss_counter_add(SS_ERROR_DEAD, 1);
	ereport(ERROR, (errcode(ERRCODE_SS_DEAD_ID), errmsg("session has ended"),
					errdetail("It was deleted, evicted, regenerated or absorbed, and its id "
							  "cannot be reused yet in namespace \"%s\".",
							  TextDatumGetCString(ns)),
					errhint("Use a new session id, or reuse this one by a statement that "
							"also sets dead_until to NULL.")));
}

/* 40001: if_version does not hold.  `found` is the present version, 0 if there is no session. */
void
ss_error_conflict(int64 wanted, int64 found)
{
	char *expected = wanted == SS_MUST_NOT_EXIST ? pstrdup("no session")
					 : wanted == SS_MUST_EXIST   ? pstrdup("a session")
												 : psprintf("version " INT64_FORMAT, wanted);

	ss_counter_add(SS_ERROR_CONFLICT, 1);
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE), errmsg("session version conflict"),
			 found > 0 ? errdetail("Expected %s, found version " INT64_FORMAT ".", expected, found)
					   : errdetail("Expected %s, found no session.", expected),
			 errhint("Read the session again before retrying.")));
}

/* 42501: owner isolation denies what the call needs. */
void
ss_error_not_owner(const SsTarget *target)
{
	ss_counter_add(SS_ERROR_DENIED, 1);
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for session in namespace \"%s\"", target->policy.name),
			 errdetail("The namespace isolates owners; the session neither belongs to "
					   "the caller nor is it shared with the caller in a sufficient role.")));
}

/*
 * 40001: the messages at the end of a history are not the expected ones.  seq is that of the first
 * that differs, 0 if their number does.
 */
void
ss_error_tail_conflict(int64 expected, int64 found, int64 seq)
{
	ss_counter_add(SS_ERROR_CONFLICT, 1);
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("the last messages are not the expected ones"),
			 seq == 0 ? errdetail("Expected " INT64_FORMAT " messages, found " INT64_FORMAT ".",
								  expected, found)
					  : errdetail("The message with seq " INT64_FORMAT " differs.", seq),
			 errhint("Read the history again before retrying.")));
}

/* 42501: with owner isolation, a call about all data of an owner that is not the caller. */
void
ss_error_other_owner(const SsTarget *target)
{
	ss_counter_add(SS_ERROR_DENIED, 1);
	ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("permission denied for the data of this owner in namespace \"%s\"",
						   target->policy.name),
					errdetail("The namespace isolates owners, and the caller is not this owner.")));
}

/* SST11: operation_id was used with other arguments. */
void
ss_error_operation_reused(void)
{
	ss_counter_add(SS_ERROR_CONFLICT, 1);
	ereport(ERROR, (errcode(ERRCODE_SS_OPERATION_REUSED),
					errmsg("operation_id was used with other arguments"),
					errdetail("An earlier call for this session had the same operation_id but "
							  "other arguments."),
					errhint("Use a separate operation_id for each call, and repeat the same "
							"arguments when retrying.")));
}

/* SST12: a turn is not held.  `row` is the session, or NULL if there is none. */
void
ss_error_turn(const SsRow *row, int64 turn)
{
	const char *why = row == NULL                   ? "There is no such session."
					  : row->turn == SS_TURN_NONE   ? "No turn of this session was given."
					  : row->turn > turn            ? "Another turn was given since."
					  : row->turn < turn            ? "This turn was never given."
					  : row->turn_until == SS_NEVER ? "It was ended."
													: "Its time has passed.";

	ss_counter_add(SS_ERROR_TURN, 1);
	ereport(ERROR, (errcode(ERRCODE_SS_NO_TURN), errmsg("the turn is not held"),
					errdetail_internal("%s", why),
					errhint("Nothing was changed. Begin another turn with session_turn_begin(), "
							"and read the session again.")));
}

/* SST12: a change without a turn, in a namespace that requires one. */
void
ss_error_turn_required(const SsTarget *target)
{
	ss_counter_add(SS_ERROR_TURN, 1);
	ereport(ERROR,
			(errcode(ERRCODE_SS_NO_TURN), errmsg("a turn is required to change the session"),
			 errdetail("turns is 'required' in namespace \"%s\".", target->policy.name),
			 errhint("Begin a turn with session_turn_begin(), and give its token as turn.")));
}

/* 55000: a statement of ours did not write the rows that it must, as a trigger or rule skips them. */
void
ss_error_rows_skipped(const char *table)
{
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("some rows of table \"%s\" were not written", table),
					errhint("Check for a trigger or rule on the table that skips rows.")));
}

/* 53400: the owner has too many sessions.  `busy`: those that could be evicted are locked. */
void
ss_error_quota(const SsTarget *target, bool busy)
{
	ss_counter_add(SS_ERROR_QUOTA, 1);
	ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					errmsg("too many sessions for this owner"),
					errdetail(busy ? "Namespace \"%s\" allows %d, and the older ones are locked by "
									 "other transactions."
								   : "Namespace \"%s\" allows %d.",
							  target->policy.name, target->policy.max_per_owner),
					busy ? errhint("Retry the call.")
						 : errhint("End another session of this owner first, or increase "
								   "max_sessions_per_owner.")));
}

/*
 * Is the SQLSTATE of a class whose messages name objects and no values?  These are constraints,
 * privileges, missing objects, locks, limits, internal errors of the server, and our own.
 */
static bool
code_names_no_values(int code)
{
	static const char *const classes[] = {"0A", "23", "25", "40", "42", "53",
										  "54", "55", "57", "58", "SS", "XX"};
	const char *state = unpack_sql_state(code);

	for (int i = 0; i < (int) lengthof(classes); i++)
		if (strncmp(state, classes[i], 2) == 0)
			return true;
	return false;
}

/*
 * Was the error raised by the server's own code, as opposed to RAISE in a PL/pgSQL function, which
 * can use any SQLSTATE and text?  An error that a parallel worker passed on always has the server's
 * domain; then its source file decides.
 */
static bool
is_of_server(const ErrorData *error)
{
	return error->domain != NULL && strcmp(error->domain, PG_TEXTDOMAIN("postgres")) == 0 &&
		   (error->filename == NULL || strcmp(error->filename, "pl_exec.c") != 0);
}

/* Is the error's message safe to show to a caller that may not see the row? */
bool
ss_error_names_no_values(const ErrorData *error)
{
	return code_names_no_values(error->sqlerrcode) && is_of_server(error);
}

/*
 * Removes from an error what may contain values of the row, and moves it to the server log.  `counter`:
 * the row is that of a counter, otherwise it belongs to a session.
 */
static void
hide_values(ErrorData *error, bool counter)
{
	error->detail_log = psprintf("%s%s%s%s%s%s%s", error->message ? error->message : "",
								 error->detail ? "; " : "", error->detail ? error->detail : "",
								 error->hint ? "; " : "", error->hint ? error->hint : "",
								 error->context ? "; " : "", error->context ? error->context : "");
	if (!ss_error_names_no_values(error))
	{
		error->message = pstrdup(
			counter ? _("could not change a counter")
					: _("could not change a session that does not belong to the caller"));
		error->hint = pstrdup(
			counter
				? _("See the server log for the error, which may contain data of the counter.")
				: _("See the server log for the error, which may contain data of that session."));
		error->schema_name = error->table_name = error->column_name = NULL;
		error->datatype_name = error->constraint_name = NULL;
	}
	else if (error->constraint_name != NULL)
		error->hint = NULL;
	error->detail = NULL;
	error->context = NULL;
	error->internalquery = NULL;
	error->internalpos = error->cursorpos = 0;
}

static uint64
run_redacted(SsPlan *plan, Datum *values, const char *nulls, SsPlanMode mode, bool counter)
{
	MemoryContext context = CurrentMemoryContext;
	uint64 result = 0;

	if (MyBgworkerEntry != NULL)
		return ss_plan_run(plan, values, nulls, mode, 0);
	PG_TRY();
	{
		result = ss_plan_run(plan, values, nulls, mode, 0);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		hide_values(error, counter);
		ReThrowError(error);
	}
	PG_END_TRY();
	return result;
}

/*
 * As ss_plan_run, for statements on rows that the caller may not see: an error raised for such a row,
 * by a constraint or trigger, is stripped of its values.  A worker has no client, so there the errors
 * are left as they are.
 */
uint64
ss_plan_run_redacted(SsPlan *plan, Datum *values, const char *nulls, SsPlanMode mode)
{
	return run_redacted(plan, values, nulls, mode, false);
}

/* The same for a statement that changes counters. */
uint64
ss_plan_run_on_counter(SsPlan *plan, Datum *values, SsPlanMode mode)
{
	return run_redacted(plan, values, NULL, mode, true);
}
