/*
 * fork.c
 *		Two sessions at once: one that becomes two, two that become one.
 *
 * Both are locked before anything is done, without holding one while waiting for the other (pair.c).
 * Then each goes the way of any change (change.c).
 *
 * A fork copies the messages once, in one statement and as they are stored; from
 * then on the two have nothing in common, and each can be popped, trimmed and purged by
 * itself.  Absorbing moves messages: a long one stays where it is, only its row is
 * written anew.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "rows/document.h"
#include "rows/errors.h"
#include "rows/events.h"
#include "rows/fork.h"
#include "rows/history.h"
#include "rows/pair.h"
#include "rows/sql.h"
#include "shared.h"

static SsPlan copy_plan = {"INSERT INTO {history} (history_id, seq, created_at, message)"
						   " SELECT $1, seq, created_at, message FROM {history}"
						   " WHERE history_id {=} $2 AND seq {<=} $3 ORDER BY seq",
						   3,
						   {UUIDOID, UUIDOID, INT8OID}};

/*
 * Operations go along, so that an append that is repeated after the absorption is not carried out
 * twice: operation_last gets the new seq of the same message (of one before it, where that was
 * popped).  Where the target has had an operation of the same id, that one stands.
 */
static SsPlan move_plan = {
	"UPDATE {history} h SET history_id = $1, seq = $2 {+} n.place,"
	" operation_id = CASE WHEN n.known THEN NULL ELSE h.operation_id END,"
	" operation_hash = CASE WHEN n.known THEN NULL ELSE h.operation_hash END,"
	" operation_last = CASE WHEN n.known OR h.operation_last IS NULL THEN NULL ELSE $2 {+} n.place {+}"
	" (SELECT pg_catalog.count(*) FROM {history} p WHERE p.history_id {=} $3"
	" AND p.seq {>} h.seq AND p.seq {<=} h.operation_last) END"
	" FROM (SELECT m.seq, pg_catalog.row_number() OVER (ORDER BY m.seq) AS place,"
	" t.operation_id IS NOT NULL AS known FROM {history} m LEFT JOIN {history} t"
	" ON t.history_id {=} $1 AND t.operation_id {=} m.operation_id"
	" WHERE m.history_id {=} $3) n WHERE h.history_id {=} $3 AND h.seq {=} n.seq",
	3,
	{UUIDOID, INT8OID, UUIDOID}};

static void
tell_of_fork(const SsTarget *source, const SsRow *row, const SsTarget *fork, int64 messages)
{
	StringInfoData detail;

	initStringInfo(&detail);
	ss_event_detail_text(&detail, "new_session_id", TextDatumGetCString(fork->id));
	ss_event_detail_number(&detail, "messages", messages);
	ss_event(source, row, "forked", &detail);
	ss_count(SS_FORKED, 1);
}

typedef struct Fork
{
	SsTarget *source;
	SsTarget *fork;
	int64 up_to;
	bool found;
} Fork;

static bool
fork_session(void *arg)
{
	Fork *call = arg;
	SsTarget *source = call->source;
	SsTarget *fork = call->fork;
	int64 up_to = call->up_to;
	SsChange change = {.exempt_id = source->id};
	SsRow row;
	Datum owner;
	int64 messages;

	call->found = ss_session_lock(source, &row, SS_VIEW);
	if (!call->found)
		return true;
	/* where owners are kept apart, the copy is the caller's, as what anybody makes is */
	owner = row.owner_null || ss_access_isolates(&source->policy, source->role) ? (Datum) 0
																				: row.owner;
	messages = ss_history_count(&row, up_to);
	ss_change_begin(&change, fork, SS_ANY_VERSION, owner);
	if (!change.is_new)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("cannot fork onto a session that exists"),
						errhint("Give another new_session_id, or none for a random one.")));
	change.row.data = row.data;
	change.row.ttl = row.ttl;
	/* an id that was used before goes on counting from there */
	change.row.last_seq = Max(change.row.last_seq, Min(up_to, row.last_seq));
	change.row.message_count = messages;
	if (messages > 0)
		ss_history_assign_id(&change.row);
	if (!ss_change_end(&change))
		return false; /* somebody made it meanwhile */
	if (messages > 0)
	{
		Datum values[3] = {change.row.history, row.history, Int64GetDatum(up_to)};

		if (ss_plan_run(&copy_plan, values, NULL, SS_PLAN_WRITE, 0) != messages)
			ss_error_rows_skipped("conversation_history");
	}
	tell_of_fork(source, &row, fork, messages);
	return true;
}

/* Begin the session `fork` as a copy of the source; false when there is no source. */
bool
ss_session_fork(SsTarget *source, SsTarget *fork, int64 up_to)
{
	Fork call = {source, fork, up_to, false};

	/* neither row is locked for a caller to whom there is no source */
	if (!ss_session_may_lock(source, SS_VIEW))
		return false;
	ss_pair_run(source, fork, fork_session, &call);
	return call.found;
}

static void
tell_of_absorption(const SsTarget *target, const SsRow *row, const SsTarget *source,
				   const SsRow *ended, int64 messages)
{
	StringInfoData detail;

	initStringInfo(&detail);
	ss_event_detail_text(&detail, "source", TextDatumGetCString(source->id));
	ss_event_detail_number(&detail, "messages", messages);
	ss_event(target, row, "absorbed", &detail);
	resetStringInfo(&detail);
	ss_event_detail_text(&detail, "absorbed_by", TextDatumGetCString(target->id));
	ss_event(source, ended, "deleted", &detail);
	ss_count(SS_ABSORBED, 1);
	ss_count(SS_DELETED, 1);
}

typedef struct Absorption
{
	SsTarget *target;
	SsTarget *source;
	int64 moved;
	bool found;
} Absorption;

static bool
absorb_session(void *arg)
{
	Absorption *call = arg;
	SsTarget *target = call->target;
	SsTarget *source = call->source;
	SsChange change = {0};
	SsRow row;
	SsRow was;
	int64 base;

	call->found = ss_change_begin_existing(&change, target, SS_EDIT) &&
				  ss_session_lock(source, &row, SS_OWN);
	if (!call->found)
		return true;

	was = row;
	base = change.row.last_seq;
	call->moved = ss_history_count(&row, PG_INT64_MAX);
	change.row.data = JsonbPGetDatum(
		ss_document_absorb(DatumGetJsonbP(change.row.data), DatumGetJsonbP(row.data)));
	ss_document_check(&target->policy, change.row.data, "session document");
	if (call->moved > 0)
	{
		change.row.last_seq = ss_history_next_seq(&change.row, call->moved);
		change.row.message_count = ss_history_add_count(change.row.message_count, call->moved);
		ss_history_assign_id(&change.row);
	}
	if (!ss_change_end(&change))
		ss_error_rows_skipped("conversation_sessions");
	ss_session_end(source, &row);
	if (call->moved > 0)
	{
		Datum values[3] = {change.row.history, Int64GetDatum(base), was.history};

		if (ss_plan_run(&move_plan, values, NULL, SS_PLAN_WRITE, 0) != call->moved)
			ss_error_rows_skipped("conversation_history");
	}
	tell_of_absorption(target, &change.row, source, &was, call->moved);
	return true;
}

/* Merge the source into the target, and end it; false when there is not both of them. */
bool
ss_session_absorb(SsTarget *target, SsTarget *source, int64 *moved)
{
	Absorption call = {target, source, 0, false};

	*moved = 0;
	if (!ss_session_may_lock(target, SS_EDIT) || !ss_session_may_lock(source, SS_OWN))
		return false;
	ss_pair_run(target, source, absorb_session, &call);
	*moved = call.moved;
	return call.found;
}
