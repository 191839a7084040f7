/*
 * listing.c
 *		Counting and listing sessions.
 *
 * A listing goes along indexes on what never changes in a session's life, so that it
 * costs saves nothing.  With owner isolation there are two walks, of what is the caller's own and
 * of what was shared with it, which are merged.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "rows/listing.h"
#include "rows/sql.h"

static SsPlan count_owner_plan = {
	"SELECT pg_catalog.count(*) FROM {sessions} WHERE namespace {=} $1 AND owner_id {=} $2"
	" AND ($3 IS NULL OR session_id {~~} $3) AND " SS_SQL_CREATED_AFTER("$4") " AND " SS_SQL_ALIVE,
	4,
	{TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}};

static SsPlan count_any_plan = {"SELECT pg_catalog.count(*) FROM {sessions} WHERE namespace {=} $1"
								" AND ($2 IS NULL OR session_id {~~} $2) AND " SS_SQL_CREATED_AFTER(
									"$3") " AND " SS_SQL_ALIVE,
								3,
								{TEXTOID, TEXTOID, TIMESTAMPTZOID}};

/*
 * What was shared with somebody ($1) by others (of one owner, $2) and accepted, through the index
 * on members: costs what was accepted.  An index by namespace must not seem as good, as it would
 * while there are few sessions.
 */
#define SHARED                                                                                                        \
	" {sessions} WHERE history_id {=} ANY (ARRAY(SELECT m.history_id FROM {members} m"                                \
	" WHERE m.accepted AND m.member COLLATE pg_catalog.\"POSIX\" {=} $1)) AND (owner_id IS NULL OR owner_id {<>} $1)" \
	" AND ($2 IS NULL OR owner_id {=} $2) AND (namespace {||} ''::pg_catalog.text) {=} $3"

static SsPlan count_shared_plan = {
	"SELECT pg_catalog.count(*) FROM" SHARED
	" AND ($4 IS NULL OR session_id {~~} $4) AND " SS_SQL_CREATED_AFTER("$5") " AND " SS_SQL_ALIVE,
	5,
	{TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}};

/*
 * A page walks an index on immutable columns backwards from where the last one
 * ended; what does not match is passed over on the way.
 */
#define PAGE_COLUMNS                                                \
	"SELECT session_id, owner_id, version, created_at, updated_at," \
	" {effective}(namespace, session_id, expires_at), message_count"

#define PAGE                                                                                             \
	PAGE_COLUMNS                                                                                         \
	" FROM {sessions} WHERE namespace {=} $1"                                                            \
	" AND (created_at, session_id COLLATE pg_catalog.\"POSIX\") {<} ($2, $3) AND " SS_SQL_CREATED_AFTER( \
		"$4") " AND " SS_SQL_ALIVE                                                                       \
			  " AND ($5 IS NULL OR session_id {~~} $5) AND ($6 IS NULL OR {contains}(session_data, $6))"
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
	" FROM" SHARED
	" AND (created_at, session_id COLLATE pg_catalog.\"POSIX\") {<} ($4, $5) AND " SS_SQL_CREATED_AFTER(
		"$6") " AND " SS_SQL_ALIVE " AND ($8 IS NULL OR session_id {~~} $8)"
			  " AND ($9 IS NULL OR {contains}(session_data, $9))" PAGE_ORDER,
	9,
	{TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID, INT8OID, TEXTOID,
	 JSONBOID}};

static int64
the_count(void)
{
	bool null;

	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
}

/* How many sessions of the selection live. */
int64
ss_sessions_count(SsTarget *target, const SsSelection *selection)
{
	SsSelection which = *selection;
	SsScope scope = ss_scope_of(target, &which);
	int64 count = 0;

	if (scope.own && which.owner != (Datum) 0)
	{
		Datum values[4] = {target->ns, which.owner, which.id_like, ss_max_lifetime_cutoff(target)};
		char nulls[4] = {' ', ' ', ss_null_if(which.id_like), ' '};

		ss_plan_run(&count_owner_plan, values, nulls, SS_PLAN_READ, 0);
		count = the_count();
	}
	else if (scope.own)
	{
		Datum values[3] = {target->ns, which.id_like, ss_max_lifetime_cutoff(target)};
		char nulls[3] = {' ', ss_null_if(which.id_like), ' '};

		ss_plan_run(&count_any_plan, values, nulls, SS_PLAN_READ, 0);
		count = the_count();
	}
	if (scope.subject != NULL)
	{
		Datum values[5] = {CStringGetTextDatum(scope.subject), selection->owner, target->ns,
						   which.id_like, ss_max_lifetime_cutoff(target)};
		char nulls[5] = {' ', ss_null_if(selection->owner), ' ', ss_null_if(which.id_like), ' '};

		ss_plan_run(&count_shared_plan, values, nulls, SS_PLAN_READ, 0);
		count += the_count();
	}
	return count;
}

/* The first rows of a page, from an index of sessions; *n of them. */
static SPITupleTable *
page_of_own(SsTarget *target, const SsSelection *which, const SsPage *page, uint64 *n)
{
	Datum values[8];
	char nulls[8] = {' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '};

	values[0] = target->ns;
	values[1] = TimestampTzGetDatum(page->created_at);
	values[2] = page->session_id;
	values[3] = ss_max_lifetime_cutoff(target);
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

/* The same of what was shared with somebody. */
static SPITupleTable *
page_of_shared(SsTarget *target, char *subject, const SsSelection *which, const SsPage *page,
			   uint64 *n)
{
	Datum values[9] = {CStringGetTextDatum(subject),
					   which->owner,
					   target->ns,
					   TimestampTzGetDatum(page->created_at),
					   page->session_id,
					   ss_max_lifetime_cutoff(target),
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

/* Which of two rows comes first in a listing? */
static bool
comes_first(SPITupleTable *a, uint64 i, SPITupleTable *b, uint64 j)
{
	TimestampTz at = DatumGetTimestampTz(
		ss_sql_value(a->vals[i], a->tupdesc, 4, "conversation_sessions"));
	TimestampTz bt = DatumGetTimestampTz(
		ss_sql_value(b->vals[j], b->tupdesc, 4, "conversation_sessions"));

	if (at != bt)
		return at > bt;
	return DatumGetInt32(DirectFunctionCall2Coll(
			   bttextcmp, C_COLLATION_OID,
			   ss_sql_value(a->vals[i], a->tupdesc, 1, "conversation_sessions"),
			   ss_sql_value(b->vals[j], b->tupdesc, 1, "conversation_sessions"))) > 0;
}

/* A page of living sessions, newest first: its rows go to a sink. */
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
