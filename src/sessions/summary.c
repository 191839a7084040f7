/*
 * summary.c
 *		The summary of a session, which stands in for its messages up to a seq.
 *
 * The summary is in the session's row.  The messages stay in the history; only a tail (tail.c) and a
 * window for a model (window.c) begin with the summary instead of them.  There it is an object with one
 * member, {"summary": ..}, so that no message is mistaken for it by its position alone.
 *
 * A summary is removed when a message that it stands in for is popped, amended or replaced
 * (ss_change_drop_summary).  A trim leaves it: the oldest messages are what it was made for.
 *
 * Locking and order: as for every change of a history (history.c).  The commit of a new summary waits at
 * the fence until no strong reader can see the old tail (triggers/cache_trigger.c).
 */
#include "postgres.h"

#include "row/errors.h"
#include "sessions/change.h"
#include "sessions/events.h"
#include "sessions/history.h"
#include "sessions/summary.h"
#include "table/sql.h"

/*
 * Lets a summary stand in for the messages up to a seq, in place of any former summary, and returns the
 * number of these messages in *messages.  Restarts the lifetime as an append does.  False when the
 * caller sees no such session; an error when no message with this seq was ever appended.
 */
bool
ss_summary_set(SsTarget *target, int64 up_to, Datum summary, int64 turn, int64 *messages)
{
	SsChange change = {.history_only = true, .new_summary = true, .takes_turn = true, .turn = turn};
	StringInfoData detail;
	int64 last;

	if (!ss_change_begin_existing(&change, target, SS_EDIT))
		return false;
	/* without a history, last_seq is that of an earlier session under this id */
	last = change.row.history_null ? 0 : change.row.last_seq;
	if (up_to > last)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("up_to is beyond the last message of the session"),
						errdetail("It is " INT64_FORMAT "; the last seq is " INT64_FORMAT ".",
								  up_to, last)));
	*messages = ss_history_count(&change.row, up_to);
	ss_row_set_summary(&change.row, summary, up_to);
	if (!ss_change_end(&change))
		ss_error_rows_skipped("conversation_sessions");
	initStringInfo(&detail);
	ss_event_detail_number(&detail, "up_to", up_to);
	ss_event_detail_number(&detail, "messages", *messages);
	ss_event(target, &change.row, "compacted", &detail);
	return true;
}

/*
 * Pushes what takes the place of the messages that a summary stands in for; returns it if it is the
 * root.
 */
JsonbValue *
ss_summary_push(JsonbParseState **state, Datum summary)
{
	JsonbValue key = {.type = jbvString};
	JsonbValue value;

	key.val.string.val = SS_SUMMARY_MEMBER;
	key.val.string.len = (int) strlen(SS_SUMMARY_MEMBER);
	JsonbToJsonbValue(DatumGetJsonbP(summary), &value);
	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	pushJsonbValue(state, WJB_KEY, &key);
	pushJsonbValue(state, WJB_VALUE, &value);
	return pushJsonbValue(state, WJB_END_OBJECT, NULL);
}
