/*
 * operations.c
 *		Operations on a conversation that are carried out once, however often they are repeated.
 *
 * A client that does not know whether a call was carried out, because the answer was lost, repeats it
 * under the same operation_id.  The first call records the operation in session_operations, with a
 * hash over its arguments and its result.  A repeated call finds it, changes nothing and returns that
 * result; a call with other arguments is an error.
 *
 * An operation refers to the history, so it follows the session to a new id and ends with it.  It is
 * kept until keep_until, the time of the call plus operation_keep of the namespace.  From then on it
 * counts as absent, whether the keeper (upkeep/operation_purge.c) has removed it or not.  What becomes
 * of the messages does not matter to it.
 *
 * Locking: the caller has locked the session's row, which serializes the operations of a session.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "row/errors.h"
#include "sessions/operations.h"
#include "table/sql.h"

/* The columns of find_plan. */
enum
{
	FOUND_RESULT = 1,
	FOUND_HASH,
	FOUND_KEEP_UNTIL
};

static SsPlan find_plan = {"SELECT result, operation_hash, keep_until FROM {operations}"
						   " WHERE history_id {=} $1 AND operation_id {=} $2",
						   2,
						   {UUIDOID, TEXTOID}};

static SsPlan insert_plan = {
	"INSERT INTO {operations} (history_id, operation_id, namespace, keep_until, operation_hash,"
	" result) VALUES ($1, $2, $3, $4, $5, $6)",
	6,
	{UUIDOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, BYTEAOID, INT8OID}};

static SsPlan replace_plan = {
	"DELETE FROM {operations} WHERE history_id {=} $1 AND operation_id {=} $2",
	2,
	{UUIDOID, TEXTOID}};

static SsPlan exists_plan = {"SELECT 1 FROM {operations} WHERE history_id {=} $1 LIMIT 1",
							 1,
							 {UUIDOID}};

/*
 * The place of a result is the number of messages up to it.  Messages and results are counted in one
 * pass, in the order of their seqs, a message before a result of the same seq.
 *
 * The generic plan must cost what is moved, whatever the tables have: rows are updated by their ctid,
 * the target's operations are looked up one by one, and keep_until is compared where its index cannot
 * be used.
 */
static SsPlan move_plan = {
	"UPDATE {operations} o SET history_id = $1, result = $3 {+} n.place"
	" FROM (SELECT u.row, u.part, u.operation_id, u.keep_until,"
	"   pg_catalog.count(*) FILTER (WHERE u.operation_id IS NULL)"
	"   OVER (ORDER BY u.seq, u.operation_id NULLS FIRST ROWS UNBOUNDED PRECEDING) AS place"
	"  FROM (SELECT NULL::pg_catalog.tid AS row, NULL::pg_catalog.oid AS part, h.seq,"
	"    NULL::pg_catalog.text COLLATE pg_catalog.\"C\" AS operation_id,"
	"    NULL::pg_catalog.timestamptz AS keep_until FROM {history} h WHERE h.history_id {=} $2"
	"   UNION ALL SELECT f.ctid, f.tableoid, f.result, f.operation_id, f.keep_until"
	"    FROM {operations} f WHERE f.history_id {=} $2) u OFFSET 0) n"
	" WHERE o.ctid {=} n.row AND o.tableoid {=} n.part AND n.keep_until {>} $4"
	" AND (SELECT t.result FROM {operations} t WHERE t.history_id {=} $1"
	"  AND t.operation_id {=} n.operation_id) IS NULL",
	4,
	{UUIDOID, UUIDOID, INT8OID, TIMESTAMPTZOID}};

struct SsArgumentHash
{
	pg_cryptohash_ctx *ctx;
};

/* Precedes the name of an argument.  No jsonb begins with such a length word. */
#define NAME_MARK UINT32_MAX

static void
hash_failed(void)
{
	ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not hash the arguments")));
}

static void
update(SsArgumentHash *hash, const void *data, size_t len)
{
	if (pg_cryptohash_update(hash->ctx, data, len) < 0)
		hash_failed();
}

/* Begins a SHA-256 hash over the arguments of a call. */
SsArgumentHash *
ss_argument_hash_begin(void)
{
	SsArgumentHash *hash = palloc(sizeof(SsArgumentHash));

	hash->ctx = pg_cryptohash_create(PG_SHA256);
	if (hash->ctx == NULL || pg_cryptohash_init(hash->ctx) < 0)
		hash_failed();
	return hash;
}

/* Adds a value that is jsonb and not toasted.  Its length word separates it from the next. */
void
ss_argument_hash_value(SsArgumentHash *hash, Datum value)
{
	/* jsonb has one binary form per content */
	update(hash, DatumGetPointer(value), VARSIZE(DatumGetPointer(value)));
}

static void
add_named(SsArgumentHash *hash, const char *name, const void *data, size_t len)
{
	uint32 mark = NAME_MARK;
	uint64 length = len;

	update(hash, &mark, sizeof(mark));
	update(hash, name, strlen(name) + 1);
	update(hash, &length, sizeof(length));
	update(hash, data, len);
}

/* Adds an argument that a call may leave out: text or jsonb, or 0, which adds nothing. */
void
ss_argument_hash_named(SsArgumentHash *hash, const char *name, Datum value)
{
	struct varlena *data;

	if (value == (Datum) 0)
		return;
	data = PG_DETOAST_DATUM_PACKED(value);
	add_named(hash, name, VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data));
}

/* The same for a number. */
void
ss_argument_hash_number(SsArgumentHash *hash, const char *name, int64 value)
{
	add_named(hash, name, &value, sizeof(value));
}

/* Returns the hash, a bytea, and frees the memory for its computation. */
Datum
ss_argument_hash_end(SsArgumentHash *hash)
{
	bytea *result = palloc(VARHDRSZ + PG_SHA256_DIGEST_LENGTH);

	if (pg_cryptohash_final(hash->ctx, (uint8 *) VARDATA(result), PG_SHA256_DIGEST_LENGTH) < 0)
		hash_failed();
	pg_cryptohash_free(hash->ctx);
	pfree(hash);
	SET_VARSIZE(result, VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	return PointerGetDatum(result);
}

/*
 * Was the operation carried out before, and is it still kept?  Then *result is what it returned.
 * Raises an error if it was carried out with other arguments.
 */
bool
ss_operation_was_done(const SsChange *change, SsOperation *operation, int64 *result)
{
	Datum values[2] = {change->row.history, operation->id};
	HeapTuple tuple;
	TupleDesc desc;

	operation->outdated = false;
	if (operation->id == (Datum) 0 || change->row.history_null ||
		ss_plan_run(&find_plan, values, NULL, SS_PLAN_LATEST, 1) == 0)
		return false;
	tuple = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	operation->outdated = DatumGetTimestampTz(ss_sql_value(tuple, desc, FOUND_KEEP_UNTIL,
														   "session_operations")) <= change->now;
	if (operation->outdated)
		return false;
	if (!DatumGetBool(DirectFunctionCall2(
			byteaeq, ss_sql_value(tuple, desc, FOUND_HASH, "session_operations"), operation->hash)))
		ss_error_operation_reused();
	*result = DatumGetInt64(ss_sql_value(tuple, desc, FOUND_RESULT, "session_operations"));
	return true;
}

/* Records an operation that was carried out, if it has an operation_id. */
void
ss_operation_record(const SsChange *change, const SsOperation *operation, int64 result)
{
	const SsPolicy *policy = &change->target->policy;
	Datum values[6] = {change->row.history, operation->id};

	if (operation->id == (Datum) 0)
		return;
	/* in a new snapshot, since the keeper may have removed it meanwhile */
	if (operation->outdated)
		ss_plan_run(&replace_plan, values, NULL, SS_PLAN_LATEST, 0);
	values[2] = change->target->ns;
	values[3] = TimestampTzGetDatum(change->now + policy->operation_keep_us);
	values[4] = operation->hash;
	values[5] = Int64GetDatum(result);
	if (ss_plan_run(&insert_plan, values, NULL, SS_PLAN_WRITE, 0) != 1)
		ss_error_rows_skipped("session_operations");
}

/* Does the session have operations? */
bool
ss_operation_exists(const SsRow *row)
{
	Datum values[1] = {row->history};

	return !row->history_null && ss_plan_run(&exists_plan, values, NULL, SS_PLAN_WRITE, 1) > 0;
}

/*
 * Moves the operations of a session to another one, before its messages follow the message with seq
 * `base` there.  The result of each becomes the new seq of the same message, or of the one before it
 * if that is gone.  An operation whose id the other session has used stays, and ends with the session.
 */
void
ss_operation_move(const SsRow *from, const SsRow *to, int64 base)
{
	Datum values[4] = {to->history, from->history, Int64GetDatum(base),
					   TimestampTzGetDatum(GetCurrentTimestamp())};

	ss_plan_run(&move_plan, values, NULL, SS_PLAN_WRITE, 0);
}
