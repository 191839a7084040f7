/*
 * owners.c
 *		Many sessions at once: of an owner, of a namespace.
 *
 * A quota counts with a snapshot taken after a lock on the owner was granted, at
 * every isolation level, so that each transaction sees what those before it did.
 * The lock is an advisory one in a space of its own (no application can hold it
 * by chance), taken after the row lock and kept to the end of the transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "rows/access.h"
#include "rows/errors.h"
#include "rows/events.h"
#include "rows/expiry.h"
#include "rows/owners.h"
#include "shared.h"

/* The fourth field of an advisory lock tag; SQL's own use 1 and 2. */
#define QUOTA_LOCK_SPACE 0x5353
#define DELETE_LOCK_SPACE 0x5354

/* A living row, in SQL. */
#define ALIVE                                                              \
	"(dead_until IS NULL OR dead_until {<=} pg_catalog.clock_timestamp())" \
	" AND (expires_at {>} pg_catalog.clock_timestamp()"                    \
	" OR (dead_until IS NULL"                                              \
	" AND {effective}(namespace, session_id, expires_at) {>} pg_catalog.clock_timestamp()))"

/* Beyond max_lifetime a row is over as well, whatever its expires_at says. */
#define YOUNG(param) "created_at {>} " param

#define BURY                                                                                \
	"UPDATE {sessions} SET session_data = '{}'::pg_catalog.jsonb, owner_id = NULL,"         \
	" version = version {+} 1::pg_catalog.int8, updated_at = pg_catalog.clock_timestamp()," \
	" expires_at = pg_catalog.clock_timestamp(), message_count = 0, history_id = NULL,"     \
	" dead_until = pg_catalog.clock_timestamp() {+} $2"                                     \
	" WHERE namespace {=} $1"

/* Others of the owner, at most $4 of them: more need not be counted. */
static SsPlan others_plan = {
	"SELECT 1 FROM {sessions} WHERE namespace {=} $1 AND owner_id {=} $2 AND session_id {<>} $3"
	" AND " YOUNG("$5") " AND " ALIVE " LIMIT $4",
	5,
	{TEXTOID, TEXTOID, TEXTOID, INT8OID, TIMESTAMPTZOID}};

static SsPlan victims_plan = {
	"SELECT session_id FROM {sessions} WHERE namespace {=} $1 AND owner_id {=} $2"
	" AND session_id {<>} $3 AND " YOUNG(
		"$5") " AND " ALIVE
			  " ORDER BY created_at, session_id COLLATE pg_catalog.\"POSIX\" LIMIT $4 FOR NO KEY UPDATE SKIP LOCKED",
	5,
	{TEXTOID, TEXTOID, TEXTOID, INT8OID, TIMESTAMPTZOID}};

static SsPlan evict_plan = {BURY " AND session_id {=} ANY ($3)",
							3,
							{TEXTOID, INTERVALOID, TEXTARRAYOID}};

static SsPlan delete_owner_plan = {
	BURY " AND owner_id {=} $3 AND ($4 IS NULL OR session_id {<>} $4)"
		 " AND ($5 IS NULL OR session_id {~~} $5) AND " YOUNG("$6") " AND " ALIVE
																	" RETURNING session_id",
	6,
	{TEXTOID, INTERVALOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}};

static SsPlan delete_any_plan = {BURY " AND ($3 IS NULL OR session_id {~~} $3) AND " YOUNG(
									 "$4") " AND " ALIVE " RETURNING session_id",
								 4,
								 {TEXTOID, INTERVALOID, TEXTOID, TIMESTAMPTZOID}};

static SsPlan count_owner_plan = {
	"SELECT pg_catalog.count(*) FROM {sessions} WHERE namespace {=} $1 AND owner_id {=} $2"
	" AND ($3 IS NULL OR session_id {~~} $3) AND " YOUNG("$4") " AND " ALIVE,
	4,
	{TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}};

static SsPlan count_any_plan = {"SELECT pg_catalog.count(*) FROM {sessions} WHERE namespace {=} $1"
								" AND ($2 IS NULL OR session_id {~~} $2) AND " YOUNG(
									"$3") " AND " ALIVE,
								3,
								{TEXTOID, TEXTOID, TIMESTAMPTZOID}};

/*
 * What was shared with somebody ($1) by others (of one owner, $2), through the index on
 * members: costs what was shared.  An index by namespace must not seem as good, as it would
 * while there are few sessions.
 */
#define SHARED                                                                                         \
	" {sessions} WHERE history_id {=} ANY (ARRAY(SELECT m.history_id FROM {members} m"                 \
	" WHERE m.member COLLATE pg_catalog.\"POSIX\" {=} $1)) AND (owner_id IS NULL OR owner_id {<>} $1)" \
	" AND ($2 IS NULL OR owner_id {=} $2) AND (namespace {||} ''::pg_catalog.text) {=} $3"

static SsPlan count_shared_plan = {"SELECT pg_catalog.count(*) FROM" SHARED
								   " AND ($4 IS NULL OR session_id {~~} $4) AND " YOUNG(
									   "$5") " AND " ALIVE,
								   5,
								   {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}};

/*
 * A page walks an index on immutable columns backwards from where the last one
 * ended; what does not match is passed over on the way.
 */
#define PAGE_COLUMNS                                                \
	"SELECT session_id, owner_id, version, created_at, updated_at," \
	" {effective}(namespace, session_id, expires_at), message_count"

#define PAGE                                                                              \
	PAGE_COLUMNS                                                                          \
	" FROM {sessions} WHERE namespace {=} $1"                                             \
	" AND (created_at, session_id COLLATE pg_catalog.\"POSIX\") {<} ($2, $3) AND " YOUNG( \
		"$4") " AND " ALIVE                                                               \
			  " AND ($5 IS NULL OR session_id {~~} $5) AND ($6 IS NULL OR session_data {@>} $6)"
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
	" AND (created_at, session_id COLLATE pg_catalog.\"POSIX\") {<} ($4, $5) AND " YOUNG(
		"$6") " AND " ALIVE " AND ($8 IS NULL OR session_id {~~} $8)"
			  " AND ($9 IS NULL OR session_data {@>} $9)" PAGE_ORDER,
	9,
	{TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID, INT8OID, TEXTOID,
	 JSONBOID}};

/* Sessions created before this are over, by max_lifetime. */
static Datum
youngest_over(const SsTarget *target)
{
	if (target->policy.max_lifetime == SS_NO_LIMIT)
		return TimestampTzGetDatum(DT_NOBEGIN);
	return TimestampTzGetDatum(GetCurrentTimestamp() - target->policy.max_lifetime);
}

/* Lock a name in one of our spaces of advisory locks, until the transaction ends. */
static void
lock_name(const SsTarget *target, Datum owner, uint16 space, LOCKMODE mode)
{
	LOCKTAG tag;
	uint64 hash = hash_bytes_extended((const unsigned char *) target->policy.name,
									  strlen(target->policy.name), 0);

	if (owner != (Datum) 0)
	{
		text *name = DatumGetTextPP(owner);

		hash = hash_bytes_extended((unsigned char *) VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name),
								   hash);
	}
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (hash >> 32), (uint32) hash, space);
	(void) LockAcquire(&tag, mode, false, false);
}

/*
 * Statements that lock many rows do not all meet them in the same order: a session that
 * began anew meanwhile stands elsewhere in the index.  So two that could have rows in
 * common run one after the other.  Calls about one session hold one row lock and never
 * wait for these.
 */
static void
lock_selection(const SsTarget *target, const SsSelection *which)
{
	if (which->owner == (Datum) 0)
		lock_name(target, (Datum) 0, DELETE_LOCK_SPACE, ExclusiveLock);
	else
	{
		lock_name(target, (Datum) 0, DELETE_LOCK_SPACE, ShareLock);
		lock_name(target, which->owner, DELETE_LOCK_SPACE, ExclusiveLock);
	}
}

/* SPI's result, one text column, as an array. */
static Datum
result_to_array(uint64 n)
{
	Datum *elems = palloc(sizeof(Datum) * Max(n, 1));

	for (uint64 i = 0; i < n; i++)
	{
		bool null;

		elems[i] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &null);
	}
	return PointerGetDatum(construct_array(elems, (int) n, TEXTOID, -1, false, TYPALIGN_INT));
}

/*
 * The session of the target has just been written for this owner: see to it that
 * the owner has no more than the namespace allows.
 */
void
ss_owner_enforce_quota(SsTarget *target, Datum owner)
{
	int64 limit = target->policy.max_per_owner;
	Datum values[5];
	int64 excess;
	uint64 found;
	uint64 evicted;
	Datum ids;

	if (limit == 0)
		return;
	lock_name(target, owner, QUOTA_LOCK_SPACE, ExclusiveLock);

	values[0] = target->ns;
	values[1] = owner;
	values[2] = target->id;
	/* a limit that was lowered is not made good all at once */
	values[3] = Int64GetDatum(limit + 1000);
	values[4] = youngest_over(target);
	excess = (int64) ss_plan_run(&others_plan, values, NULL, SS_PLAN_LATEST, 0) + 1 - limit;
	if (excess <= 0)
		return;
	if (!target->policy.evict)
		ss_error_quota(target, false);

	values[3] = Int64GetDatum(excess);
	found = ss_plan_run(&victims_plan, values, NULL, SS_PLAN_LATEST, 0);
	if ((int64) found < excess)
		ss_error_quota(target, true);

	ids = result_to_array(found);
	values[1] = IntervalPGetDatum(ss_make_interval(target->policy.tombstone));
	values[2] = ids;
	ss_unfenced = true;
	evicted = ss_plan_run(&evict_plan, values, NULL, SS_PLAN_LATEST, 0);
	ss_unfenced = false;
	if (evicted != found)
		elog(ERROR, "a locked session was not evicted");
	ss_events_of(target, ids, owner, false, "evicted");
	ss_count(SS_EVICTED, found);
}

/*
 * With owner isolation, what a selection means to the caller: some of its own sessions, which
 * are then all that is left in *which, and some that others have shared with it.
 */
typedef struct SsScope
{
	bool own;
	char *subject; /* NULL: no isolation */
} SsScope;

static SsScope
isolate(const SsTarget *target, SsSelection *which)
{
	SsScope scope = {true, NULL};

	if (!ss_isolates(&target->policy, target->role))
		return scope;
	scope.subject = ss_caller_subject();
	if (scope.subject == NULL)
	{
		/* nobody owns nothing, and nothing was shared with nobody */
		scope.own = false;
		return scope;
	}
	if (which->owner == (Datum) 0)
		which->owner = CStringGetTextDatum(scope.subject);
	else
		scope.own = DatumGetBool(DirectFunctionCall2Coll(texteq, C_COLLATION_OID, which->owner,
														 CStringGetTextDatum(scope.subject)));
	return scope;
}

static inline char
null_if(Datum value)
{
	return value == (Datum) 0 ? 'n' : ' ';
}

/* End all sessions of the selection; returns how many. */
int64
ss_sessions_delete(SsTarget *target, const SsSelection *selection)
{
	SsSelection which = *selection;
	Datum tombstone = IntervalPGetDatum(ss_make_interval(target->policy.tombstone));
	uint64 n;

	if (!isolate(target, &which).own)
		return 0;
	lock_selection(target, &which);
	if (which.owner != (Datum) 0)
	{
		Datum values[6] = {target->ns,      tombstone,     which.owner,
						   which.except_id, which.id_like, youngest_over(target)};
		char nulls[6] = {' ', ' ', ' ', null_if(which.except_id), null_if(which.id_like), ' '};

		n = ss_plan_run(&delete_owner_plan, values, nulls, SS_PLAN_WRITE, 0);
	}
	else
	{
		Datum values[4] = {target->ns, tombstone, which.id_like, youngest_over(target)};
		char nulls[4] = {' ', ' ', null_if(which.id_like), ' '};

		n = ss_plan_run(&delete_any_plan, values, nulls, SS_PLAN_WRITE, 0);
	}
	if (n > 0)
	{
		if (target->policy.audit)
			ss_events_of(target, result_to_array(n), which.owner, which.owner == (Datum) 0,
						 "deleted");
		ss_count(SS_DELETED, n);
		ForceSyncCommit();
	}
	return (int64) n;
}

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
	SsScope scope = isolate(target, &which);
	int64 count = 0;

	if (scope.own && which.owner != (Datum) 0)
	{
		Datum values[4] = {target->ns, which.owner, which.id_like, youngest_over(target)};
		char nulls[4] = {' ', ' ', null_if(which.id_like), ' '};

		ss_plan_run(&count_owner_plan, values, nulls, SS_PLAN_READ, 0);
		count = the_count();
	}
	else if (scope.own)
	{
		Datum values[3] = {target->ns, which.id_like, youngest_over(target)};
		char nulls[3] = {' ', null_if(which.id_like), ' '};

		ss_plan_run(&count_any_plan, values, nulls, SS_PLAN_READ, 0);
		count = the_count();
	}
	if (scope.subject != NULL)
	{
		Datum values[5] = {CStringGetTextDatum(scope.subject), selection->owner, target->ns,
						   which.id_like, youngest_over(target)};
		char nulls[5] = {' ', null_if(selection->owner), ' ', null_if(which.id_like), ' '};

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
	values[3] = youngest_over(target);
	values[4] = which->id_like;
	nulls[4] = null_if(which->id_like);
	values[5] = which->filter;
	nulls[5] = null_if(which->filter);
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
					   youngest_over(target),
					   Int64GetDatum(page->size),
					   which->id_like,
					   which->filter};
	char nulls[9] = {' ',
					 null_if(which->owner),
					 ' ',
					 ' ',
					 ' ',
					 ' ',
					 ' ',
					 null_if(which->id_like),
					 null_if(which->filter)};

	*n = ss_plan_run(&page_shared_plan, values, nulls, SS_PLAN_READ, 0);
	return SPI_tuptable;
}

/* Which of two rows comes first in a listing? */
static bool
comes_first(SPITupleTable *a, uint64 i, SPITupleTable *b, uint64 j)
{
	bool null;
	TimestampTz at = DatumGetTimestampTz(SPI_getbinval(a->vals[i], a->tupdesc, 4, &null));
	TimestampTz bt = DatumGetTimestampTz(SPI_getbinval(b->vals[j], b->tupdesc, 4, &null));

	if (at != bt)
		return at > bt;
	return DatumGetInt32(DirectFunctionCall2Coll(bttextcmp, C_COLLATION_OID,
												 SPI_getbinval(a->vals[i], a->tupdesc, 1, &null),
												 SPI_getbinval(b->vals[j], b->tupdesc, 1, &null))) >
		   0;
}

/* A page of living sessions, newest first: its rows go to a sink. */
void
ss_sessions_page(SsTarget *target, const SsSelection *selection, const SsPage *page,
				 SsSessionSink sink, void *arg)
{
	SsSelection which = *selection;
	SsScope scope = isolate(target, &which);
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
