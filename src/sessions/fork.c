/*
 * fork.c
 *		Copies a session (fork) and merges two sessions into one (absorb).
 *
 * Both rows are locked first, as pair.c describes; then each session is changed as by any other call
 * (change.c).  Everything happens in one subtransaction.
 *
 * A fork copies the messages once, in one statement and as they are stored, and the summary unless it
 * stands in for messages that the fork does not get.  After that the two sessions share nothing, and
 * each can be popped, trimmed and purged by itself.  Absorbing moves messages by updating their rows; a
 * message stored out of line keeps its TOAST value.  The target keeps its summary, if it has one.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "row/access.h"
#include "row/errors.h"
#include "sessions/change.h"
#include "sessions/document.h"
#include "sessions/end.h"
#include "sessions/events.h"
#include "sessions/fork.h"
#include "sessions/history.h"
#include "sessions/operations.h"
#include "sessions/pair.h"
#include "shared/counters.h"
#include "table/sql.h"

static SsPlan copy_plan = {"INSERT INTO {history} (history_id, seq, created_at, message)"
						   " SELECT $1, seq, created_at, message FROM {history}"
						   " WHERE history_id {=} $2 AND seq {<=} $3 ORDER BY seq",
						   3,
						   {UUIDOID, UUIDOID, INT8OID}};

/* By ctid: joined by seq, a generic plan would read all messages once for each of them. */
static SsPlan move_plan = {
	"UPDATE {history} h SET history_id = $1, seq = $2 {+} n.place"
	" FROM (SELECT m.ctid AS row, m.tableoid AS part,"
	"   pg_catalog.row_number() OVER (ORDER BY m.seq) AS place FROM {history} m"
	"  WHERE m.history_id {=} $3 OFFSET 0) n WHERE h.ctid {=} n.row AND h.tableoid {=} n.part",
	3,
	{UUIDOID, INT8OID, UUIDOID}};

static void
record_fork(const SsTarget *source, const SsRow *row, const SsTarget *fork, int64 messages)
{
	StringInfoData detail;

	initStringInfo(&detail);
	ss_event_detail_text(&detail, "new_session_id", TextDatumGetCString(fork->id));
	ss_event_detail_number(&detail, "messages", messages);
	ss_event(source, row, "forked", &detail);
	ss_counter_add(SS_FORKED, 1);
}

/* Arguments and result of fork_session. */
typedef struct Fork
{
	SsTarget *source;
	SsTarget *fork;
	int64 up_to;
	bool found;
} Fork;

/* With both rows locked: creates the fork.  False when another transaction created it meanwhile. */
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
	/* with owner isolation the caller owns the sessions that it creates, forks included */
	owner = row.owner_null || ss_access_isolates(&source->policy, source->role) ? (Datum) 0
																				: row.owner;
	messages = ss_history_count(&row, up_to);
	ss_change_begin(&change, fork, SS_ANY_VERSION, owner);
	if (!change.is_new)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cannot fork onto an existing session"),
				 errhint("Specify another new_session_id, or omit it to use a random one.")));
	change.row.data = row.data;
	change.row.ttl_us = row.ttl_us;
	change.row.expires_at = ss_expiry_is_forever(row.expires_at, row.ttl_us, row.created_at)
								? SS_FOREVER
								: row.expires_at;
	/* last_seq never decreases, also under an id that was used before */
	change.row.last_seq = Max(change.row.last_seq, Min(up_to, row.last_seq));
	change.row.message_count = messages;
	if (row.summary_up_to <= up_to)
		ss_row_set_summary(&change.row, row.summary, row.summary_up_to);
	if (messages > 0 || change.row.summary != (Datum) 0)
		ss_history_assign_id(&change.row);
	if (!ss_change_end(&change))
		return false; /* another transaction created it meanwhile */
	if (messages > 0)
	{
		Datum values[3] = {change.row.history, row.history, Int64GetDatum(up_to)};

		if (ss_plan_run(&copy_plan, values, NULL, SS_PLAN_WRITE, 0) != messages)
			ss_error_rows_skipped("conversation_history");
	}
	record_fork(source, &row, fork, messages);
	return true;
}

/*
 * Creates the session `fork` as a copy of the source, with its messages up to a seq.  False when the
 * caller sees no source; an error when the id of the fork is in use.
 */
bool
ss_session_fork(SsTarget *source, SsTarget *fork, int64 up_to)
{
	Fork call = {source, fork, up_to, false};

	/* a caller that sees no source must lock neither row */
	if (!ss_session_may_lock(source, SS_VIEW))
		return false;
	ss_pair_run(source, fork, fork_session, &call, NULL);
	return call.found;
}

static void
record_absorption(const SsTarget *target, const SsRow *row, const SsTarget *source,
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
	ss_counter_add(SS_ABSORBED, 1);
	ss_counter_add(SS_DELETED, 1);
}

/* Arguments and results of absorb_session. */
typedef struct Absorption
{
	SsTarget *target;
	SsTarget *source;
	int64 moved;
	bool found;
} Absorption;

/* With both rows locked: merges the documents, moves messages and operations, ends the source. */
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
	bool operations;

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
	}
	operations = ss_operation_exists(&row);
	if (call->moved > 0 || operations)
		ss_history_assign_id(&change.row);
	if (!ss_change_end(&change))
		ss_error_rows_skipped("conversation_sessions");
	ss_session_end(source, &row);
	/* a repeated call is then not carried out twice on the target */
	if (operations)
		ss_operation_move(&was, &change.row, base);
	if (call->moved > 0)
	{
		Datum values[3] = {change.row.history, Int64GetDatum(base), was.history};

		if (ss_plan_run(&move_plan, values, NULL, SS_PLAN_WRITE, 0) != call->moved)
			ss_error_rows_skipped("conversation_history");
	}
	record_absorption(target, &change.row, source, &was, call->moved);
	return true;
}

/*
 * Merges the source into the target and ends the source; *moved is the number of messages moved.
 * False when the caller does not see both; an error when it may view but not change one of them.
 */
bool
ss_session_absorb(SsTarget *target, SsTarget *source, int64 *moved)
{
	Absorption call = {target, source, 0, false};

	*moved = 0;
	if (!ss_session_may_lock(target, SS_EDIT) || !ss_session_may_lock(source, SS_OWN))
		return false;
	ss_pair_run(target, source, absorb_session, &call, NULL);
	*moved = call.moved;
	return call.found;
}
