/*
 * members.c
 *		With whom a session is shared.
 *
 * Members belong to the conversation, so that they stay when the session gets another id
 * and go when it ends.  What a member may do only matters where owners are kept apart
 * (access.c); elsewhere this is a list for the application.
 *
 * There, anybody may share any number of sessions with anybody.  So that this costs the member
 * nothing, listings and counts include only what the member has accepted: the index that they use
 * holds no other rows.  Access to one session by its id does not depend on it.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "rows/claims.h"
#include "rows/events.h"
#include "rows/history.h"
#include "rows/members.h"
#include "rows/sql.h"
#include "shared.h"

static SsPlan set_plan = {
	"INSERT INTO {members} AS m (history_id, member, role, accepted) VALUES ($1, $2, $3, $4)"
	" ON CONFLICT (history_id, member) DO UPDATE SET role = EXCLUDED.role,"
	" accepted = m.accepted OR EXCLUDED.accepted",
	4,
	{UUIDOID, TEXTOID, TEXTOID, BOOLOID}};

static SsPlan accept_plan = {
	"UPDATE {members} SET accepted = true WHERE history_id {=} $1 AND member {=} $2",
	2,
	{UUIDOID, TEXTOID}};

static SsPlan remove_plan = {"DELETE FROM {members} WHERE history_id {=} $1 AND member {=} $2",
							 2,
							 {UUIDOID, TEXTOID}};

static SsPlan read_plan = {"SELECT member, role, created_at FROM {members}"
						   " WHERE history_id {=} $1 ORDER BY created_at, member",
						   1,
						   {UUIDOID}};

static void
tell(const SsTarget *target, const SsRow *row, Datum member, const char *role)
{
	StringInfoData detail;

	initStringInfo(&detail);
	ss_event_detail_text(&detail, "member", TextDatumGetCString(member));
	ss_event_detail_text(&detail, "role", role);
	ss_event(target, row, "shared", &detail);
}

/*
 * Write the session's row anew.  A statement of plain SQL that waits for it asks its policies again
 * then, which it would not for a row that was but locked.
 */
static void
renew(const SsTarget *target, SsRow *row)
{
	row->updated_at = GetCurrentTimestamp();
	ss_row_write_history(target, row);
}

/* Is this member the caller, as far as owners are kept apart? */
static bool
is_caller(const SsTarget *target, Datum member)
{
	char *subject = ss_access_isolates(&target->policy, target->role) ? ss_claims_subject() : NULL;

	return subject != NULL && DatumGetBool(DirectFunctionCall2Coll(texteq, C_COLLATION_OID, member,
																   CStringGetTextDatum(subject)));
}

/*
 * Share a session in a role, or in another than before; false when there is no session.  What an
 * end user shares with another one waits to be accepted; a role that is not bound by owner
 * isolation acts for both.
 */
bool
ss_member_set(SsTarget *target, Datum member, const char *role)
{
	bool accepted = !ss_access_isolates(&target->policy, target->role) || is_caller(target, member);
	Datum values[4] = {(Datum) 0, member, CStringGetTextDatum(role), BoolGetDatum(accepted)};
	SsRow row;

	if (!ss_session_lock(target, &row, SS_OWN))
		return false;
	ss_history_assign_id(&row);
	renew(target, &row);
	values[0] = row.history;
	ss_plan_run(&set_plan, values, NULL, SS_PLAN_LATEST, 0);
	tell(target, &row, member, role);
	ss_count(SS_SHARED_WITH, 1);
	return true;
}

/* Share it no more; false when it was not shared.  Anybody may leave. */
bool
ss_member_remove(SsTarget *target, Datum member)
{
	Datum values[2] = {(Datum) 0, member};
	SsRow row;

	if (!ss_session_lock(target, &row, is_caller(target, member) ? SS_VIEW : SS_OWN) ||
		row.history_null)
		return false;
	values[0] = row.history;
	if (ss_plan_run(&remove_plan, values, NULL, SS_PLAN_LATEST, 0) == 0)
		return false;
	renew(target, &row);
	tell(target, &row, member, NULL);
	return true;
}

/* Take what was shared with the caller into its listings; false when it was not shared. */
bool
ss_member_accept(const SsRow *row)
{
	char *subject = ss_claims_subject();
	Datum values[2] = {row->history, (Datum) 0};

	if (subject == NULL || row->history_null)
		return false;
	values[1] = CStringGetTextDatum(subject);
	return ss_plan_run(&accept_plan, values, NULL, SS_PLAN_WRITE, 0) > 0;
}

/* The members, left in SPI_tuptable. */
uint64
ss_members_read(const SsRow *row)
{
	Datum values[1] = {row->history};

	return row->history_null ? 0 : ss_plan_run(&read_plan, values, NULL, SS_PLAN_READ, 0);
}
