/*
 * cache_calls.c
 *		session_cache_sync(), _verify(), _flush() and _takeover(): requests to the pusher.
 *
 * Backends never connect to Redis.  They write a request into shared memory, one at a time, wake
 * the pusher and wait for its answer.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "api/args.h"
#include "base/clock.h"
#include "base/expiry.h"
#include "function.h"
#include "settings.h"
#include "shared/databases.h"

SS_FUNCTION(session_cache_sync, 1_0, BOOLOID, INTERVALOID);
SS_ROWS_FUNCTION(session_cache_verify, 1_0, false, SS_COLUMNS(INT8OID, INT8OID, INT8OID, INT8OID),
				 INT4OID);
SS_FUNCTION(session_cache_flush, 1_0, INT8OID, TEXTOID);
SS_FUNCTION(session_cache_takeover, 1_0, BOOLOID);

/*
 * How long to wait for the pusher, which may have to start or to reconnect to Redis, before raising an error.
 * The time starts again whenever the results show progress.
 */
#define ANSWER_TIMEOUT_US (15 * USECS_PER_SEC)
#define SAMPLE_MAX 1000000

static SsDb *
require_cache(void)
{
	SsDb *db = ss_database_mine();

	if (db == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the cache is not available"),
				 errdetail("The library session_store was not preloaded."),
				 errhint("Add session_store to shared_preload_libraries and restart the server.")));
	return db;
}

static void
report_no_answer(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("the cache did not answer"),
			 errhint("See session_health() -> 'cache' for the reason.")));
}

/*
 * Is there no pusher, and will there be none?  Where a Redis is configured, a pusher that has ended
 * is started again within seconds, and waiting goes on.
 */
static bool
without_pusher(const SsDb *db)
{
	return db->cache.pusher_pid == 0 && ss_redis_url[0] == '\0';
}

/* Wait until the pusher reports something, for 50 ms at most. */
static void
wait_briefly(SsDb *db)
{
	ss_database_wake_pusher(db, true);
	(void) ConditionVariableTimedSleep(&db->cache.changed, 50, PG_WAIT_EXTENSION);
}

/* A request of this backend. */
typedef struct PendingRequest
{
	SsDb *db;
	uint64 number; /* 0: waiting for the slot */
} PendingRequest;

/*
 * Cleanup callback: withdraw the request, so that it is not carried out after this backend gave
 * up, and free the slot.
 */
static void
withdraw(int code, Datum arg)
{
	PendingRequest *pending = (PendingRequest *) DatumGetPointer(arg);
	SsCacheRequest *slot = &pending->db->cache.request;

	ss_databases_lock(true);
	if (pending->number != 0 && slot->answered < pending->number)
		slot->answered = pending->number;
	ss_databases_unlock();
}

/*
 * Wait for the request slot, write the request and wait for the answer.  Raises an error if there
 * is no cache, or if the pusher makes no progress within ANSWER_TIMEOUT_US.
 */
static void
wait_for_answer(PendingRequest *pending, SsCacheRequest *request)
{
	SsDb *db = pending->db;
	SsCacheRequest *slot = &db->cache.request;
	SsMonotonic deadline = ss_monotonic() + ANSWER_TIMEOUT_US;
	bool answered = false;

	ConditionVariablePrepareToSleep(&db->cache.changed);
	while (!answered)
	{
		ss_databases_lock(true);
		if (pending->number == 0 && slot->asked == slot->answered)
		{
			pending->number = slot->asked + 1;
			slot->command = request->command;
			slot->sample = request->sample;
			strlcpy(slot->ns, request->ns, sizeof(slot->ns));
			slot->asked = pending->number;
			memcpy(request->results, slot->results, sizeof(slot->results));
		}
		answered = pending->number != 0 && slot->answered >= pending->number;
		if (pending->number != 0 &&
			memcmp(request->results, slot->results, sizeof(slot->results)) != 0)
		{
			memcpy(request->results, slot->results, sizeof(slot->results));
			deadline = ss_monotonic() + ANSWER_TIMEOUT_US;
		}
		if (!answered && (without_pusher(db) || ss_monotonic() > deadline))
		{
			ss_databases_unlock();
			ConditionVariableCancelSleep();
			report_no_answer();
		}
		ss_databases_unlock();
		if (!answered)
			wait_briefly(db);
	}
	ConditionVariableCancelSleep();
}

/* Send a request to the pusher; on return request->results holds the answer. */
static void
send_request(SsDb *db, SsCacheRequest *request)
{
	PendingRequest pending = {db, 0};

	/* on error or exit the slot must be freed for other backends */
	PG_ENSURE_ERROR_CLEANUP(withdraw, PointerGetDatum(&pending));
	{
		wait_for_answer(&pending, request);
	}
	PG_END_ENSURE_ERROR_CLEANUP(withdraw, PointerGetDatum(&pending));
}

/*
 * Wait until Redis holds everything that was committed before this call.  Returns false after the
 * timeout, or without a cache.
 */
static Datum
session_cache_sync(PG_FUNCTION_ARGS)
{
	SsDb *db = ss_database_mine();
	Interval *span;
	int64 timeout_us;
	SsMonotonic start = ss_monotonic();
	SsMonotonic lease_until;
	uint64 ticket;
	bool synced;

	ss_arg_require(fcinfo, 0, "timeout");
	span = PG_GETARG_INTERVAL_P(0);
	if (ss_duration(span->month, span->day, span->time, 0, SS_TTL_MAX_US, &timeout_us) !=
		SS_DURATION_OK)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid timeout"),
						errdetail("It must not be negative and must not contain months.")));
	if (db == NULL || RecoveryInProgress())
		PG_RETURN_BOOL(false);
	ticket = ss_control_ticket(&db->cache.control, &lease_until);
	ConditionVariablePrepareToSleep(&db->cache.changed);
	for (;;)
	{
		int64 left_us = timeout_us - (ss_monotonic() - start);

		synced = db->cache.control.attached &&
				 __atomic_load_n(&db->cache.control.synced, __ATOMIC_SEQ_CST) >= ticket;
		if (synced || left_us <= 0 || without_pusher(db))
			break;
		ss_database_wake_pusher(db, true);
		(void) ConditionVariableTimedSleep(&db->cache.changed, Min(left_us / 1000 + 1, 100),
										   PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	PG_RETURN_BOOL(synced);
}

/* Compare a sample of the copies in Redis with the table, and correct those that differ. */
static Datum
session_cache_verify(PG_FUNCTION_ARGS)
{
	SsDb *db = require_cache();
	SsCacheRequest request = {.command = SS_CACHE_COMMAND_VERIFY};
	TupleDesc desc;
	Datum values[4];
	bool nulls[4] = {false};

	ss_arg_require(fcinfo, 0, "sample");
	request.sample = PG_GETARG_INT32(0);
	if (request.sample < 1 || request.sample > SAMPLE_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid sample"),
						errdetail("It must be between 1 and %d.", SAMPLE_MAX)));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	send_request(db, &request);
	for (int i = 0; i < 4; i++)
		values[i] = Int64GetDatum(request.results[i]);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* Delete the copies of a namespace, or of all namespaces.  Returns how many there were. */
static Datum
session_cache_flush(PG_FUNCTION_ARGS)
{
	SsDb *db = require_cache();
	SsCacheRequest request = {.command = SS_CACHE_COMMAND_FLUSH};

	if (!PG_ARGISNULL(0))
	{
		SsTarget target;

		ss_arg_namespace(fcinfo, 0, &target);
		strlcpy(request.ns, target.policy.name, sizeof(request.ns));
	}
	send_request(db, &request);
	PG_RETURN_INT64(request.results[0]);
}

/* Make this server the owner of its Redis, in place of any other. */
static Datum
session_cache_takeover(PG_FUNCTION_ARGS)
{
	SsDb *db = require_cache();
	SsCacheRequest request = {.command = SS_CACHE_COMMAND_TAKEOVER};

	send_request(db, &request);
	PG_RETURN_BOOL(true);
}
