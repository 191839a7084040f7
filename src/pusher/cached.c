/*
 * cached.c
 *		Reads rows for the pusher.
 *
 * All functions run in short transactions of the pusher, which end before it talks to Redis, and
 * outside ss_sql_enter.  They must not wait for a lock, because a transaction that waits at the fence
 * for the pusher may hold it.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/expiry.h"
#include "pusher/cached.h"
#include "pusher/json_text.h"
#include "row/row.h"
#include "row/row_columns.h"
#include "sessions/summary.h"
#include "sessions/tail.h"
#include "table/catalog.h"
#include "table/sql.h"

/*
 * Maximum work of a batch: bytes of documents that were detoasted plus bytes of text produced.  A
 * single document may exceed it.
 */
#define BATCH_WORK_BYTES (512 * 1024)

/* The columns that are read of a session, before its number in the arguments and its document. */
static const AttrNumber read_columns[] = {SS_ROW_EXPIRES_AT, SS_ROW_CREATED_AT,    SS_ROW_TTL,
										  SS_ROW_DEAD_UNTIL, SS_ROW_HISTORY_ID,    SS_ROW_LAST_SEQ,
										  SS_ROW_SUMMARY,    SS_ROW_SUMMARY_UP_TO, SS_ROW_NONE};

#define READ_NUMBER ((int) lengthof(read_columns))
#define READ_DOCUMENT (READ_NUMBER + 1)

static SsPlan read_plan = {
	"SELECT {columns}, k.n, CASE WHEN k.d THEN s.session_data END"
	" FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3))"
	" WITH ORDINALITY AS k (ns, id, d, n)"
	" JOIN {sessions} s ON s.namespace {=} k.ns AND s.session_id {=} k.id",
	3,
	{TEXTARRAYOID, TEXTARRAYOID, BOOLARRAYOID},
	read_columns};

static SsPlan policies_plan = {"SELECT name FROM {namespaces}", 0, {InvalidOid}};

/*
 * Locks without a process belong to prepared transactions.  (virtualtransaction would not tell: until
 * a restart it is that of the session that prepared the transaction.)
 */
static SsPlan prepared_plan = {
	"SELECT 1 FROM pg_catalog.pg_locks WHERE locktype {=} 'relation' AND pid IS NULL"
	" AND (relation {=} $1 OR relation {=} $2 OR relation {=} $3) AND database {=} $4"
	" AND mode {<>} ALL (ARRAY['AccessShareLock', 'RowShareLock', 'ShareLock']) LIMIT 1",
	4,
	{OIDOID, OIDOID, OIDOID, OIDOID}};

static SsPlan settings_plan = {
	"SELECT setconfig::pg_catalog.text FROM pg_catalog.pg_db_role_setting"
	" WHERE setdatabase {=} (SELECT oid FROM pg_catalog.pg_database"
	" WHERE datname {=} pg_catalog.current_database()) AND setrole {=} 0::pg_catalog.oid",
	0,
	{InvalidOid}};

static SsPlan block_plan = {
	"SELECT namespace::pg_catalog.text, session_id::pg_catalog.text FROM ONLY {sessions}"
	" WHERE ctid {>=} $1 AND ctid {<} $2",
	2,
	{TIDOID, TIDOID}};

static Datum
make_text(const char *bytes, int len)
{
	return PointerGetDatum(cstring_to_text_with_len(bytes, len));
}

/* Returns how long a copy of this row, which is alive, may live, us. */
static int64
copy_life(const SsRow *row, const SsPolicy *policy, TimestampTz now)
{
	int64 life_us = row->ends_at - now;

	if (policy->cache == SS_CACHE_HOT ||
		ss_expiry_is_forever(row->expires_at, row->ttl_us, row->created_at))
		life_us = Min(life_us, policy->cache_ttl_us);
	/* a reader misses once per slack, and the miss touches the session */
	if (policy->sliding && row->ttl_us != SS_FIXED)
		life_us = Min(life_us, ss_slack(row->ttl_us));
	return life_us;
}

/*
 * The text of a batch, and the work that it took, which includes detoasted documents and text that
 * was discarded.
 */
typedef struct TextBatch
{
	StringInfo text;
	int64 max;  /* bytes of one document */
	int64 work; /* bytes so far */
} TextBatch;

/* Appends a document as JSON; false when that is not possible, and *out says why. */
static bool
add_json(TextBatch *b, SsCachedRow *out, Datum document)
{
	int64 left = b->max - (b->text->len - out->offset);
	SsJsonResult result = ss_json_append(b->text, document, left);

	if (ss_json_least(document) <= left)
		b->work += toast_raw_datum_size(document);
	/* the text that was discarded had at most this size */
	if (result == SS_JSON_LARGE && ss_json_least(document) <= left)
		b->work += left;
	out->large = result == SS_JSON_LARGE;
	out->foreign = result == SS_JSON_FOREIGN;
	return result == SS_JSON_FINE;
}

/* Appends text; false when it exceeds the limit. */
static bool
add_text(TextBatch *b, SsCachedRow *out, const char *text)
{
	out->large = b->text->len - out->offset + (int64) strlen(text) > b->max;
	if (!out->large)
		appendStringInfoString(b->text, text);
	return !out->large;
}

/* Ends the document of *out, and removes its text if it could not be completed. */
static void
end_text(TextBatch *b, SsCachedRow *out, bool ok)
{
	if (!ok)
		b->text->len = out->offset;
	out->length = b->text->len - out->offset;
	b->work += out->length;
}

/* A tail that is appended. */
typedef struct TailText
{
	TextBatch *batch;
	SsCachedRow *out;
	int64 least; /* lower bound for the text of all elements */
	bool first;  /* no element was appended yet */
} TailText;

static bool
add_least(void *arg, Datum element, bool is_summary)
{
	TailText *tail = arg;

	tail->least += ss_json_least(element);
	return true;
}

/* Appends an element of a tail; false when that is not possible. */
static bool
add_element(void *arg, Datum element, bool is_summary)
{
	TailText *tail = arg;
	TextBatch *b = tail->batch;
	SsCachedRow *out = tail->out;
	bool first = tail->first;

	tail->first = false;
	if (!first && !add_text(b, out, ", "))
		return false;
	if (is_summary)
		return add_text(b, out, "{\"" SS_SUMMARY_MEMBER "\": ") && add_json(b, out, element) &&
			   add_text(b, out, "}");
	return add_json(b, out, element);
}

/* Appends the tail of a session as an array. */
static void
add_tail(TextBatch *b, SsCachedRow *out, const SsRow *row)
{
	TailText text = {.batch = b, .out = out, .first = true};
	SsTail tail;

	ss_tail_read(row, out->policy->tail_size, &tail);
	(void) ss_tail_visit(&tail, add_least, &text);
	if (text.least > b->max)
		out->large = true;
	else
		end_text(b, out,
				 add_text(b, out, "[") && ss_tail_visit(&tail, add_element, &text) &&
					 add_text(b, out, "]"));
	ss_tail_free(&tail);
}

/*
 * Reads rows in the transaction's snapshot and appends their documents to `text`, each of at most
 * `max` bytes.  Once the batch has done its maximum work, the remaining rows are marked `later`;
 * at least one row is read.
 */
void
ss_cached_read(SsCachedRow *rows, int n, int64 max, StringInfo text)
{
	Datum *ns = palloc(sizeof(Datum) * n);
	Datum *ids = palloc(sizeof(Datum) * n);
	Datum *wanted = palloc(sizeof(Datum) * n);
	int *which = palloc(sizeof(int) * n);
	Datum values[3];
	SPITupleTable *table;
	SsCaller caller;
	TextBatch batch = {text, max, 0};
	uint64 found;
	int asked = 0;

	ss_sql_enter(&caller);
	for (int i = 0; i < n; i++)
	{
		rows[i].alive = rows[i].large = rows[i].foreign = rows[i].later = false;
		rows[i].offset = rows[i].length = 0;
		rows[i].life_us = 0;
		if (rows[i].policy == NULL)
			continue;
		ns[asked] = make_text(rows[i].key->bytes, rows[i].key->nslen);
		ids[asked] = make_text(rows[i].key->bytes + rows[i].key->nslen, rows[i].key->idlen);
		wanted[asked] = BoolGetDatum(rows[i].document && rows[i].key->part == SS_PART_DOCUMENT);
		which[asked++] = i;
	}
	values[0] = PointerGetDatum(construct_array(ns, asked, TEXTOID, -1, false, TYPALIGN_INT));
	values[1] = PointerGetDatum(construct_array(ids, asked, TEXTOID, -1, false, TYPALIGN_INT));
	values[2] = PointerGetDatum(construct_array(wanted, asked, BOOLOID, 1, true, TYPALIGN_CHAR));
	found = asked == 0 ? 0 : ss_plan_run(&read_plan, values, NULL, SS_PLAN_READ, 0);
	table = SPI_tuptable;
	for (uint64 i = 0; i < found; i++)
	{
		HeapTuple tuple = table->vals[i];
		TupleDesc desc = table->tupdesc;
		SsDeformedRow columns;
		bool no_history;
		SsCachedRow *out;
		SsTarget target = {0};
		SsRow row;
		Datum document;
		bool no_document;
		bool null;
		TimestampTz now;

		out = &rows[which[DatumGetInt64(SPI_getbinval(tuple, desc, READ_NUMBER, &null)) - 1]];
		document = SPI_getbinval(tuple, desc, READ_DOCUMENT, &no_document);
		ss_row_deform_result(&columns, tuple, desc, read_columns);
		ss_row_from_columns(&row, &columns);
		no_history = row.history_null || row.last_seq == 0;
		target.key = *out->key;
		target.policy.max_lifetime_us = out->policy->max_lifetime_us;
		now = GetCurrentTimestamp();
		ss_row_set_state(&row, &target, now);
		out->life_us = row.ends_at - now;
		/* a session that never had messages has no tail */
		if (row.state != SS_ALIVE || (out->key->part == SS_PART_TAIL && no_history))
			continue;
		if (batch.work >= BATCH_WORK_BYTES)
		{
			out->later = true;
			continue;
		}
		out->alive = true;
		out->life_us = copy_life(&row, out->policy, now);
		out->offset = text->len;
		if (out->document && out->key->part == SS_PART_TAIL)
			add_tail(&batch, out, &row);
		else if (out->document && !no_document)
			end_text(&batch, out, add_json(&batch, out, document));
	}
	ss_sql_leave(&caller);
}

/*
 * Returns the policies of all namespaces, palloc'd in the current memory context.  "default" is always
 * included.
 */
SsPolicy *
ss_cached_policies(int *count)
{
	MemoryContext context = CurrentMemoryContext;
	SsPolicy *policies;
	SsCaller caller;
	bool have_default = false;
	uint64 n;

	ss_sql_enter(&caller);
	n = ss_plan_run(&policies_plan, NULL, NULL, SS_PLAN_READ, 0);
	policies = MemoryContextAllocZero(context, sizeof(SsPolicy) * (n + 1));
	*count = 0;
	for (uint64 i = 0; i < n; i++)
	{
		char *name = TextDatumGetCString(
			ss_sql_value(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, "session_namespaces"));

		if (ss_ns_find(name, strlen(name), &policies[*count]))
			(*count)++;
		have_default = have_default || strcmp(name, SS_DEFAULT_NAMESPACE) == 0;
	}
	if (!have_default &&
		ss_ns_find(SS_DEFAULT_NAMESPACE, strlen(SS_DEFAULT_NAMESPACE), &policies[*count]))
		(*count)++;
	ss_sql_leave(&caller);
	return policies;
}

/*
 * Is there a prepared transaction that may have changed sessions or policies?  COMMIT PREPARED runs no
 * callback of ours.  (PREPARE is refused while there is a cache, but one may be older.)
 */
bool
ss_cached_prepared(void)
{
	SsCaller caller;
	SsCatalog catalog;
	Datum values[4];
	bool found;

	ss_catalog_get(&catalog);
	values[0] = ObjectIdGetDatum(catalog.sessions);
	values[1] = ObjectIdGetDatum(catalog.history);
	values[2] = ObjectIdGetDatum(catalog.namespaces);
	values[3] = ObjectIdGetDatum(MyDatabaseId);
	ss_sql_enter(&caller);
	found = ss_plan_run(&prepared_plan, values, NULL, SS_PLAN_READ, 1) > 0;
	ss_sql_leave(&caller);
	return found;
}

/* Returns the settings of ALTER DATABASE .. SET as text, palloc'd; used to detect a change. */
char *
ss_cached_settings(void)
{
	MemoryContext context = CurrentMemoryContext;
	SsCaller caller;
	char *result = NULL;

	ss_sql_enter(&caller);
	if (ss_plan_run(&settings_plan, NULL, NULL, SS_PLAN_READ, 1) > 0)
		result = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	result = MemoryContextStrdup(context, result == NULL ? "" : result);
	ss_sql_leave(&caller);
	return result;
}

/* Begins a walk at a random block of the table. */
static void
begin_walk(SsTableWalk *walk, Oid table)
{
	Relation rel = table_open(table, AccessShareLock);

	walk->nblocks = RelationGetNumberOfBlocks(rel);
	table_close(rel, NoLock);
	walk->begun = true;
	walk->done = walk->nblocks == 0;
	if (!walk->done && pg_strong_random(&walk->first, sizeof(walk->first)))
		walk->first %= walk->nblocks;
	walk->block = walk->first;
}

/* Reads the keys of the sessions in the next block of a walk, at most `max`; returns their number. */
int
ss_cached_block(SsTableWalk *walk, SsKey *keys, int max)
{
	ItemPointerData from = {0};
	ItemPointerData to = {0};
	Datum values[2] = {PointerGetDatum(&from), PointerGetDatum(&to)};
	SsCaller caller;
	SsCatalog catalog;
	int count = 0;
	uint64 found;

	ss_catalog_get(&catalog);
	if (!walk->begun)
		begin_walk(walk, catalog.sessions);
	if (walk->done)
		return 0;
	ItemPointerSet(&from, walk->block, 0);
	ItemPointerSet(&to, walk->block + 1, 0);
	ss_sql_enter(&caller);
	found = ss_plan_run(&block_plan, values, NULL, SS_PLAN_READ, max);
	for (uint64 i = 0; i < found; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;

		if (ss_key_from_datums(&keys[count], ss_sql_value(tuple, desc, 1, "conversation_sessions"),
							   ss_sql_value(tuple, desc, 2, "conversation_sessions")))
			count++;
	}
	ss_sql_leave(&caller);
	walk->block = (walk->block + 1) % walk->nblocks;
	walk->done = walk->block == walk->first;
	return count;
}
