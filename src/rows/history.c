/*
 * history.c
 *		The messages of a session: append, read a window, pop, trim.
 *
 * The row of the session is locked before anything is done with its messages, and tells
 * the next seq; so appends to one session take turns, and the lock is all that they
 * share.  The session's row is written before its messages, so that by the time the
 * trigger on these fires, the change of the tail in Redis has been noted.
 *
 * An append costs one message, one entry in an index and a few bytes of the session's row,
 * however long the history is.  Windows go along the primary key.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "compat.h"
#include "rows/errors.h"
#include "rows/history.h"
#include "rows/relaxed.h"
#include "rows/sql.h"
#include "shared.h"

/* Messages that are held in memory at once. */
#define PAGE 1000

static SsPlan insert_plan = {
	"INSERT INTO {history} (history_id, seq, created_at, message, operation_id, operation_hash,"
	" operation_last) VALUES ($1, $2, $3, $4, $5, $6, $7)",
	7,
	{UUIDOID, INT8OID, TIMESTAMPTZOID, JSONBOID, TEXTOID, BYTEAOID, INT8OID}};

static SsPlan insert_many_plan = {
	"INSERT INTO {history} (history_id, seq, created_at, message, operation_id, operation_hash,"
	" operation_last)"
	" SELECT $1, $2 {+} m.n {-} 1::pg_catalog.int8, $3, m.message, CASE WHEN m.n {=} 1::pg_catalog.int8"
	" THEN $5 END, CASE WHEN m.n {=} 1::pg_catalog.int8 THEN $6 END,"
	" CASE WHEN m.n {=} 1::pg_catalog.int8 THEN $7 END"
	" FROM pg_catalog.unnest($4) WITH ORDINALITY AS m (message, n)",
	7,
	{UUIDOID, INT8OID, TIMESTAMPTZOID, JSONBARRAYOID, TEXTOID, BYTEAOID, INT8OID}};

/* A range and an order, for then the index on operations is the only one that will do. */
static SsPlan operation_plan = {"SELECT operation_hash, operation_last FROM {history}"
								" WHERE history_id {=} $1 AND operation_id {>=} $2"
								" AND operation_id {<=} $2 ORDER BY operation_id LIMIT 1",
								2,
								{UUIDOID, TEXTOID}};

/* The end of a history, newest first; and a stretch of it, oldest first. */
static SsPlan last_plan = {"SELECT seq, message, created_at FROM {history}"
						   " WHERE history_id {=} $1 AND seq {<} $2 ORDER BY seq DESC LIMIT $3",
						   3,
						   {UUIDOID, INT8OID, INT8OID}};

static SsPlan stretch_plan = {
	"SELECT seq, message, created_at FROM {history}"
	" WHERE history_id {=} $1 AND seq {>=} $2 AND seq {<} $3 ORDER BY seq LIMIT $4",
	4,
	{UUIDOID, INT8OID, INT8OID, INT8OID}};

/* Where the last $3 before $2 begin, and how many there are; likewise what precedes the last $2. */
static SsPlan window_plan = {
	"SELECT pg_catalog.min(l.seq), pg_catalog.count(*) FROM (SELECT seq FROM {history}"
	" WHERE history_id {=} $1 AND seq {<} $2 ORDER BY seq DESC LIMIT $3) l",
	3,
	{UUIDOID, INT8OID, INT8OID}};

static SsPlan boundary_plan = {"SELECT seq FROM {history} WHERE history_id {=} $1"
							   " ORDER BY seq DESC OFFSET $2 LIMIT 1",
							   2,
							   {UUIDOID, INT8OID}};

static SsPlan count_plan = {
	"SELECT pg_catalog.count(*) FROM {history} WHERE history_id {=} $1 AND seq {<=} $2",
	2,
	{UUIDOID, INT8OID}};

static SsPlan pop_plan = {
	"WITH gone AS (DELETE FROM {history} WHERE history_id {=} $1 AND seq {>=} $2"
	" RETURNING seq, message)"
	" SELECT pg_catalog.jsonb_agg(message ORDER BY seq) FROM gone",
	2,
	{UUIDOID, INT8OID}};

static SsPlan trim_plan = {"DELETE FROM {history} WHERE history_id {=} $1 AND seq {<=} $2",
						   2,
						   {UUIDOID, INT8OID}};

/* The lock keeps the session under its id, and lets everything else be done with it. */
static SsPlan session_plan = {
	"SELECT namespace, session_id FROM {sessions} WHERE history_id {=} $1 FOR KEY SHARE",
	1,
	{UUIDOID}};

static Datum
result(int column, bool *null)
{
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, null);
}

/* The same of a column that has no nulls. */
static Datum
value_of(int column, const char *table)
{
	return ss_sql_value(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, table);
}

/*
 * Name the conversation of a session that has none yet.  The name begins with the time
 * (UUID version 7), so that new conversations lie side by side in the index.
 */
void
ss_history_assign_id(SsRow *row)
{
	pg_uuid_t *name = palloc(sizeof(pg_uuid_t));
	uint64 ms = (uint64) (GetCurrentTimestamp() / 1000) +
				(uint64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY * 1000;

	if (!row->history_null)
		return;
	if (!pg_strong_random(name->data, UUID_LEN))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
						errmsg("could not generate a random conversation id")));
	for (int i = 0; i < 6; i++)
		name->data[i] = (uint8) (ms >> (40 - 8 * i));
	name->data[6] = (name->data[6] & 0x0f) | 0x70;
	name->data[8] = (name->data[8] & 0x3f) | 0x80;
	row->history = UUIDPGetDatum(name);
	row->history_null = false;
}

/* The last seq after n more messages; no seq is ever used again, so it must not wrap. */
int64
ss_history_next_seq(const SsRow *row, int64 n)
{
	if (row->last_seq > PG_INT64_MAX - 1 - n)
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						errmsg("the messages of this session cannot be counted any further"),
						errhint("Begin a new session.")));
	return row->last_seq + n;
}

/* A count of messages and some more; what was written by hand may be at the end of the range. */
int64
ss_history_add_count(int64 count, int64 more)
{
	return count > PG_INT64_MAX - more ? PG_INT64_MAX : count + more;
}

/* Whose conversation is it?  Whoever asks is a trigger, and acts as whoever fired it. */
bool
ss_history_find_session(const pg_uuid_t *history, SsKey *key)
{
	Datum values[1] = {UUIDPGetDatum(history)};
	SsCaller caller;
	bool found;

	ss_sql_enter(&caller);
	found = ss_plan_run(&session_plan, values, NULL, SS_PLAN_LATEST, 1) > 0 &&
			ss_key_from_datums(key, value_of(1, "conversation_sessions"),
							   value_of(2, "conversation_sessions"));
	ss_sql_leave(&caller);
	return found;
}

/* How many messages a session has, up to a seq. */
int64
ss_history_count(const SsRow *row, int64 up_to)
{
	Datum values[2] = {row->history, Int64GetDatum(up_to)};
	bool null;

	if (row->history_null)
		return 0;
	ss_plan_run(&count_plan, values, NULL, SS_PLAN_WRITE, 0);
	return DatumGetInt64(result(1, &null));
}

/* A hash of the messages of an append: the same content, however it was wrapped. */
static Datum
hash_of(const SsMessages *messages)
{
	bytea *hash = palloc(VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA256);
	bool fine = ctx != NULL && pg_cryptohash_init(ctx) == 0;

	for (int i = 0; i < messages->count && fine; i++)
	{
		char *message = DatumGetPointer(messages->message[i]);

		/* jsonb has one form for one content; its length, in front, parts it from the next */
		fine = pg_cryptohash_update(ctx, (uint8 *) message, VARSIZE(message)) == 0;
	}
	fine = fine && pg_cryptohash_final(ctx, (uint8 *) VARDATA(hash), PG_SHA256_DIGEST_LENGTH) == 0;
	if (ctx != NULL)
		pg_cryptohash_free(ctx);
	if (!fine)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not hash the messages")));
	SET_VARSIZE(hash, VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	return PointerGetDatum(hash);
}

/* Was this operation carried out before?  Then *last is what it returned. */
static bool
was_done(const SsRow *row, Datum operation_id, Datum hash, int64 *last)
{
	Datum values[2] = {row->history, operation_id};
	bool no_hash;
	bool no_last;
	Datum before;

	if (row->history_null || ss_plan_run(&operation_plan, values, NULL, SS_PLAN_LATEST, 1) == 0)
		return false;
	before = result(1, &no_hash);
	*last = DatumGetInt64(result(2, &no_last));
	/* the owner of the table may have written one without the others: that is no append of ours */
	if (no_hash || no_last || !DatumGetBool(DirectFunctionCall2(byteaeq, before, hash)))
		ss_error_operation_reused();
	return true;
}

static void
insert(const SsChange *change, const SsMessages *messages, Datum hash)
{
	const SsRow *row = &change->row;
	bool many = messages->count > 1;
	bool named = messages->operation_id != (Datum) 0;
	Datum values[7];
	char nulls[7] = {' ', ' ', ' ', ' ', named ? ' ' : 'n', named ? ' ' : 'n', named ? ' ' : 'n'};

	values[0] = row->history;
	values[1] = Int64GetDatum(row->last_seq - messages->count + 1);
	values[2] = TimestampTzGetDatum(change->now);
	values[3] = many ? PointerGetDatum(construct_array(messages->message, messages->count, JSONBOID,
													   -1, false, TYPALIGN_INT))
					 : messages->message[0];
	values[4] = messages->operation_id;
	values[5] = hash;
	values[6] = Int64GetDatum(row->last_seq);
	if (ss_plan_run(many ? &insert_many_plan : &insert_plan, values, nulls, SS_PLAN_WRITE, 0) !=
		messages->count)
		ss_error_rows_skipped("conversation_history");
}

/* Append messages, beginning the session if need be; returns the seq of the last. */
int64
ss_history_append(SsTarget *target, const SsMessages *messages)
{
	SsChange change = {.history_only = true};
	Datum hash = (Datum) 0;
	int64 last;

	if (messages->operation_id != (Datum) 0)
		hash = hash_of(messages);
	do
	{
		ss_change_begin(&change, target, SS_ANY_VERSION, (Datum) 0);
		if (hash != (Datum) 0 && was_done(&change.row, messages->operation_id, hash, &last))
		{
			ss_relaxed_end(&target->policy);
			return last;
		}
		change.row.last_seq = ss_history_next_seq(&change.row, messages->count);
		change.row.message_count = ss_history_add_count(change.row.message_count, messages->count);
		ss_history_assign_id(&change.row);
	} while (!ss_change_end(&change));
	insert(&change, messages, hash);
	ss_relaxed_end(&target->policy);
	ss_count(SS_APPENDED, messages->count);
	return change.row.last_seq;
}

/* Hand SPI's result, three columns, to a sink. */
static void
hand_over(uint64 n, bool backwards, SsMessageSink sink, void *arg)
{
	SPITupleTable *rows = SPI_tuptable;

	for (uint64 i = 0; i < n; i++)
	{
		HeapTuple tuple = rows->vals[backwards ? n - 1 - i : i];

		sink(arg, ss_sql_value(tuple, rows->tupdesc, 1, "conversation_history"),
			 ss_sql_value(tuple, rows->tupdesc, 2, "conversation_history"),
			 ss_sql_value(tuple, rows->tupdesc, 3, "conversation_history"));
	}
	SPI_freetuptable(rows);
}

/*
 * Read a window, in the caller's snapshot.  A short one is read from its end and
 * turned round; a long one from its beginning, a page at a time.
 */
void
ss_history_read(const SsRow *row, const SsWindow *window, SsMessageSink sink, void *arg)
{
	int64 from = 0;
	uint64 n;

	if (row->history_null || window->last == 0)
		return;
	if (window->last > 0)
	{
		Datum values[3] = {row->history, Int64GetDatum(window->before),
						   Int64GetDatum(window->last)};
		bool null;

		if (window->last <= PAGE)
		{
			n = ss_plan_run(&last_plan, values, NULL, SS_PLAN_READ, 0);
			hand_over(n, true, sink, arg);
			return;
		}
		ss_plan_run(&window_plan, values, NULL, SS_PLAN_READ, 0);
		from = DatumGetInt64(result(1, &null));
		if (null)
			return;
	}
	else
		from = PG_INT64_MIN;
	do
	{
		Datum values[4] = {row->history, Int64GetDatum(from), Int64GetDatum(window->before),
						   Int64GetDatum(PAGE)};
		bool null;

		CHECK_FOR_INTERRUPTS();
		n = ss_plan_run(&stretch_plan, values, NULL, SS_PLAN_READ, 0);
		if (n > 0)
			from = DatumGetInt64(
					   SPI_getbinval(SPI_tuptable->vals[n - 1], SPI_tuptable->tupdesc, 1, &null)) +
				   1;
		hand_over(n, false, sink, arg);
	} while (n == PAGE);
}

/* Write the row of a session some of whose messages are about to go. */
static void
write_count(SsChange *change, int64 removed)
{
	change->row.message_count = Max(change->row.message_count - removed, 0);
	if (!ss_change_end(change))
		ss_error_rows_skipped("conversation_sessions");
	ss_count(SS_MESSAGES_REMOVED, removed);
}

/* Lock a living session to take messages from it; false when there is none. */
static bool
begin_removal(SsChange *change, SsTarget *target)
{
	memset(change, 0, sizeof(*change));
	change->history_only = true;
	return ss_change_begin_existing(change, target, SS_EDIT);
}

/* Take the last n messages, as an array in *popped (0: none); false when there is no session. */
bool
ss_history_pop(SsTarget *target, int64 n, Datum *popped)
{
	SsChange change;
	Datum window[3];
	Datum values[2];
	int64 count;
	bool null;

	*popped = (Datum) 0;
	if (!begin_removal(&change, target))
		return false;
	if (change.row.history_null || n == 0)
		return true;
	window[0] = change.row.history;
	window[1] = Int64GetDatum(PG_INT64_MAX);
	window[2] = Int64GetDatum(n);
	ss_plan_run(&window_plan, window, NULL, SS_PLAN_WRITE, 0);
	values[0] = change.row.history;
	values[1] = result(1, &null);
	count = DatumGetInt64(result(2, &null));
	if (count == 0)
		return true;
	write_count(&change, count);
	/* a message that is taken off is not secret: readers may see it for a moment */
	ss_skip_fence = true;
	ss_plan_run(&pop_plan, values, NULL, SS_PLAN_WRITE, 0);
	ss_skip_fence = false;
	*popped = result(1, &null);
	if (null)
		ss_error_rows_skipped("conversation_history");
	return true;
}

/* Remove all but the last messages; false when there is no session. */
bool
ss_history_trim(SsTarget *target, int64 keep, int64 *removed)
{
	SsChange change;
	Datum values[2];

	*removed = 0;
	if (!begin_removal(&change, target))
		return false;
	if (change.row.history_null)
		return true;
	values[0] = change.row.history;
	values[1] = Int64GetDatum(keep);
	if (ss_plan_run(&boundary_plan, values, NULL, SS_PLAN_WRITE, 0) == 0)
		return true;
	values[1] = value_of(1, "conversation_history");
	*removed = ss_history_count(&change.row, DatumGetInt64(values[1]));
	write_count(&change, *removed);
	if (ss_plan_run(&trim_plan, values, NULL, SS_PLAN_WRITE, 0) != *removed)
		ss_error_rows_skipped("conversation_history");
	return true;
}
