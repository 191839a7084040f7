/*
 * sample.c
 *		Samples the number and size of the sessions of each namespace.
 *
 * Small tables are read completely.  Of large ones a bounded number of pages is read and the numbers
 * are scaled up, so the cost does not depend on the size.  Sizes are those of documents before
 * compression, which a TOAST pointer contains.
 *
 * Everything runs in a transaction of the keeper, between ss_sql_enter and ss_sql_leave.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/expiry.h"
#include "compat.h"
#include "row/row.h"
#include "row/row_columns.h"
#include "table/catalog.h"
#include "table/namespaces.h"
#include "table/sql.h"
#include "upkeep/sample.h"

/* Maximum number of pages to read, on average. */
#define SAMPLE_PAGES 1000
#define ONE_MB (1024 * 1024)

/* The numbers of one namespace, as counted in the pages that were read. */
typedef struct Sample
{
	char name[SS_NAMESPACE_MAX + 1];
	double sessions;
	double expired;
	double tombstones;
	double owned;
	double messages;
	double bytes;
	double over_1mb;
	int64 max_bytes;
} Sample;

static const AttrNumber scan_columns[] = {SS_ROW_NAMESPACE,    SS_ROW_SESSION_ID,
										  SS_ROW_EXPIRES_AT,   SS_ROW_DEAD_UNTIL,
										  SS_ROW_OWNER_ID,     SS_ROW_MESSAGE_COUNT,
										  SS_ROW_SESSION_DATA, SS_ROW_CREATED_AT,
										  SS_ROW_TTL,          SS_ROW_NONE};

static SsPlan scan_plan = {"SELECT {columns} FROM {sessions} TABLESAMPLE pg_catalog.system ($1)",
						   1,
						   {FLOAT4OID},
						   scan_columns};

static SsPlan names_plan = {"SELECT name FROM {namespaces}", 0, {InvalidOid}};

static SsPlan store_plan = {
	"INSERT INTO {samples} (namespace, sampled_at, estimated, sessions, expired, tombstones, owned,"
	" messages, total_bytes, max_bytes, over_1mb)"
	" VALUES ($1, pg_catalog.clock_timestamp(), $2, $3, $4, $5, $6, $7, $8, $9, $10)"
	" ON CONFLICT (namespace) DO UPDATE SET sampled_at = EXCLUDED.sampled_at,"
	" estimated = EXCLUDED.estimated, sessions = EXCLUDED.sessions, expired = EXCLUDED.expired,"
	" tombstones = EXCLUDED.tombstones, owned = EXCLUDED.owned, messages = EXCLUDED.messages,"
	" total_bytes = EXCLUDED.total_bytes, max_bytes = EXCLUDED.max_bytes,"
	" over_1mb = EXCLUDED.over_1mb",
	10,
	{TEXTOID, BOOLOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID}};

/* Returns a row when the row of a namespace is locked by another transaction, otherwise locks it. */
static SsPlan locked_plan = {
	"SELECT 1 FROM {samples} WHERE namespace {=} $1 AND NOT EXISTS (SELECT FROM"
	" (SELECT 1 FROM {samples} WHERE namespace {=} $1 FOR UPDATE SKIP LOCKED) free)",
	1,
	{TEXTOID}};

/* Rows that another transaction has locked are skipped; left_plan finds them. */
static SsPlan remove_plan = {
	"DELETE FROM {samples} WHERE namespace {<>} ALL ($1) AND ctid {=} ANY (ARRAY("
	"SELECT ctid FROM {samples} WHERE namespace {<>} ALL ($1) FOR UPDATE SKIP LOCKED))",
	1,
	{TEXTARRAYOID}};

static SsPlan left_plan = {"SELECT 1 FROM {samples} WHERE namespace {<>} ALL ($1) LIMIT 1",
						   1,
						   {TEXTARRAYOID}};

/* Returns the percentage of the table's pages to read. */
static float
percentage(void)
{
	SsCatalog catalog;
	Relation rel;
	BlockNumber pages;

	ss_catalog_get(&catalog);
	rel = table_open(catalog.sessions, AccessShareLock);
	pages = RelationGetNumberOfBlocks(rel);
	table_close(rel, AccessShareLock);
	return pages <= SAMPLE_PAGES ? 100 : 100.0 * SAMPLE_PAGES / pages;
}

/* Finds or creates the entry of a namespace. */
static Sample *
sample_of(HTAB *samples, const char *name, int len)
{
	char key[SS_NAMESPACE_MAX + 1] = {0};
	Sample *sample;
	bool found;

	memcpy(key, name, Min(len, SS_NAMESPACE_MAX));
	sample = hash_search(samples, key, HASH_ENTER, &found);
	if (!found)
		memset((char *) sample + sizeof(key), 0, sizeof(Sample) - sizeof(key));
	return sample;
}

/* Adds a row to the numbers of its namespace. */
static void
add_row(HTAB *samples, HeapTuple tuple, TupleDesc desc, TimestampTz now)
{
	SsDeformedRow columns;
	SsTarget target = {0};
	SsRow row;
	text *ns;
	Sample *sample;
	int64 bytes;

	ss_row_deform_result(&columns, tuple, desc, scan_columns);
	ss_row_from_columns(&row, &columns);
	ns = DatumGetTextPP(columns.values[SS_ROW_NAMESPACE]);
	sample = sample_of(samples, VARDATA_ANY(ns), VARSIZE_ANY_EXHDR(ns));
	/* a row whose namespace does not exist, or whose name is invalid, is classified without a policy */
	if (!ss_ns_find(VARDATA_ANY(ns), VARSIZE_ANY_EXHDR(ns), &target.policy))
		target.policy.max_lifetime_us = SS_NO_LIMIT;
	(void) ss_key_from_datums(&target.key, PointerGetDatum(ns), columns.values[SS_ROW_SESSION_ID]);
	ss_row_set_state(&row, &target, now);
	if (row.state == SS_DEAD)
	{
		sample->tombstones++;
		return;
	}
	if (row.state != SS_ALIVE)
	{
		sample->expired++;
		return;
	}
	bytes = toast_raw_datum_size(row.data) - VARHDRSZ;
	sample->sessions++;
	sample->owned += row.owner_null ? 0 : 1;
	sample->messages += row.message_count;
	sample->bytes += bytes;
	sample->over_1mb += bytes > ONE_MB ? 1 : 0;
	sample->max_bytes = Max(sample->max_bytes, bytes);
}

/* Adds entries for the namespaces without sessions, so that they have a row as well. */
static void
add_names(HTAB *samples)
{
	uint64 n = ss_plan_run(&names_plan, NULL, NULL, SS_PLAN_READ, 0);

	(void) sample_of(samples, SS_DEFAULT_NAMESPACE, strlen(SS_DEFAULT_NAMESPACE));
	for (uint64 i = 0; i < n; i++)
	{
		char *name = TextDatumGetCString(
			ss_sql_value(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, "session_namespaces"));

		(void) sample_of(samples, name, strlen(name));
	}
}

/* The argument of store_one: the numbers of a namespace, and the factor to scale them by. */
typedef struct ScaledSample
{
	const Sample *sample;
	double scale;
} ScaledSample;

/*
 * In a subtransaction: writes the row of one namespace.  False when another transaction has locked it;
 * it keeps its former numbers then.
 */
static bool
store_one(void *arg)
{
	const ScaledSample *written = arg;
	const Sample *sample = written->sample;
	double scale = written->scale;
	Datum values[10];

	values[0] = CStringGetTextDatum(sample->name);
	if (ss_plan_run(&locked_plan, values, NULL, SS_PLAN_WRITE, 1) > 0)
		return false;
	values[1] = BoolGetDatum(scale > 1);
	values[2] = Int64GetDatum((int64) (sample->sessions * scale));
	values[3] = Int64GetDatum((int64) (sample->expired * scale));
	values[4] = Int64GetDatum((int64) (sample->tombstones * scale));
	values[5] = Int64GetDatum((int64) (sample->owned * scale));
	values[6] = Int64GetDatum((int64) (sample->messages * scale));
	values[7] = Int64GetDatum((int64) (sample->bytes * scale));
	values[8] = Int64GetDatum(sample->max_bytes);
	values[9] = Int64GetDatum((int64) (sample->over_1mb * scale));
	(void) ss_plan_run(&store_plan, values, NULL, SS_PLAN_WRITE, 0);
	return true;
}

/* The argument of store_together. */
typedef struct Samples
{
	ScaledSample *all;
	int n;
	bool left; /* not all rows were written or removed */
} Samples;

/* In a subtransaction: writes the rows of all namespaces. */
static bool
store_together(void *arg)
{
	Samples *samples = arg;

	for (int i = 0; i < samples->n; i++)
		if (!store_one(&samples->all[i]))
			samples->left = true;
	return true;
}

/* Writes each row in a subtransaction of its own; a namespace whose row cannot be written is set aside. */
static void
store_one_by_one(Samples *samples, SsAside *aside)
{
	samples->left = false;
	for (int i = 0; i < samples->n; i++)
	{
		const char *name = samples->all[i].sample->name;
		ErrorData *error;
		SsKey key;

		CHECK_FOR_INTERRUPTS();
		ss_key_set(&key, name, strlen(name), "sample", 6);
		if (ss_aside_holds(aside, &key, GetCurrentTimestamp()))
			continue;
		if (!ss_aside_try(store_one, &samples->all[i], &error))
			samples->left = true;
		if (error == NULL)
			ss_aside_done(aside, &key);
		else
		{
			ss_aside_add(aside, &key, error);
			FreeErrorData(error);
		}
	}
}

/* Writes the rows of all namespaces, and removes those of namespaces that are gone.  False if any are left. */
static bool
store_samples(HTAB *found, double scale, SsAside *aside)
{
	HASH_SEQ_STATUS status;
	Sample *sample;
	Datum *names = palloc(sizeof(Datum) * hash_get_num_entries(found));
	Samples samples = {palloc(sizeof(ScaledSample) * hash_get_num_entries(found)), 0, false};
	Datum values[1];
	ErrorData *error = NULL;

	hash_seq_init(&status, found);
	while ((sample = hash_seq_search(&status)) != NULL)
	{
		names[samples.n] = CStringGetTextDatum(sample->name);
		samples.all[samples.n++] = (ScaledSample){sample, scale};
	}
	if (ss_aside_is_empty(aside))
		(void) ss_aside_try(store_together, &samples, &error);
	if (!ss_aside_is_empty(aside) || error != NULL)
		store_one_by_one(&samples, aside);
	values[0] = PointerGetDatum(
		construct_array(names, samples.n, TEXTOID, -1, false, TYPALIGN_INT));
	ss_plan_run(&remove_plan, values, NULL, SS_PLAN_WRITE, 0);
	return !samples.left && ss_aside_is_empty(aside) &&
		   ss_plan_run(&left_plan, values, NULL, SS_PLAN_WRITE, 1) == 0;
}

/* Takes a sample and rewrites session_samples.  False if some of its rows could not be written or removed. */
bool
ss_sample_take(SsAside *aside)
{
	float percent = percentage();
	Datum argument[1] = {Float4GetDatum(percent)};
	TimestampTz now = GetCurrentTimestamp();
	HASHCTL ctl = {0};
	HTAB *samples;
	uint64 n;

	ctl.keysize = SS_NAMESPACE_MAX + 1;
	ctl.entrysize = sizeof(Sample);
	ctl.hcxt = CurrentMemoryContext;
	samples = hash_create("session_store samples", 16, &ctl,
						  HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);

	n = ss_plan_run(&scan_plan, argument, NULL, SS_PLAN_READ, 0);
	for (uint64 i = 0; i < n; i++)
		add_row(samples, SPI_tuptable->vals[i], SPI_tuptable->tupdesc, now);
	SPI_freetuptable(SPI_tuptable);
	add_names(samples);
	return store_samples(samples, 100.0 / percent, aside);
}
