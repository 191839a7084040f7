/*
 * forget.c
 *		Removes what a namespace holds of an owner, in one transaction.
 *
 * In this order:
 *
 *		1. The owner's memberships in sessions of others.
 *		2. The owner's sessions.  Those that are alive become tombstones without an owner, with owner
 *		   isolation too; then the id is dead for everybody until it runs out.  Rows that are not alive
 *		   (expired, or tombstones that kept the owner) lose document and owner; an expired one becomes
 *		   a tombstone that has run out, which the purge removes, and its id stays free.
 *		3. The histories of these sessions, and of sessions of the owner that ended before: messages,
 *		   operations and members.  The trigger on conversation_sessions has queued all of them with
 *		   the owner, so the queue is where they are found.
 *		4. The owner's events, and the owner's name in events of others.
 *
 * Order of locks: first the namespace's SS_LOCK_FORGET, which is kept until the transaction ends.  Two
 * calls for owners who share sessions with each other remove the same members, each in an order of its
 * own, and so would wait for each other.  A membership is removed without a lock on its session,
 * which belongs to another owner, and before any row of a session is locked.  So a change that its
 * member is making at that moment may still commit; it counts as made before.  Sessions are ended as
 * by session_delete_all, under SS_LOCK_DELETE of the owner and with the same passes (owners.c).
 * Queue entries are locked before their messages, operations and members, as the purge does, which
 * waits for none of them except members of an entry that it has locked.
 *
 * Every statement takes a new snapshot, at every isolation level, so that it sees what a transaction
 * committed that an earlier one waited for.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "row/errors.h"
#include "row/tombstone.h"
#include "sessions/events.h"
#include "sessions/forget.h"
#include "sessions/owner_lock.h"
#include "sessions/selection.h"
#include "shared/counters.h"
#include "table/sql.h"

/* Number of histories that are removed by one statement. */
#define HISTORIES 100

/* Maximum number of queue entries that one statement reads: it reads the whole queue to find them. */
#define ENTRIES 100000

/* Maximum number of passes over the owner's sessions; see owners.c. */
#define MAX_PASSES 100

/* The namespace of a membership's session, which may have ended.  A scalar subquery is never hashed. */
#define REMOVE_MEMBERSHIPS(accepted)                                                         \
	{                                                                                        \
		"DELETE FROM {members} m WHERE " accepted                                            \
		" AND m.member COLLATE pg_catalog.\"POSIX\" {=} $2"                                  \
		" AND COALESCE((SELECT s.namespace FROM {sessions} s"                                \
		"   WHERE s.history_id {=} m.history_id),"                                           \
		"  (SELECT e.namespace FROM {ended} e WHERE e.history_id {=} m.history_id LIMIT 1))" \
		" {=} $1",                                                                           \
			2,                                                                               \
		{                                                                                    \
			TEXTOID, TEXTOID                                                                 \
		}                                                                                    \
	}

static SsPlan remove_unaccepted_plan = REMOVE_MEMBERSHIPS("NOT m.accepted");
static SsPlan remove_accepted_plan = REMOVE_MEMBERSHIPS("m.accepted");

/* The three statements about sessions have the same parameters. */
#define OF_OWNER " WHERE namespace {=} $1 AND owner_id {=} $2"
#define SESSION_ARGS                                  \
	4,                                                \
	{                                                 \
		TEXTOID, TEXTOID, INTERVALOID, TIMESTAMPTZOID \
	}

static SsPlan end_plan = {"UPDATE {sessions} SET " SS_SQL_TOMBSTONE("$3", "false") OF_OWNER
						  " AND " SS_SQL_ALIVE("$4"),
						  SESSION_ARGS};

/* A tombstone keeps its time. */
static SsPlan blank_plan = {
	"UPDATE {sessions} SET " SS_SQL_EMPTY_ROW ", owner_id = NULL,"
	" expires_at = LEAST(expires_at, pg_catalog.clock_timestamp()),"
	" dead_until = COALESCE(dead_until, pg_catalog.clock_timestamp())" OF_OWNER
	" AND NOT (" SS_SQL_ALIVE("$4") ")",
	SESSION_ARGS};

static SsPlan left_plan = {"SELECT 1 FROM {sessions}" OF_OWNER " LIMIT 1", SESSION_ARGS};

/* Queue entries of the owner; in_use: plain SQL has put the history back into a session. */
enum
{
	QUEUE_ENTRY_ID = 1,
	QUEUE_HISTORY_ID,
	QUEUE_IN_USE
};

static SsPlan queue_plan = {
	"SELECT e.entry_id, e.history_id,"
	" EXISTS (SELECT FROM {sessions} s WHERE s.history_id {=} e.history_id) FROM {ended} e"
	" WHERE e.namespace {=} $1 AND e.owner_id {=} $2 ORDER BY e.history_id LIMIT $3 FOR UPDATE OF e",
	3,
	{TEXTOID, TEXTOID, INT8OID}};

#define REMOVE_HISTORIES(table)                                                   \
	{                                                                             \
		"DELETE FROM " table " WHERE history_id {=} ANY ($1)", 1, {UUIDARRAYOID}, \
			.flags = SS_PLAN_PURGES_MESSAGES                                      \
	}

static SsPlan remove_messages_plan = REMOVE_HISTORIES("{history}");
static SsPlan remove_operations_plan = REMOVE_HISTORIES("{operations}");
static SsPlan remove_members_plan = REMOVE_HISTORIES("{members}");

static SsPlan rest_plan = {
	"SELECT 1 FROM {history} WHERE history_id {=} ANY ($1)"
	" UNION ALL SELECT 1 FROM {operations} WHERE history_id {=} ANY ($1)"
	" UNION ALL SELECT 1 FROM {members} WHERE history_id {=} ANY ($1) LIMIT 1",
	1,
	{UUIDARRAYOID}};

static SsPlan remove_entries_plan = {"DELETE FROM {ended} WHERE entry_id {=} ANY ($1)",
									 1,
									 {UUIDARRAYOID}};

/* Events: the owner's, and those of others whose detail names the owner. */
#define NAMES_OWNER(member) "pg_catalog.jsonb_extract_path_text(detail, '" member "') {=} $2"
#define OF_OTHERS                                                        \
	" WHERE namespace {=} $1 AND (owner_id IS NULL OR owner_id {<>} $2)" \
	" AND (" NAMES_OWNER("subject") " OR " NAMES_OWNER("member") ")"
#define BLANK(member)                                                                     \
	" {||} CASE WHEN " NAMES_OWNER(member) " THEN pg_catalog.jsonb_build_object('" member \
										   "', NULL::pg_catalog.text)"                    \
										   " ELSE pg_catalog.jsonb_build_object() END"

static SsPlan remove_events_plan = {"DELETE FROM {events}" OF_OWNER, 2, {TEXTOID, TEXTOID}};

static SsPlan blank_events_plan = {"UPDATE {events} SET detail = detail" BLANK("subject")
									   BLANK("member") OF_OTHERS,
								   2,
								   {TEXTOID, TEXTOID}};

static SsPlan left_events_plan = {"SELECT 1 FROM {events}" OF_OWNER " LIMIT 1",
								  2,
								  {TEXTOID, TEXTOID}};

static SsPlan count_events_plan = {"SELECT (SELECT pg_catalog.count(*) FROM {events}" OF_OWNER
								   ") {+} (SELECT pg_catalog.count(*) FROM {events}" OF_OTHERS ")",
								   2,
								   {TEXTOID, TEXTOID}};

/* What was removed.  `kept` is the number of events that name the owner and were kept. */
typedef struct Removed
{
	int64 sessions;     /* that were alive */
	int64 ended_before; /* rows of sessions that had expired or were tombstones */
	int64 messages;
	int64 members; /* shares that the owner had given */
	int64 memberships;
	int64 operations;
	int64 events;
	int64 kept;
} Removed;

/* Removes memberships of the owner, accepted or not; returns their number. */
static int64
remove_memberships(const SsTarget *target, Datum owner)
{
	Datum values[2] = {target->ns, owner};

	return (int64) (ss_plan_run_redacted(&remove_unaccepted_plan, values, NULL, SS_PLAN_LATEST) +
					ss_plan_run_redacted(&remove_accepted_plan, values, NULL, SS_PLAN_LATEST));
}

/* Ends the owner's sessions, and blanks rows that are not alive. */
static void
end_sessions(const SsTarget *target, Datum owner, Removed *removed)
{
	Datum values[4] = {target->ns, owner,
					   IntervalPGetDatum(ss_make_interval(target->policy.tombstone_us))};
	LOCKTAG lock;
	int passes = 0;

	ss_owner_lock_tag(&lock, target, owner, SS_LOCK_DELETE);
	(void) LockAcquire(&lock, ExclusiveLock, false, false);
	for (;;)
	{
		uint64 ended;
		uint64 blanked;

		CHECK_FOR_INTERRUPTS();
		values[3] = ss_alive_param(target);
		ended = ss_plan_run_redacted(&end_plan, values, NULL, SS_PLAN_LATEST);
		blanked = ss_plan_run_redacted(&blank_plan, values, NULL, SS_PLAN_LATEST);
		removed->sessions += (int64) ended;
		removed->ended_before += (int64) blanked;
		if (ss_plan_run(&left_plan, values, NULL, SS_PLAN_LATEST, 1) == 0)
			break;
		if (++passes == MAX_PASSES)
		{
			if (ended + blanked == 0)
				ss_error_rows_skipped("conversation_sessions"); /* a trigger keeps them */
			ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
							errmsg("could not end all sessions of the owner"),
							errdetail("Other transactions created sessions during %d attempts.",
									  MAX_PASSES),
							errhint("Retry the call.")));
		}
	}
	(void) LockRelease(&lock, ExclusiveLock, false);
}

/* Removes what belongs to the histories of one batch of queue entries, and the entries. */
static void
remove_batch(Datum *histories, int nhistories, Datum *entries, int nentries, Removed *removed)
{
	Datum values[1];

	values[0] = PointerGetDatum(
		construct_array(histories, nhistories, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
	if (nhistories > 0)
	{
		removed->messages += (int64) ss_plan_run_redacted(&remove_messages_plan, values, NULL,
														  SS_PLAN_LATEST);
		removed->operations += (int64) ss_plan_run_redacted(&remove_operations_plan, values, NULL,
															SS_PLAN_LATEST);
		removed->members += (int64) ss_plan_run_redacted(&remove_members_plan, values, NULL,
														 SS_PLAN_LATEST);
		if (ss_plan_run(&rest_plan, values, NULL, SS_PLAN_LATEST, 1) > 0)
			ss_error_rows_skipped("conversation_history");
	}
	values[0] = PointerGetDatum(
		construct_array(entries, nentries, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
	if (ss_plan_run_redacted(&remove_entries_plan, values, NULL, SS_PLAN_LATEST) !=
		(uint64) nentries)
		ss_error_rows_skipped("conversation_history_ended");
}

/* Removes n histories from queue entry `first` on, and the entries. */
static void
remove_entries(SPITupleTable *queue, uint64 first, int n, Removed *removed)
{
	Datum histories[HISTORIES];
	Datum entries[HISTORIES];
	int nhistories = 0;

	Assert(n <= HISTORIES);
	for (int i = 0; i < n; i++)
	{
		HeapTuple entry = queue->vals[first + i];
		bool null;

		entries[i] = ss_sql_value(entry, queue->tupdesc, QUEUE_ENTRY_ID,
								  "conversation_history_ended");
		if (!DatumGetBool(SPI_getbinval(entry, queue->tupdesc, QUEUE_IN_USE, &null)))
			histories[nhistories++] = ss_sql_value(entry, queue->tupdesc, QUEUE_HISTORY_ID,
												   "conversation_history_ended");
	}
	remove_batch(histories, nhistories, entries, n, removed);
}

/*
 * Removes the histories of the owner's ended sessions.  The queue has no index by owner, which every
 * end of a session would have to maintain.
 */
static void
remove_histories(const SsTarget *target, Datum owner, Removed *removed)
{
	Datum values[3] = {target->ns, owner, Int64GetDatum(ENTRIES)};
	uint64 n;

	do
	{
		SPITupleTable *queue;

		n = ss_plan_run(&queue_plan, values, NULL, SS_PLAN_LATEST, 0);
		queue = SPI_tuptable;
		for (uint64 i = 0; i < n; i += HISTORIES)
		{
			CHECK_FOR_INTERRUPTS();
			remove_entries(queue, i, (int) Min(n - i, HISTORIES), removed);
		}
		SPI_freetuptable(queue);
	} while (n == ENTRIES);
}

/* Removes the owner's events and the owner's name from others, or counts them. */
static void
remove_events(const SsTarget *target, Datum owner, bool keep, Removed *removed)
{
	Datum values[2] = {target->ns, owner};

	if (keep)
	{
		bool null;

		ss_plan_run(&count_events_plan, values, NULL, SS_PLAN_LATEST, 0);
		removed->kept = DatumGetInt64(
			SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
		return;
	}
	removed->events = (int64) ss_plan_run_redacted(&remove_events_plan, values, NULL,
												   SS_PLAN_LATEST);
	(void) ss_plan_run_redacted(&blank_events_plan, values, NULL, SS_PLAN_LATEST);
	if (ss_plan_run(&left_events_plan, values, NULL, SS_PLAN_LATEST, 1) > 0)
		ss_error_rows_skipped("session_events");
}

/* Appends the counts as members of a JSON object. */
static void
append_counts(StringInfo out, const Removed *removed)
{
	ss_event_detail_number(out, "sessions", removed->sessions);
	ss_event_detail_number(out, "ended_before", removed->ended_before);
	ss_event_detail_number(out, "messages", removed->messages);
	ss_event_detail_number(out, "members", removed->members);
	ss_event_detail_number(out, "memberships", removed->memberships);
	ss_event_detail_number(out, "operations", removed->operations);
	ss_event_detail_number(out, "events", removed->events);
}

/*
 * Removes what the namespace holds of the owner, and returns the receipt, a jsonb.  Records an event
 * with the counts, and makes the commit wait for the disk.  Raises an error if the caller has no right
 * to it.  Called between ss_sql_enter and ss_sql_leave.
 */
Datum
ss_forget(SsTarget *target, Datum owner, bool keep_events)
{
	SsSelection which = {.owner = owner};
	Removed removed = {0};
	StringInfoData receipt;
	LOCKTAG lock;

	if (!ss_scope_of(target, &which).own)
		ss_error_other_owner(target);
	ss_owner_lock_tag(&lock, target, (Datum) 0, SS_LOCK_FORGET);
	(void) LockAcquire(&lock, ExclusiveLock, false, false);
	removed.memberships = remove_memberships(target, owner);
	end_sessions(target, owner, &removed);
	remove_histories(target, owner, &removed);
	remove_events(target, owner, keep_events, &removed);

	initStringInfo(&receipt);
	append_counts(&receipt, &removed);
	ss_event_anonymous(target, "forgotten", &receipt);
	ss_counter_add(SS_DELETED, removed.sessions);
	ForceSyncCommit();

	appendStringInfo(&receipt,
					 ", \"remains\": {\"events\": " INT64_FORMAT
					 ", \"elsewhere\": [\"messages absorbed into sessions of others\","
					 " \"write-ahead log\", \"backups\"]}",
					 removed.kept);
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(psprintf("{%s}", receipt.data)));
}
