/*
 * session_trigger.c
 *		The BEFORE trigger that enforces the invariants of conversation_sessions.
 *
 * It fires for our functions, plain SQL, COPY and logical replication alike (ENABLE ALWAYS), so
 * that changing the table by hand does no harm:
 *
 *	- ids and owners are 1 to 200 bytes without control characters
 *	- ttl is between 1 ms and 100 years, or null for a fixed expiry; expires_at is finite
 *	- version never decreases, and counts every change of document or owner:
 *	  greatest(new, old + 1), so that restored and replicated rows keep theirs
 *	- check_at is never later than the end of the row (ss_liveness_check_at)
 *	- last_seq never decreases, nor does turn, which is positive; turn_until is finite
 *	- a summary comes with the seq that it reaches to, and belongs to a conversation: when the session
 *	  loses its conversation, or gets another without a summary, its summary is removed
 *	- a session that has ended is not revived by accident (row_end.c)
 *	- a role that was granted the table writes only what row_access.c allows
 *
 * Columns that an INSERT leaves out are filled in from the policy.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/datum.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/expiry.h"
#include "base/key.h"
#include "compat.h"
#include "function.h"
#include "row/liveness.h"
#include "row/row_access.h"
#include "row/row_end.h"
#include "row/session.h"
#include "row/session_trigger.h"
#include "row/tombstone.h"
#include "table/catalog.h"
#include "table/namespaces.h"
#include "table/schema.h"

SS_FUNCTION(session_row_guard, 1_0, TRIGGEROID);

/* The default of the column ttl in the install script, us. */
#define TTL_LEFT_OUT INT64CONST(-1)

/* Form a tuple with the columns that were replaced in its deformed row. */
static HeapTuple
form_tuple(HeapTuple tuple, const SsDeformedRow *view)
{
	int columns[SS_ROW_ATTRS];
	Datum values[SS_ROW_ATTRS];
	bool nulls[SS_ROW_ATTRS];
	int n = 0;

	for (int column = 1; column <= SS_ROW_ATTRS; column++)
	{
		if (!(view->replaced & ((uint32) 1 << column)))
			continue;
		columns[n] = column;
		values[n] = view->values[column];
		nulls[n++] = view->nulls[column];
	}
	return n == 0 ? tuple : heap_modify_tuple_by_cols(tuple, view->desc, n, columns, values, nulls);
}

/*
 * Check an id or owner.  A value that does not change is accepted as it is; old is NULL in an
 * INSERT.
 */
static void
check_name(const SsDeformedRow *old, const SsDeformedRow *new, int column, const char *what,
		   int max)
{
	text *name;
	int len;

	/* a null is left to NOT NULL */
	if (new->nulls[column] || (old != NULL && !ss_row_differs(old, new, column)))
		return;
	name = DatumGetTextPP(new->values[column]);
	len = VARSIZE_ANY_EXHDR(name);
	if (len < 1 || len > max || !ss_name_is_plain(VARDATA_ANY(name), len))
		ereport(
			ERROR,
			(errcode(ERRCODE_CHECK_VIOLATION), errmsg("invalid %s for a session", what),
			 errdetail(
				 "It must be between 1 and %d bytes long and must not contain control characters.",
				 max)));
}

/* Check the ids, the owner and the holder of the turn; old is NULL for an INSERT. */
static void
check_names(const SsDeformedRow *old, const SsDeformedRow *new)
{
	check_name(old, new, SS_ROW_NAMESPACE, "namespace", SS_NAMESPACE_MAX);
	check_name(old, new, SS_ROW_SESSION_ID, "session_id", SS_NAME_MAX);
	check_name(old, new, SS_ROW_OWNER_ID, "owner_id", SS_NAME_MAX);
	check_name(old, new, SS_ROW_TURN_HOLDER, "turn_holder", SS_NAME_MAX);
}

/* Check the ttl and return it in microseconds; SS_FIXED if it is null. */
static int64
check_ttl(const SsDeformedRow *t)
{
	Interval *span;
	int64 ttl_us = 0;

	if (t->nulls[SS_ROW_TTL])
		return SS_FIXED;
	span = DatumGetIntervalP(t->values[SS_ROW_TTL]);
	if (ss_duration(span->month, span->day, span->time, SS_TTL_MIN_US, SS_TTL_MAX_US, &ttl_us) !=
		SS_DURATION_OK)
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION), errmsg("invalid ttl for a session"),
				 errdetail(
					 "It must be between 1 millisecond and 100 years and must not contain months."),
				 errhint("Specify days, hours, minutes or seconds; a day is 24 hours.")));
	return ttl_us;
}

/*
 * Does an INSERT leave the ttl to the namespace?  The default of the column, which is no ttl, says so.
 * A null does if it comes without expires_at; with it, it makes that expiry a fixed one.
 */
static bool
leaves_ttl_out(const SsDeformedRow *t)
{
	Interval *span;

	if (t->nulls[SS_ROW_TTL])
		return t->nulls[SS_ROW_EXPIRES_AT];
	span = DatumGetIntervalP(t->values[SS_ROW_TTL]);
	return span->month == 0 && span->day == 0 && span->time == TTL_LEFT_OUT;
}

/* Fill in columns that an INSERT by hand may leave out: ttl, expires_at, updated_at, check_at. */
static void
fill_in(SsDeformedRow *t)
{
	SsPolicy policy = {0};
	TimestampTz now = GetCurrentTimestamp();
	bool needs_ttl = leaves_ttl_out(t);

	policy.ttl_us = SS_DEFAULT_TTL_US;
	policy.max_lifetime_us = SS_NO_LIMIT;
	if (!t->nulls[SS_ROW_NAMESPACE] && (needs_ttl || t->nulls[SS_ROW_EXPIRES_AT]))
	{
		text *name = DatumGetTextPP(t->values[SS_ROW_NAMESPACE]);

		(void) ss_ns_find(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name), &policy);
	}
	if (needs_ttl && policy.ttl_us == SS_FIXED)
		ss_row_replace_null(t, SS_ROW_TTL);
	else if (needs_ttl)
		ss_row_replace(t, SS_ROW_TTL, IntervalPGetDatum(ss_make_interval(policy.ttl_us)));
	if (t->nulls[SS_ROW_EXPIRES_AT])
	{
		TimestampTz created = t->nulls[SS_ROW_CREATED_AT]
								  ? now
								  : DatumGetTimestampTz(t->values[SS_ROW_CREATED_AT]);

		int64 ttl_us = check_ttl(t);
		TimestampTz expires_at = ttl_us == SS_FIXED
									 ? ss_expiry_fixed(SS_FOREVER, created, policy.max_lifetime_us)
									 : ss_expiry(now, ttl_us, created, policy.max_lifetime_us);

		ss_row_replace(t, SS_ROW_EXPIRES_AT, TimestampTzGetDatum(expires_at));
	}
	if (t->nulls[SS_ROW_UPDATED_AT])
		ss_row_replace(t, SS_ROW_UPDATED_AT,
					   t->nulls[SS_ROW_CREATED_AT] ? TimestampTzGetDatum(now)
												   : t->values[SS_ROW_CREATED_AT]);
	if (t->nulls[SS_ROW_CHECK_AT])
		ss_row_replace(t, SS_ROW_CHECK_AT, t->values[SS_ROW_EXPIRES_AT]);
	/* versions start at 1, because if_version gives 0 and -1 other meanings */
	if (!t->nulls[SS_ROW_VERSION] && DatumGetInt64(t->values[SS_ROW_VERSION]) < 1)
		ss_row_replace(t, SS_ROW_VERSION, Int64GetDatum(1));
}

/* Check that the times are finite, and lower check_at to the end of the row if it is later. */
static void
check_times(SsDeformedRow *t)
{
	TimestampTz expires_at;
	TimestampTz check_at;
	TimestampTz lowered;

	if (t->nulls[SS_ROW_EXPIRES_AT] || t->nulls[SS_ROW_CREATED_AT])
		return;
	expires_at = DatumGetTimestampTz(t->values[SS_ROW_EXPIRES_AT]);
	if (TIMESTAMP_NOT_FINITE(expires_at) ||
		TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(t->values[SS_ROW_CREATED_AT])) ||
		(!t->nulls[SS_ROW_DEAD_UNTIL] &&
		 TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(t->values[SS_ROW_DEAD_UNTIL]))) ||
		(!t->nulls[SS_ROW_TURN_UNTIL] &&
		 TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(t->values[SS_ROW_TURN_UNTIL]))))
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION), errmsg("timestamps of a session must be finite"),
				 errhint("Use a date in the far future instead of infinity.")));
	if (t->nulls[SS_ROW_CHECK_AT])
		ss_row_replace(t, SS_ROW_CHECK_AT, TimestampTzGetDatum(expires_at));
	check_at = DatumGetTimestampTz(t->values[SS_ROW_CHECK_AT]);
	lowered = ss_liveness_check_at(check_at, expires_at,
								   t->nulls[SS_ROW_DEAD_UNTIL]
									   ? SS_NEVER
									   : DatumGetTimestampTz(t->values[SS_ROW_DEAD_UNTIL]));
	if (lowered != check_at)
		ss_row_replace(t, SS_ROW_CHECK_AT, TimestampTzGetDatum(lowered));
}

/* Check the token of a turn, and keep it from decreasing; old is NULL for an INSERT. */
static void
check_turn(const SsDeformedRow *old, SsDeformedRow *new)
{
	if (!new->nulls[SS_ROW_TURN] && DatumGetInt64(new->values[SS_ROW_TURN]) <= SS_TURN_NONE)
		ereport(ERROR, (errcode(ERRCODE_CHECK_VIOLATION), errmsg("invalid turn for a session"),
						errdetail("It must be positive.")));
	if (old != NULL && !old->nulls[SS_ROW_TURN] &&
		(new->nulls[SS_ROW_TURN] ||
		 DatumGetInt64(new->values[SS_ROW_TURN]) < DatumGetInt64(old->values[SS_ROW_TURN])))
		ss_row_replace(new, SS_ROW_TURN, old->values[SS_ROW_TURN]);
}

/* Keep version and last_seq from decreasing, and count a change of document or owner. */
static void
check_counters(const SsDeformedRow *old, SsDeformedRow *new)
{
	int64 before = DatumGetInt64(old->values[SS_ROW_VERSION]);

	if (!new->nulls[SS_ROW_VERSION] && DatumGetInt64(new->values[SS_ROW_VERSION]) <= before)
	{
		bool changed = ss_row_differs(old, new, SS_ROW_SESSION_DATA) ||
					   ss_row_differs(old, new, SS_ROW_OWNER_ID);
		bool ends = !new->nulls[SS_ROW_DEAD_UNTIL] && ss_row_differs(old, new, SS_ROW_DEAD_UNTIL);
		int64 version = !changed ? before
						: ends   ? ss_tombstone_version(before)
								 : ss_next_version(before);

		if (DatumGetInt64(new->values[SS_ROW_VERSION]) != version)
			ss_row_replace(new, SS_ROW_VERSION, Int64GetDatum(version));
		if (changed && !ss_row_differs(old, new, SS_ROW_UPDATED_AT))
			ss_row_replace(new, SS_ROW_UPDATED_AT, TimestampTzGetDatum(GetCurrentTimestamp()));
	}
	if (!new->nulls[SS_ROW_LAST_SEQ] &&
		DatumGetInt64(new->values[SS_ROW_LAST_SEQ]) < DatumGetInt64(old->values[SS_ROW_LAST_SEQ]))
		ss_row_replace(new, SS_ROW_LAST_SEQ, old->values[SS_ROW_LAST_SEQ]);
}

/*
 * Does the session lose the summary with its conversation?  Not if the same summary was given to the
 * conversation that it gets, by a fork over an expired fork for instance.  written is NULL for
 * direct.c: our functions give the summary whenever they give the conversation.
 */
static bool
loses_summary(const SsDeformedRow *old, const SsDeformedRow *new, const Bitmapset *written)
{
	if (!ss_row_differs(old, new, SS_ROW_HISTORY_ID) || ss_row_differs(old, new, SS_ROW_SUMMARY))
		return false;
	return new->nulls[SS_ROW_HISTORY_ID] ||
		   (written != NULL && !ss_row_is_written(old, new, written, SS_ROW_SUMMARY));
}

/* Check the summary, if it changes; old is NULL for an INSERT, and written as in loses_summary. */
static void
check_summary(const SsDeformedRow *old, SsDeformedRow *new, const Bitmapset *written)
{
	if (old != NULL && loses_summary(old, new, written))
	{
		ss_row_replace_null(new, SS_ROW_SUMMARY);
		ss_row_replace_null(new, SS_ROW_SUMMARY_UP_TO);
		return;
	}
	if (old != NULL && !ss_row_differs(old, new, SS_ROW_HISTORY_ID) &&
		!ss_row_differs(old, new, SS_ROW_SUMMARY) &&
		!ss_row_differs(old, new, SS_ROW_SUMMARY_UP_TO))
		return;
	if (new->nulls[SS_ROW_SUMMARY] && new->nulls[SS_ROW_SUMMARY_UP_TO])
		return;
	if (new->nulls[SS_ROW_SUMMARY] || new->nulls[SS_ROW_SUMMARY_UP_TO] ||
		new->nulls[SS_ROW_HISTORY_ID] || new->nulls[SS_ROW_LAST_SEQ] ||
		DatumGetInt64(new->values[SS_ROW_SUMMARY_UP_TO]) < 1 ||
		DatumGetInt64(new->values[SS_ROW_SUMMARY_UP_TO]) >
			DatumGetInt64(new->values[SS_ROW_LAST_SEQ]))
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION), errmsg("invalid summary for a session"),
				 errdetail("summary and summary_up_to must both be null, or summary_up_to must "
						   "be between 1 and last_seq and history_id must not be null."),
				 errhint("Use session_compact().")));
}

/*
 * The work of the trigger for an update, also called by direct.c in place of the trigger.  May
 * raise an error, and may replace columns of *new.  apply_end says whether the rules of row_end.c
 * apply; written has the columns that the statement sets, in the form of tg_updatedcols, and is NULL
 * for direct.c.
 */
void
ss_session_trigger_update(const SsDeformedRow *old, SsDeformedRow *new, const SsCatalog *catalog,
						  bool apply_end, const Bitmapset *written)
{
	bool restricted = ss_row_access_is_restricted(catalog);

	check_names(old, new);
	if (restricted)
		ss_row_access_update(old, new);
	if (apply_end)
		ss_row_end_update(old, new, written, restricted);
	if (ss_row_differs(old, new, SS_ROW_TTL))
		(void) check_ttl(new);
	check_counters(old, new);
	check_turn(old, new);
	check_summary(old, new, written);
	check_times(new);
	if (restricted)
		ss_row_access_lifetime(old, new);
}

static Datum
session_row_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	TupleDesc desc;
	SsCatalog catalog;
	SsDeformedRow old;
	SsDeformedRow new;
	bool restricted;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("function \"session_row_guard\" must be fired BEFORE ROW")));
	ss_catalog_get(&catalog);
	if (RelationGetRelid(trigdata->tg_relation) != catalog.sessions)
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("function \"session_row_guard\" must be called by a trigger on "
							   "table \"conversation_sessions\"")));
	desc = RelationGetDescr(trigdata->tg_relation);

	if (TRIGGER_FIRED_BY_INSERT(trigdata->tg_event))
	{
		ss_row_deform(&new, trigdata->tg_trigtuple, desc);
		check_names(NULL, &new);
		restricted = ss_row_access_is_restricted(&catalog);
		if (restricted)
			ss_row_access_insert(&new);
		fill_in(&new);
		(void) check_ttl(&new);
		if (ss_row_end_applies(trigdata->tg_trigger))
			ss_row_end_insert(&new);
		check_turn(NULL, &new);
		check_summary(NULL, &new, NULL);
		check_times(&new);
		if (restricted)
			ss_row_access_lifetime(NULL, &new);
		return PointerGetDatum(form_tuple(trigdata->tg_trigtuple, &new));
	}
	if (!TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event))
		return PointerGetDatum(trigdata->tg_trigtuple);

	ss_row_deform(&old, trigdata->tg_trigtuple, desc);
	ss_row_deform(&new, trigdata->tg_newtuple, desc);
	ss_session_trigger_update(&old, &new, &catalog, ss_row_end_applies(trigdata->tg_trigger),
							  trigdata->tg_updatedcols);
	return PointerGetDatum(form_tuple(trigdata->tg_newtuple, &new));
}
