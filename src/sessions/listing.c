/*
 * listing.c
 *		Counts and lists sessions.
 *
 * A listing uses indexes on columns that do not change while a session lives, so that it makes saves
 * no more expensive.  With owner isolation there are two scans, of the caller's own sessions and of
 * those shared with it, and their results are merged.
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

static SsPlan count_owner_plan = {
	"SELECT pg_catalog.count(*) FROM {sessions} WHERE namespace {=} $1 AND owner_id {=} $2"
	" AND ($3 IS NULL OR session_id {~~} $3) AND " SS_SQL_ALIVE("$4"),
	4,
	{TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}};

static SsPlan count_any_plan = {"SELECT pg_catalog.count(*) FROM {sessions} WHERE namespace {=} $1"
								" AND ($2 IS NULL OR session_id {~~} $2) AND " SS_SQL_ALIVE("$3"),
								3,
								{TEXTOID, TEXTOID, TIMESTAMPTZOID}};

/*
 * The sessions that others (only the owner $2, if that is not null) have shared with $1 and that $1
 * has accepted.  The index on members is used, so the cost is proportional to what was accepted.  The
 * concatenation with '' keeps the planner from an index by namespace, which would look as cheap
 * while there are few sessions.
 */
#define SHARED                                                                                                        \
	" {sessions} WHERE history_id {=} ANY (ARRAY(SELECT m.history_id FROM {members} m"                                \
	" WHERE m.accepted AND m.member COLLATE pg_catalog.\"POSIX\" {=} $1)) AND (owner_id IS NULL OR owner_id {<>} $1)" \
	" AND ($2 IS NULL OR owner_id {=} $2) AND (namespace {||} ''::pg_catalog.text) {=} $3"

static SsPlan count_shared_plan = {"SELECT pg_catalog.count(*) FROM" SHARED
								   " AND ($4 IS NULL OR session_id {~~} $4) AND " SS_SQL_ALIVE(
									   "$5"),
								   5,
								   {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}};

/*
 * A page scans an index backwards from the end of the previous page and skips the rows that do not
 * match.
 */
/* The columns of SsPageColumn. */
#define PAGE_COLUMNS                                                \
	"SELECT session_id, owner_id, version, created_at, updated_at," \
	" {effective}(namespace, session_id, expires_at), message_count"

#define PAGE                                                                  \
	PAGE_COLUMNS                                                              \
	" FROM {sessions} WHERE namespace {=} $1"                                 \
	" AND (created_at, session_id COLLATE pg_catalog.\"POSIX\") {<} ($2, $3)" \
	" AND " SS_SQL_ALIVE(                                                     \
		"$4") " AND ($5 IS NULL OR session_id {~~} $5) AND ($6 IS NULL OR {contains}(session_data, $6))"
#define PAGE_ORDER \
	" ORDER BY created_at DESC, session_id COLLATE pg_catalog.\"POSIX\" DESC LIMIT $7"

static SsPlan page_any_plan = {PAGE PAGE_ORDER,
							   7,
							   {TEXTOID, TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, JSONBOID,
								INT8OID}};

static SsPlan page_owner_plan = {PAGE " AND owner_id {=} $8" PAGE_ORDER,
								 8,
								 {TEXTOID, TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID, TEXTOID,
								  JSONBOID, INT8OID, TEXTOID}};

static SsPlan page_shared_plan = {
	PAGE_COLUMNS
	" FROM" SHARED " AND (created_at, session_id COLLATE pg_catalog.\"POSIX\") {<} ($4, $5)"
	" AND " SS_SQL_ALIVE("$6") " AND ($8 IS NULL OR session_id {~~} $8)"
							   " AND ($9 IS NULL OR {contains}(session_data, $9))" PAGE_ORDER,
	9,
	{TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID, INT8OID, TEXTOID,
	 JSONBOID}};

/* Returns the result of a statement that counts. */
static int64
count_result(void)
{
	bool null;

	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
}

/* Counts the sessions of the selection that are alive and visible to the caller. */
int64
ss_sessions_count(SsTarget *target, const SsSelection *selection)
{
	SsSelection which = *selection;
	SsScope scope = ss_scope_of(target, &which);
	int64 count = 0;

	if (scope.own && which.owner != (Datum) 0)
	{
		Datum values[4] = {target->ns, which.owner, which.id_like, ss_alive_param(target)};
		char nulls[4] = {' ', ' ', ss_null_if(which.id_like), ' '};

		ss_plan_run(&count_owner_plan, values, nulls, SS_PLAN_READ, 0);
		count = count_result();
	}
	else if (scope.own)
	{
		Datum values[3] = {target->ns, which.id_like, ss_alive_param(target)};
		char nulls[3] = {' ', ss_null_if(which.id_like), ' '};

		ss_plan_run(&count_any_plan, values, nulls, SS_PLAN_READ, 0);
		count = count_result();
	}
	if (scope.subject != NULL)
	{
		Datum values[5] = {CStringGetTextDatum(scope.subject), selection->owner, target->ns,
						   which.id_like, ss_alive_param(target)};
		char nulls[5] = {' ', ss_null_if(selection->owner), ' ', ss_null_if(which.id_like), ' '};

		ss_plan_run(&count_shared_plan, values, nulls, SS_PLAN_READ, 0);
		count += count_result();
	}
	return count;
}

/* Reads the sessions of a page from the caller's own, or from all; *n rows. */
static SPITupleTable *
page_of_own(SsTarget *target, const SsSelection *which, const SsPage *page, uint64 *n)
{
	Datum values[8];
	char nulls[8] = {' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '};

	values[0] = target->ns;
	values[1] = TimestampTzGetDatum(page->created_at);
	values[2] = page->session_id;
	values[3] = ss_alive_param(target);
	values[4] = which->id_like;
	nulls[4] = ss_null_if(which->id_like);
	values[5] = which->filter;
	nulls[5] = ss_null_if(which->filter);
	values[6] = Int64GetDatum(page->size);
	values[7] = which->owner;
	*n = ss_plan_run(which->owner != (Datum) 0 ? &page_owner_plan : &page_any_plan, values, nulls,
					 SS_PLAN_READ, 0);
	return SPI_tuptable;
}

/* Reads the sessions of a page from those shared with the subject; *n rows. */
static SPITupleTable *
page_of_shared(SsTarget *target, char *subject, const SsSelection *which, const SsPage *page,
			   uint64 *n)
{
	Datum values[9] = {CStringGetTextDatum(subject),
					   which->owner,
					   target->ns,
					   TimestampTzGetDatum(page->created_at),
					   page->session_id,
					   ss_alive_param(target),
					   Int64GetDatum(page->size),
					   which->id_like,
					   which->filter};
	char nulls[9] = {' ',
					 ss_null_if(which->owner),
					 ' ',
					 ' ',
					 ' ',
					 ' ',
					 ' ',
					 ss_null_if(which->id_like),
					 ss_null_if(which->filter)};

	*n = ss_plan_run(&page_shared_plan, values, nulls, SS_PLAN_READ, 0);
	return SPI_tuptable;
}

/* Does row i of a come before row j of b in a listing? */
static bool
comes_first(SPITupleTable *a, uint64 i, SPITupleTable *b, uint64 j)
{
	TimestampTz at = DatumGetTimestampTz(
		ss_sql_value(a->vals[i], a->tupdesc, SS_PAGE_CREATED_AT, "conversation_sessions"));
	TimestampTz bt = DatumGetTimestampTz(
		ss_sql_value(b->vals[j], b->tupdesc, SS_PAGE_CREATED_AT, "conversation_sessions"));

	if (at != bt)
		return at > bt;
	return DatumGetInt32(DirectFunctionCall2Coll(
			   bttextcmp, C_COLLATION_OID,
			   ss_sql_value(a->vals[i], a->tupdesc, SS_PAGE_SESSION_ID, "conversation_sessions"),
			   ss_sql_value(b->vals[j], b->tupdesc, SS_PAGE_SESSION_ID, "conversation_sessions"))) >
		   0;
}

/* Passes a page of sessions that are alive and visible to the caller to the sink, newest first. */
void
ss_sessions_page(SsTarget *target, const SsSelection *selection, const SsPage *page,
				 SsSessionSink sink, void *arg)
{
	SsSelection which = *selection;
	SsScope scope = ss_scope_of(target, &which);
	SPITupleTable *own = NULL;
	SPITupleTable *shared = NULL;
	uint64 nown = 0;
	uint64 nshared = 0;
	uint64 o = 0;
	uint64 s = 0;

	if (scope.own)
		own = page_of_own(target, &which, page, &nown);
	if (scope.subject != NULL)
		shared = page_of_shared(target, scope.subject, selection, page, &nshared);
	while (o + s < (uint64) page->size && (o < nown || s < nshared))
	{
		if (s == nshared || (o < nown && comes_first(own, o, shared, s)))
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
