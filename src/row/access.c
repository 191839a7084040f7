/*
 * access.c
 *		Decides what a caller may do with a session.
 *
 * In a namespace with owner_isolation a session is accessible to its owner, and to its members
 * according to their roles.  The caller is the subject of the JWT claims (claims.c).  In other
 * namespaces, a caller that may use the namespace may do everything, as may a role with BYPASSRLS in
 * any namespace that it may use; this is checked first because it is the common case.
 *
 * Locking: sharing locks the session's row, and changing calls read the members after they have
 * locked it.  So a change waits for a concurrent removal of its caller from the members, and sees it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "compat.h"
#include "row/access.h"
#include "row/claims.h"
#include "row/errors.h"
#include "table/sql.h"

static SsPlan member_plan = {"SELECT role FROM {members} WHERE history_id {=} $1 AND member {=} $2",
							 2,
							 {UUIDOID, TEXTOID}};

/* Is this role subject to owner isolation in the namespace? */
bool
ss_access_isolates(const SsPolicy *policy, Oid role)
{
	return policy->owner_isolation && !has_bypassrls_privilege(role);
}

/* Returns in *need the access that a member's role grants; false when there is no such role. */
bool
ss_access_need_of_role(const char *name, SsNeed *need)
{
	static const char *const roles[] = {
		[SS_VIEW] = "viewer", [SS_EDIT] = "editor", [SS_OWN] = "owner"};

	for (int i = 0; i < (int) lengthof(roles); i++)
		if (strcmp(name, roles[i]) == 0)
		{
			*need = i;
			return true;
		}
	return false;
}

/* Returns in *role the access that was granted to a member; false when there is none. */
static bool
member_role(Datum history, const char *subject, SsPlanMode mode, SsNeed *role)
{
	Datum values[2] = {history, CStringGetTextDatum(subject)};
	SsCaller caller;
	bool found;

	ss_sql_enter(&caller);
	found = ss_plan_run(&member_plan, values, NULL, mode, 1) > 0 &&
			ss_access_need_of_role(TextDatumGetCString(ss_sql_value(SPI_tuptable->vals[0],
																	SPI_tuptable->tupdesc, 1,
																	"session_members")),
								   role);
	ss_sql_leave(&caller);
	return found;
}

/*
 * Has the caller the access `need` to a session?  `role` is the calling role.  Of the row only owner
 * and history are used; members are read in the snapshot of `mode`.  May be called outside
 * ss_sql_enter.
 */
bool
ss_access_allows(const SsPolicy *policy, Oid role, const SsRow *row, SsNeed need, SsPlanMode mode)
{
	char *subject;
	SsNeed shared;

	if (!ss_access_isolates(policy, role))
		return true;
	subject = ss_claims_subject();
	if (subject == NULL)
		return false;
	if (!row->owner_null)
	{
		text *owner = DatumGetTextPP(row->owner);

		if (strlen(subject) == VARSIZE_ANY_EXHDR(owner) &&
			memcmp(subject, VARDATA_ANY(owner), strlen(subject)) == 0)
			return true;
	}
	return !row->history_null && member_role(row->history, subject, mode, &shared) &&
		   shared >= need;
}

/*
 * The same for a call that changes a session, with the latest members.  False when the caller may not
 * even view it, so that for the caller there is none; an error when it may view it but lacks `need`.
 */
bool
ss_access_allows_change(const SsTarget *target, const SsRow *row, SsNeed need)
{
	if (ss_access_allows(&target->policy, target->role, row, need, SS_PLAN_LATEST))
		return true;
	if (need > SS_VIEW &&
		ss_access_allows(&target->policy, target->role, row, SS_VIEW, SS_PLAN_LATEST))
		ss_error_not_owner(target);
	return false;
}
