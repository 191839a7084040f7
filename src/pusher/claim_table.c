/*
 * claim_table.c
 *		Reads and writes session_cache_claims, which records the Redis that a database claimed last.
 *
 * The pusher reads and writes it in short transactions, and the keeper reads it when it starts.
 * For the meaning of the rows see standing.c.  The queries cast each column to its type, so that a
 * column whose type was altered causes an error and not a crash.
 *
 * On a subscriber of logical replication a trigger skips the rows of the publisher, because the
 * subscriber has a Redis of its own.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "replication/logicalworker.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "function.h"
#include "pusher/claim_table.h"
#include "table/schema.h"
#include "table/sql.h"

SS_FUNCTION(session_cache_claims_guard, 1_0, TRIGGEROID);

/*
 * The columns and parameters of these statements are columns of the table, in its order, up to the
 * last but one: the statement sets claimed_at.  Values are indexed by attribute number (element 0 is
 * unused).
 */
#define CLAIM_ATTRS SS_CLAIM_EPOCHS

/* Rows of this database come first, because of the limit. */
static SsPlan read_plan = {
	"SELECT system_identifier::pg_catalog.int8, database_oid::pg_catalog.oid,"
	" data_directory::pg_catalog.text, timeline::pg_catalog.int8, redis::pg_catalog.text,"
	" moved::pg_catalog.bool, tokens::pg_catalog.int8[], epochs::pg_catalog.int8[]"
	" FROM {claims} ORDER BY system_identifier {=} $1 DESC, database_oid {=} $2 DESC,"
	" epochs[1] DESC NULLS LAST LIMIT $3",
	3,
	{INT8OID, OIDOID, INT8OID}};

static SsPlan delete_plan = {"DELETE FROM {claims}", 0, {InvalidOid}};

static SsPlan insert_plan = {
	"INSERT INTO {claims} (system_identifier, database_oid, data_directory, timeline, redis, moved,"
	" tokens, epochs, claimed_at)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, pg_catalog.clock_timestamp())",
	8,
	{INT8OID, OIDOID, TEXTOID, INT8OID, TEXTOID, BOOLOID, INT8ARRAYOID, INT8ARRAYOID}};

/* Read an int8[]; elements that are missing or null become 0. */
static void
read_numbers(Datum array, uint64 numbers[SS_CLAIM_MARKS])
{
	Datum *values;
	bool *nulls;
	int n;

	memset(numbers, 0, sizeof(uint64) * SS_CLAIM_MARKS);
	deconstruct_array(DatumGetArrayTypeP(array), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &values, &nulls, &n);
	for (int i = 0; i < Min(n, SS_CLAIM_MARKS); i++)
		if (!nulls[i])
			numbers[i] = (uint64) DatumGetInt64(values[i]);
}

/* Make an int8[]. */
static Datum
number_array(Datum numbers[SS_CLAIM_MARKS], int n)
{
	return PointerGetDatum(
		construct_array(numbers, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* Convert a row of read_plan. */
static void
read_row(HeapTuple tuple, TupleDesc desc, SsClaim *claim)
{
	uint64 tokens[SS_CLAIM_MARKS];
	uint64 epochs[SS_CLAIM_MARKS];
	Datum values[CLAIM_ATTRS + 1];

	memset(claim, 0, sizeof(*claim));
	for (int i = 1; i <= CLAIM_ATTRS; i++)
		values[i] = ss_sql_value(tuple, desc, i, "session_cache_claims");
	claim->system = (uint64) DatumGetInt64(values[SS_CLAIM_SYSTEM_IDENTIFIER]);
	claim->database = DatumGetObjectId(values[SS_CLAIM_DATABASE_OID]);
	strlcpy(claim->directory, TextDatumGetCString(values[SS_CLAIM_DATA_DIRECTORY]),
			sizeof(claim->directory));
	claim->timeline = (uint32) DatumGetInt64(values[SS_CLAIM_TIMELINE]);
	strlcpy(claim->redis, TextDatumGetCString(values[SS_CLAIM_REDIS]), sizeof(claim->redis));
	claim->moved = DatumGetBool(values[SS_CLAIM_MOVED]);
	read_numbers(values[SS_CLAIM_TOKENS], tokens);
	read_numbers(values[SS_CLAIM_EPOCHS], epochs);
	for (int i = 0; i < SS_CLAIM_MARKS; i++)
	{
		claim->marks[i].token = tokens[i];
		claim->marks[i].epoch = epochs[i];
	}
}

/*
 * Read the claims in this database, those of *me first, and return their number.  Called in a
 * transaction with an active snapshot.
 */
int
ss_claims_read(SsClaim claims[SS_CLAIMS_MAX], const SsClaim *me)
{
	Datum values[3] = {Int64GetDatum((int64) me->system), ObjectIdGetDatum(me->database),
					   Int64GetDatum(SS_CLAIMS_MAX)};
	SsCaller caller;
	int n;

	ss_sql_enter(&caller);
	n = (int) ss_plan_run(&read_plan, values, NULL, SS_PLAN_READ, SS_CLAIMS_MAX);
	for (int i = 0; i < n; i++)
		read_row(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, &claims[i]);
	ss_sql_leave(&caller);
	return n;
}

/* Replace all claims in this database by one.  Called in a transaction that may write. */
void
ss_claims_write(const SsClaim *claim)
{
	Datum tokens[SS_CLAIM_MARKS];
	Datum epochs[SS_CLAIM_MARKS];
	Datum values[CLAIM_ATTRS + 1];
	SsCaller caller;
	int n = 0;

	for (; n < SS_CLAIM_MARKS && claim->marks[n].token != 0; n++)
	{
		tokens[n] = Int64GetDatum((int64) claim->marks[n].token);
		epochs[n] = Int64GetDatum((int64) claim->marks[n].epoch);
	}
	ss_sql_enter(&caller);
	values[SS_CLAIM_SYSTEM_IDENTIFIER] = Int64GetDatum((int64) claim->system);
	values[SS_CLAIM_DATABASE_OID] = ObjectIdGetDatum(claim->database);
	values[SS_CLAIM_DATA_DIRECTORY] = CStringGetTextDatum(claim->directory);
	values[SS_CLAIM_TIMELINE] = Int64GetDatum(claim->timeline);
	values[SS_CLAIM_REDIS] = CStringGetTextDatum(claim->redis);
	values[SS_CLAIM_MOVED] = BoolGetDatum(claim->moved);
	values[SS_CLAIM_TOKENS] = number_array(tokens, n);
	values[SS_CLAIM_EPOCHS] = number_array(epochs, n);
	(void) ss_plan_run(&delete_plan, NULL, NULL, SS_PLAN_WRITE, 0);
	if (ss_plan_run(&insert_plan, &values[1], NULL, SS_PLAN_WRITE, 0) != 1)
		ereport(ERROR, (errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
						errmsg("could not insert a row into session_cache_claims"),
						errhint("Remove the trigger or rule that prevents the INSERT.")));
	ss_sql_leave(&caller);
}

/* The trigger BEFORE a row: skips rows that a logical replication worker applies. */
static Datum
session_cache_claims_guard(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(data->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"session_cache_claims_guard\" must be fired BEFORE ROW")));
	if (IsLogicalWorker())
		return PointerGetDatum(NULL);
	return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newtuple
																   : data->tg_trigtuple);
}
