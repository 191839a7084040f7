/*
 * pusher.c
 *		The worker that writes to Redis: one for each database that has a cache.
 *
 * It does what protocol.c says, and nothing of its own: connect, send, read rows, wait.
 * Rows are read in short transactions that are over before anything is sent, so that a
 * Redis that hangs holds back no vacuum.
 *
 * About twice a second, and whenever the server says that a table of ours changed, it looks
 * around: is the database wanted by somebody, is the extension still there, can changes
 * be trusted to be noted, what do the namespaces and the settings say now.  Where nothing changed
 * that takes no transaction (pusher_rest.c).
 *
 * Settings that say where Redis is are read at the start alone: when they change, the
 * worker removes what it wrote and ends, and the keeper starts another.
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

#include "cache/login.h"
#include "cache/pusher.h"
#include "cache/xact_keys.h"
#include "compat.h"
#include "rows/catalog.h"
#include "settings.h"
#include "shared.h"
#include "worker.h"

#define LOOK_AROUND INT64CONST(500000) /* us */
#define LOOK_AT_REST INT64CONST(1000000)
#define REPORT_EVERY INT64CONST(100000)
#define INFO_EVERY INT64CONST(10000000)
#define SCRUB_EVERY INT64CONST(5000000)
#define SCRUB_AT_REST INT64CONST(60000000)
#define PAUSE_AFTER_ERROR 1000 /* ms */

SsPusher ss_pusher;

static void
on_exit_pusher(int code, Datum arg)
{
	SsCache *cache = &ss_pusher.db->cache;

	ss_wire_close(&ss_pusher.wire);
	ss_ledger_detach(ss_ledger, &cache->control, MyDatabaseId);
	ss_shared_lock(true);
	if (cache->pusher_pid == MyProcPid)
	{
		cache->pusher_pid = 0;
		cache->idle = 0;
		cache->report.connected = cache->report.running = cache->report.locked = false;
		strlcpy(cache->report.state, "stopped", sizeof(cache->report.state));
		ss_ledger_share(ss_ledger, cache->control.member, false);
		cache->retry_at = GetCurrentTimestamp() + USECS_PER_SEC;
	}
	ss_shared_unlock();
	ConditionVariableBroadcast(&cache->changed);
	ss_wake_keeper();
}

/* Enter ourselves as the pusher of this database, unless there is one. */
static void
report_for_duty(void)
{
	bool taken = true;

	ss_shared_lock(true);
	ss_pusher.db = ss_shared_db(MyDatabaseId, false);
	if (ss_pusher.db != NULL && ss_pusher.db->cache.pusher_pid == 0)
	{
		taken = false;
		ss_pusher.db->cache.pusher_pid = MyProcPid;
		ss_pusher.db->cache.pusher_proc = SsMyProcNumber();
		ss_ledger_share(ss_ledger, ss_pusher.db->cache.control.member, true);
	}
	ss_shared_unlock();
	if (taken)
		proc_exit(0);
	before_shmem_exit(on_exit_pusher, (Datum) 0);
}

static void
apply_settings(void)
{
	SsProto *proto = &ss_pusher.proto;

	proto->lease = ss_lease * INT64CONST(1000);
	proto->promoted = ss_takeover == SS_TAKEOVER_PROMOTED;
	proto->own_clock = GetCurrentTimestamp() +
					   (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY - ss_monotonic();
}

/* The file was read again: is Redis somewhere else now? */
static void
reloaded(int64 now)
{
	apply_settings();
	ss_pusher_end_rest(&ss_pusher);
	if (ss_login_changed(&ss_pusher.login))
		ss_pusher_leave(now, SS_LEAVE_WITHIN);
	else if (!ss_pusher.proto.connected)
		ss_proto_reconnect(&ss_pusher.proto, now);
}

/*
 * A slice of a verification, when nothing is under way; true when it was the last.  It
 * begins at some place, so that one after another see others, and ends at the latest
 * when it has visited all keys of Redis and all rows of the table.
 */
static bool
verify(SsCacheRequest *request, bool begun, int64 now)
{
	SsProto *proto = &ss_pusher.proto;

	if (!begun)
	{
		ss_pusher.verifying = true;
		ss_pusher.verify_cursor = ss_pusher.cursor;
		/* from the very beginning there is nothing to come by a second time */
		ss_pusher.verify_ends = ss_pusher.verify_cursor == 0 ? 1 : 0;
		memset(&ss_pusher.verify_walk, 0, sizeof(ss_pusher.verify_walk));
		memset(ss_pusher.verify_counts, 0, sizeof(ss_pusher.verify_counts));
	}
	if (proto->stage != SS_STAGE_RUN || proto->suspended || proto->busy || proto->reading ||
		proto->ready)
		return false;
	if (!ss_scrub(&ss_pusher, &ss_pusher.verify_cursor, &ss_pusher.verify_walk, now + USECS_PER_SEC,
				  ss_pusher.verify_counts))
	{
		ss_pusher_failed(ss_pusher.wire.error);
		return false;
	}
	if (ss_pusher.scrub_locked)
		return false;
	if (ss_pusher.verify_cursor == 0)
		ss_pusher.verify_ends++;
	memcpy(request->results, ss_pusher.verify_counts, sizeof(request->results));
	if (ss_pusher.verify_ends >= 2 && ss_pusher.verify_counts[1] + ss_pusher.verify_counts[3] == 0)
		ss_pusher.diverging = false;
	return ss_pusher.verify_counts[0] >= request->sample ||
		   (ss_pusher.verify_ends >= 2 && ss_pusher.verify_walk.done);
}

/* Answer what somebody asks for; false when it takes longer. */
static bool
answer(SsCacheRequest *request, bool begun, int64 now)
{
	SsProto *proto = &ss_pusher.proto;

	switch (request->question)
	{
		case SS_ASK_FLUSH:
			if (!begun && request->ns[0] == '\0')
				ss_proto_flush(proto);
			else if (!begun)
				ss_proto_flush_partly(proto);
			request->results[0] = proto->removed;
			return begun && !ss_proto_flushing(proto) && proto->stage == SS_STAGE_RUN;
		case SS_ASK_TAKEOVER:
			if (proto->stage == SS_STAGE_RUN)
				return true;
			if (!begun)
				ss_proto_takeover(proto, now);
			return false;
		case SS_ASK_VERIFY:
			return verify(request, begun, now);
	}
	return true;
}

static void
take_request(int64 now)
{
	static uint64 begun = 0;
	SsCacheRequest *request = &ss_pusher.db->cache.request;
	SsCacheRequest copy;
	bool done;

	if (request->answered == request->asked)
	{
		/* the caller may have given up */
		ss_pusher.verifying = false;
		ss_proto_no_takeover(&ss_pusher.proto);
		return;
	}
	ss_shared_lock(false);
	copy = *request;
	ss_shared_unlock();
	if (copy.question != SS_ASK_TAKEOVER)
		ss_proto_no_takeover(&ss_pusher.proto);
	done = answer(&copy, begun == copy.asked, now);
	if (done)
		ss_pusher.verifying = false;
	begun = copy.asked;
	if (!done)
		return;
	/* who has the answer and asks health shall find it there */
	ss_pusher_report(ss_monotonic());
	ss_shared_lock(true);
	memcpy(request->results, copy.results, sizeof(copy.results));
	request->answered = copy.asked;
	ss_shared_unlock();
	ConditionVariableBroadcast(&ss_pusher.db->cache.changed);
}

/* The scrubber has visited all keys of Redis once more. */
static void
end_pass(void)
{
	if (ss_pusher.divergent == ss_pusher.divergent_before)
		ss_pusher.diverging = false;
	ss_pusher.divergent_before = ss_pusher.divergent;
}

/* What is done now and then while Redis is well and nothing waits. */
static void
odd_jobs(int64 now)
{
	SsProto *proto = &ss_pusher.proto;
	int64 give_up = now + USECS_PER_SEC / 5;
	int64 counts[4] = {0};

	if (proto->stage != SS_STAGE_RUN || !proto->connected || proto->suspended)
		return;
	if (now - ss_pusher.informed >= INFO_EVERY)
	{
		ss_pusher.informed = now;
		ss_aside_tidy(ss_pusher.push_aside, GetCurrentTimestamp());
		ss_aside_tidy(ss_pusher.scrub_aside, GetCurrentTimestamp());
		ss_pusher_record_only_redis(&ss_pusher, now);
		if (!ss_pusher_recheck_denied(&ss_pusher, give_up) ||
			!ss_wire_info(&ss_pusher.wire, give_up, &ss_pusher.info))
			ss_pusher_failed(ss_pusher.wire.error);
	}
	else if (now - ss_pusher.scrubbed >=
			 (ss_pusher_scrub_rests(&ss_pusher) ? SCRUB_AT_REST : SCRUB_EVERY))
	{
		SsTableWalk *walk = ss_pusher_before_scrub(&ss_pusher);

		ss_pusher.scrubbed = now;
		if (!ss_scrub(&ss_pusher, &ss_pusher.cursor, walk, give_up, counts))
		{
			ss_pusher_failed(ss_pusher.wire.error);
			return;
		}
		if (ss_pusher.cursor == 0 && !ss_pusher.scrub_locked)
			end_pass();
		ss_pusher_after_scrub(&ss_pusher, counts[1] + counts[2] + counts[3] > 0);
	}
}

/* Sleep until there is something to do. */
static void
nap(int64 now)
{
	SsCache *cache = &ss_pusher.db->cache;
	int64 look = ss_pusher.rest.tables ? LOOK_AT_REST : LOOK_AROUND;
	int64 until = Min(ss_pusher.proto.wait_until, Max(ss_pusher.checked_at, now) + look);
	int64 ms = (until - now + 999) / 1000;

	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, Max(ms, 0),
					 PG_WAIT_EXTENSION);
	((volatile SsCache *) cache)->idle = 0;
	ResetLatch(MyLatch);
}

/* Those who wait, at the fence or for what they asked, may look again if there is news. */
static void
tell_waiters(const SsControl *before)
{
	SsCache *cache = &ss_pusher.db->cache;

	if (before->passed != cache->control.passed || before->synced != cache->control.synced ||
		before->lease_until > cache->control.lease_until)
		ConditionVariableBroadcast(&cache->changed);
}

/* Let some more be saved.  We are not idle, so that those who commit need not wake us. */
static void
linger(int64 now)
{
	if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
				  (ss_pusher.linger_until - now + 999) / 1000, PG_WAIT_EXTENSION) &
		WL_LATCH_SET)
		ResetLatch(MyLatch);
	ss_pusher.linger_until = 0;
}

/* One step of the protocol. */
static void
step(int64 now)
{
	SsCache *cache = &ss_pusher.db->cache;
	SsProto *proto = &ss_pusher.proto;
	SsControl before = cache->control;

	if (proto->connected && proto->stage != SS_STAGE_RUN && ss_redis_broken(ss_pusher.wire.redis))
	{
		ss_pusher_failed("Redis closed the connection");
		return;
	}
	switch (ss_proto_next(proto, now))
	{
		case SS_DO_CONNECT:
			ss_pusher_connect();
			break;
		case SS_DO_SEND:
			ss_pusher_send();
			break;
		case SS_DO_RECORD:
			ss_pusher_record_claim(&ss_pusher);
			break;
		case SS_DO_READ:
			ss_pusher_read_rows();
			break;
		case SS_DO_LEAVE:
			proc_exit(0);
		case SS_DO_WAIT:
			if (cache->idle)
			{
				tell_waiters(&before);
				odd_jobs(now);
				if (!ss_pusher.verifying)
					nap(now);
			}
			else
			{
				/* who commits from here on wakes us; who has just done so is seen at the next look */
				((volatile SsCache *) cache)->idle = 1;
				pg_memory_barrier();
			}
			break;
	}
	tell_waiters(&before);
}

static void
begin_work(void)
{
	SsOwner me;
	SsCache *cache = &ss_pusher.db->cache;
	uint64 seed;

	if (!pg_strong_random(&seed, sizeof(seed)))
		seed = GetCurrentTimestamp() ^ MyProcPid;
	ss_login_choose(&ss_pusher.login);
	ss_pusher_identify(&ss_pusher);
	me.system = ss_pusher.me.system;
	me.database = ss_pusher.me.database;
	me.timeline = ss_pusher.me.timeline;
	/* before a claim can end what this begins */
	ss_xact_keys_apply_promotion(ss_pusher.db);
	ss_proto_init(&ss_pusher.proto, ss_ledger, &cache->control, MyDatabaseId, &me, seed,
				  ss_monotonic());
	ss_pusher.proto.remembered = cache->token;
	ss_pusher.proto.copied = cache->copied;
	apply_settings();
	ss_pusher.wire.known = &ss_pusher.prefixes;
	ss_pusher.tables_stale = ss_pusher.policies_stale = true;
	ss_pusher.proto.suspended = true; /* until the tables were looked at */
	ss_shared_lock(true);
	memset(&cache->report, 0, sizeof(cache->report));
	ss_url_show(&ss_pusher.login.url, cache->report.where, sizeof(cache->report.where));
	cache->report.password_in_url = ss_pusher.login.url.password[0] != '\0';
	ss_shared_unlock();
	ss_catalog_on_invalidation(ss_pusher_relation_changed);
	before_shmem_exit(ss_pusher_drop_lease, (Datum) 0);
}

/* Whatever was thrown: nothing stays open, and Redis is asked anew. */
static void
recover(void)
{
	ErrorData *error = ss_pusher_catch_error();

	/* of what was read for a batch ss_pusher_read_rows takes care */
	if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE && !ss_pusher.proto.reading &&
		!ss_pusher.proto.busy)
		return;
	ss_pusher_log(error);
	ss_pusher_failed("an error, see the server log");
	(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, PAUSE_AFTER_ERROR,
					 PG_WAIT_EXTENSION);
}

void
ss_pusher_main(Datum arg)
{
	ss_worker_begin(DatumGetObjectId(arg));
	report_for_duty();
	ss_worker_set("default_transaction_read_only", "on");
	/* a claim must be on this disk; whether it is on a standby's changes nothing */
	ss_worker_set("synchronous_commit", "local");
	ss_worker_set("lock_timeout", "50ms");
	ss_worker_set("enable_hashjoin", "off");
	ss_worker_set("enable_mergejoin", "off");
	ss_pusher.cycle_context = AllocSetContextCreate(TopMemoryContext, "session_store pusher turn",
													ALLOCSET_DEFAULT_SIZES);
	ss_pusher.batch_context = AllocSetContextCreate(TopMemoryContext, "session_store pusher batch",
													ALLOCSET_DEFAULT_SIZES);
	begin_work();
	ss_pusher.push_aside = ss_aside_of_worker(SS_WORK_PUSH, false);
	ss_pusher.scrub_aside = ss_aside_of_worker(SS_WORK_SCRUB, false);
	pgstat_report_activity(STATE_IDLE, NULL);
	for (;;)
	{
		int64 now = ss_monotonic();

		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(ss_pusher.cycle_context);
		MemoryContextSwitchTo(ss_pusher.cycle_context);
		PG_TRY();
		{
			if (ss_worker_reload())
				reloaded(now);
			if (now - ss_pusher.checked_at >= LOOK_AROUND ||
				(now >= ss_pusher.checked_at &&
				 (ss_pusher.tables_stale || ss_pusher.policies_stale)))
				ss_pusher_check(now);
			if (ss_pusher.leave_at != 0 && now > ss_pusher.leave_at)
				proc_exit(0);
			take_request(now);
			if (now < ss_pusher.linger_until)
				linger(now);
			step(ss_monotonic());
			if (ss_monotonic() - ss_pusher.reported >= REPORT_EVERY)
				ss_pusher_report(ss_monotonic());
		}
		PG_CATCH();
		{
			recover();
		}
		PG_END_TRY();
	}
}
