/*
 * pusher_rows.c
 *		Reads the rows that the pusher is about to copy, in short transactions.
 *
 * The transactions end before anything is sent.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "keys/hot.h"
#include "protocol/protocol.h"
#include "pusher/pusher_policies.h"
#include "pusher/pusher_rows.h"
#include "pusher/utf8.h"
#include "settings.h"
#include "shared/ledger_shmem.h"

/* Rows that are read one by one end a batch when it has this much text. */
#define ALONE_BYTES (256 * 1024)

/* Have our tables, and the policies, not changed since they were checked and read? */
bool
ss_pusher_tables_are_known(const SsPusher *pusher)
{
	return ss_memo_is_current(&pusher->tables_memo) && ss_memo_is_current(&pusher->policies_memo);
}

/* Begins a transaction with a snapshot. */
void
ss_pusher_begin_xact(void)
{
	StartTransactionCommand();
	ss_utf8_init();
	PushActiveSnapshot(GetTransactionSnapshot());
}

/* Commits it. */
void
ss_pusher_end_xact(SsPusher *pusher)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(false);
	MemoryContextSwitchTo(pusher->cycle_context);
}

static const SsKey *
key_of(SsPusher *pusher, int op)
{
	return &ss_ledger_slot(ss_ledger, pusher->proto.ops[op].slot)->key;
}

/* Sets the keys of operations whose rows were not read. */
void
ss_pusher_make_keys(SsPusher *pusher)
{
	MemoryContextReset(pusher->batch_context);
	MemoryContextSwitchTo(pusher->batch_context);
	for (int i = 0; i < pusher->proto.nops; i++)
		ss_pusher_make_key(pusher, key_of(pusher, i), &pusher->payloads[i]);
	MemoryContextSwitchTo(pusher->cycle_context);
}

/* Can the id of a session be converted to UTF-8? */
static bool
has_name(const SsKey *key)
{
	char id[SS_UTF8_ROOM(SS_NAME_MAX)];

	return ss_utf8_name(key->bytes + key->nslen, key->idlen, id) >= 0;
}

/*
 * Sets a row aside that failed when it was read alone.  An error that says nothing about the
 * row is rethrown.
 */
void
ss_pusher_set_aside(SsPusher *pusher, SsAside *aside, const SsKey *key, ErrorData *error)
{
	if (ss_aside_fault(error) == SS_FAULT_OTHER)
		ReThrowError(error);
	ss_aside_add(aside, key, error);
	pusher->unreadable++;
}

/* The same for a session to be copied whose id or text cannot be converted to UTF-8. */
static void
set_untranslatable_aside(SsPusher *pusher, const SsKey *key)
{
	ErrorData error = {.elevel = ERROR,
					   .sqlerrcode = ERRCODE_FEATURE_NOT_SUPPORTED,
					   .domain = PG_TEXTDOMAIN("postgres"),
					   .message = "the session id or the document cannot be converted to UTF-8"};

	ss_pusher_set_aside(pusher, pusher->push_aside, key, &error);
}

/* Reads the rows of operations from..to-1; in a transaction. */
static void
read_rows(SsPusher *pusher, int from, int to)
{
	SsProto *proto = &pusher->proto;
	SsCachedRow rows[SS_BATCH_MAX];
	/* read before the rows, because a copy must not outlive its session */
	SsMonotonic now = ss_monotonic();
	TimestampTz time = GetCurrentTimestamp();

	for (int i = from; i < to; i++)
	{
		rows[i].key = key_of(pusher, i);
		rows[i].policy = ss_pusher_policy_of(pusher, rows[i].key);
		rows[i].document = proto->ops[i].document;
		if (rows[i].policy != NULL && ss_aside_holds(pusher->push_aside, rows[i].key, time))
			rows[i].policy = NULL;
		if (rows[i].policy != NULL && !has_name(rows[i].key))
		{
			set_untranslatable_aside(pusher, rows[i].key);
			rows[i].policy = NULL;
		}
		/* what is hardly used gets no copy, so its document is not needed */
		if (rows[i].policy != NULL && !ss_hot_wants_copy(rows[i].key, rows[i].policy))
			rows[i].policy = NULL;
	}
	ss_cached_read(rows + from, to - from, ss_cache_max_bytes, &pusher->documents);
	for (int i = from; i < to; i++)
	{
		bool copy = rows[i].policy != NULL && rows[i].alive && !rows[i].large && !rows[i].foreign;

		proto->ops[i].found = rows[i].later ? SS_FOUND_LATER : copy ? SS_FOUND_COPY : SS_FOUND_NONE;
		proto->ops[i].until = now + rows[i].life_us;
		pusher->payloads[i].length = rows[i].length;
		/* the text may still be moved by repalloc: see point_to_documents */
		pusher->offsets[i] = rows[i].offset;
		pusher->too_large += rows[i].large ? 1 : 0;
		if (rows[i].foreign)
			set_untranslatable_aside(pusher, rows[i].key);
		else if (rows[i].policy != NULL && !rows[i].later)
			ss_aside_done(pusher->push_aside, rows[i].key);
	}
}

/* Sets keys and documents of the operations, once the text does not move any more. */
static void
point_to_documents(SsPusher *pusher)
{
	MemoryContextSwitchTo(pusher->batch_context);
	for (int i = 0; i < pusher->proto.nops; i++)
	{
		int length = pusher->payloads[i].length;

		ss_pusher_make_key(pusher, key_of(pusher, i), &pusher->payloads[i]);
		pusher->payloads[i].document = pusher->documents.data + pusher->offsets[i];
		pusher->payloads[i].length = length;
	}
	MemoryContextSwitchTo(pusher->cycle_context);
}

/*
 * In PG_CATCH: aborts the transaction and returns the error, in cycle_context.
 * ERRCODE_LOCK_NOT_AVAILABLE means that another session holds a lock that we need, and perhaps
 * waits for us.
 */
ErrorData *
ss_pusher_catch_error(SsPusher *pusher)
{
	ErrorData *error;

	MemoryContextSwitchTo(pusher->cycle_context);
	error = CopyErrorData();
	FlushErrorState();
	AbortOutOfAnyTransaction();
	MemoryContextSwitchTo(pusher->cycle_context);
	return error;
}

/* Records for health whether a lock prevented that our tables are read. */
void
ss_pusher_set_locked(SsPusher *pusher, bool locked)
{
	pusher->locked = locked;
	pusher->lock_skips += locked ? 1 : 0;
}

/* Writes a caught error to the server log. */
void
ss_pusher_log(const ErrorData *error)
{
	ereport(LOG, (errcode(error->sqlerrcode), errmsg("session_store: %s", error->message),
				  error->detail ? errdetail_internal("%s", error->detail) : 0,
				  error->context ? errcontext_msg("%s", error->context) : 0));
}

/*
 * Reads rows from..to-1 in a transaction of their own.  Returns false if they could not be
 * read: either *locked is set, or *error is the reason.
 */
static bool
try_read(SsPusher *pusher, int from, int to, bool *locked, ErrorData **error)
{
	ErrorData *volatile caught = NULL;
	volatile bool held = false;
	volatile bool refused = false;

	PG_TRY();
	{
		SsTableState state;

		ss_pusher_begin_xact();
		state = ss_tables_lock();
		refused = state == SS_TABLES_LOCKED;
		if (state == SS_TABLES_FINE && ss_pusher_tables_are_known(pusher))
			read_rows(pusher, from, to);
		else
			held = true; /* or about to be checked: not now */
		ss_pusher_end_xact(pusher);
	}
	PG_CATCH();
	{
		caught = ss_pusher_catch_error(pusher);
		held = refused = caught->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
	}
	PG_END_TRY();
	ss_pusher_set_locked(pusher, refused);
	*error = caught;
	*locked = held;
	return caught == NULL && !held;
}

/*
 * One of the rows cannot be read: reads each alone.  Those that fail are set aside, and their
 * keys deleted; what does not fit into the batch is left for later.
 */
static void
read_one_by_one(SsPusher *pusher, bool *locked)
{
	SsProto *proto = &pusher->proto;
	ErrorData *error;

	resetStringInfo(&pusher->documents);
	for (int i = 0; i < proto->nops && !*locked; i++)
	{
		proto->ops[i].found = SS_FOUND_LATER;
		pusher->payloads[i].length = 0;
		pusher->offsets[i] = 0;
		if (pusher->documents.len >= ALONE_BYTES || try_read(pusher, i, i + 1, locked, &error) ||
			*locked)
			continue;
		ss_pusher_set_aside(pusher, pusher->push_aside, key_of(pusher, i), error);
		proto->ops[i].found = SS_FOUND_NONE;
	}
}

/* Reads the rows of proto.ops, for SS_DO_READ. */
void
ss_pusher_read_rows(SsPusher *pusher)
{
	SsProto *proto = &pusher->proto;
	ErrorData *error;
	bool locked;

	/* an unlisted transaction may be prepared by now, and its commit would not be reported */
	if (pusher->unlisted_ended != ss_control_unlisted_ended(&pusher->db->cache.control))
		ss_memo_make_stale(&pusher->tables_memo);
	MemoryContextReset(pusher->batch_context);
	MemoryContextSwitchTo(pusher->batch_context);
	initStringInfo(&pusher->documents);
	MemoryContextSwitchTo(pusher->cycle_context);
	if (!try_read(pusher, 0, proto->nops, &locked, &error) && !locked)
		read_one_by_one(pusher, &locked);
	if (locked)
	{
		ss_proto_unreadable(proto, ss_monotonic());
		return;
	}
	point_to_documents(pusher);
	/* what did not fit is not sent; it is taken again */
	ss_proto_rows(proto, ss_monotonic());
}
