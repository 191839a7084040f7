/*
 * row_guard.c
 *		The trigger that keeps the invariants of conversation_sessions.
 *
 * It fires for the calls, plain SQL, COPY and logical replication alike (ENABLE
 * ALWAYS), so that the table can be changed by hand without harm:
 *
 *	- ids and owners are 1 to 200 bytes without control characters
 *	- ttl is between 1 ms and 100 years; expires_at is finite
 *	- version never runs backwards, and counts every change of data or owner:
 *	  greatest(new, old + 1), so that restored and replicated rows keep theirs
 *	- check_at is never later than the end of the row
 *	- last_seq never runs backwards
 *	- where owners are kept apart, who is not an owner changes neither whose session it is
 *	  nor which
 *
 * What a statement leaves NULL in an INSERT is filled in from the policy.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/datum.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "rows/access.h"
#include "rows/errors.h"
#include "rows/expiry.h"
#include "rows/home.h"
#include "rows/names.h"
#include "rows/namespaces.h"
#include "rows/row.h"
#include "rows/sessions.h"

PG_FUNCTION_INFO_V1(session_row_guard);

/* One version of a row, and what the guard replaces in it. */
typedef struct Tuple
{
	HeapTuple tuple;
	SsRowView view;
	int nchanged;
	int changed[SS_ROW_ATTRS];
} Tuple;

static void
open_tuple(Tuple *t, HeapTuple tuple, TupleDesc desc)
{
	t->tuple = tuple;
	t->nchanged = 0;
	ss_row_open(&t->view, tuple, desc);
}

static void
replace(Tuple *t, int column, Datum value)
{
	t->view.values[column] = value;
	t->view.nulls[column] = false;
	for (int i = 0; i < t->nchanged; i++)
		if (t->changed[i] == column)
			return;
	t->changed[t->nchanged++] = column;
}

static HeapTuple
close_tuple(Tuple *t)
{
	Datum values[SS_ROW_ATTRS];
	bool nulls[SS_ROW_ATTRS];

	if (t->nchanged == 0)
		return t->tuple;
	for (int i = 0; i < t->nchanged; i++)
	{
		values[i] = t->view.values[t->changed[i]];
		nulls[i] = t->view.nulls[t->changed[i]];
	}
	return heap_modify_tuple_by_cols(t->tuple, t->view.desc, t->nchanged, t->changed, values,
									 nulls);
}

static bool
differs(const Tuple *a, const Tuple *b, int column)
{
	return ss_row_differs(&a->view, &b->view, column);
}

static void
check_name(const Tuple *old, const Tuple *new, int column, const char *what, int max)
{
	text *name;
	int len;

	/* NOT NULL has its own message; what was let in before is let be */
	if (new->view.nulls[column] || (old != NULL && !differs(old, new, column)))
		return;
	name = DatumGetTextPP(new->view.values[column]);
	len = VARSIZE_ANY_EXHDR(name);
	if (len < 1 || len > max || !ss_name_is_plain(VARDATA_ANY(name), len))
		ereport(ERROR, (errcode(ERRCODE_CHECK_VIOLATION), errmsg("invalid %s for a session", what),
						errdetail("It must be 1 to %d bytes without control characters.", max)));
}

/* old is NULL for an INSERT */
static void
check_names(const Tuple *old, const Tuple *new)
{
	check_name(old, new, SS_ROW_NAMESPACE, "namespace", SS_NAMESPACE_MAX);
	check_name(old, new, SS_ROW_SESSION_ID, "session_id", SS_NAME_MAX);
	check_name(old, new, SS_ROW_OWNER_ID, "owner_id", SS_NAME_MAX);
}

/* The ttl in microseconds, refused when it is none. */
static int64
check_ttl(const Tuple *t)
{
	Interval *span = DatumGetIntervalP(t->view.values[SS_ROW_TTL]);
	int64 ttl = 0;

	if (ss_duration(span->month, span->day, span->time, SS_TTL_MIN, SS_TTL_MAX, &ttl) !=
		SS_DURATION_OK)
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION), errmsg("invalid ttl for a session"),
				 errdetail("It must be between 1 millisecond and 100 years, without months."),
				 errhint("Give days, hours, minutes or seconds; a day is 24 hours.")));
	return ttl;
}

/* Fill in what an INSERT by hand may leave out: ttl, expires_at, updated_at. */
static void
fill_in(Tuple *t)
{
	SsPolicy policy = {0};
	TimestampTz now = GetCurrentTimestamp();

	policy.ttl = SS_DEFAULT_TTL;
	policy.max_lifetime = SS_NO_LIMIT;
	if (!t->view.nulls[SS_ROW_NAMESPACE] &&
		(t->view.nulls[SS_ROW_TTL] || t->view.nulls[SS_ROW_EXPIRES_AT]))
	{
		text *name = DatumGetTextPP(t->view.values[SS_ROW_NAMESPACE]);

		(void) ss_ns_find(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name), &policy);
	}
	if (t->view.nulls[SS_ROW_TTL])
		replace(t, SS_ROW_TTL, IntervalPGetDatum(ss_make_interval(policy.ttl)));
	if (t->view.nulls[SS_ROW_EXPIRES_AT])
	{
		TimestampTz created = t->view.nulls[SS_ROW_CREATED_AT]
								  ? now
								  : DatumGetTimestampTz(t->view.values[SS_ROW_CREATED_AT]);

		replace(t, SS_ROW_EXPIRES_AT,
				TimestampTzGetDatum(ss_expiry(now, check_ttl(t), created, policy.max_lifetime)));
	}
	if (t->view.nulls[SS_ROW_UPDATED_AT])
		replace(t, SS_ROW_UPDATED_AT,
				t->view.nulls[SS_ROW_CREATED_AT] ? TimestampTzGetDatum(now)
												 : t->view.values[SS_ROW_CREATED_AT]);
	if (t->view.nulls[SS_ROW_CHECK_AT])
		replace(t, SS_ROW_CHECK_AT, t->view.values[SS_ROW_EXPIRES_AT]);
	/* versions count from 1: 0 and below have other meanings in if_version */
	if (!t->view.nulls[SS_ROW_VERSION] && DatumGetInt64(t->view.values[SS_ROW_VERSION]) < 1)
		replace(t, SS_ROW_VERSION, Int64GetDatum(1));
}

/* expires_at is finite, and check_at not later than the end of the row. */
static void
check_times(Tuple *t)
{
	TimestampTz expires_at;
	TimestampTz check_at;
	TimestampTz lowered;

	if (t->view.nulls[SS_ROW_EXPIRES_AT] || t->view.nulls[SS_ROW_CREATED_AT])
		return;
	expires_at = DatumGetTimestampTz(t->view.values[SS_ROW_EXPIRES_AT]);
	if (TIMESTAMP_NOT_FINITE(expires_at) ||
		TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(t->view.values[SS_ROW_CREATED_AT])) ||
		(!t->view.nulls[SS_ROW_DEAD_UNTIL] &&
		 TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(t->view.values[SS_ROW_DEAD_UNTIL]))))
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION), errmsg("times of a session must be finite"),
				 errhint("Give a far date instead of infinity.")));
	if (t->view.nulls[SS_ROW_CHECK_AT])
		replace(t, SS_ROW_CHECK_AT, TimestampTzGetDatum(expires_at));
	check_at = DatumGetTimestampTz(t->view.values[SS_ROW_CHECK_AT]);
	lowered = ss_check_at(check_at, expires_at,
						  t->view.nulls[SS_ROW_DEAD_UNTIL]
							  ? SS_NEVER
							  : DatumGetTimestampTz(t->view.values[SS_ROW_DEAD_UNTIL]));
	if (lowered != check_at)
		replace(t, SS_ROW_CHECK_AT, TimestampTzGetDatum(lowered));
}

/* Counters only grow, and version counts every change of data or owner. */
static void
check_counters(const Tuple *old, Tuple *new)
{
	int64 before = DatumGetInt64(old->view.values[SS_ROW_VERSION]);

	if (!new->view.nulls[SS_ROW_VERSION] &&
		DatumGetInt64(new->view.values[SS_ROW_VERSION]) <= before)
	{
		bool changed = differs(old, new, SS_ROW_SESSION_DATA) || differs(old, new, SS_ROW_OWNER_ID);
		int64 version = changed ? ss_next_version(before) : before;

		if (DatumGetInt64(new->view.values[SS_ROW_VERSION]) != version)
			replace(new, SS_ROW_VERSION, Int64GetDatum(version));
		if (changed && !differs(old, new, SS_ROW_UPDATED_AT))
			replace(new, SS_ROW_UPDATED_AT, TimestampTzGetDatum(GetCurrentTimestamp()));
	}
	if (!new->view.nulls[SS_ROW_LAST_SEQ] && DatumGetInt64(new->view.values[SS_ROW_LAST_SEQ]) <
												 DatumGetInt64(old->view.values[SS_ROW_LAST_SEQ]))
		replace(new, SS_ROW_LAST_SEQ, old->view.values[SS_ROW_LAST_SEQ]);
}

/* The policy that a version of a row is under, if owners are kept apart there for this role. */
static bool
is_isolated(const Tuple *t, Oid role, SsTarget *target)
{
	text *ns = DatumGetTextPP(t->view.values[SS_ROW_NAMESPACE]);

	memset(target, 0, sizeof(*target));
	return ss_ns_find(VARDATA_ANY(ns), VARSIZE_ANY_EXHDR(ns), &target->policy) &&
		   ss_isolates(&target->policy, role);
}

/* Is a row its owner's, who is the caller?  shared: or of one with whom it was shared as such. */
static void
check_owner(const Tuple *t, const SsTarget *target, Oid role, bool shared)
{
	SsRow row = {0};

	row.owner = t->view.values[SS_ROW_OWNER_ID];
	row.owner_null = t->view.nulls[SS_ROW_OWNER_ID];
	row.history = t->view.values[SS_ROW_HISTORY_ID];
	row.history_null = !shared || t->view.nulls[SS_ROW_HISTORY_ID];
	if (!ss_may(&target->policy, role, &row, SS_OWN, SS_PLAN_LATEST))
		ss_error_not_owner(target);
}

/*
 * Policies say which rows a role may change, but not what in them: an editor could make a
 * session its own, and who knows the name of a conversation take it over.  The functions act as
 * the owner of the tables, and have checked already.  old is NULL for an INSERT.
 */
static void
check_hands_off(const Tuple *old, const Tuple *new, const SsHome *home)
{
	static const int owners_only[] = {SS_ROW_OWNER_ID, SS_ROW_NAMESPACE, SS_ROW_SESSION_ID,
									  SS_ROW_HISTORY_ID, SS_ROW_DEAD_UNTIL};
	Oid role = GetUserId();
	SsTarget target;

	if (role == home->owner || has_bypassrls_privilege(role) || new->view.nulls[SS_ROW_NAMESPACE])
		return;
	if (!new->view.nulls[SS_ROW_HISTORY_ID] &&
		(old == NULL || differs(old, new, SS_ROW_HISTORY_ID)))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to give a session a conversation"),
				 errdetail("history_id is set by the functions alone, or by the owner of the "
						   "table.")));
	if ((old == NULL || differs(old, new, SS_ROW_NAMESPACE)) && is_isolated(new, role, &target))
		check_owner(new, &target, role, false);
	if (old == NULL || !is_isolated(old, role, &target))
		return;
	for (int i = 0; i < (int) lengthof(owners_only); i++)
		if (differs(old, new, owners_only[i]))
			check_owner(old, &target, role, true);
}

Datum
session_row_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	TupleDesc desc;
	SsHome home;
	Tuple old;
	Tuple new;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("session_row_guard() is a trigger before a row")));
	ss_home_get(&home);
	if (RelationGetRelid(trigdata->tg_relation) != home.sessions)
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("session_row_guard() works on conversation_sessions only")));
	desc = RelationGetDescr(trigdata->tg_relation);

	if (TRIGGER_FIRED_BY_INSERT(trigdata->tg_event))
	{
		open_tuple(&new, trigdata->tg_trigtuple, desc);
		check_names(NULL, &new);
		check_hands_off(NULL, &new, &home);
		fill_in(&new);
		(void) check_ttl(&new);
		check_times(&new);
		return PointerGetDatum(close_tuple(&new));
	}
	if (!TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event))
		return PointerGetDatum(trigdata->tg_trigtuple);

	open_tuple(&old, trigdata->tg_trigtuple, desc);
	open_tuple(&new, trigdata->tg_newtuple, desc);
	check_names(&old, &new);
	check_hands_off(&old, &new, &home);
	if (!new.view.nulls[SS_ROW_TTL] && differs(&old, &new, SS_ROW_TTL))
		(void) check_ttl(&new);
	check_counters(&old, &new);
	check_times(&new);
	return PointerGetDatum(close_tuple(&new));
}
