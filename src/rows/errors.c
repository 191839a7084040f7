/*
 * errors.c
 *		The errors that tell a caller about a session.
 *
 * Session ids are secrets as often as not, and messages end up in logs: none of
 * them names the id.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "rows/change.h"
#include "rows/errors.h"
#include "shared.h"

void
ss_error_dead(const SsTarget *target)
{
	ss_count(SS_ERROR_DEAD, 1);
	ereport(
		ERROR,
		(errcode(ERRCODE_SS_DEAD_ID), errmsg("session has ended"),
		 errdetail("Its id was deleted, regenerated or absorbed, and stays dead for a while in "
				   "namespace \"%s\".",
				   target->policy.name),
		 errhint(
			 "Begin anew under a new id; session_save() with if_version => 0 uses this one again.")));
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
