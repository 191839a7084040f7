/*
 * pusher_check.c
 *		Periodic check of the pusher: may it stay in the database, and what do tables, triggers,
 *		namespaces and settings say now?
 *
 * It runs about twice a second, and after each invalidation of one of our tables.  It makes no
 * transaction while nothing that it reads can have changed (pusher_rest.c).
 */
#include "postgres.h"

#include "access/twophase.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "protocol/protocol.h"
#include "pusher/pusher_check.h"
#include "pusher/pusher_claim.h"
#include "pusher/pusher_policies.h"
#include "pusher/pusher_rest.h"
#include "pusher/pusher_rows.h"
#include "shared/databases.h"

#define LEAVE_DROPPED_WITHIN_US INT64CONST(400000) /* when DROP DATABASE waits for us */
#define PAUSE_FIRST_US INT64CONST(1000000)         /* after an error */
#define PAUSE_MAX_US INT64CONST(60000000)

/* From now on: removes what we wrote and ends, at the latest after `within` microseconds. */
void
ss_pusher_leave(SsPusher *pusher, SsMonotonic now, int64 within_us)
{
	if (pusher->leave_at == 0)
		pusher->leave_at = now + within_us;
	ss_proto_leave(&pusher->proto);
}

/* Checks our tables, policies and settings; in a transaction. */
static void
check_tables(SsPusher *pusher, SsMonotonic now)
{
	char trouble[SS_TROUBLE_LEN];
	SsTableMark mark = {0};
	SsTableState state;
	bool unsure; /* a prepared transaction may have changed sessions */
	char *settings;

	uint64 begun = ss_memo_begin(&pusher->tables_memo);

	Assert(IsTransactionState());
	state = ss_tables_check(&mark, trouble, sizeof(trouble));
	if (state == SS_TABLES_GONE)
	{
		ss_pusher_leave(pusher, now, SS_LEAVE_WITHIN_US);
		return;
	}
	if (state == SS_TABLES_LOCKED)
	{
		/* the holder of the lock may be about to change them: check again */
		ss_pusher_set_locked(pusher, true);
		return;
	}
	ss_pusher_set_locked(pusher, false);
	if (pusher->marked && memcmp(&mark, &pusher->mark, sizeof(mark)) != 0)
		ss_proto_flush(&pusher->proto);
	pusher->mark = mark;
	pusher->marked = true;
	ss_pusher_read_claims(pusher);
	pusher->unlisted_ended = ss_control_unlisted_ended(&pusher->db->cache.control);
	unsure = max_prepared_xacts > 0 && ss_cached_prepared();
	if (state == SS_TABLES_FINE && unsure)
		strlcpy(
			trouble,
			"a prepared transaction may have changed sessions, and its commit is not reported to "
			"the pusher: COMMIT PREPARED or ROLLBACK PREPARED it",
			sizeof(trouble));
	if (strcmp(trouble, pusher->trouble) != 0 && trouble[0])
		ereport(LOG, (errmsg("session_store: nothing is cached: %s", trouble)));
	strlcpy(pusher->trouble, trouble, sizeof(pusher->trouble));
	pusher->proto.suspended = trouble[0] != '\0';
	if (!ss_memo_is_current(&pusher->policies_memo))
		ss_pusher_read_policies(pusher);
	settings = ss_cached_settings();
	if (pusher->settings == NULL)
		pusher->settings = MemoryContextStrdup(TopMemoryContext, settings);
	else if (strcmp(settings, pusher->settings) != 0)
		ss_pusher_leave(pusher, now, SS_LEAVE_WITHIN_US);
	ss_memo_end(&pusher->tables_memo, begun);
}

/*
 * Runs the check.  Errors are handled here: a lock means another attempt soon; after any other
 * error nothing is cached, and the check is repeated with increasing delays.
 */
void
ss_pusher_check(SsPusher *pusher, SsMonotonic now)
{
	SsProto *proto = &pusher->proto;

	pusher->checked_at = now;
	if (pusher->leave_at != 0)
		return;
	if (!ss_database_is_free(MyDatabaseId))
	{
		/* a copy must find our guard in Redis, but a dropped database must leave nothing there */
		if (!ss_database_is_being_dropped(MyDatabaseId))
			proc_exit(0);
		ss_pusher_leave(pusher, now, LEAVE_DROPPED_WITHIN_US);
		return;
	}
	PG_TRY();
	{
		if (!ss_pusher_rests(pusher, now))
		{
			ss_pusher_before_check(pusher);
			ss_pusher_begin_xact();
			check_tables(pusher, now);
			ss_pusher_end_xact(pusher);
			ss_pusher_after_check(pusher, now);
		}
		pusher->check_errors = 0;
	}
	PG_CATCH();
	{
		ErrorData *error = ss_pusher_catch_error(pusher);

		if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
			ss_pusher_set_locked(pusher, true);
		else
		{
			ss_pusher_log(error);
			/* nothing can be trusted before the next check, which is delayed to spare the log */
			proto->suspended = true;
			pusher->marked = false;
			pusher->checked_at = now + Min(PAUSE_FIRST_US << Min(pusher->check_errors++, 6),
										   PAUSE_MAX_US);
			strlcpy(pusher->trouble, "our tables could not be looked at: see the server log",
					sizeof(pusher->trouble));
		}
	}
	PG_END_TRY();
}
