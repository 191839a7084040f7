/*
 * events.c
 *		Records lifecycle events in namespaces that audit, and notifies of them.
 *
 * An event is written by the transaction that causes it, so that session_events agrees with the
 * sessions after a rollback or a crash.  NOTIFY is left to the keeper, because it takes a lock at
 * commit that is global to the server; if every transaction took it, all of them would be serialized.
 *
 * Shared state: db->events_written counts the events committed and not yet notified of,
 * db->events_since is the time of the first of them.  Both are atomic; a committer sets the time
 * before it adds to the count, so that a reader of the count finds the time.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "row/claims.h"
#include "row/errors.h"
#include "sessions/events.h"
#include "shared/databases.h"
#include "table/namespaces.h"
#include "table/sql.h"

static SsPlan one_plan = {
	"INSERT INTO {events} (namespace, session_id, owner_id, event, actor, detail)"
	" VALUES ($1, $2, $3, $4, $5, $6)",
	6,
	{TEXTOID, TEXTOID, TEXTOID, TEXTOID, NAMEOID, JSONBOID}};

static SsPlan many_plan = {
	"INSERT INTO {events} (namespace, session_id, owner_id, event, actor, detail)"
	" SELECT $1, i, $3, $4, $5, $6 FROM pg_catalog.unnest($2) i",
	6,
	{TEXTOID, TEXTARRAYOID, TEXTOID, TEXTOID, NAMEOID, JSONBOID}};

static SsPlan expired_plan = {
	"INSERT INTO {events} (namespace, session_id, owner_id, event, actor)"
	" SELECT n, i, o, 'expired', $4 FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2),"
	" pg_catalog.unnest($3)) AS gone (n, i, o)",
	4,
	{TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, NAMEOID}};

/*
 * The events of each namespace that are older than events_keep, oldest first in the order of the
 * primary key, at most $1 per namespace.  The names of namespaces come from the events themselves, by
 * a skip scan, so that events of a removed namespace expire too.
 */
#define OLD_EVENTS(lock)                                                                                 \
	"WITH RECURSIVE names AS ("                                                                          \
	" (SELECT namespace FROM {events} ORDER BY namespace LIMIT 1)"                                       \
	" UNION ALL"                                                                                         \
	" SELECT (SELECT e.namespace FROM {events} e WHERE e.namespace {>} n.namespace"                      \
	"         ORDER BY e.namespace LIMIT 1)"                                                             \
	" FROM names n WHERE n.namespace IS NOT NULL),"                                                      \
	" old AS (SELECT o.* FROM names n"                                                                   \
	"  LEFT JOIN {namespaces} p ON p.name {=} n.namespace,"                                              \
	"  LATERAL (SELECT e.ctid AS at, e.tableoid AS part, e.namespace, e.event_id FROM {events} e"        \
	"   WHERE e.namespace {=} n.namespace"                                                               \
	"   AND e.created_at {<} (pg_catalog.clock_timestamp() {-}"                                          \
	"       COALESCE(p.events_keep, '" SS_DEFAULT_EVENTS_KEEP "'::pg_catalog.interval))"                 \
	"   AND NOT (e.event_id {=} ANY (SELECT i::pg_catalog.uuid FROM pg_catalog.unnest($3) AS held (i)))" \
	"   ORDER BY e.created_at LIMIT $1" lock ") o"                                                       \
	"  WHERE n.namespace IS NOT NULL AND n.namespace {<>} ALL ($2))"
#define OLD_EVENTS_ARGS                     \
	3,                                      \
	{                                       \
		INT8OID, TEXTARRAYOID, TEXTARRAYOID \
	}

/* Events that another transaction has locked are skipped. */
static SsPlan purge_plan = {
	OLD_EVENTS(" FOR UPDATE OF e SKIP LOCKED") " DELETE FROM {events} WHERE " SS_SQL_AT_ROWS_OF(
		"old"),
	OLD_EVENTS_ARGS};

/* The columns of old_plan. */
enum
{
	OLD_NAMESPACE = 1,
	OLD_EVENT_ID,
	OLD_CTID,
	OLD_TABLE
};

/* The same events without locks, to remove them one by one. */
static SsPlan old_plan = {OLD_EVENTS("") " SELECT namespace, event_id, at, part FROM old",
						  OLD_EVENTS_ARGS};

#define ONE "FROM {events} WHERE ctid {=} $1 AND tableoid {=} $2 AND event_id {=} $3"
#define ONE_ARGS                \
	3,                          \
	{                           \
		TIDOID, OIDOID, UUIDOID \
	}

static SsPlan lock_plan = {"SELECT 1 " ONE " FOR UPDATE SKIP LOCKED", ONE_ARGS};
static SsPlan remove_plan = {"DELETE " ONE, ONE_ARGS};

/*
 * The number of events that this transaction has written, per nesting level of subtransactions, so
 * that those which are rolled back are not counted.
 */
typedef struct Written
{
	int level;
	uint64 count;
	int64 since; /* time of the first event */
} Written;

/* State of this backend. */
static struct
{
	/* of the current transaction, by ascending level; in TopMemoryContext, `room` elements */
	Written *written;
	int nwritten;
	int room;

	uint64 notified_since; /* in the keeper: the `since` of the last notification */
} state;

/* Counts n events for the notification. */
static void
count_written(uint64 n, TimestampTz since)
{
	int level = GetCurrentTransactionNestLevel();

	if (n == 0 || ss_database_mine() == NULL)
		return;
	if (state.nwritten == 0 || state.written[state.nwritten - 1].level < level)
	{
		if (state.nwritten == state.room)
		{
			int more = state.room == 0 ? 8 : state.room * 2;

			state.written = state.written == NULL
								? MemoryContextAlloc(TopMemoryContext, sizeof(Written) * more)
								: repalloc(state.written, sizeof(Written) * more);
			state.room = more;
		}
		state.written[state.nwritten++] = (Written){level, 0, since};
	}
	state.written[state.nwritten - 1].count += n;
}

/* The innermost counts if they belong to the current subtransaction, else NULL. */
static Written *
written_in_subxact(void)
{
	if (state.nwritten == 0 ||
		state.written[state.nwritten - 1].level < GetCurrentTransactionNestLevel())
		return NULL;
	return &state.written[state.nwritten - 1];
}

/* When a subtransaction commits (xact.c): its events become its parent's.  Cannot fail. */
void
ss_events_at_subxact_commit(void)
{
	Written *last = written_in_subxact();

	if (last == NULL)
		return;
	last->level = GetCurrentTransactionNestLevel() - 1;
	if (state.nwritten > 1 && state.written[state.nwritten - 2].level == last->level)
	{
		state.written[state.nwritten - 2].count += last->count;
		state.nwritten--;
	}
}

/* When a subtransaction is rolled back (xact.c): its events do not count.  Cannot fail. */
void
ss_events_at_subxact_abort(void)
{
	if (written_in_subxact() != NULL)
		state.nwritten--;
}

/*
 * At the end of the transaction (xact.c): publishes the counts if it has committed, and forgets
 * them.  Cannot fail.
 */
void
ss_events_at_end(bool committed)
{
	SsDb *db;

	if (state.nwritten == 0)
		return;
	if (committed && (db = ss_database_mine()) != NULL)
	{
		uint64 before = pg_atomic_read_u64(&db->events_since);

		/* the time before the count, so that a reader of the count finds the time */
		while ((before == 0 || before > (uint64) state.written[0].since) &&
			   !pg_atomic_compare_exchange_u64(&db->events_since, &before,
											   (uint64) state.written[0].since))
			;
		for (int i = 0; i < state.nwritten; i++)
			pg_atomic_fetch_add_u64(&db->events_written, (int64) state.written[i].count);
		ss_database_wake_keeper();
	}
	state.nwritten = 0;
}

/* In the keeper: fills *notice with the events to notify of; false when there are none. */
bool
ss_events_pending(SsNotice *notice)
{
	SsDb *db = ss_database_mine();

	notice->count = pg_atomic_read_u64(&db->events_written);
	notice->since = pg_atomic_read_u64(&db->events_since);
	/*
	 * A committer found a time set and kept it, and we reset that time before it added to the count.
	 * Its events are not older than that time.
	 */
	if (notice->since == 0)
		notice->since = state.notified_since;
	return notice->count > 0;
}

/*
 * In a transaction of the keeper: queues one notification for all events in *notice.  The caller
 * calls ss_events_notified once that transaction has committed.
 */
void
ss_events_notify(const SsNotice *notice)
{
	Async_Notify("session_events",
				 psprintf("{\"events\": " UINT64_FORMAT ", \"since\": \"%s\"}", notice->count,
						  timestamptz_to_str((TimestampTz) notice->since)));
}

/*
 * In the keeper, after the commit of the notification: subtracts its events.  Events that were
 * counted meanwhile keep the earlier time, which is a valid lower bound.
 */
void
ss_events_notified(const SsNotice *notice)
{
	SsDb *db = ss_database_mine();
	uint64 since = notice->since;

	state.notified_since = since;
	if (pg_atomic_sub_fetch_u64(&db->events_written, (int64) notice->count) == 0)
		(void) pg_atomic_compare_exchange_u64(&db->events_since, &since, 0);
}

/* Runs a statement that writes n events, or with n = 0 as many as it reports. */
static void
write_events(SsPlan *plan, Datum *values, const char *nulls, uint64 n)
{
	TimestampTz since = GetCurrentTimestamp();
	uint64 rows = plan == &one_plan ? ss_plan_run(plan, values, nulls, SS_PLAN_WRITE, 0)
									: ss_plan_run_redacted(plan, values, nulls, SS_PLAN_WRITE);

	count_written(n == 0 ? rows : Min(n, rows), since);
}

/* Returns the name of a role, as a Datum of type name. */
static Datum
actor_of(Oid role)
{
	NameData *name = palloc0(sizeof(NameData));

	namestrcpy(name, GetUserNameFromId(role, false));
	return NameGetDatum(name);
}

static void
begin_member(StringInfo detail, const char *key)
{
	if (detail->len > 0)
		appendStringInfoString(detail, ", ");
	escape_json(detail, key);
	appendStringInfoString(detail, ": ");
}

/* Append a member to the detail of an event; NULL becomes a JSON null. */
void
ss_event_detail_text(StringInfo detail, const char *key, const char *value)
{
	begin_member(detail, key);
	if (value == NULL)
		appendStringInfoString(detail, "null");
	else
		escape_json(detail, value);
}

void
ss_event_detail_number(StringInfo detail, const char *key, int64 value)
{
	begin_member(detail, key);
	appendStringInfo(detail, INT64_FORMAT, value);
}

/* Returns the detail as jsonb, with the subject of the JWT claims if there is one; 0 if it is empty. */
static Datum
detail_of(const StringInfoData *detail)
{
	char *subject = ss_claims_subject();
	StringInfoData all;

	if (detail == NULL && subject == NULL)
		return (Datum) 0;
	initStringInfo(&all);
	if (subject != NULL)
		ss_event_detail_text(&all, "subject", subject);
	if (detail != NULL)
		appendStringInfo(&all, "%s%s", all.len > 0 ? ", " : "", detail->data);
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(psprintf("{%s}", all.data)));
}

/*
 * Records an event of one session (one_plan, id) or of many (many_plan, ids), if the namespace audits.
 * n as in write_events.
 */
static void
record(SsPlan *plan, const SsTarget *target, Datum ids, Datum owner, bool owner_null,
	   const char *event, const StringInfoData *detail, uint64 n)
{
	Datum values[6];
	char nulls[6] = {' ', ' ', owner_null ? 'n' : ' ', ' ', ' ', ' '};

	if (!target->policy.audit)
		return;
	values[0] = target->ns;
	values[1] = ids;
	values[2] = owner;
	values[3] = CStringGetTextDatum(event);
	values[4] = actor_of(target->role);
	values[5] = detail_of(detail);
	if (values[5] == (Datum) 0)
		nulls[5] = 'n';
	write_events(plan, values, nulls, n);
}

/*
 * Records an event of the target's session if the namespace audits.  The owner is taken from the
 * row; `detail` holds members added by the two functions above, or is NULL.
 */
void
ss_event(const SsTarget *target, const SsRow *row, const char *event, const StringInfoData *detail)
{
	record(&one_plan, target, target->id, row->owner, row->owner_null, event, detail, 1);
}

/* Records the same event for each id of a text array. */
void
ss_events_of(const SsTarget *target, Datum ids, Datum owner, bool owner_null, const char *event)
{
	record(&many_plan, target, ids, owner, owner_null, event, NULL, 0);
}

/*
 * Records an event of the namespace, without session, owner and subject of the claims, if the
 * namespace audits.
 */
void
ss_event_anonymous(const SsTarget *target, const char *event, const StringInfoData *detail)
{
	Datum values[6];
	char nulls[6] = {' ', ' ', 'n', ' ', ' ', ' '};

	if (!target->policy.audit)
		return;
	values[0] = target->ns;
	values[1] = CStringGetTextDatum("");
	values[2] = (Datum) 0;
	values[3] = CStringGetTextDatum(event);
	values[4] = actor_of(target->role);
	values[5] = DirectFunctionCall1(jsonb_in, CStringGetDatum(psprintf("{%s}", detail->data)));
	write_events(&one_plan, values, nulls, 1);
}

/* Records "expired" events of n sessions, given as parallel arrays, all in namespaces that audit. */
void
ss_events_expired(Datum namespaces, Datum ids, Datum owners, int n, Oid role)
{
	Datum values[4] = {namespaces, ids, owners, actor_of(role)};

	write_events(&expired_plan, values, NULL, n);
}

/* A batch of old events in removal. */
typedef struct Old
{
	Datum values[3];
	uint64 removed;
	Datum one[3]; /* of lock_plan and remove_plan */
} Old;

/* In a subtransaction: removes the batch. */
static bool
remove_together(void *arg)
{
	Old *old = arg;

	old->removed = ss_plan_run(&purge_plan, old->values, NULL, SS_PLAN_WRITE, 0);
	return true;
}

/* In a subtransaction: removes one event.  False when it is gone or locked by another transaction. */
static bool
remove_alone(void *arg)
{
	Old *old = arg;

	if (ss_plan_run(&lock_plan, old->one, NULL, SS_PLAN_WRITE, 1) == 0)
		return false;
	if (ss_plan_run(&remove_plan, old->one, NULL, SS_PLAN_WRITE, 0) != 1)
		ss_error_rows_skipped("session_events");
	return true;
}

/* After the batch was rolled back: removes its events one by one, up to the limits. */
static void
remove_one_by_one(Old *old, SsAside *aside)
{
	uint64 n = ss_plan_run(&old_plan, old->values, NULL, SS_PLAN_WRITE, 0);
	SPITupleTable *table = SPI_tuptable;
	SsAsidePass pass;

	ss_aside_pass_begin(&pass, aside);
	for (uint64 i = 0; i < n && !ss_aside_pass_is_over(&pass); i++)
	{
		Datum ns = ss_sql_value(table->vals[i], table->tupdesc, OLD_NAMESPACE, "session_events");
		Datum event = ss_sql_value(table->vals[i], table->tupdesc, OLD_EVENT_ID, "session_events");
		char *id = DatumGetCString(DirectFunctionCall1(uuid_out, event));
		SsKey key;

		CHECK_FOR_INTERRUPTS();
		if (!ss_key_from_datums(&key, ns, CStringGetTextDatum(id)))
			continue;
		old->one[0] = ss_sql_value(table->vals[i], table->tupdesc, OLD_CTID, "session_events");
		old->one[1] = ss_sql_value(table->vals[i], table->tupdesc, OLD_TABLE, "session_events");
		old->one[2] = event;
		(void) ss_aside_pass_visit(&pass, &key, remove_alone, old);
	}
	old->removed = pass.done;
}

/*
 * Removes events that are older than events_keep of their namespace, at most `batch` per namespace.
 * An event that cannot be removed is set aside.  True when there may be more.
 */
bool
ss_events_purge(long batch, SsAside *aside)
{
	ErrorData *error;
	Datum held[3];
	Old old = {0};

	ss_aside_arrays(aside, GetCurrentTimestamp(), held);
	old.values[0] = Int64GetDatum(batch);
	old.values[1] = held[0];
	old.values[2] = held[2];
	(void) ss_aside_try(remove_together, &old, &error);
	if (error == NULL)
		return old.removed >= (uint64) batch;
	FreeErrorData(error);
	old.removed = 0;
	remove_one_by_one(&old, aside);
	return true;
}
