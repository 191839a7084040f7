/*
 * members.c
 *		The members with whom a session is shared.
 *
 * Members refer to the history_id, so that they stay when the session is renamed and are removed when
 * it ends.  Roles of members matter only with owner isolation (access.c); otherwise session_members
 * is a list for the application.
 *
 * With owner isolation any user may share any number of sessions with any other.  So that this costs
 * the member nothing, listings and counts include only sessions that the member has accepted; the
 * index that they use has no other rows.  Access to a single session by its id does not depend on it.
 *
 * Locking: a change of the members locks the session's row first.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "row/access.h"
#include "row/claims.h"
#include "row/row.h"
#include "sessions/change.h"
#include "sessions/events.h"
#include "sessions/history.h"
#include "sessions/members.h"
#include "shared/counters.h"
#include "table/sql.h"

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

/* Records the "shared" event; role is NULL when the member was removed. */
static void
record_shared(const SsTarget *target, const SsRow *row, Datum member, const char *role)
{
	StringInfoData detail;

	initStringInfo(&detail);
	ss_event_detail_text(&detail, "member", TextDatumGetCString(member));
	ss_event_detail_text(&detail, "role", role);
	ss_event(target, row, "shared", &detail);
}

/*
 * Writes the session's row although only its members change.  A statement in plain SQL that waits for
 * the row then re-evaluates its row-level policies; it would not if the row had only been locked.
 */
static void
rewrite_row(const SsTarget *target, SsRow *row)
{
	row->updated_at = GetCurrentTimestamp();
	(void) ss_row_write(target, row, SS_WRITE_HISTORY);
}

/* With owner isolation: is this member the caller?  Otherwise false. */
static bool
is_caller(const SsTarget *target, Datum member)
{
	char *subject = ss_access_isolates(&target->policy, target->role) ? ss_claims_subject() : NULL;

	return subject != NULL && DatumGetBool(DirectFunctionCall2Coll(texteq, C_COLLATION_OID, member,
																   CStringGetTextDatum(subject)));
}

/*
 * Shares a session with a member, or changes the member's role.  False when the caller sees no such
 * session.  A share by an end user must be accepted by the member; a caller that is not subject to
 * owner isolation acts for both, so its shares are accepted at once.
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
	rewrite_row(target, &row);
	values[0] = row.history;
	ss_plan_run(&set_plan, values, NULL, SS_PLAN_LATEST, 0);
	record_shared(target, &row, member, role);
	ss_counter_add(SS_SHARED_WITH, 1);
	return true;
}

/* Removes a member; false when it was none.  Members may remove themselves. */
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
	rewrite_row(target, &row);
	record_shared(target, &row, member, NULL);
	return true;
}

/* Accepts a session for the listings of the caller; false when it was not shared with the caller. */
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

/* Reads the members (member, role, created_at) into SPI_tuptable; returns their number. */
uint64
ss_members_read(const SsRow *row)
{
	Datum values[1] = {row->history};

	return row->history_null ? 0 : ss_plan_run(&read_plan, values, NULL, SS_PLAN_READ, 0);
}
