/*
 * pusher.c
 *		The worker that writes to Redis: one for each database that has a cache.
 *
 * It does what protocol.c says: connect, send, read rows, wait.  Rows are read in short transactions
 * that end before anything is sent, so that a Redis that hangs does not hold back vacuum.
 *
 * About twice a second, and after each invalidation of one of our tables, it checks whether it has
 * to leave the database, whether the extension is still there and its triggers can be trusted, and
 * what the namespaces and settings say now (pusher_check.c).  Where nothing changed, that takes no
 * transaction (pusher_rest.c).
 *
 * Settings that say where Redis is are read only at the start.  When they change, the worker removes
 * what it wrote and ends, and the keeper starts another.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "base/clock.h"
#include "compat.h"
#include "keys/fence.h"
#include "protocol/protocol.h"
#include "pusher/pusher.h"
#include "pusher/pusher_check.h"
#include "pusher/pusher_claim.h"
#include "pusher/pusher_denied.h"
#include "pusher/pusher_io.h"
#include "pusher/pusher_report.h"
#include "pusher/pusher_rest.h"
#include "pusher/pusher_rows.h"
#include "pusher/scrub.h"
#include "redis/login.h"
#include "settings.h"
#include "shared/databases.h"
#include "shared/ledger_shmem.h"
#include "table/catalog.h"
#include "worker.h"

#define CHECK_EVERY_US INT64CONST(500000)
#define CHECK_AT_REST_US INT64CONST(1000000)
#define REPORT_EVERY_US INT64CONST(100000)
#define INFO_EVERY_US INT64CONST(10000000)
#define SCRUB_EVERY_US INT64CONST(5000000)
#define SCRUB_AT_REST_US INT64CONST(60000000)
#define PAUSE_AFTER_ERROR_MS 1000

/*
 * At the end of the process: gives up the slots of the ledger, and lets the keeper start
 * another pusher after a second.
 */
static void
on_exit_pusher(int code, Datum arg)
{
	SsPusher *pusher = (SsPusher *) DatumGetPointer(arg);
	SsCache *cache = &pusher->db->cache;

	ss_wire_close(&pusher->wire);
	ss_ledger_detach(ss_ledger, &cache->control, MyDatabaseId);
	ss_databases_lock(true);
	if (cache->pusher_pid == MyProcPid)
	{
		cache->pusher_pid = 0;
		cache->idle = 0;
		cache->report.connected = cache->report.running = cache->report.locked = false;
		strlcpy(cache->report.state, "stopped", sizeof(cache->report.state));
		ss_ledger_share(ss_ledger, cache->control.member, false);
		cache->retry_at = GetCurrentTimestamp() + USECS_PER_SEC;
	}
	ss_databases_unlock();
	ConditionVariableBroadcast(&cache->changed);
	ss_database_wake_keeper();
}

/* Registers this process as the pusher of its database; exits if there is one already. */
static void
register_pusher(SsPusher *pusher)
{
	bool taken = true;

	ss_databases_lock(true);
	pusher->db = ss_database_find(MyDatabaseId);
	if (pusher->db != NULL && pusher->db->cache.pusher_pid == 0)
	{
		taken = false;
		pusher->db->cache.pusher_pid = MyProcPid;
		pusher->db->cache.pusher_proc = SsMyProcNumber();
		ss_ledger_share(ss_ledger, pusher->db->cache.control.member, true);
	}
	ss_databases_unlock();
	if (taken)
		proc_exit(0);
	before_shmem_exit(on_exit_pusher, PointerGetDatum(pusher));
}

/* Copies the settings that may change at any time into the protocol. */
static void
apply_settings(SsPusher *pusher)
{
	SsProto *proto = &pusher->proto;

	proto->lease_us = ss_lease_ms * INT64CONST(1000);
	proto->promoted = ss_takeover == SS_TAKEOVER_PROMOTED;
	proto->own_clock_us = ss_clock_offset(GetCurrentTimestamp() +
											  (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) *
												  USECS_PER_DAY,
										  ss_monotonic());
}

/* The configuration was reloaded: leaves if Redis is elsewhere now. */
static void
apply_reload(SsPusher *pusher, SsMonotonic now)
{
	apply_settings(pusher);
	ss_pusher_end_rest(pusher);
	if (ss_login_changed(&pusher->login))
		ss_pusher_leave(pusher, now, SS_LEAVE_WITHIN_US);
	else if (!pusher->proto.connected)
		ss_proto_reconnect(&pusher->proto, now);
}

/*
 * Compares a part of the copies for session_cache_verify while nothing is under way; true if
 * that was the last part.  It starts where the scrubber is, so that successive calls see
 * different keys, and ends at the latest when it has visited all keys of Redis and all rows of
 * the table.
 */
static bool
verify(SsPusher *pusher, SsCacheRequest *request, bool begun, SsMonotonic now)
{
	SsProto *proto = &pusher->proto;

	if (!begun)
	{
		pusher->verifying = true;
		pusher->verify_cursor = pusher->cursor;
		/* a scan from the very beginning visits nothing twice */
		pusher->verify_ends = pusher->verify_cursor == 0 ? 1 : 0;
		memset(&pusher->verify_walk, 0, sizeof(pusher->verify_walk));
		memset(pusher->verify_counts, 0, sizeof(pusher->verify_counts));
		pusher->verify_rest.n = 0;
	}
	if (proto->stage != SS_STAGE_RUN || proto->suspended || proto->busy || proto->reading ||
		proto->ready)
		return false;
	if (!ss_scrub(pusher, &pusher->verify_cursor, &pusher->verify_walk, &pusher->verify_rest,
				  now + USECS_PER_SEC, pusher->verify_counts))
	{
		ss_pusher_failed(pusher, pusher->wire.error);
		return false;
	}
	if (pusher->scrub_locked)
		return false;
	if (pusher->verify_cursor == 0 && pusher->verify_rest.n == 0)
		pusher->verify_ends++;
	memcpy(request->results, pusher->verify_counts, sizeof(request->results));
	if (pusher->verify_ends >= 2 && pusher->verify_counts[1] + pusher->verify_counts[3] == 0)
		pusher->diverging = false;
	return pusher->verify_counts[0] >= request->sample ||
		   (pusher->verify_ends >= 2 && pusher->verify_walk.done && pusher->verify_rest.n == 0);
}

/*
 * Works on a request of a backend; true when it is done.  `begun`: this is not the first call
 * for it.
 */
static bool
serve_request(SsPusher *pusher, SsCacheRequest *request, bool begun, SsMonotonic now)
{
	SsProto *proto = &pusher->proto;

	switch (request->command)
	{
		case SS_CACHE_COMMAND_FLUSH:
			if (!begun && request->ns[0] == '\0')
				ss_proto_flush(proto);
			else if (!begun)
			{
				strlcpy(pusher->flush_ns, request->ns, sizeof(pusher->flush_ns));
				ss_proto_flush_partly(proto);
			}
			request->results[0] = proto->removed;
			return begun && !ss_proto_flushing(proto) && proto->stage == SS_STAGE_RUN;
		case SS_CACHE_COMMAND_TAKEOVER:
			if (proto->stage == SS_STAGE_RUN)
				return true;
			if (!begun)
				ss_proto_takeover(proto, now);
			return false;
		case SS_CACHE_COMMAND_VERIFY:
			return verify(pusher, request, begun, now);
	}
	return true;
}

/* Works on the present request, if any, and sends the answer, or how far it is. */
static void
handle_request(SsPusher *pusher, SsMonotonic now)
{
	SsCacheRequest *request = &pusher->db->cache.request;
	SsCacheRequest copy;
	bool done;

	if (request->answered == request->asked)
	{
		/* the caller may have given up */
		pusher->verifying = false;
		ss_proto_no_takeover(&pusher->proto);
		return;
	}
	ss_databases_lock(false);
	copy = *request;
	ss_databases_unlock();
	if (copy.command != SS_CACHE_COMMAND_TAKEOVER)
		ss_proto_no_takeover(&pusher->proto);
	done = serve_request(pusher, &copy, pusher->request_begun == copy.asked, now);
	if (done)
		pusher->verifying = false;
	pusher->request_begun = copy.asked;
	/* so that health is up to date when the caller gets the answer */
	if (done)
		ss_pusher_report(pusher, ss_monotonic());
	ss_databases_lock(true);
	memcpy(request->results, copy.results, sizeof(copy.results));
	if (done)
		request->answered = copy.asked;
	ss_databases_unlock();
	if (!done)
		return;
	ConditionVariableBroadcast(&pusher->db->cache.changed);
}

/* The scrubber has visited all keys of Redis once more. */
static void
end_pass(SsPusher *pusher)
{
	if (pusher->divergent == pusher->divergent_before)
		pusher->diverging = false;
	pusher->divergent_before = pusher->divergent;
}

/* Tasks for idle times while Redis works and nothing waits. */
static void
run_maintenance(SsPusher *pusher, SsMonotonic now)
{
	SsProto *proto = &pusher->proto;
	SsMonotonic give_up = now + USECS_PER_SEC / 5;
	int64 counts[4] = {0};

	if (proto->stage != SS_STAGE_RUN || !proto->connected || proto->suspended)
		return;
	if (now - pusher->informed >= INFO_EVERY_US)
	{
		pusher->informed = now;
		ss_aside_tidy(pusher->push_aside, GetCurrentTimestamp());
		ss_aside_tidy(pusher->scrub_aside, GetCurrentTimestamp());
		ss_pusher_record_only_redis(pusher, now);
		if (!ss_pusher_recheck_denied(pusher, give_up) ||
			!ss_wire_info(&pusher->wire, give_up, &pusher->info))
			ss_pusher_failed(pusher, pusher->wire.error);
	}
	else if (now - pusher->scrubbed >=
			 (ss_pusher_scrub_rests(pusher) ? SCRUB_AT_REST_US : SCRUB_EVERY_US))
	{
		SsTableWalk *walk = ss_pusher_before_scrub(pusher);

		pusher->scrubbed = now;
		if (!ss_scrub(pusher, &pusher->cursor, walk, &pusher->scrub_rest, give_up, counts))
		{
			ss_pusher_failed(pusher, pusher->wire.error);
			return;
		}
		if (pusher->cursor == 0 && !pusher->scrub_locked && pusher->scrub_rest.n == 0)
			end_pass(pusher);
		ss_pusher_after_scrub(pusher, counts[1] + counts[2] + counts[3] > 0);
	}
}

/* Sleeps until the protocol or the next check is due, or the latch is set. */
static void
sleep_until_due(SsPusher *pusher, SsMonotonic now)
{
	SsCache *cache = &pusher->db->cache;
	int64 check = pusher->rest.tables ? CHECK_AT_REST_US : CHECK_EVERY_US;
	SsMonotonic until = Min(pusher->proto.wait_until, Max(pusher->checked_at, now) + check);
	int64 ms = (until - now + 999) / 1000;

	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, Max(ms, 0),
					 PG_WAIT_EXTENSION);
	((volatile SsCache *) cache)->idle = 0;
	ResetLatch(MyLatch);
}

/*
 * Wakes backends that wait at the fence or for session_cache_sync, if something they wait for
 * changed.
 */
static void
wake_waiters(SsPusher *pusher, const SsControl *before)
{
	SsCache *cache = &pusher->db->cache;

	if (before->passed != cache->control.passed || before->synced != cache->control.synced ||
		before->lease_until > cache->control.lease_until)
		ConditionVariableBroadcast(&cache->changed);
}

/*
 * Waits for more saves to share the next batch.  `idle` is not set, so that commits need not
 * wake us.
 */
static void
linger(SsPusher *pusher, SsMonotonic now)
{
	if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
				  (pusher->linger_until - now + 999) / 1000, PG_WAIT_EXTENSION) &
		WL_LATCH_SET)
		ResetLatch(MyLatch);
	pusher->linger_until = 0;
}

/* One step of the protocol. */
static void
step(SsPusher *pusher, SsMonotonic now)
{
	SsCache *cache = &pusher->db->cache;
	SsProto *proto = &pusher->proto;
	SsControl before = cache->control;

	if (proto->connected && proto->stage != SS_STAGE_RUN && ss_redis_broken(pusher->wire.redis))
	{
		ss_pusher_failed(pusher, "Redis closed the connection");
		return;
	}
	switch (ss_proto_next(proto, now))
	{
		case SS_DO_CONNECT:
			ss_pusher_connect(pusher);
			break;
		case SS_DO_SEND:
			ss_pusher_send(pusher);
			break;
		case SS_DO_RECORD:
			ss_pusher_record_claim(pusher);
			break;
		case SS_DO_READ:
			ss_pusher_read_rows(pusher);
			break;
		case SS_DO_LEAVE:
			proc_exit(0);
		case SS_DO_WAIT:
			if (cache->idle)
			{
				wake_waiters(pusher, &before);
				run_maintenance(pusher, now);
				if (!pusher->verifying)
					sleep_until_due(pusher, now);
			}
			else
			{
				/* a commit from here on wakes us; one just before is seen at the next update */
				((volatile SsCache *) cache)->idle = 1;
				pg_memory_barrier();
			}
			break;
	}
	wake_waiters(pusher, &before);
}

/* Initializes the state of the pusher and its report. */
static void
init_pusher(SsPusher *pusher)
{
	SsOwner me;
	SsCache *cache = &pusher->db->cache;
	uint64 seed;

	if (!pg_strong_random(&seed, sizeof(seed)))
		seed = GetCurrentTimestamp() ^ MyProcPid;
	ss_login_choose(&pusher->login);
	ss_pusher_identify(pusher);
	me.system = pusher->me.system;
	me.database = pusher->me.database;
	me.timeline = pusher->me.timeline;
	/* before a claim can end the wait that this begins */
	ss_fence_apply_promotion(pusher->db);
	ss_proto_init(&pusher->proto, ss_ledger, &cache->control, MyDatabaseId, &me, seed,
				  ss_monotonic());
	pusher->proto.remembered = cache->token;
	pusher->proto.copied = cache->copied;
	apply_settings(pusher);
	pusher->wire.known = &pusher->prefixes;
	pusher->tables_memo.sources = pusher->policies_memo.sources = SS_OUR_TABLES;
	pusher->proto.suspended = true; /* until the tables were checked */
	ss_databases_lock(true);
	memset(&cache->report, 0, sizeof(cache->report));
	ss_url_show(&pusher->login.url, cache->report.where, sizeof(cache->report.where));
	cache->report.password_in_url = pusher->login.url.password[0] != '\0';
	ss_databases_unlock();
	before_shmem_exit(ss_pusher_drop_lease, PointerGetDatum(pusher));
}

/* Handles an error of any kind: nothing stays open, and the connection starts again. */
static void
recover(SsPusher *pusher)
{
	ErrorData *error = ss_pusher_catch_error(pusher);

	/* ss_pusher_read_rows handles what was read for a batch */
	if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE && !pusher->proto.reading &&
		!pusher->proto.busy)
		return;
	ss_pusher_log(error);
	ss_pusher_failed(pusher, "an error, see the server log");
	(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, PAUSE_AFTER_ERROR_MS,
					 PG_WAIT_EXTENSION);
}

/* Entry point of the worker; the argument is the OID of the database. */
void
ss_pusher_main(Datum arg)
{
	SsPusher *pusher = MemoryContextAllocZero(TopMemoryContext, sizeof(SsPusher));

	ss_worker_begin(DatumGetObjectId(arg));
	register_pusher(pusher);
	ss_worker_set("default_transaction_read_only", "on");
	/* a claim must be on this server's disk; standbys do not matter */
	ss_worker_set("synchronous_commit", "local");
	ss_worker_set("lock_timeout", "50ms");
	ss_worker_set("enable_hashjoin", "off");
	ss_worker_set("enable_mergejoin", "off");
	pusher->cycle_context = AllocSetContextCreate(TopMemoryContext, "session_store pusher cycle",
												  ALLOCSET_DEFAULT_SIZES);
	pusher->batch_context = AllocSetContextCreate(TopMemoryContext, "session_store pusher batch",
												  ALLOCSET_DEFAULT_SIZES);
	init_pusher(pusher);
	pusher->push_aside = ss_aside_of_worker(SS_WORK_PUSH, false);
	pusher->scrub_aside = ss_aside_of_worker(SS_WORK_SCRUB, false);
	pgstat_report_activity(STATE_IDLE, NULL);
	for (;;)
	{
		SsMonotonic now = ss_monotonic();

		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(pusher->cycle_context);
		MemoryContextSwitchTo(pusher->cycle_context);
		PG_TRY();
		{
			if (ss_worker_reload())
				apply_reload(pusher, now);
			if (now - pusher->checked_at >= CHECK_EVERY_US ||
				(now >= pusher->checked_at && !ss_pusher_tables_are_known(pusher)))
				ss_pusher_check(pusher, now);
			if (pusher->leave_at != 0 && now > pusher->leave_at)
				proc_exit(0);
			handle_request(pusher, now);
			if (now < pusher->linger_until)
				linger(pusher, now);
			step(pusher, ss_monotonic());
			if (ss_monotonic() - pusher->reported >= REPORT_EVERY_US)
				ss_pusher_report(pusher, ss_monotonic());
		}
		PG_CATCH();
		{
			recover(pusher);
		}
		PG_END_TRY();
	}
}
