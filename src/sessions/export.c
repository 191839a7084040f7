/*
 * export.c
 *		Returns what a namespace holds of an owner, a page at a time.
 *
 * An export has the items of these stages, in this order:
 *
 *		1. the owner's sessions that are alive, oldest first; each is followed by its summary, if it has
 *		   one, by its messages, in the order of seq, and by its members, in the order of their names
 *		2. the sessions of others that are shared with the owner: first those that it has not accepted,
 *		   then those that it has, so that a session accepted between two pages is not missed
 *		3. the owner's events, oldest first
 *
 * Each position is a key of an index, and a page begins behind the position of the last one, so it
 * costs its own items and what it skips: rows that are not alive, and shares of other namespaces.
 * What changes between two pages moves no other item.
 *
 * Memory: documents and messages are as large as max_bytes permits, so at most ITEMS of them are in
 * memory at a time.  The sink keeps them elsewhere.
 *
 * Nothing is locked, and no pending touch is made.  All statements use the snapshot of the caller, so
 * a page is consistent.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "row/errors.h"
#include "sessions/export.h"
#include "sessions/export_cursor.h"
#include "sessions/selection.h"
#include "table/sql.h"

/* Maximum number of items that a statement returns. */
#define ITEMS 16

/* The columns of each statement: the item, and what makes its position. */
enum
{
	COLUMN_ITEM = 1,
	COLUMN_KEY,        /* seq, member, history_id or event_id */
	COLUMN_CREATED_AT, /* of a session or event */
	COLUMN_SESSION_ID, /* of a session */
	COLUMN_HISTORY_ID  /* of a session; may be null */
};

#define OBJECT "SELECT pg_catalog.jsonb_build_object("

static SsPlan session_plan = {
	OBJECT "'session_id', session_id, 'session_data', session_data, 'version', version,"
		   " 'created_at', created_at, 'updated_at', updated_at,"
		   " 'expires_at', " SS_SQL_EXPIRY ","
		   " 'message_count', message_count), NULL, created_at, session_id, history_id"
		   " FROM {sessions} WHERE namespace {=} $1 AND owner_id {=} $2"
		   " AND (created_at, session_id COLLATE pg_catalog.\"POSIX\") {>} ($3, $4)"
		   " AND " SS_SQL_ALIVE("$5") " ORDER BY created_at,"
									  " session_id COLLATE pg_catalog.\"POSIX\" LIMIT 1",
	5,
	{TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID}};

/* The session of a position, if it is still there. */
static SsPlan resume_plan = {
	"SELECT history_id FROM {sessions} WHERE namespace {=} $1 AND session_id {=} $4"
	" AND owner_id {=} $2 AND created_at {=} $3 AND history_id IS NOT NULL AND " SS_SQL_ALIVE("$5"),
	5,
	{TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID}};

/* An item of its own, as it may be as large as the document. */
static SsPlan summary_plan = {OBJECT "'session_id', session_id, 'up_to', summary_up_to,"
									 " 'summary', summary) FROM {sessions} WHERE history_id {=} $1"
									 " AND summary IS NOT NULL",
							  1,
							  {UUIDOID}};

static SsPlan message_plan = {OBJECT
							  "'session_id', $4, 'seq', seq, 'created_at', created_at,"
							  " 'message', message), seq FROM {history} WHERE history_id {=} $1"
							  " AND seq {>} $2 ORDER BY seq LIMIT $3",
							  4,
							  {UUIDOID, INT8OID, INT8OID, TEXTOID}};

static SsPlan member_plan = {OBJECT "'session_id', $4, 'member', member, 'role', role,"
									" 'accepted', accepted, 'created_at', created_at), member"
									" FROM {members} WHERE history_id {=} $1 AND member {>} $2"
									" ORDER BY member LIMIT $3",
							 4,
							 {UUIDOID, TEXTOID, INT8OID, TEXTOID}};

/*
 * The concatenation with '' keeps the planner from an index by namespace, which would look as cheap
 * while there are few sessions.
 */
#define MEMBERSHIP(accepted_only)                                                          \
	{                                                                                      \
		OBJECT "'session_id', session_id, 'role', role, 'accepted', accepted,"             \
			   " 'created_at', since), history_id FROM (SELECT m.history_id AS shared,"    \
			   " m.role, m.accepted, m.created_at AS since FROM {members} m"               \
			   " WHERE " accepted_only " AND m.member COLLATE pg_catalog.\"POSIX\" {=} $2" \
			   " AND m.history_id {>} $3) m JOIN {sessions} ON history_id {=} shared"      \
			   " WHERE (namespace {||} ''::pg_catalog.text) {=} $1 AND " SS_SQL_ALIVE(     \
				   "$5") " ORDER BY shared LIMIT $4",                                      \
			5,                                                                             \
		{                                                                                  \
			TEXTOID, TEXTOID, UUIDOID, INT8OID, TIMESTAMPTZOID                             \
		}                                                                                  \
	}

static SsPlan unaccepted_plan = MEMBERSHIP("NOT m.accepted");
static SsPlan accepted_plan = MEMBERSHIP("m.accepted");

static SsPlan event_plan = {
	OBJECT "'session_id', session_id, 'event', event, 'created_at', created_at, 'actor', actor,"
		   " 'detail', detail), event_id, created_at FROM {events}"
		   " WHERE namespace {=} $1 AND owner_id {=} $2 AND (created_at, event_id) {>} ($3, $4)"
		   " ORDER BY created_at, event_id LIMIT $5",
	5,
	{TEXTOID, TEXTOID, TIMESTAMPTZOID, UUIDOID, INT8OID}};

/* A page in progress. */
typedef struct Export
{
	const SsTarget *target;
	Datum owner;
	Datum alive;         /* parameter of SS_SQL_ALIVE */
	SsExportPosition at; /* of the last item */
	int32 left;          /* number of items that the page has room for */
	SsExportSink sink;
	void *arg;
} Export;

/* Returns a column of row i of SPI's result. */
static Datum
column(uint64 i, int number)
{
	return ss_sql_value(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, number, "a table");
}

/* Passes the item of row i of SPI's result to the sink.  The position is already that of the item. */
static void
put(Export *export, uint64 i, const char *kind)
{
	export->sink(export->arg, ss_export_cursor_make(&export->at), kind, column(i, COLUMN_ITEM));
	export->left--;
}

/* Returns how many items a statement should return. */
static uint64
batch_size(const Export *export)
{
	return (uint64) Min(export->left, ITEMS);
}

static void
put_summary(Export *export, Datum history)
{
	if (export->left > 0 && ss_plan_run(&summary_plan, &history, NULL, SS_PLAN_READ, 1) > 0)
	{
		export->at.stage = SS_EXPORT_SUMMARY;
		put(export, 0, "summary");
		SPI_freetuptable(SPI_tuptable);
	}
}

/* The items of one stage that follow the present position, with one statement for each batch. */
static void
put_messages(Export *export, Datum history)
{
	Datum values[4] = {history, (Datum) 0, (Datum) 0, export->at.id};
	int64 from = export->at.stage == SS_EXPORT_MESSAGE ? export->at.seq : PG_INT64_MIN;
	uint64 asked;
	uint64 n;

	while ((asked = batch_size(export)) > 0)
	{
		CHECK_FOR_INTERRUPTS();
		values[1] = Int64GetDatum(from);
		values[2] = Int64GetDatum(asked);
		n = ss_plan_run(&message_plan, values, NULL, SS_PLAN_READ, 0);
		for (uint64 i = 0; i < n; i++)
		{
			from = DatumGetInt64(column(i, COLUMN_KEY));
			export->at.stage = SS_EXPORT_MESSAGE;
			export->at.seq = from;
			put(export, i, "message");
		}
		SPI_freetuptable(SPI_tuptable);
		if (n < asked)
			break;
	}
}

static void
put_members(Export *export, Datum history)
{
	Datum values[4] = {history, (Datum) 0, (Datum) 0, export->at.id};
	Datum from = export->at.stage == SS_EXPORT_MEMBER ? export->at.rest : CStringGetTextDatum("");
	uint64 asked;
	uint64 n;

	while ((asked = batch_size(export)) > 0)
	{
		CHECK_FOR_INTERRUPTS();
		values[1] = from;
		values[2] = Int64GetDatum(asked);
		n = ss_plan_run(&member_plan, values, NULL, SS_PLAN_READ, 0);
		for (uint64 i = 0; i < n; i++)
		{
			from = datumCopy(column(i, COLUMN_KEY), false, -1);
			export->at.stage = SS_EXPORT_MEMBER;
			export->at.seq = 0;
			export->at.rest = from;
			put(export, i, "member");
		}
		SPI_freetuptable(SPI_tuptable);
		if (n < asked)
			break;
	}
}

/* What follows a session: its summary, then messages, then members. */
static void
put_conversation(Export *export, Datum history)
{
	if (export->at.stage == SS_EXPORT_SESSION)
		put_summary(export, history);
	if (export->at.stage != SS_EXPORT_MEMBER)
		put_messages(export, history);
	put_members(export, history);
}

static void
put_sessions(Export *export, bool resume)
{
	Datum values[5] = {export->target->ns, export->owner, (Datum) 0, (Datum) 0, export->alive};
	Datum history;
	bool null;

	values[2] = TimestampTzGetDatum(export->at.created_at);
	values[3] = export->at.id;
	if (resume && ss_plan_run(&resume_plan, values, NULL, SS_PLAN_READ, 1) > 0)
	{
		history = datumCopy(column(0, 1), false, UUID_LEN);
		put_conversation(export, history);
	}
	while (export->left > 0)
	{
		CHECK_FOR_INTERRUPTS();
		values[2] = TimestampTzGetDatum(export->at.created_at);
		values[3] = export->at.id;
		if (ss_plan_run(&session_plan, values, NULL, SS_PLAN_READ, 0) == 0)
			break;
		export->at.stage = SS_EXPORT_SESSION;
		export->at.created_at = DatumGetTimestampTz(column(0, COLUMN_CREATED_AT));
		export->at.seq = 0;
		export->at.id = datumCopy(column(0, COLUMN_SESSION_ID), false, -1);
		export->at.rest = CStringGetTextDatum("");
		history = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, COLUMN_HISTORY_ID,
								&null);
		if (!null)
			history = datumCopy(history, false, UUID_LEN);
		put(export, 0, "session");
		SPI_freetuptable(SPI_tuptable);
		if (!null)
			put_conversation(export, history);
	}
}

/* Sets the position to the beginning of a stage whose items have a uuid. */
static void
begin_stage(Export *export, SsExportStage stage)
{
	if (export->at.stage == stage)
		return;
	export->at = (SsExportPosition){.stage = stage,
									.created_at = DT_NOBEGIN,
									.id = CStringGetTextDatum(""),
									.rest = CStringGetTextDatum(
										"00000000-0000-0000-0000-000000000000")};
}

static Datum
uuid_of(const Export *export)
{
	return DirectFunctionCall1(uuid_in, CStringGetDatum(TextDatumGetCString(export->at.rest)));
}

static Datum
uuid_text(Datum uuid)
{
	return CStringGetTextDatum(DatumGetCString(DirectFunctionCall1(uuid_out, uuid)));
}

static void
put_memberships(Export *export, SsPlan *plan, SsExportStage stage)
{
	Datum values[5] = {export->target->ns, export->owner, (Datum) 0, (Datum) 0, export->alive};
	uint64 asked;
	uint64 n;

	begin_stage(export, stage);
	while ((asked = batch_size(export)) > 0)
	{
		CHECK_FOR_INTERRUPTS();
		values[2] = uuid_of(export);
		values[3] = Int64GetDatum(asked);
		n = ss_plan_run(plan, values, NULL, SS_PLAN_READ, 0);
		for (uint64 i = 0; i < n; i++)
		{
			export->at.created_at = 0;
			export->at.rest = uuid_text(column(i, COLUMN_KEY));
			put(export, i, "membership");
		}
		SPI_freetuptable(SPI_tuptable);
		if (n < asked)
			break;
	}
}

static void
put_events(Export *export)
{
	Datum values[5] = {export->target->ns, export->owner};
	uint64 asked;
	uint64 n;

	begin_stage(export, SS_EXPORT_EVENT);
	while ((asked = batch_size(export)) > 0)
	{
		CHECK_FOR_INTERRUPTS();
		values[2] = TimestampTzGetDatum(export->at.created_at);
		values[3] = uuid_of(export);
		values[4] = Int64GetDatum(asked);
		n = ss_plan_run(&event_plan, values, NULL, SS_PLAN_READ, 0);
		for (uint64 i = 0; i < n; i++)
		{
			export->at.created_at = DatumGetTimestampTz(column(i, COLUMN_CREATED_AT));
			export->at.rest = uuid_text(column(i, COLUMN_KEY));
			put(export, i, "event");
		}
		SPI_freetuptable(SPI_tuptable);
		if (n < asked)
			break;
	}
}

/*
 * Passes a page of the owner's items to the sink; `after` is a cursor, or 0 for the first page.  They
 * are fewer than `size` only if there are no more.  Raises an error if the caller has no right to
 * them.  Called between ss_sql_enter and ss_sql_leave.
 */
void
ss_export_page(const SsTarget *target, Datum owner, Datum after, int32 size, SsExportSink sink,
			   void *arg)
{
	SsSelection which = {.owner = owner};
	Export export = {.target = target,
					 .owner = owner,
					 .alive = ss_alive_param(target),
					 .left = size,
					 .sink = sink,
					 .arg = arg};
	SsExportStage first = SS_EXPORT_SESSION;

	if (!ss_scope_of(target, &which).own)
		ss_error_other_owner(target);
	export.at = (SsExportPosition){.stage = SS_EXPORT_SESSION,
								   .created_at = DT_NOBEGIN,
								   .id = CStringGetTextDatum(""),
								   .rest = CStringGetTextDatum("")};
	if (after != (Datum) 0)
		ss_export_cursor_read(after, &export.at);
	first = export.at.stage;

	switch (first)
	{
		case SS_EXPORT_SESSION:
		case SS_EXPORT_SUMMARY:
		case SS_EXPORT_MESSAGE:
		case SS_EXPORT_MEMBER:
			put_sessions(&export, after != (Datum) 0);
			/* FALLTHROUGH */
		case SS_EXPORT_UNACCEPTED:
			if (export.left > 0)
				put_memberships(&export, &unaccepted_plan, SS_EXPORT_UNACCEPTED);
			/* FALLTHROUGH */
		case SS_EXPORT_ACCEPTED:
			if (export.left > 0)
				put_memberships(&export, &accepted_plan, SS_EXPORT_ACCEPTED);
			/* FALLTHROUGH */
		case SS_EXPORT_EVENT:
			if (export.left > 0)
				put_events(&export);
			break;
	}
}
