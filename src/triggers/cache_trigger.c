/*
 * cache_trigger.c
 *		Triggers that record which cached keys a change invalidates.
 *
 * Each is the last BEFORE ROW trigger of its table, so that it sees the final row, and ENABLE
 * ALWAYS.  The keys go to xact_keys.c.
 *
 * A session has up to two keys: its document, and the tail of its history.  The row of the session
 * covers both, because calls that change messages also change counters in that row.  The trigger
 * on messages is for changes by hand; it first looks up the session of the message.
 *
 * Changes are recorded whatever the cache rule of the namespace says (R13), because a namespace
 * may be switched on while the transaction is in progress.
 *
 * When a session loses its history, the history is detached here as well (history_queue.c).
 * When it loses its turn, those who wait for it are woken (shared/turn_wakes.c).
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/datum.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/clock.h"
#include "function.h"
#include "keys/hot.h"
#include "keys/xact_keys.h"
#include "protocol/rules.h"
#include "row/direct.h"
#include "row/direct_purge.h"
#include "row/liveness.h"
#include "row/row_columns.h"
#include "sessions/history.h"
#include "settings.h"
#include "shared/databases.h"
#include "shared/turn_wakes.h"
#include "table/catalog.h"
#include "table/namespaces.h"
#include "table/plan_marks.h"
#include "table/schema.h"
#include "table/sql.h"
#include "triggers/cache_trigger.h"
#include "triggers/history_queue.h"

SS_FUNCTION(session_change_note, 1_0, TRIGGEROID);
SS_FUNCTION(session_history_note, 1_0, TRIGGEROID);

/*
 * Does the policy of a namespace allow copies?  If it was switched off a moment ago, the
 * pusher may not know that yet.  (If it is switched on later, xact_keys.c detects that.)
 */
static bool
is_cacheable(bool known, const SsPolicy *policy)
{
	return !known || policy->cache != SS_CACHE_OFF ||
		   ss_monotonic() - policy->read_at < SS_LEASE_LONGEST_US;
}

/* Fence flags of a change, or of the end of a session; skip: no commit has to wait for it. */
static int
fence_of(bool end, bool skip)
{
	if (skip)
		return 0;
	return SS_KEY_FENCED_IF_ALL | (end || ss_fence == SS_FENCE_ALL ? SS_CHANGED_FENCED : 0);
}

/* What a statement did to each of the two keys of a session, as flags SS_CHANGED_; 0: nothing. */
typedef struct Effect
{
	int document;
	int tail;
	bool end;         /* it is no longer a session under this id */
	bool tail_fenced; /* no reader may see the old tail once the change was committed */
	bool skip_fence;
} Effect;

static bool
is_set(const SsDeformedRow *row, int column)
{
	return !row->nulls[column];
}

/* Adds one key of a session, if it was changed. */
static void
add_part(SsKey *key, uint8 part, int what, int fence)
{
	if (what == 0)
		return;
	key->part = part;
	ss_xact_key_add(key, what | fence);
}

/* Adds the keys of a session, under the id in this row. */
static void
add_session(const SsDeformedRow *row, Effect effect)
{
	SsPolicy policy;
	bool known;
	int cacheable;
	SsKey key;

	if (effect.document == 0 && effect.tail == 0)
		return; /* nothing that Redis holds was changed */
	if (!is_set(row, SS_ROW_NAMESPACE) || !is_set(row, SS_ROW_SESSION_ID))
		return; /* NOT NULL will reject the row */
	if (!ss_key_from_datums(&key, row->values[SS_ROW_NAMESPACE], row->values[SS_ROW_SESSION_ID]))
	{
		/* the trigger before us does not allow such a row, so it has no copy */
		ss_xact_keys_add_all(0);
		return;
	}
	known = ss_ns_find(key.bytes, key.nslen, &policy);
	if (!SS_RULE(13) && (!known || policy.cache == SS_CACHE_OFF))
		return;
	if (known && ((effect.document | effect.tail) & SS_CHANGED_DOCUMENT) && !effect.end)
		ss_hot_count_use(&key, &policy);
	cacheable = is_cacheable(known, &policy) ? SS_KEY_CACHEABLE : 0;
	add_part(&key, SS_PART_DOCUMENT, effect.document,
			 cacheable | fence_of(effect.end, effect.skip_fence));
	add_part(&key, SS_PART_TAIL, effect.tail,
			 cacheable | fence_of(effect.end || effect.tail_fenced, effect.skip_fence));
}

/*
 * The messages of this session need not look it up again: its row is locked and cannot change
 * its id.  Not for a row that is being inserted, which may turn out to exist already.
 */
static void
remember_history(const SsDeformedRow *row, bool end, bool skip_fence)
{
	if (is_set(row, SS_ROW_HISTORY_ID))
		ss_xact_keys_add_history(DatumGetUUIDP(row->values[SS_ROW_HISTORY_ID]),
								 fence_of(end, skip_fence) | SS_KEY_CACHEABLE);
}

/*
 * Does a session lose the messages that it had?  Not if a new session starts over an expired
 * row, whose copies have expired.
 */
static bool
loses_history(const SsDeformedRow *old, const SsDeformedRow *new)
{
	if (!is_set(old, SS_ROW_HISTORY_ID) || !ss_row_differs(old, new, SS_ROW_HISTORY_ID))
		return false;
	return !ss_row_differs(old, new, SS_ROW_CREATED_AT) || !is_set(old, SS_ROW_EXPIRES_AT) ||
		   !ss_liveness_has_ended(DatumGetTimestampTz(old->values[SS_ROW_EXPIRES_AT]),
								  GetCurrentTimestamp());
}

/* Does a statement change the summary of a session, or what it reaches to? */
static bool
changes_summary(const SsDeformedRow *old, const SsDeformedRow *new)
{
	return ss_row_differs(old, new, SS_ROW_SUMMARY) ||
		   ss_row_differs(old, new, SS_ROW_SUMMARY_UP_TO);
}

/* Does it add or remove messages? */
static bool
changes_messages(const SsDeformedRow *old, const SsDeformedRow *new)
{
	return ss_row_differs(old, new, SS_ROW_HISTORY_ID) ||
		   ss_row_differs(old, new, SS_ROW_LAST_SEQ) ||
		   ss_row_differs(old, new, SS_ROW_MESSAGE_COUNT);
}

/*
 * Does a statement move the expiry of a session into the past?  That ends it as a delete does.  A
 * session that a pending touch kept alive ends as well, also if it is only its ttl that is removed.
 */
static bool
expires_by_hand(const SsDeformedRow *old, const SsDeformedRow *new)
{
	TimestampTz now;

	if (!is_set(old, SS_ROW_EXPIRES_AT) || !is_set(new, SS_ROW_EXPIRES_AT) ||
		(!ss_row_differs(old, new, SS_ROW_EXPIRES_AT) &&
		 (is_set(new, SS_ROW_TTL) || !is_set(old, SS_ROW_TTL))))
		return false;
	now = GetCurrentTimestamp();
	return ss_liveness_has_ended(DatumGetTimestampTz(new->values[SS_ROW_EXPIRES_AT]), now) &&
		   !ss_liveness_has_ended(ss_row_expiry(old), now);
}

/* A row is inserted or deleted. */
static void
add_row(const SsDeformedRow *row, bool end, bool skip_fence)
{
	Effect effect = {SS_CHANGED_DOCUMENT, 0, end, end, skip_fence};

	if (is_set(row, SS_ROW_HISTORY_ID))
		effect.tail = SS_CHANGED_DOCUMENT;
	add_session(row, effect);
}

/* A row is updated. */
static void
add_update(const SsDeformedRow *old, const SsDeformedRow *new, bool skip_fence)
{
	bool expiry = ss_row_differs(old, new, SS_ROW_EXPIRES_AT) ||
				  ss_row_differs(old, new, SS_ROW_CREATED_AT) ||
				  ss_row_differs(old, new, SS_ROW_TTL);
	Effect effect = {expiry ? SS_CHANGED_EXPIRY : 0, 0, false, loses_history(old, new), skip_fence};
	bool messages = changes_messages(old, new);
	bool summary = changes_summary(old, new);
	bool tail;

	if (ss_row_differs(old, new, SS_ROW_NAMESPACE) || ss_row_differs(old, new, SS_ROW_SESSION_ID))
	{
		add_row(old, true, effect.skip_fence);
		add_row(new, false, effect.skip_fence);
		return;
	}
	tail = is_set(old, SS_ROW_HISTORY_ID) || is_set(new, SS_ROW_HISTORY_ID);
	if (tail)
		effect.tail = messages || summary ? SS_CHANGED_DOCUMENT : effect.document;
	/* a pop or session_replace_tail() that removes the summary does not wait either */
	if (summary && !(messages && !is_set(new, SS_ROW_SUMMARY)))
		effect.tail_fenced = true;
	if (ss_row_differs(old, new, SS_ROW_DEAD_UNTIL))
	{
		effect.document = SS_CHANGED_DOCUMENT;
		effect.tail = tail ? SS_CHANGED_DOCUMENT : 0;
		effect.end = is_set(new, SS_ROW_DEAD_UNTIL);
	}
	else if (expires_by_hand(old, new))
	{
		effect.document = SS_CHANGED_DOCUMENT;
		effect.tail = tail ? SS_CHANGED_DOCUMENT : 0;
		effect.end = true;
	}
	else if (ss_row_differs(old, new, SS_ROW_SESSION_DATA))
		effect.document = SS_CHANGED_DOCUMENT;
	add_session(new, effect);
	if (effect.tail & SS_CHANGED_DOCUMENT)
	{
		remember_history(old, effect.end || effect.tail_fenced, effect.skip_fence);
		remember_history(new, effect.end, effect.skip_fence);
	}
}

/*
 * If a statement ends the turn of a session, or lets it end earlier, its commit wakes those who wait
 * for the turn.  new is NULL for a delete.
 */
static void
wake_for_turn(const SsDeformedRow *old, const SsDeformedRow *new)
{
	SsKey key;

	if (!is_set(old, SS_ROW_TURN_UNTIL))
		return;
	if (new != NULL && is_set(new, SS_ROW_TURN_UNTIL) &&
		DatumGetTimestampTz(new->values[SS_ROW_TURN_UNTIL]) >=
			DatumGetTimestampTz(old->values[SS_ROW_TURN_UNTIL]) &&
		!ss_row_differs(old, new, SS_ROW_NAMESPACE) && !ss_row_differs(old, new, SS_ROW_SESSION_ID))
		return;
	if (ss_key_from_datums(&key, old->values[SS_ROW_NAMESPACE], old->values[SS_ROW_SESSION_ID]))
		ss_turn_wakes_note(&key);
}

/* What the trigger on sessions does for an update. */
static void
session_updated(const SsDeformedRow *old, const SsDeformedRow *new, bool skip_fence)
{
	wake_for_turn(old, new);
	ss_database_mark_changed();
	if (ss_xact_keys_attach())
		add_update(old, new, skip_fence);
	ss_history_detach(old, new);
}

/* The same for an update without SPI: evictions are not among them. */
static void
session_updated_directly(const SsDeformedRow *old, const SsDeformedRow *new)
{
	session_updated(old, new, false);
}

/* What the trigger on sessions does for a delete. */
static void
session_deleted(const SsDeformedRow *old, bool skip_fence)
{
	wake_for_turn(old, NULL);
	ss_database_mark_changed();
	if (ss_xact_keys_attach())
		add_row(old, true, skip_fence);
	ss_history_detach(old, NULL);
}

/* The same for the purge: copies of a session that has expired have expired, too. */
static void
session_purged(const SsDeformedRow *old)
{
	session_deleted(old, true);
}

/*
 * Registers the functions above with the code that changes rows through the table AM, where no
 * trigger fires: make_version (direct.c) and ss_direct_purge_remove (direct_purge.c) call them.
 * Called once, from _PG_init.
 */
void
ss_cache_trigger_init(void)
{
	ss_direct_updated = session_updated_directly;
	ss_direct_purge_hook = session_purged;
}

/* Raises an error unless the function was called as one of our triggers on its own table. */
static void
check_call(FunctionCallInfo fcinfo, const char *function, const char *table)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	SsCatalog catalog;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) ==
			TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event) ||
		(!TRIGGER_FIRED_BEFORE(trigdata->tg_event) &&
		 !TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be called by a trigger that session_store created",
						function)));
	ss_catalog_get(&catalog);
	if (RelationGetRelid(trigdata->tg_relation) !=
		(strcmp(table, "conversation_sessions") == 0 ? catalog.sessions : catalog.history))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("function \"%s\" must be called by a trigger on table \"%s\"",
							   function, table)));
}

/* What a BEFORE trigger returns that changes nothing. */
static Datum
unchanged_row(const TriggerData *trigdata)
{
	if (TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event))
		return PointerGetDatum(NULL);
	return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event) ? trigdata->tg_newtuple
																	   : trigdata->tg_trigtuple);
}

/* The trigger on conversation_sessions. */
static Datum
session_change_note(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	TriggerEvent event;
	SsDeformedRow old;
	SsDeformedRow new;
	bool skip_fence;

	check_call(fcinfo, "session_change_note", "conversation_sessions");
	ss_database_mark_changed();
	event = trigdata->tg_event;
	if (TRIGGER_FIRED_BY_TRUNCATE(event))
	{
		if (ss_xact_keys_attach())
			ss_xact_keys_add_all(SS_KEY_ENDED);
		ss_turn_wakes_note_all();
		ss_history_detach_all();
		return unchanged_row(trigdata);
	}
	skip_fence = ss_plan_fired_with(trigdata->tg_trigger, SS_PLAN_SKIPS_FENCE);
	ss_row_deform(&old, trigdata->tg_trigtuple, RelationGetDescr(trigdata->tg_relation));
	if (TRIGGER_FIRED_BY_UPDATE(event))
	{
		ss_row_deform(&new, trigdata->tg_newtuple, RelationGetDescr(trigdata->tg_relation));
		session_updated(&old, &new, skip_fence);
	}
	else if (TRIGGER_FIRED_BY_DELETE(event))
		session_deleted(&old, skip_fence);
	else if (ss_xact_keys_attach())
		add_row(&old, false, skip_fence);
	return unchanged_row(trigdata);
}

/*
 * Adds the tail of the session that owns this history.  A message that is removed or altered
 * by hand counts as the end of a session.
 */
static void
add_history(const pg_uuid_t *history, bool is_removed, bool skip_fence)
{
	int fence = fence_of(is_removed, skip_fence) | SS_KEY_CACHEABLE;
	SsKey key;

	if (ss_xact_keys_have_history(history, fence))
		return;
	if (ss_xact_keys_overflowed() || !ss_history_find_session(history, &key))
	{
		/* an ended history, whose messages may go; or one of a session that we cannot see yet */
		if (ss_xact_keys_overflowed() || !is_removed || !ss_history_is_queued(history))
			ss_xact_keys_add_all(fence);
		return;
	}
	key.part = SS_PART_TAIL;
	ss_xact_key_add(&key, SS_CHANGED_DOCUMENT | fence);
	ss_xact_keys_add_history(history, fence);
}

/* The same for the history of a message. */
static void
add_message(HeapTuple tuple, TupleDesc desc, bool is_removed, bool skip_fence)
{
	bool null;
	Datum history = heap_getattr(tuple, SS_MESSAGE_HISTORY_ID, desc, &null);

	if (!null)
		add_history(DatumGetUUIDP(history), is_removed, skip_fence);
}

/* The trigger on conversation_history. */
static Datum
session_history_note(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	TupleDesc desc;
	bool wanted;
	bool removes;
	bool skip_fence;

	check_call(fcinfo, "session_history_note", "conversation_history");
	removes = TRIGGER_FIRED_BY_DELETE(trigdata->tg_event);
	wanted = ss_xact_keys_attach();
	if (TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event))
	{
		if (wanted)
			ss_xact_keys_add_all(SS_KEY_ENDED);
		ss_history_clear_queue();
		return unchanged_row(trigdata);
	}
	if (!wanted || (removes && ss_plan_fired_with(trigdata->tg_trigger, SS_PLAN_PURGES_MESSAGES)))
		return unchanged_row(trigdata);
	skip_fence = removes && ss_plan_fired_with(trigdata->tg_trigger, SS_PLAN_POPS_MESSAGES);
	desc = RelationGetDescr(trigdata->tg_relation);
	add_message(trigdata->tg_trigtuple, desc, !TRIGGER_FIRED_BY_INSERT(trigdata->tg_event),
				skip_fence);
	if (TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event))
		add_message(trigdata->tg_newtuple, desc, false, false);
	return unchanged_row(trigdata);
}
