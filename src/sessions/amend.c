/*
 * amend.c
 *		Replaces one message of a session.
 *
 * Locking and order: as for every change of a history, the session's row is locked first and written
 * before the message (history.c).  So an amend waits for an append, a pop or a trim that is in
 * progress, and then finds the message or not; a logout that came first leaves it no session.
 *
 * Unless it loses its summary, the row records no change of the tail in Redis, since neither its
 * counters nor its history change.  The trigger on conversation_history does, as for an UPDATE by hand:
 * the commit waits at the fence.
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "row/errors.h"
#include "sessions/amend.h"
#include "sessions/change.h"
#include "sessions/events.h"
#include "table/sql.h"

/* Waits for a transaction that removes the message by hand. */
static SsPlan lock_plan = {
	"SELECT 1 FROM {history} WHERE history_id {=} $1 AND seq {=} $2 FOR NO KEY UPDATE",
	2,
	{UUIDOID, INT8OID}};

static SsPlan amend_plan = {
	"UPDATE {history} SET message = $3 WHERE history_id {=} $1 AND seq {=} $2",
	3,
	{UUIDOID, INT8OID, JSONBOID}};

/*
 * Replaces the message with this seq, which keeps its created_at.  Restarts the lifetime as an append
 * does.  False, and nothing changes, when the caller sees no such session or the session has no such
 * message.
 */
bool
ss_history_amend(SsTarget *target, int64 seq, Datum message, int64 turn)
{
	SsChange change = {.history_only = true, .takes_turn = true, .turn = turn};
	Datum values[3];
	StringInfoData detail;

	if (!ss_change_begin_existing(&change, target, SS_EDIT) || change.row.history_null)
		return false;
	values[0] = change.row.history;
	values[1] = Int64GetDatum(seq);
	values[2] = message;
	if (ss_plan_run(&lock_plan, values, NULL, SS_PLAN_WRITE, 1) == 0)
		return false;
	ss_change_drop_summary(&change, seq);
	if (!ss_change_end(&change))
		ss_error_rows_skipped("conversation_sessions");
	if (ss_plan_run(&amend_plan, values, NULL, SS_PLAN_WRITE, 0) != 1)
		ss_error_rows_skipped("conversation_history");
	initStringInfo(&detail);
	ss_event_detail_number(&detail, "seq", seq);
	ss_event(target, &change.row, "amended", &detail);
	return true;
}
