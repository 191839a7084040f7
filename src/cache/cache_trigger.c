/*
 * cache_trigger.c
 *		The triggers that notice which copies in Redis a change makes out of date.
 *
 * Each is the last BEFORE ROW trigger of its table, so that it sees the row as it will be,
 * and ENABLE ALWAYS.  What they notice goes to xact_keys.c.
 *
 * A session has up to two keys: its document, and the tail of its history.  The row of
 * the session tells of both, for whoever changes messages by the calls changes its counters
 * as well; the trigger on the messages is for those who change them by hand, and first
 * asks whose they are.
 *
 * Changes are noted whatever the namespace's cache rule says (R13): a namespace may be
 * switched on while the transaction is under way.
 *
 * That a session loses its history is noticed on the same occasion, and rows/history_end.c's
 * to mind.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/datum.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "cache/cache_trigger.h"
#include "cache/hot.h"
#include "cache/rules.h"
#include "cache/xact_keys.h"
#include "compat.h"
#include "function.h"
#include "rows/catalog.h"
#include "rows/direct.h"
#include "rows/direct_purge.h"
#include "rows/history.h"
#include "rows/namespaces.h"
#include "rows/schema.h"
#include "rows/sql.h"
#include "settings.h"
#include "shared.h"

SS_FUNCTION(session_change_note, 1_0, TRIGGEROID);
SS_FUNCTION(session_history_note, 1_0, TRIGGEROID);

/*
 * Does the policy of a namespace allow copies?  That it was switched off a moment ago the pusher
 * may not know yet.  (That it is switched on afterwards xact_keys.c finds out.)
 */
static bool
is_cacheable(bool known, const SsPolicy *policy)
{
	return !known || policy->cache != SS_CACHE_OFF ||
		   ss_monotonic() - policy->read_at < SS_LEASE_LONGEST;
}

/* What to note of the fence about a change, or about an end. */
static int
fence_of(bool end)
{
	if (ss_skip_fence)
		return 0;
	return SS_KEY_FENCED_IF_ALL | (end || ss_fence == SS_FENCE_ALL ? SS_CHANGED_FENCED : 0);
}

/* What a statement did to a session, for each of its keys; flags SS_CHANGED_, or 0. */
typedef struct Effect
{
	int document;
	int tail;
	bool end;      /* it ceases to be a session under this id */
	bool tail_end; /* it loses its messages */
} Effect;

static bool
has(const SsDeformedRow *row, int column)
{
	return !row->nulls[column];
}

static void
note_part(SsKey *key, uint8 part, int what, int fence)
{
	if (what == 0)
		return;
	key->part = part;
	ss_xact_key_add(key, what | fence);
}

/* Note a session, under the id that a row has. */
static void
note_session(const SsDeformedRow *row, Effect effect)
{
	SsPolicy policy;
	bool known;
	int cacheable;
	SsKey key;

	if (effect.document == 0 && effect.tail == 0)
		return; /* Redis does not know of the rest */
	if (!has(row, SS_ROW_NAMESPACE) || !has(row, SS_ROW_SESSION_ID))
		return; /* it will be refused */
	if (!ss_key_from_datums(&key, row->values[SS_ROW_NAMESPACE], row->values[SS_ROW_SESSION_ID]))
	{
		/* a row that the trigger before us would not have let in: it has no copy */
		ss_xact_keys_add_all(0);
		return;
	}
	known = ss_ns_find(key.bytes, key.nslen, &policy);
	if (!SS_RULE(13) && (!known || policy.cache == SS_CACHE_OFF))
		return;
	if (known && ((effect.document | effect.tail) & SS_CHANGED_DOCUMENT) && !effect.end)
		ss_hot_count_use(&key, &policy);
	cacheable = is_cacheable(known, &policy) ? SS_KEY_CACHEABLE : 0;
	note_part(&key, SS_PART_DOCUMENT, effect.document, cacheable | fence_of(effect.end));
	note_part(&key, SS_PART_TAIL, effect.tail, cacheable | fence_of(effect.end || effect.tail_end));
}

/*
 * Its messages need not ask again whose they are: the row is locked, and so stays where it is.  Not
 * so one that is being inserted, and may yet turn out to be there already.
 */
static void
remember_history(const SsDeformedRow *row, bool end)
{
	if (has(row, SS_ROW_HISTORY_ID))
		ss_xact_keys_add_history(DatumGetUUIDP(row->values[SS_ROW_HISTORY_ID]),
								 fence_of(end) | SS_KEY_CACHEABLE);
}

/*
 * Is a session left without the messages that it had?  Not one that begins over an expired row: the
 * copies of that are gone.
 */
static bool
loses_history(const SsDeformedRow *old, const SsDeformedRow *new)
{
	if (!has(old, SS_ROW_HISTORY_ID) || !ss_row_differs(old, new, SS_ROW_HISTORY_ID))
		return false;
	return !ss_row_differs(old, new, SS_ROW_CREATED_AT) || !has(old, SS_ROW_EXPIRES_AT) ||
		   DatumGetTimestampTz(old->values[SS_ROW_EXPIRES_AT]) > GetCurrentTimestamp();
}

/* Does a statement move the expiry into the past?  That ends the session as a delete does. */
static bool
expires_by_hand(const SsDeformedRow *old, const SsDeformedRow *new)
{
	TimestampTz expires_at;

	if (!has(old, SS_ROW_EXPIRES_AT) || !has(new, SS_ROW_EXPIRES_AT))
		return false;
	expires_at = DatumGetTimestampTz(new->values[SS_ROW_EXPIRES_AT]);
	return expires_at < DatumGetTimestampTz(old->values[SS_ROW_EXPIRES_AT]) &&
		   expires_at <= GetCurrentTimestamp();
}

/* A row comes or goes. */
static void
note_whole(const SsDeformedRow *row, bool end)
{
	Effect effect = {SS_CHANGED_DOCUMENT, 0, end, end};

	if (has(row, SS_ROW_HISTORY_ID))
		effect.tail = SS_CHANGED_DOCUMENT;
	note_session(row, effect);
}

static void
note_update(const SsDeformedRow *old, const SsDeformedRow *new)
{
	bool expiry = ss_row_differs(old, new, SS_ROW_EXPIRES_AT) ||
				  ss_row_differs(old, new, SS_ROW_CREATED_AT);
	Effect effect = {expiry ? SS_CHANGED_EXPIRY : 0, 0, false, loses_history(old, new)};
	bool tail;

	if (ss_row_differs(old, new, SS_ROW_NAMESPACE) || ss_row_differs(old, new, SS_ROW_SESSION_ID))
	{
		note_whole(old, true);
		note_whole(new, false);
		return;
	}
	tail = has(old, SS_ROW_HISTORY_ID) || has(new, SS_ROW_HISTORY_ID);
	if (tail)
		effect.tail = ss_row_differs(old, new, SS_ROW_HISTORY_ID) ||
							  ss_row_differs(old, new, SS_ROW_LAST_SEQ) ||
							  ss_row_differs(old, new, SS_ROW_MESSAGE_COUNT)
						  ? SS_CHANGED_DOCUMENT
						  : effect.document;
	if (ss_row_differs(old, new, SS_ROW_DEAD_UNTIL))
	{
		effect.document = SS_CHANGED_DOCUMENT;
		effect.tail = tail ? SS_CHANGED_DOCUMENT : 0;
		effect.end = has(new, SS_ROW_DEAD_UNTIL);
	}
	else if (expires_by_hand(old, new))
	{
		effect.document = SS_CHANGED_DOCUMENT;
		effect.tail = tail ? SS_CHANGED_DOCUMENT : 0;
		effect.end = true;
	}
	else if (ss_row_differs(old, new, SS_ROW_SESSION_DATA))
		effect.document = SS_CHANGED_DOCUMENT;
	note_session(new, effect);
	if (effect.tail & SS_CHANGED_DOCUMENT)
	{
		remember_history(old, effect.end || effect.tail_end);
		remember_history(new, effect.end);
	}
}

/* What the trigger on sessions does about an update. */
static void
session_updated(const SsDeformedRow *old, const SsDeformedRow *new)
{
	ss_note_change();
	if (ss_xact_keys_attach())
		note_update(old, new);
	ss_history_detach(old, new);
}

/* .. and about a delete. */
static void
session_deleted(const SsDeformedRow *old)
{
	ss_note_change();
	if (ss_xact_keys_attach())
		note_whole(old, true);
	ss_history_detach(old, NULL);
}

/* Once, from _PG_init: who changes a row without a statement, and so without a trigger, tells us. */
void
ss_cache_trigger_init(void)
{
	ss_direct_updated = session_updated;
	ss_direct_purge_hook = session_deleted;
}

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
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("%s() is a trigger of session_store's own making", function)));
	ss_catalog_get(&catalog);
	if (RelationGetRelid(trigdata->tg_relation) !=
		(strcmp(table, "conversation_sessions") == 0 ? catalog.sessions : catalog.history))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("%s() works on %s only", function, table)));
}

/* What a BEFORE trigger returns that lets all be. */
static Datum
as_it_was(const TriggerData *trigdata)
{
	if (TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event))
		return PointerGetDatum(NULL);
	return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event) ? trigdata->tg_newtuple
																	   : trigdata->tg_trigtuple);
}

/* The trigger on sessions. */
static Datum
session_change_note(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	TriggerEvent event;
	SsDeformedRow old;
	SsDeformedRow new;

	check_call(fcinfo, "session_change_note", "conversation_sessions");
	ss_note_change();
	event = trigdata->tg_event;
	if (TRIGGER_FIRED_BY_TRUNCATE(event))
	{
		if (ss_xact_keys_attach())
			ss_xact_keys_add_all(SS_KEY_ENDED);
		ss_history_detach_all();
		return as_it_was(trigdata);
	}
	ss_row_deform(&old, trigdata->tg_trigtuple, RelationGetDescr(trigdata->tg_relation));
	if (TRIGGER_FIRED_BY_UPDATE(event))
	{
		ss_row_deform(&new, trigdata->tg_newtuple, RelationGetDescr(trigdata->tg_relation));
		session_updated(&old, &new);
	}
	else if (TRIGGER_FIRED_BY_DELETE(event))
		session_deleted(&old);
	else if (ss_xact_keys_attach())
		note_whole(&old, false);
	return as_it_was(trigdata);
}

/*
 * Note the tail of the session that has this conversation.  A message that is removed or altered is
 * like a session that ends, when it is done by hand.
 */
static void
note_history(const pg_uuid_t *history, bool goes)
{
	int fence = fence_of(goes) | SS_KEY_CACHEABLE;
	SsKey key;

	if (ss_xact_keys_have_history(history, fence))
		return;
	if (ss_xact_keys_overflowed() || !ss_history_find_session(history, &key))
	{
		/* nobody's any more: what is left of it may go; or of a session that we cannot see yet */
		if (ss_xact_keys_overflowed() || !goes || !ss_history_is_queued(history))
			ss_xact_keys_add_all(fence);
		return;
	}
	key.part = SS_PART_TAIL;
	ss_xact_key_add(&key, SS_CHANGED_DOCUMENT | fence);
	ss_xact_keys_add_history(history, fence);
}

static void
note_message(HeapTuple tuple, TupleDesc desc, bool goes)
{
	bool null;
	Datum history = heap_getattr(tuple, SS_HISTORY_ROW_ID, desc, &null);

	if (!null)
		note_history(DatumGetUUIDP(history), goes);
}

/* The trigger on messages. */
static Datum
session_history_note(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	TupleDesc desc;
	bool wanted;

	check_call(fcinfo, "session_history_note", "conversation_history");
	wanted = ss_xact_keys_attach();
	if (TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event))
	{
		if (wanted)
			ss_xact_keys_add_all(SS_KEY_ENDED);
		ss_history_clear_queue();
		return as_it_was(trigdata);
	}
	if (!wanted || ss_history_purging)
		return as_it_was(trigdata);
	desc = RelationGetDescr(trigdata->tg_relation);
	note_message(trigdata->tg_trigtuple, desc, !TRIGGER_FIRED_BY_INSERT(trigdata->tg_event));
	if (TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event))
		note_message(trigdata->tg_newtuple, desc, false);
	return as_it_was(trigdata);
}
