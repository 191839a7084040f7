/*
 * owners.c
 *		Ends many sessions at once: those of an owner, of a namespace, or over a quota.
 *
 * Order of locks: a quota takes SS_LOCK_QUOTA of the owner after the row lock of the session that was
 * written, and keeps it to the end of the transaction.  It counts in a snapshot taken after the lock
 * was granted, at every isolation level, so that each transaction counts what the ones before it
 * have committed.  Sessions to be evicted are locked without waiting.  session_delete_all takes
 * SS_LOCK_DELETE of the owner before any row (see delete_of_owner); clear.c has its own rules.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "row/errors.h"
#include "row/session.h"
#include "row/tombstone.h"
#include "sessions/clear.h"
#include "sessions/events.h"
#include "sessions/hits.h"
#include "sessions/owner_lock.h"
#include "sessions/owners.h"
#include "sessions/selection.h"
#include "shared/counters.h"
#include "table/sql.h"

/* Maximum number of passes of ss_sessions_delete. */
#define MAX_PASSES 100

#define END_SESSIONS "UPDATE {sessions} SET " SS_SQL_TOMBSTONE("$2", "$3") " WHERE namespace {=} $1"

/* The owner's other sessions that are alive, at most $4: more need not be counted. */
static SsPlan others_plan = {
	"SELECT 1 FROM {sessions} WHERE namespace {=} $1 AND owner_id {=} $2 AND session_id {<>} $3"
	" AND " SS_SQL_ALIVE("$5") " LIMIT $4",
	5,
	{TEXTOID, TEXTOID, TEXTOID, INT8OID, TIMESTAMPTZOID}};

static SsPlan victims_plan = {
	"SELECT session_id FROM {sessions} WHERE namespace {=} $1 AND owner_id {=} $2"
	" AND session_id {<>} $3 AND session_id {<>} $6 AND " SS_SQL_ALIVE(
		"$5") " ORDER BY created_at, session_id COLLATE pg_catalog.\"POSIX\" LIMIT $4 FOR NO KEY UPDATE SKIP LOCKED",
	6,
	{TEXTOID, TEXTOID, TEXTOID, INT8OID, TIMESTAMPTZOID, TEXTOID}};

static SsPlan evict_plan = {END_SESSIONS " AND session_id {=} ANY ($4)",
							4,
							{TEXTOID, INTERVALOID, BOOLOID, TEXTARRAYOID},
							.flags = SS_PLAN_SKIPS_FENCE};

/* The owner's sessions that are alive; both statements have the same parameters. */
#define OF_OWNER                                              \
	" owner_id {=} $4 AND ($5 IS NULL OR session_id {<>} $5)" \
	" AND ($6 IS NULL OR session_id {~~} $6)"                 \
	" AND ($8 IS NULL OR pg_catalog.starts_with(session_id, $8)) AND " SS_SQL_ALIVE("$7")

static SsPlan delete_owner_plan = {END_SESSIONS " AND" OF_OWNER " RETURNING session_id",
								   8,
								   {TEXTOID, INTERVALOID, BOOLOID, TEXTOID, TEXTOID, TEXTOID,
									TIMESTAMPTZOID, TEXTOID}};

static SsPlan left_of_owner_plan = {"SELECT 1 FROM {sessions} WHERE namespace {=} $1 AND" OF_OWNER
									" LIMIT 1",
									8,
									{TEXTOID, INTERVALOID, BOOLOID, TEXTOID, TEXTOID, TEXTOID,
									 TIMESTAMPTZOID, TEXTOID}};

/* Returns the first column of SPI's result, which is text, as an array. */
static Datum
result_to_array(uint64 n)
{
	Datum *elems = palloc(sizeof(Datum) * Max(n, 1));

	for (uint64 i = 0; i < n; i++)
		elems[i] = ss_sql_value(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1,
								"conversation_sessions");
	return PointerGetDatum(construct_array(elems, (int) n, TEXTOID, -1, false, TYPALIGN_INT));
}

/*
 * Enforces the namespace's quota after the target's session was written for this owner.  Evicts the
 * owner's oldest sessions if the namespace says so, otherwise raises an error.  Neither the target
 * nor the session `exempt_id` (0: none) is evicted.
 */
void
ss_owner_enforce_quota(SsTarget *target, Datum owner, Datum exempt_id)
{
	int64 limit = target->policy.max_per_owner;
	LOCKTAG tag;
	Datum values[6];
	int64 excess;
	uint64 found;
	uint64 evicted;
	Datum ids;

	if (limit == 0)
		return;
	ss_owner_lock_tag(&tag, target, owner, SS_LOCK_QUOTA);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);

	values[0] = target->ns;
	values[1] = owner;
	values[2] = target->id;
	/* after the limit was lowered, one call evicts about 1000 sessions at most */
	values[3] = Int64GetDatum(limit + 1000);
	values[4] = ss_alive_param(target);
	excess = (int64) ss_plan_run(&others_plan, values, NULL, SS_PLAN_LATEST, 0) + 1 - limit;
	if (excess <= 0)
		return;
	if (!target->policy.evict)
		ss_error_quota(target, false);

	values[3] = Int64GetDatum(excess);
	values[5] = exempt_id != (Datum) 0 ? exempt_id : target->id;
	found = ss_plan_run(&victims_plan, values, NULL, SS_PLAN_LATEST, 0);
	if ((int64) found < excess)
		ss_error_quota(target, exempt_id == (Datum) 0);

	ids = result_to_array(found);
	values[1] = IntervalPGetDatum(ss_make_interval(target->policy.tombstone_us));
	values[2] = BoolGetDatum(target->policy.owner_isolation);
	values[3] = ids;
	evicted = ss_plan_run_redacted(&evict_plan, values, NULL, SS_PLAN_LATEST);
	if (evicted != found)
		ss_error_rows_skipped("conversation_sessions");
	ss_events_of(target, ids, owner, false, "evicted");
	ss_counter_add(SS_EVICTED, found);
}

/* Runs one of the two statements above with a new snapshot; returns the number of rows. */
static uint64
run_on_owner(SsPlan *plan, const SsTarget *target, const SsSelection *which)
{
	Datum values[8] = {target->ns,
					   IntervalPGetDatum(ss_make_interval(target->policy.tombstone_us)),
					   BoolGetDatum(target->policy.owner_isolation),
					   which->owner,
					   which->except_id,
					   which->id_like,
					   ss_alive_param(target),
					   which->id_prefix};
	char nulls[8] = {' ',
					 ' ',
					 ' ',
					 ' ',
					 ss_null_if(which->except_id),
					 ss_null_if(which->id_like),
					 ' ',
					 ss_null_if(which->id_prefix)};

	return ss_plan_run_redacted(plan, values, nulls, SS_PLAN_LATEST);
}

/*
 * Ends the owner's sessions in the selection.  Returns their number and, if the namespace audits,
 * appends arrays of their ids to *ids.
 *
 * A transaction that the statement waited for may have created other sessions, for instance by a
 * fork of one that is ended here.  They existed before this call ends, but the statement's snapshot
 * does not show them.  So the statement is repeated, at every isolation level, until a new snapshot
 * shows no session that is left.  A pass that ended nothing is not proof: it may have waited for a
 * session that was then ended or given away by the transaction that had forked it.  Sessions that
 * begin meanwhile are ended too, as if they had begun before.
 *
 * Clients that keep creating sessions could make this endless, hence MAX_PASSES.  The promise still
 * holds: after that many passes every session that existed when the call began has ended, and so has
 * every fork of one, unless each fork was committed between the snapshot and the locks of the same
 * pass, MAX_PASSES times in a row.
 *
 * Statements that lock many rows do not visit them in the same order, as a session that began again
 * has moved in the index.  So calls for the same owner run one after the other, under
 * SS_LOCK_DELETE, and session_clear waits for no row of an owner while another call ends the owner's
 * sessions (clear.c).  A session whose owner is changed while such a statement waits for it may
 * still make two of them wait for each other; the deadlock detector then cancels one.  On ERROR the
 * lock is released with the transaction.
 */
static int64
delete_of_owner(const SsTarget *target, const SsSelection *which, List **ids)
{
	LOCKTAG lock;
	uint64 n;
	int64 total = 0;
	int passes = 0;
	bool left;

	ss_owner_lock_tag(&lock, target, which->owner, SS_LOCK_DELETE);
	(void) LockAcquire(&lock, ExclusiveLock, false, false);
	do
	{
		CHECK_FOR_INTERRUPTS();
		n = run_on_owner(&delete_owner_plan, target, which);
		total += (int64) n;
		if (n > 0 && target->policy.audit)
			*ids = lappend(*ids, DatumGetPointer(result_to_array(n)));
		SPI_freetuptable(SPI_tuptable);
		left = run_on_owner(&left_of_owner_plan, target, which) > 0;
	} while (left && ++passes < MAX_PASSES);
	if (left && n == 0)
		ss_error_rows_skipped("conversation_sessions"); /* a trigger keeps them */
	(void) LockRelease(&lock, ExclusiveLock, false);
	return total;
}

/*
 * Ends the sessions of the selection, as far as they are the caller's with owner isolation; returns
 * their number.  Records an event for each, and makes the commit wait for the disk.
 */
int64
ss_sessions_delete(SsTarget *target, const SsSelection *selection)
{
	SsSelection which = *selection;
	List *ids = NIL;
	ListCell *cell;
	int64 total;

	if (!ss_scope_of(target, &which).own)
		return 0;
	total = which.owner != (Datum) 0 ? delete_of_owner(target, &which, &ids)
									 : ss_clear(target, &which, &ids);
	/* nothing of the namespace is to stay */
	if (which.owner == (Datum) 0 && which.id_like == (Datum) 0 && which.id_prefix == (Datum) 0)
		ss_hits_clear(target);
	if (total > 0)
	{
		foreach (cell, ids)
			ss_events_of(target, PointerGetDatum(lfirst(cell)), which.owner,
						 which.owner == (Datum) 0, "deleted");
		ss_counter_add(SS_DELETED, total);
		ForceSyncCommit();
	}
	return total;
}
