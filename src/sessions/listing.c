/*
 * listing.c
 *		Counts and lists sessions.
 *
 * A listing uses indexes on columns that do not change while a session lives, so that it makes saves
 * no more expensive.  With owner isolation there are two scans, of the caller's own sessions and of
 * those shared with it, and their results are merged.
 *
 * By a prefix of the ids, sessions are found in a range of the primary key.  Those of one owner are
 * not: the range contains the sessions of all owners, so the owner's sessions are read and those with
 * the prefix sorted.  The statements prevent other indexes: while a table is small the planner takes
 * them for equally cheap, and it keeps that plan when the table has grown.
 *
 * A page has no more rows than the page size times the two scans.  Documents that are stored out of
 * line stay there until the caller reads the row, so the memory that a page needs is bounded.
 *
 * All functions are called between ss_sql_enter and ss_sql_leave.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "sessions/listing.h"
#include "table/sql.h"

/*
 * The parameters of the statements of this file; each uses those that it needs:
 *
 *		$1 namespace				$8 filter
 *		$2 owner					$9 created_at of the row behind which the page begins
 *		$3 subject of the caller	$10 session_id of that row
 *		$4 id_like					$11 whether the documents are wanted
 *		$5 of SS_SQL_ALIVE			$12 size of the page
 *		$6 id_prefix
 *		$7 end of the range of ids	$13 start of the range of ids
 */
#define PARAMS 13
#define TYPES                                                                           \
	{                                                                                   \
		TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, JSONBOID, \
			TIMESTAMPTZOID, TEXTOID, BOOLOID, INT8OID, TEXTOID                          \
	}

/* The value of parameter n in an array of values or nulls. */
#define PARAM(n) ((n) -1)

/* The sessions that a statement reads; each is reduced to those of the namespace that are alive. */
typedef enum Source
{
	FROM_ALL,
	FROM_OWNER,  /* whose owner is $2 */
	FROM_SHARED, /* see SHARED */
	SOURCES
} Source;

#define ALIVE SS_SQL_ALIVE("$5") " AND ($4 IS NULL OR session_id {~~} $4)"
#define ALL " {sessions} WHERE namespace {=} $1 AND " ALIVE
#define OWNED ALL " AND owner_id {=} $2"

/*
 * The sessions that others (only the owner $2, if that is not null) have shared with $3 and that $3
 * has accepted.  The index on members is used, so the cost is proportional to what was accepted.  The
 * concatenation with '' keeps the planner from an index by namespace, which would look as cheap
 * while there are few sessions.
 */
#define SHARED                                                                                                        \
	" {sessions} WHERE history_id {=} ANY (ARRAY(SELECT m.history_id FROM {members} m"                                \
	" WHERE m.accepted AND m.member COLLATE pg_catalog.\"POSIX\" {=} $3)) AND (owner_id IS NULL OR owner_id {<>} $3)" \
	" AND ($2 IS NULL OR owner_id {=} $2) AND (namespace {||} ''::pg_catalog.text) {=} $1 AND " ALIVE

/* The range of the primary key, and a condition without an index. */
#define IN_RANGE " AND session_id {>=} $13 AND session_id {<=} $7"
#define WITH_PREFIX " AND ($6 IS NULL OR pg_catalog.starts_with(session_id, $6))"

#define COUNT(source)                                           \
	{                                                           \
		"SELECT pg_catalog.count(*) FROM" source, PARAMS, TYPES \
	}

static SsPlan count_plans[SOURCES] = {
	[FROM_ALL] = COUNT(ALL),
	[FROM_OWNER] = COUNT(OWNED WITH_PREFIX),
	[FROM_SHARED] = COUNT(SHARED WITH_PREFIX),
};

/* Only the primary key has this order without a sort. */
static SsPlan count_range_plan = COUNT(" (SELECT FROM" ALL IN_RANGE
									   " ORDER BY session_id OFFSET 0) s");

/*
 * A page scans an index from the end of the previous page and skips the rows that do not match.  The
 * columns are those of SsPageColumn.
 */
#define PAGE(source, order)                                                                    \
	{                                                                                          \
		"SELECT session_id, owner_id, version, created_at, updated_at,"                        \
		" " SS_SQL_EXPIRY ", message_count,"                                                   \
		" CASE WHEN $11 THEN session_data END"                                                 \
		" FROM" source " AND ($8 IS NULL OR {contains}(session_data, $8))" order " LIMIT $12", \
			PARAMS, TYPES                                                                      \
	}

#define NEWEST_FIRST                                                           \
	" AND (created_at, session_id COLLATE pg_catalog.\"POSIX\") {<} ($9, $10)" \
	" ORDER BY created_at DESC, session_id COLLATE pg_catalog.\"POSIX\" DESC"

/* In the collation "POSIX" the condition and the order do not match the primary key. */
#define SORTED_BY_ID                                       \
	WITH_PREFIX                                            \
	" AND session_id COLLATE pg_catalog.\"POSIX\" {>} $10" \
	" ORDER BY session_id COLLATE pg_catalog.\"POSIX\""

static SsPlan page_plans[][SOURCES] = {
	[SS_NEWEST_FIRST] =
		{
			[FROM_ALL] = PAGE(ALL, NEWEST_FIRST),
			[FROM_OWNER] = PAGE(OWNED, NEWEST_FIRST),
			[FROM_SHARED] = PAGE(SHARED, NEWEST_FIRST),
		},
	[SS_BY_ID] =
		{
			/* the range begins with the row behind which the page begins */
			[FROM_ALL] = PAGE(ALL, IN_RANGE " AND session_id {<>} $10 ORDER BY session_id"),
			[FROM_OWNER] = PAGE(OWNED, SORTED_BY_ID),
			[FROM_SHARED] = PAGE(SHARED, SORTED_BY_ID),
		},
};

/* The values of the parameters. */
typedef struct Params
{
	Datum values[PARAMS];
	char nulls[PARAMS];
} Params;

static void
set_param(Params *params, int n, Datum value)
{
	params->values[PARAM(n)] = value;
	params->nulls[PARAM(n)] = ' ';
}

static void
set_condition(Params *params, int n, Datum value)
{
	if (value != (Datum) 0)
		set_param(params, n, value);
}

/* Sets the parameters that a selection gives; the others are null. */
static void
bind_selection(Params *params, const SsTarget *target, const SsSelection *which, Datum owner,
			   char *subject)
{
	memset(params->nulls, 'n', sizeof(params->nulls));
	memset(params->values, 0, sizeof(params->values));
	set_param(params, 1, target->ns);
	set_condition(params, 2, owner);
	if (subject != NULL)
		set_param(params, 3, CStringGetTextDatum(subject));
	set_condition(params, 4, which->id_like);
	set_param(params, 5, ss_alive_param(target));
	if (which->id_prefix != (Datum) 0)
	{
		set_param(params, 6, which->id_prefix);
		set_param(params, 7, ss_id_range_end(which->id_prefix));
		set_param(params, 13, which->id_prefix);
	}
	set_condition(params, 8, which->filter);
}

/* Runs a statement that counts. */
static int64
run_count(SsPlan *plan, Params *params)
{
	bool null;

	ss_plan_run(plan, params->values, params->nulls, SS_PLAN_READ, 0);
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
}

/* Counts the sessions of the selection that are alive and visible to the caller. */
int64
ss_sessions_count(SsTarget *target, const SsSelection *selection)
{
	SsSelection which = *selection;
	SsScope scope = ss_scope_of(target, &which);
	Params params;
	int64 count = 0;

	if (scope.own)
	{
		bind_selection(&params, target, &which, which.owner, NULL);
		if (which.owner != (Datum) 0)
			count = run_count(&count_plans[FROM_OWNER], &params);
		else
			count = run_count(which.id_prefix != (Datum) 0 ? &count_range_plan
														   : &count_plans[FROM_ALL],
							  &params);
	}
	if (scope.subject != NULL)
	{
		bind_selection(&params, target, &which, selection->owner, scope.subject);
		count += run_count(&count_plans[FROM_SHARED], &params);
	}
	return count;
}

/* Reads the sessions of a page from a source; *n rows. */
static SPITupleTable *
read_page(Source source, Params *params, const SsPage *page, uint64 *n)
{
	set_param(params, 9, TimestampTzGetDatum(page->created_at));
	set_param(params, 10, page->session_id);
	set_param(params, 11, BoolGetDatum(page->with_data));
	set_param(params, 12, Int64GetDatum(page->size));
	/* this is within the range, and the first page begins with the prefix */
	if (VARSIZE_ANY_EXHDR(DatumGetTextPP(page->session_id)) > 0)
		set_param(params, 13, page->session_id);
	*n = ss_plan_run(&page_plans[page->order][source], params->values, params->nulls, SS_PLAN_READ,
					 0);
	return SPI_tuptable;
}

/* Does row i of a come before row j of b in a listing? */
static bool
comes_first(SsListOrder order, SPITupleTable *a, uint64 i, SPITupleTable *b, uint64 j)
{
	TimestampTz at = DatumGetTimestampTz(
		ss_sql_value(a->vals[i], a->tupdesc, SS_PAGE_CREATED_AT, "conversation_sessions"));
	TimestampTz bt = DatumGetTimestampTz(
		ss_sql_value(b->vals[j], b->tupdesc, SS_PAGE_CREATED_AT, "conversation_sessions"));
	int ids;

	if (order == SS_NEWEST_FIRST && at != bt)
		return at > bt;
	ids = DatumGetInt32(DirectFunctionCall2Coll(
		bttextcmp, C_COLLATION_OID,
		ss_sql_value(a->vals[i], a->tupdesc, SS_PAGE_SESSION_ID, "conversation_sessions"),
		ss_sql_value(b->vals[j], b->tupdesc, SS_PAGE_SESSION_ID, "conversation_sessions")));
	return order == SS_NEWEST_FIRST ? ids > 0 : ids < 0;
}

/*
 * Passes a page of sessions that are alive and visible to the caller to the sink, in the order of the
 * page.  They are fewer than the size of the page only if there are no more.
 */
void
ss_sessions_page(SsTarget *target, const SsSelection *selection, const SsPage *page,
				 SsSessionSink sink, void *arg)
{
	SsSelection which = *selection;
	SsScope scope = ss_scope_of(target, &which);
	SPITupleTable *own = NULL;
	SPITupleTable *shared = NULL;
	Params params;
	uint64 nown = 0;
	uint64 nshared = 0;
	uint64 o = 0;
	uint64 s = 0;

	if (scope.own)
	{
		bind_selection(&params, target, &which, which.owner, NULL);
		own = read_page(which.owner != (Datum) 0 ? FROM_OWNER : FROM_ALL, &params, page, &nown);
	}
	if (scope.subject != NULL)
	{
		bind_selection(&params, target, &which, selection->owner, scope.subject);
		shared = read_page(FROM_SHARED, &params, page, &nshared);
	}
	while (o + s < (uint64) page->size && (o < nown || s < nshared))
	{
		if (s == nshared || (o < nown && comes_first(page->order, own, o, shared, s)))
		{
			sink(arg, own->vals[o], own->tupdesc);
			o++;
		}
		else
		{
			sink(arg, shared->vals[s], shared->tupdesc);
			s++;
		}
	}
}
