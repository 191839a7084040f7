/*
 * end.c
 *		Ends a session by a call: deletion, regeneration, and an expiry in the past.
 *
 * The row must be locked, and becomes a tombstone (tombstone.c) unless the session expires.  For a
 * regeneration under an id that the caller has chosen, the row under that id, if any, is locked as
 * well, as pair.c describes; it is removed if its session has expired.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "row/errors.h"
#include "row/row.h"
#include "row/tombstone.h"
#include "sessions/change.h"
#include "sessions/end.h"
#include "sessions/events.h"
#include "sessions/pair.h"
#include "sessions/relaxed.h"
#include "shared/counters.h"

/* Minimum lifetime of the tombstone of a regenerated session, us. */
#define REGENERATE_TOMBSTONE_US (INT64CONST(300) * USECS_PER_SEC)

/*
 * Ends a session whose row is locked, for the namespace's tombstone time.  The commit will wait for
 * the disk.
 */
void
ss_session_end(SsTarget *target, SsRow *row)
{
	Assert(row->state == SS_ALIVE && (!row->has_tid || row->locked));
	ss_tombstone_make(row, &target->policy, GetCurrentTimestamp(), target->policy.tombstone_us);
	(void) ss_row_write(target, row, SS_WRITE_END);
	ForceSyncCommit();
}

/*
 * Ends a session whose expiry a save moves into the past, without a tombstone: the id is free.  The
 * document is not saved.  Raises the errors of a save; without such a session there is nothing to do.
 */
void
ss_session_expire(SsTarget *target, const SsLifetime *lifetime, Datum owner, int64 if_version,
				  int64 turn)
{
	SsChange change = {.takes_turn = true, .turn = turn};

	Assert(lifetime->ttl_us == SS_FIXED);
	ss_change_begin(&change, target, if_version, owner);
	if (!change.is_new)
	{
		ss_lifetime_set(&change.row, lifetime);
		ss_lifetime_write(target, &change.row, change.base);
		ForceSyncCommit();
	}
	ss_relaxed_end(&target->policy);
	ss_counter_add(SS_TOUCHED, 1);
}

/* Ends a session whose row is locked, by a call that says so. */
static void
end_by_call(SsTarget *target, SsRow *row)
{
	SsRow was = *row;

	ss_session_end(target, row);
	ss_event(target, &was, "deleted", NULL);
	ss_counter_add(SS_DELETED, 1);
}

/* Deletes a session (logout).  False when the caller sees no such session. */
bool
ss_session_delete(SsTarget *target)
{
	SsRow row;

	if (!ss_session_lock(target, &row, SS_OWN))
		return false;
	end_by_call(target, &row);
	return true;
}

/*
 * Deletes a session and returns its document, as it is under the row lock, in *document.  False when
 * the caller sees no such session.
 */
bool
ss_session_take(SsTarget *target, Datum *document)
{
	SsRow row;

	if (!ss_session_lock(target, &row, SS_OWN))
		return false;
	/* a document that is stored out of line goes with the session */
	*document = PointerGetDatum(PG_DETOAST_DATUM_COPY(row.data));
	end_by_call(target, &row);
	return true;
}

/*
 * Gives a session whose row is locked another id, under which there is no row.  Everything else is
 * kept.  The old id becomes a tombstone for at least REGENERATE_TOMBSTONE_US.
 */
static void
regenerate(SsTarget *target, const SsTarget *renamed, SsRow *row)
{
	TimestampTz now = GetCurrentTimestamp();
	SsRow tombstone;

	/* the pending touch stays with the old id, so the effective end is written */
	row->expires_at = row->ends_at;
	ss_row_rename(target, renamed->id, row);

	tombstone = *row;
	ss_tombstone_make(&tombstone, &target->policy, now,
					  Max(target->policy.tombstone_us, REGENERATE_TOMBSTONE_US));
	/* it is a new row */
	tombstone.created_at = now;
	tombstone.check_at = tombstone.dead_until;
	/* the row renamed above still has the old id for other transactions, so none can have taken it */
	if (!ss_row_insert(target, &tombstone))
		ss_error_rows_skipped("conversation_sessions");

	ss_event(target, row, "regenerated", NULL);
	ss_counter_add(SS_REGENERATED, 1);
	ForceSyncCommit();
}

/*
 * Gives a session the id of `renamed`, which is random and so not in use.  False when the caller sees
 * no such session.
 */
bool
ss_session_regenerate(SsTarget *target, const SsTarget *renamed)
{
	SsRow row;

	if (!ss_session_lock(target, &row, SS_OWN))
		return false;
	regenerate(target, renamed, &row);
	return true;
}

/* Arguments and results of regenerate_as. */
typedef struct Regeneration
{
	SsTarget *target;
	SsTarget *renamed;
	bool found;
	bool had_row; /* there was a row under the new id, and it was locked */
} Regeneration;

/* With both rows locked: frees the new id, if that can be, and gives it to the session. */
static bool
regenerate_as(void *arg)
{
	Regeneration *call = arg;
	SsChange change = {0};
	SsRow row;

	call->had_row = false;
	call->found = ss_session_lock(call->target, &row, SS_OWN);
	if (!call->found)
		return true;
	/* the rules for the new id are those of a session that begins under it */
	ss_change_begin(&change, call->renamed, SS_ANY_VERSION, (Datum) 0);
	if (!change.is_new)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cannot regenerate a session under the id of an existing session"),
				 errhint("Specify another new_session_id, or omit it to use a random one.")));
	call->had_row = change.has_row;
	if (change.has_row)
	{
		/* the counters never decrease under an id */
		row.version = Max(row.version, ss_next_version(change.row.version));
		row.last_seq = Max(row.last_seq, change.row.last_seq);
		ss_row_remove(call->renamed);
		ss_change_record_expiry(&change);
	}
	regenerate(call->target, call->renamed, &row);
	return true;
}

/*
 * Gives a session the id of `renamed`, which the caller has chosen.  False when the caller sees no such
 * session; an error when the new id belongs to a session or a tombstone.
 *
 * If there is no row under the new id, another transaction may insert one before the session has it.
 * The call is then repeated and finds that row.
 */
bool
ss_session_regenerate_as(SsTarget *target, SsTarget *renamed)
{
	Regeneration call = {.target = target, .renamed = renamed};
	ErrorData *error;
	SsRow taken;

	/* a caller that sees no session must lock neither row */
	if (!ss_session_may_lock(target, SS_OWN))
		return false;
	for (;;)
	{
		ss_pair_run(target, renamed, regenerate_as, &call, &error);
		if (error == NULL)
			return call.found;
		/* the error would show the id of another session */
		if (error->sqlerrcode != ERRCODE_UNIQUE_VIOLATION || call.had_row ||
			!ss_row_read(renamed, SS_PLAN_LATEST, 0, &taken))
			ReThrowError(error);
		if (IsolationUsesXactSnapshot())
			ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
							errmsg("could not serialize access due to concurrent update")));
		CHECK_FOR_INTERRUPTS();
	}
}
