/*
 * row_access.c
 *		Restricts what a role that was granted conversation_sessions may write.
 *
 * Row-level policies decide which rows a role may write, but not which values.  A role that passes
 * the policies must not be able to do in plain SQL what the functions refuse: give a session to
 * another owner, change its age, exhaust its version counter, extend its life beyond what its ttl
 * and the policy allow, bring it back after it has expired, or create a tombstone.
 *
 * A restricted role may set session_data, ttl, expires_at (at most ttl from now, and within
 * max_lifetime), and owner_id (with owner isolation its own in an INSERT, and no other in an
 * UPDATE).  created_at, in an INSERT, and updated_at are set to the current time, whatever the
 * statement gives.  Other columns are refused.  docs/security.md has this as a table.
 *
 * Not restricted are the roles that policies do not restrict either: the owner of the tables, as
 * which the functions act, roles with its privileges, and roles with BYPASSRLS.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/timestamp.h"

#include "base/expiry.h"
#include "compat.h"
#include "row/access.h"
#include "row/errors.h"
#include "row/row_access.h"
#include "row/session.h"
#include "table/catalog.h"
#include "table/sql.h"

/* Is the current role restricted, by policies and so by this file? */
bool
ss_row_access_is_restricted(const SsCatalog *catalog)
{
	Oid role = GetUserId();

	return role != catalog->owner && !has_privs_of_role(role, catalog->owner) &&
		   !has_bypassrls_privilege(role);
}

/* Raise the error for a column that a restricted role may not set. */
static void
refuse_column(const SsDeformedRow *t, int column)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to set column \"%s\" of a session",
					NameStr(TupleDescAttr(t->desc, column - 1)->attname)),
			 errdetail("A role that has privileges on the table may set session_data, "
					   "ttl, expires_at and owner_id."),
			 errhint("Call the functions of session_store, or use the role that owns the table.")));
}

/* Find the policy of a row's namespace and store it in target->policy; false if there is none. */
static bool
find_policy(const SsDeformedRow *t, SsTarget *target)
{
	text *ns;

	memset(target, 0, sizeof(*target));
	if (t->nulls[SS_ROW_NAMESPACE])
		return false;
	ns = DatumGetTextPP(t->values[SS_ROW_NAMESPACE]);
	return ss_ns_find(VARDATA_ANY(ns), VARSIZE_ANY_EXHDR(ns), &target->policy);
}

/* Apply the restrictions to an INSERT: the row must be what a function would insert. */
void
ss_row_access_insert(SsDeformedRow *new)
{
	static const int nulls[] = {SS_ROW_HISTORY_ID, SS_ROW_DEAD_UNTIL,   SS_ROW_CHECK_AT,
								SS_ROW_TURN,       SS_ROW_TURN_UNTIL,   SS_ROW_TURN_HOLDER,
								SS_ROW_SUMMARY,    SS_ROW_SUMMARY_UP_TO};
	static const struct
	{
		int column;
		int64 value;
	} numbers[] = {{SS_ROW_VERSION, 1}, {SS_ROW_LAST_SEQ, 0}, {SS_ROW_MESSAGE_COUNT, 0}};
	TimestampTz now = GetCurrentTimestamp();
	Oid role = GetUserId();
	SsTarget target;

	for (int i = 0; i < (int) lengthof(nulls); i++)
		if (!new->nulls[nulls[i]])
			refuse_column(new, nulls[i]);
	for (int i = 0; i < (int) lengthof(numbers); i++)
		if (!new->nulls[numbers[i].column] &&
			DatumGetInt64(new->values[numbers[i].column]) != numbers[i].value)
			refuse_column(new, numbers[i].column);
	ss_row_replace(new, SS_ROW_CREATED_AT, TimestampTzGetDatum(now));
	ss_row_replace(new, SS_ROW_UPDATED_AT, TimestampTzGetDatum(now));
	if (find_policy(new, &target) && ss_access_isolates(&target.policy, role))
	{
		SsRow row = {0};

		row.owner = new->values[SS_ROW_OWNER_ID];
		row.owner_null = new->nulls[SS_ROW_OWNER_ID];
		row.history_null = true;
		if (!ss_access_allows(&target.policy, role, &row, SS_OWN, SS_PLAN_LATEST))
			ss_error_not_owner(&target);
	}
}

/* Apply the restrictions to an UPDATE, apart from those on lifetime. */
void
ss_row_access_update(const SsDeformedRow *old, SsDeformedRow *new)
{
	static const int fixed[] = {SS_ROW_NAMESPACE,  SS_ROW_SESSION_ID,   SS_ROW_HISTORY_ID,
								SS_ROW_DEAD_UNTIL, SS_ROW_VERSION,      SS_ROW_LAST_SEQ,
								SS_ROW_CREATED_AT, SS_ROW_CHECK_AT,     SS_ROW_MESSAGE_COUNT,
								SS_ROW_TURN,       SS_ROW_TURN_UNTIL,   SS_ROW_TURN_HOLDER,
								SS_ROW_SUMMARY,    SS_ROW_SUMMARY_UP_TO};
	SsTarget target;

	for (int i = 0; i < (int) lengthof(fixed); i++)
		if (ss_row_differs(old, new, fixed[i]))
			refuse_column(new, fixed[i]);
	if (ss_row_differs(old, new, SS_ROW_UPDATED_AT))
		ss_row_replace(new, SS_ROW_UPDATED_AT, TimestampTzGetDatum(GetCurrentTimestamp()));
	if (ss_row_differs(old, new, SS_ROW_OWNER_ID) && find_policy(old, &target) &&
		ss_access_isolates(&target.policy, GetUserId()))
		ss_error_not_owner(&target);
}

/*
 * Raise the error for an attempt to revoke an expiry, which is reserved to the owner of the
 * tables.
 */
void
ss_row_access_refuse_return(void)
{
	ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("permission denied to revive an expired session"),
					errhint("Set session_data as well, which creates a new session.")));
}

/*
 * Apply the restrictions on lifetime: expires_at is at most ttl from now, or any time if ttl is null,
 * and within the policy's max_lifetime.  It may always be lowered.  ttl and times were checked before;
 * old is NULL for an INSERT.
 */
void
ss_row_access_lifetime(const SsDeformedRow *old, const SsDeformedRow *new)
{
	SsTarget target;
	int64 max_lifetime_us = SS_NO_LIMIT;
	TimestampTz created_at;
	TimestampTz limit;

	if (new->nulls[SS_ROW_EXPIRES_AT] || new->nulls[SS_ROW_CREATED_AT] ||
		(old != NULL && DatumGetTimestampTz(new->values[SS_ROW_EXPIRES_AT]) <=
							DatumGetTimestampTz(old->values[SS_ROW_EXPIRES_AT])))
		return;
	if (find_policy(new, &target))
		max_lifetime_us = target.policy.max_lifetime_us;
	created_at = DatumGetTimestampTz(new->values[SS_ROW_CREATED_AT]);
	limit = new->nulls[SS_ROW_TTL]
				? ss_expiry_fixed(SS_FOREVER, created_at, max_lifetime_us)
				: ss_expiry(GetCurrentTimestamp(), ss_interval_usec(new->values[SS_ROW_TTL]),
							created_at, max_lifetime_us);
	if (DatumGetTimestampTz(new->values[SS_ROW_EXPIRES_AT]) > limit)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied to extend a session beyond its ttl"),
						errdetail("expires_at must not be later than ttl from now, nor exceed "
								  "the max_lifetime of the namespace."),
						errhint("Set ttl as well, or omit expires_at.")));
}
