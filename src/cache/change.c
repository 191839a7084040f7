/*
 * change.c
 *		Which sessions a transaction changed, told to the ledger around its commit.
 *
 * A trigger (the last BEFORE ROW trigger, so that it sees the row as it will be, ENABLE
 * ALWAYS) notes the key of each row that changes, in the memory of the backend.  A
 * savepoint that is rolled back leaves notes behind, which does no harm.
 *
 * At PRE_COMMIT, where an error still aborts, the keys enter the ledger as in doubt (R7)
 * and a fenced transaction waits (R1).  At COMMIT and ABORT they are settled:
 * memory writes under a lock, for an error there would be a PANIC.  What is noted after
 * PRE_COMMIT (by another extension's callback) enters at once.
 *
 * Changes are noted whatever the namespace's cache rule says (R13): a namespace may be
 * switched on while the transaction is under way.
 *
 *					trigger		PRE_COMMIT				COMMIT / ABORT
 *		notes		added		enter					settle, then forgotten
 *		too many	overflow	unlisted_begin			unlisted_end
 *
 * A backend that dies hard takes the server, and so the ledger, with it.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/parallel.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/wait_event.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "cache/change.h"
#include "cache/hot.h"
#include "cache/ledger.h"
#include "cache/rules.h"
#include "compat.h"
#include "rows/home.h"
#include "rows/namespaces.h"
#include "rows/row.h"
#include "settings.h"
#include "shared.h"

PG_FUNCTION_INFO_V1(session_change_note);

/* Notes are found again by scanning while they are few. */
#define FEW 8
#define ROOM_FIRST 16
#define ROOM_KEPT 1024

typedef struct Note
{
	uint32 hash;
	uint8 what;   /* SS_CHANGED_ */
	bool entered; /* is in the ledger */
	SsKey key;
} Note;

static Note *notes = NULL;
static int nnotes = 0;
static int room = 0;
static int32 *places = NULL; /* of notes, by hash: open addressing, twice the room */
static bool overflow = false;
static bool fenced = false;
static bool unlisted = false; /* we have said so */
static bool entering = false; /* PRE_COMMIT is over */
static SsDb *db = NULL;

/* Is there a Redis that could hold copies of our sessions, or was there a moment ago? */
static bool
is_configured(void)
{
	return ss_redis_url[0] != '\0' || db->cache.control.attached ||
		   (db->cache.token != 0 && db->cache.control.lease_until > ss_monotonic());
}

/*
 * On a promoted standby the old primary's lease may be as young as the promotion, of which
 * the first change that is committed here is a sign.
 */
static void
mind_promotion(void)
{
	static bool minded = false;
	int64 none = 0;

	if (minded || !ss_shared->began_in_recovery)
		return;
	(void) __atomic_compare_exchange_n(&ss_shared->promoted, &none, ss_monotonic(), false,
									   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	ss_control_promoted(&db->cache.control, ss_shared->promoted);
	minded = true;
}

/*
 * Does the end of a session of this namespace have to wait?  Not where nothing is
 * cached; but that this was changed a moment ago the pusher may not know yet.
 */
static bool
may_be_cached(bool known, const SsPolicy *policy)
{
	return !known || policy->cache != SS_CACHE_OFF ||
		   ss_monotonic() - policy->read_at < SS_LEASE_LONGEST;
}

static void
forget(void)
{
	nnotes = 0;
	overflow = fenced = unlisted = entering = false;
	ss_unfenced = false;
	if (room > ROOM_KEPT)
	{
		pfree(notes);
		pfree(places);
		notes = NULL;
		places = NULL;
		room = 0;
	}
}

static void
index_note(int n)
{
	uint32 mask = room * 2 - 1;
	uint32 at = notes[n].hash & mask;

	while (places[at] >= 0)
		at = (at + 1) & mask;
	places[at] = n;
}

static void
grow(void)
{
	int more = room == 0 ? ROOM_FIRST : room * 2;
	int32 *more_places = MemoryContextAllocHuge(TopMemoryContext, sizeof(int32) * more * 2);

	/* out of memory or not, what there is fits together */
	if (notes == NULL)
		notes = MemoryContextAlloc(TopMemoryContext, sizeof(Note) * more);
	else
		notes = repalloc_huge(notes, sizeof(Note) * more);
	if (places != NULL)
		pfree(places);
	places = more_places;
	room = more;
	memset(places, 0xff, sizeof(int32) * more * 2);
	for (int i = 0; i < nnotes; i++)
		index_note(i);
}

static Note *
find_note(const SsKey *key, uint32 hash)
{
	if (nnotes <= FEW)
	{
		for (int i = 0; i < nnotes; i++)
			if (notes[i].hash == hash && ss_key_equal(&notes[i].key, key))
				return &notes[i];
		return NULL;
	}
	for (uint32 at = hash & (room * 2 - 1); places[at] >= 0; at = (at + 1) & (room * 2 - 1))
	{
		Note *note = &notes[places[at]];

		if (note->hash == hash && ss_key_equal(&note->key, key))
			return note;
	}
	return NULL;
}

/* Enter one note; without room the transaction is unlisted (R11). */
static void
enter(Note *note)
{
	note->entered = ss_ledger_enter(ss_ledger, &db->cache.control, &note->key, note->hash,
									note->what, ss_monotonic());
	if (!note->entered)
		overflow = true;
}

static void
be_unlisted(void)
{
	if (unlisted || !SS_RULE(11))
		return;
	ss_ledger_unlisted_begin(&db->cache.control);
	ss_count(SS_UNLISTED, 1);
	unlisted = true;
}

/* Everything may have changed: a TRUNCATE, or more than the ledger shall hold. */
static void
note_all(bool fence)
{
	overflow = true;
	fenced = fenced || fence;
	if (entering)
		be_unlisted();
}

static void
note(const SsKey *key, int what)
{
	uint32 hash = ss_key_hash(key);
	Note *n;

	if (what & SS_CHANGED_FENCED)
		fenced = true;
	if (overflow)
		return;
	n = find_note(key, hash);
	if (n == NULL)
	{
		if (nnotes >= ss_ledger_room(ss_ledger) / 4)
		{
			note_all(false);
			return;
		}
		if (nnotes == room)
			grow();
		n = &notes[nnotes];
		n->hash = hash;
		n->what = 0;
		n->entered = false;
		memcpy(&n->key, key, offsetof(SsKey, bytes) + key->nslen + key->idlen);
		index_note(nnotes++);
		/* the table of places outlives the notes */
		if (entering)
		{
			n->what = what;
			enter(n);
		}
	}
	else if (entering && (n->what | what) != n->what)
		note_all(false); /* what the ledger has is too little */
	n->what |= what;
}

/* The places of the notes that there are, for the next transaction. */
static void
clear_places(void)
{
	uint32 mask = room * 2 - 1;

	if (nnotes > FEW * 4)
	{
		memset(places, 0xff, sizeof(int32) * room * 2);
		return;
	}
	/* from the last on, so that what lies behind another goes before it */
	for (int i = nnotes - 1; i >= 0; i--)
	{
		uint32 at = notes[i].hash & mask;

		while (places[at] != i)
			at = (at + 1) & mask;
		places[at] = -1;
	}
}

/* Wait until no strong reader can see the old values any more, or no lease can be left. */
static void
wait_at_fence(uint64 ticket, int64 lease_until)
{
	SsControl *control = &db->cache.control;
	int64 start = ss_monotonic();
	int64 now = start;

	if (ss_ledger_passes(control, ticket, lease_until, now))
		return;
	ConditionVariablePrepareToSleep(&db->cache.changed);
	for (;;)
	{
		long rest;

		ss_wake_pusher(db, true);
		now = ss_monotonic();
		if (ss_ledger_passes(control, ticket, lease_until, now))
			break;
		rest = (long) ((lease_until - now) / 1000 + 1);
		(void) ConditionVariableTimedSleep(&db->cache.changed, Min(rest, 100), PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	ss_count(SS_FENCED, 1);
	ss_count(SS_FENCE_MICROSECONDS, now - start);
	if (now >= lease_until)
		ss_count(SS_FENCE_EXPIRED, 1);
}

static void
enter_all(void)
{
	SsControl *control = &db->cache.control;
	int64 lease_until;
	uint64 ticket;

	if (!SS_RULE(7))
		return;
	entering = true;
	if (overflow)
		be_unlisted();
	for (int i = 0; i < nnotes && !unlisted; i++)
	{
		enter(&notes[i]);
		if (overflow)
			be_unlisted();
	}
	mind_promotion();
	ticket = ss_ledger_ticket(control, &lease_until);
	if (fenced)
		wait_at_fence(ticket, lease_until);
}

/* At the end of the transaction: nothing here may fail. */
static void
settle_all(void)
{
	SsControl *control = &db->cache.control;

	if (!SS_RULE(7))
		for (int i = 0; i < nnotes; i++)
			enter(&notes[i]);
	for (int i = 0; i < nnotes; i++)
		if (notes[i].entered)
			ss_ledger_settle(ss_ledger, control, &notes[i].key, notes[i].hash);
	if (unlisted)
		ss_ledger_unlisted_end(control);
	if (entering)
		ss_wake_pusher(db, false);
}

static void
xact_callback(XactEvent event, void *arg)
{
	if (nnotes == 0 && !overflow)
	{
		if (event == XACT_EVENT_ABORT)
			ss_unfenced = false;
		return;
	}
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			enter_all();
			break;
		case XACT_EVENT_PRE_PREPARE:
			/* COMMIT PREPARED tells nobody */
			if (is_configured())
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot prepare a transaction that has changed sessions"),
						 errdetail("The cache in Redis would not learn of its commit."),
						 errhint("Set session_store.redis_url to an empty string, or commit in one "
								 "phase.")));
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			settle_all();
			if (room > 0)
				clear_places();
			forget();
			break;
		default:
			break;
	}
}

/* Once, from _PG_init. */
void
ss_cache_init_backend(void)
{
	RegisterXactCallback(xact_callback, NULL);
}

/* A row as the trigger sees it. */
typedef struct Row
{
	Datum values[SS_ROW_ATTRS];
	bool nulls[SS_ROW_ATTRS];
} Row;

static void
open_row(Row *row, HeapTuple tuple, TupleDesc desc)
{
	for (int i = 0; i < SS_ROW_ATTRS; i++)
		row->values[i] = heap_getattr(tuple, i + 1, desc, &row->nulls[i]);
}

static bool
differs(const Row *a, const Row *b, int column)
{
	int i = column - 1;

	if (a->nulls[i] || b->nulls[i])
		return a->nulls[i] != b->nulls[i];
	if (column == SS_ROW_EXPIRES_AT || column == SS_ROW_CREATED_AT || column == SS_ROW_DEAD_UNTIL)
		return a->values[i] != b->values[i];
	/* texts and documents; one that is toasted and unchanged has the same pointer */
	return !datumIsEqual(a->values[i], b->values[i], false, -1);
}

static bool
same_session(const Row *a, const Row *b)
{
	return !differs(a, b, SS_ROW_NAMESPACE) && !differs(a, b, SS_ROW_SESSION_ID);
}

/* Note a row; end: it ceases to be a session under this id. */
static void
note_row(const Row *row, int what, bool end)
{
	int ns = SS_ROW_NAMESPACE - 1;
	int id = SS_ROW_SESSION_ID - 1;
	bool fence = (end || ss_fence == SS_FENCE_ALL) && !ss_unfenced && is_configured();
	SsPolicy policy;
	bool known;
	SsKey key;

	if (row->nulls[ns] || row->nulls[id])
		return; /* it will be refused */
	if (!ss_key_from_datums(&key, row->values[ns], row->values[id]))
	{
		/* a row that the trigger before us would not have let in: it has no copy */
		note_all(false);
		return;
	}
	known = ss_ns_find(key.bytes, key.nslen, &policy);
	if (!SS_RULE(13) && (!known || policy.cache == SS_CACHE_OFF))
		return;
	if (fence && may_be_cached(known, &policy))
		what |= SS_CHANGED_FENCED;
	if (known && (what & SS_CHANGED_DOCUMENT) && !end)
		ss_hot_use(ss_key_hash(&key), &policy);
	note(&key, what);
}

static void
note_update(const Row *old, const Row *new)
{
	if (!same_session(old, new))
	{
		note_row(old, SS_CHANGED_DOCUMENT, true);
		note_row(new, SS_CHANGED_DOCUMENT, false);
	}
	else if (differs(old, new, SS_ROW_DEAD_UNTIL))
		note_row(new, SS_CHANGED_DOCUMENT, !new->nulls[SS_ROW_DEAD_UNTIL - 1]);
	else if (differs(old, new, SS_ROW_SESSION_DATA))
		note_row(new, SS_CHANGED_DOCUMENT, false);
	else if (differs(old, new, SS_ROW_EXPIRES_AT) || differs(old, new, SS_ROW_CREATED_AT))
		note_row(new, SS_CHANGED_EXPIRY, false);
	/* the rest Redis does not know of */
}

/* The trigger: notes what changes, and lets it be. */
Datum
session_change_note(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	TupleDesc desc;
	SsHome home;
	Row old;
	Row new;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigdata->tg_event))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("session_change_note() is a trigger before a change")));
	ss_home_get(&home);
	if (RelationGetRelid(trigdata->tg_relation) != home.sessions)
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("session_change_note() works on conversation_sessions only")));
	db = ss_shared_my_db();
	if (TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event))
	{
		if (db != NULL)
			note_all(is_configured());
		return PointerGetDatum(NULL);
	}
	if (db != NULL)
	{
		desc = RelationGetDescr(trigdata->tg_relation);
		open_row(&old, trigdata->tg_trigtuple, desc);
		if (TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event))
		{
			open_row(&new, trigdata->tg_newtuple, desc);
			note_update(&old, &new);
		}
		else
			note_row(&old, SS_CHANGED_DOCUMENT, TRIGGER_FIRED_BY_DELETE(trigdata->tg_event));
	}
	return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event) ? trigdata->tg_newtuple
																	   : trigdata->tg_trigtuple);
}
