/*
 * pusher_check.c
 *		The pusher looks around: is the database wanted by somebody, is the extension still
 *		there, can changes be trusted to be noted, what do namespaces and settings say now?
 *
 * About twice a second, and when the server says that a table of ours changed.  No transaction is made
 * for that while nothing that is looked at can have changed (pusher_rest.c).
 */
#include "postgres.h"

#include "access/twophase.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "cache/pusher.h"
#include "shared.h"

#define MAKE_ROOM_WITHIN INT64CONST(400000) /* for who wants to drop the database */
#define PAUSE_FIRST INT64CONST(1000000)     /* after an error */
#define PAUSE_MOST INT64CONST(60000000)

/* From now on: remove what we wrote, and end, soon in any case. */
void
ss_pusher_leave(int64 now, int64 within)
{
	if (ss_pusher.leave_at == 0)
		ss_pusher.leave_at = now + within;
	ss_proto_leave(&ss_pusher.proto);
}

/* In a transaction: our tables, policies and settings. */
static void
look_at_tables(int64 now)
{
	char trouble[480];
	SsTableMark mark = {0};
	SsTableState state;
	bool unsure; /* a prepared transaction may have changed sessions */
	char *settings;

	ss_pusher.tables_stale = false;
	state = ss_cached_check(&mark, trouble, sizeof(trouble));
	if (state == SS_TABLES_GONE)
	{
		ss_pusher_leave(now, SS_LEAVE_WITHIN);
		return;
	}
	if (state == SS_TABLES_LOCKED)
	{
		/* whoever holds them may be about to change them: look again */
		ss_pusher.tables_stale = true;
		ss_pusher_set_locked(true);
		return;
	}
	ss_pusher_set_locked(false);
	if (ss_pusher.marked && memcmp(&mark, &ss_pusher.mark, sizeof(mark)) != 0)
		ss_proto_flush(&ss_pusher.proto);
	ss_pusher.mark = mark;
	ss_pusher.marked = true;
	ss_pusher_read_claims(&ss_pusher);
	ss_pusher.unlisted_ended = ss_ledger_unlisted_ended(&ss_pusher.db->cache.control);
	unsure = max_prepared_xacts > 0 && ss_cached_prepared();
	if (state == SS_TABLES_FINE && unsure)
		strlcpy(trouble,
				"a prepared transaction may have changed sessions, and nobody hears of its commit: "
				"COMMIT PREPARED or ROLLBACK PREPARED it",
				sizeof(trouble));
	if (strcmp(trouble, ss_pusher.trouble) != 0 && trouble[0])
		ereport(LOG, (errmsg("session_store: nothing is cached: %s", trouble)));
	strlcpy(ss_pusher.trouble, trouble, sizeof(ss_pusher.trouble));
	ss_pusher.proto.suspended = trouble[0] != '\0';
	if (ss_pusher.policies_stale)
		ss_pusher_read_policies(&ss_pusher);
	settings = ss_cached_settings();
	if (ss_pusher.settings == NULL)
		ss_pusher.settings = MemoryContextStrdup(TopMemoryContext, settings);
	else if (strcmp(settings, ss_pusher.settings) != 0)
		ss_pusher_leave(now, SS_LEAVE_WITHIN);
}

void
ss_pusher_check(int64 now)
{
	static int errors = 0;
	SsProto *proto = &ss_pusher.proto;

	ss_pusher.checked_at = now;
	if (ss_pusher.leave_at != 0)
		return;
	if (!ss_database_is_free(MyDatabaseId))
	{
		/* a copy must find our guard in Redis; but of what is dropped nothing shall stay there */
		if (!ss_database_is_going(MyDatabaseId))
			proc_exit(0);
		ss_pusher_leave(now, MAKE_ROOM_WITHIN);
		return;
	}
	PG_TRY();
	{
		if (!ss_pusher_rests(&ss_pusher, now))
		{
			ss_pusher_before_check(&ss_pusher);
			ss_pusher_begin_xact();
			look_at_tables(now);
			ss_pusher_end_xact();
			ss_pusher_after_check(&ss_pusher, now);
		}
		errors = 0;
	}
	PG_CATCH();
	{
		ErrorData *error = ss_pusher_catch_error();

		if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		{
			ss_pusher.tables_stale = true;
			ss_pusher_set_locked(true);
		}
		else
		{
			ss_pusher_log(error);
			/* nothing can be trusted before it was looked at; but not all the time, nor the log */
			proto->suspended = true;
			ss_pusher.marked = false;
			ss_pusher.tables_stale = ss_pusher.policies_stale = false;
			ss_pusher.checked_at = now + Min(PAUSE_FIRST << Min(errors++, 6), PAUSE_MOST);
			strlcpy(ss_pusher.trouble, "our tables could not be looked at: see the server log",
					sizeof(ss_pusher.trouble));
		}
	}
	PG_END_TRY();
}
