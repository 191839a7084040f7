/*
 * errors.c
 *		The errors that tell a caller about a session.
 *
 * Session ids are secrets as often as not, and messages end up in logs: none of
 * them names the id.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/builtins.h"

#include "rows/change.h"
#include "rows/errors.h"
#include "rows/sql.h"
#include "shared.h"

void
ss_error_dead(const SsTarget *target)
{
	ss_count(SS_ERROR_DEAD, 1);
	ereport(
		ERROR,
		(errcode(ERRCODE_SS_DEAD_ID), errmsg("session has ended"),
		 errdetail(
			 "It was deleted, evicted, regenerated or absorbed, and its id stays dead for a while "
			 "in namespace \"%s\".",
			 target->policy.name),
		 errhint(
			 "Begin anew under a new id; session_save() with if_version => 0 uses this one again.")));
}

/* The same, for a statement of plain SQL. */
void
ss_error_dead_row(Datum ns)
{
	ss_count(SS_ERROR_DEAD, 1);
	ereport(
		ERROR,
		(errcode(ERRCODE_SS_DEAD_ID), errmsg("session has ended"),
		 errdetail("It was deleted, evicted, regenerated or absorbed, and its id stays dead for a "
				   "while in namespace \"%s\".",
				   TextDatumGetCString(ns)),
		 errhint("Begin a session under a new id; a statement that sets dead_until to NULL as well "
				 "uses this one again.")));
}

void
ss_error_conflict(int64 wanted, int64 found)
{
	char *expected = wanted == SS_MUST_NOT_EXIST ? pstrdup("no session")
					 : wanted == SS_MUST_EXIST   ? pstrdup("a session")
												 : psprintf("version " INT64_FORMAT, wanted);

	ss_count(SS_ERROR_CONFLICT, 1);
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE), errmsg("session version conflict"),
			 found > 0 ? errdetail("Expected %s, found version " INT64_FORMAT ".", expected, found)
					   : errdetail("Expected %s, found no session.", expected),
			 errhint("Read the session again before retrying.")));
}

void
ss_error_not_owner(const SsTarget *target)
{
	ss_count(SS_ERROR_DENIED, 1);
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for session in namespace \"%s\"", target->policy.name),
			 errdetail("The namespace isolates owners, and the session is neither the caller's nor "
					   "shared with it in a sufficient role.")));
}

void
ss_error_operation_reused(void)
{
	ss_count(SS_ERROR_CONFLICT, 1);
	ereport(
		ERROR,
		(errcode(ERRCODE_SS_OPERATION_REUSED), errmsg("operation_id was used with other messages"),
		 errdetail("An append to this session had the same operation_id and other content."),
		 errhint("Give each append an operation_id of its own, and a retry the same messages.")));
}

/* A statement of ours did not do what it must. */
void
ss_error_rows_skipped(const char *table)
{
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("rows of %s were not written as they should be", table),
					errhint("Look for a trigger or a rule on it that skips rows.")));
}

void
ss_error_quota(const SsTarget *target, bool busy)
{
	ss_count(SS_ERROR_QUOTA, 1);
	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("too many sessions for this owner"),
			 errdetail(busy ? "Namespace \"%s\" allows %d, and the older ones are in use by other "
							  "transactions right now."
							: "Namespace \"%s\" allows %d.",
					   target->policy.name, target->policy.max_per_owner),
			 busy ? errhint("Retry.")
				  : errhint("End another session of this owner first, or raise "
							"max_sessions_per_owner.")));
}

/*
 * Classes of errors whose messages name objects and not values: constraints, privileges, objects that are
 * missing, locks, limits, the server's own troubles, and ours.
 */
static bool
names_no_values(int code)
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
 * Does an error come from the server or from us?  A function in PL/pgSQL gives its own any code and
 * text; of those that a parallel worker passes on only the place is left.
 */
static bool
is_of_server(const ErrorData *error)
{
	return error->domain != NULL && strcmp(error->domain, PG_TEXTDOMAIN("postgres")) == 0 &&
		   (error->filename == NULL || strcmp(error->filename, "pl_exec.c") != 0);
}

/* Has an error a message that tells nothing of a row? */
bool
ss_error_names_no_values(const ErrorData *error)
{
	return names_no_values(error->sqlerrcode) && is_of_server(error);
}

/* Leave in an error what the caller may know; the rest is for the server log. */
static void
hide_values(ErrorData *error)
{
	error->detail_log = psprintf("%s%s%s%s%s%s%s", error->message ? error->message : "",
								 error->detail ? "; " : "", error->detail ? error->detail : "",
								 error->hint ? "; " : "", error->hint ? error->hint : "",
								 error->context ? "; " : "", error->context ? error->context : "");
	if (!ss_error_names_no_values(error))
	{
		error->message = pstrdup(_("a session that is not the caller's could not be changed"));
		error->hint = pstrdup(_("The server log has the error, which may tell of that session."));
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

/*
 * As ss_plan_run, for rows that are not the caller's: an error that such a row raises does not
 * show what is in it.  In a worker there is nobody to show it to.
 */
uint64
ss_plan_run_redacted(SsPlan *plan, Datum *values, const char *nulls, SsPlanMode mode)
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
		hide_values(error);
		ReThrowError(error);
	}
	PG_END_TRY();
	return result;
}
