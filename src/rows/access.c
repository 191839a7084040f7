/*
 * access.c
 *		Whose session is it, and what may the caller do with it?
 *
 * In a namespace with owner_isolation a session is its owner's, and of those with whom it
 * was shared, each in a role.  Who calls is told by the JWT claims (claims.c).  Elsewhere, and for roles with BYPASSRLS, whoever may use the namespace
 * may do everything; this is asked first, for it is nearly always so.
 *
 * Sharing locks the row of the session, and changes look for a membership after
 * they have locked it: so a change waits for an unshare that is under way, and sees it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "compat.h"
#include "rows/access.h"
#include "rows/claims.h"
#include "rows/errors.h"
#include "rows/sql.h"

static SsPlan member_plan = {"SELECT role FROM {members} WHERE history_id {=} $1 AND member {=} $2",
							 2,
							 {UUIDOID, TEXTOID}};

/* Are owners kept apart, as far as this role is concerned? */
bool
ss_access_isolates(const SsPolicy *policy, Oid role)
{
	return policy->owner_isolation && !has_bypassrls_privilege(role);
}

/* What a member's role is good for; false when there is no such role. */
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

/* In which role was a conversation shared with somebody?  False: in none. */
static bool
shared_as(Datum history, const char *subject, SsPlanMode mode, SsNeed *role)
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
 * May this role, as the subject that it is, do with a session what needs this?  Of the row the
 * owner and the history_id are looked at.
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
	return !row->history_null && shared_as(row->history, subject, mode, &shared) && shared >= need;
}

/*
 * The same for a call that changes a session if there is one: true when it may, false
 * when to the caller there is none, an error when there is one that it may see, but no more.
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
