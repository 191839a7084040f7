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
 * be trusted to be noted, what do the namespaces and the settings say now.
 *
 * Settings that say where Redis is are read at the start alone: when they change, the
 * worker removes what it wrote and ends, and the keeper starts another.
 */
#include "postgres.h"

#include "access/twophase.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "cache/hot.h"
#include "cache/login.h"
#include "cache/pusher.h"
#include "cache/rules.h"
#include "compat.h"
#include "rows/home.h"
#include "settings.h"
#include "shared.h"

#define LOOK_AROUND INT64CONST(500000) /* us */
#define REPORT_EVERY INT64CONST(100000)
#define INFO_EVERY INT64CONST(10000000)
#define SCRUB_EVERY INT64CONST(5000000)
#define SCRUB_SAMPLE 100

/*
 * After a batch of what was saved, so long is waited for more: a transaction and a round trip
 * for each single save would cost as much as the save.  Whoever waits at a fence, or for
 * session_cache_sync, cuts it short.
 */
#define LINGER INT64CONST(1000)

#define LEAVE_WITHIN INT64CONST(3000000)
#define MAKE_ROOM_WITHIN INT64CONST(400000) /* for who wants to drop the database */
#define PAUSE_FIRST INT64CONST(1000000)     /* after an error */
#define PAUSE_MOST INT64CONST(60000000)

static SsPusher pusher;
static MemoryContext turn_context;
static MemoryContext batch_context; /* of what is read, until it is sent */
static int64 looked_around = 0;
static int64 reported = 0;
static int64 informed = 0;
static int64 scrubbed = 0;
static int64 leave_at = 0;
static int offsets[SS_BATCH_MAX]; /* of documents in pusher.documents */
static int64 linger_until = 0;
static bool unsure = false; /* a prepared transaction may have changed sessions */
static char shown[SS_MESSAGE_LEN];

static void
on_exit_pusher(int code, Datum arg)
{
	SsCache *cache = &pusher.db->cache;

	ss_wire_close(&pusher.wire);
	ss_ledger_detach(ss_ledger, &cache->control, MyDatabaseId);
	ss_shared_lock(true);
	if (cache->pusher_pid == MyProcPid)
	{
		cache->pusher_pid = 0;
		cache->idle = 0;
		cache->report.connected = cache->report.running = false;
		strlcpy(cache->report.state, "stopped", sizeof(cache->report.state));
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
	pusher.db = ss_shared_db(MyDatabaseId, false);
	if (pusher.db != NULL && pusher.db->cache.pusher_pid == 0)
	{
		taken = false;
		pusher.db->cache.pusher_pid = MyProcPid;
		pusher.db->cache.pusher_proc = SsMyProcNumber();
	}
	ss_shared_unlock();
	if (taken)
		proc_exit(0);
	before_shmem_exit(on_exit_pusher, (Datum) 0);
}

static void
relation_changed(Oid relid)
{
	pusher.tables_stale = pusher.policies_stale = true;
}

/* Begin a transaction on our tables. */
static void
begin(void)
{
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
finish(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(false);
	MemoryContextSwitchTo(turn_context);
}

/* What the cache in Redis holds depends on these; on the rest of a policy it does not. */
static bool
same_keys(const SsPolicy *a, const SsPolicy *b)
{
	return strcmp(a->name, b->name) == 0 && strcmp(a->prefix, b->prefix) == 0 &&
		   a->hash_keys == b->hash_keys && (a->cache == SS_CACHE_OFF) == (b->cache == SS_CACHE_OFF);
}

/*
 * Read the policies anew, in the transaction at hand.  When keys have another meaning now,
 * everything is flushed before anything else is written.
 */
void
ss_pusher_policies(SsPusher *p)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "session_store pusher policies",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	SsPolicy *fresh;
	int n;
	bool same;

	p->policies_stale = false;
	fresh = ss_cached_policies(&n);
	MemoryContextSwitchTo(old);
	same = n == p->npolicies;
	for (int i = 0; i < n && same; i++)
	{
		bool found = false;

		for (int j = 0; j < p->npolicies && !found; j++)
			found = same_keys(&fresh[i], &p->policies[j]);
		same = found;
	}
	if (!same && p->policies != NULL)
		ss_proto_flush(&p->proto);
	for (int i = 0; i < n; i++)
		ss_prefixes_add(&p->prefixes, fresh[i].prefix, strlen(fresh[i].prefix));
	if (p->policies_context != NULL)
		MemoryContextDelete(p->policies_context);
	p->policies_context = context;
	p->policies = fresh;
	p->npolicies = n;
}

/* The policy of a key's namespace, if that may have copies. */
const SsPolicy *
ss_pusher_policy(const SsPusher *p, const SsKey *key)
{
	for (int i = 0; i < p->npolicies; i++)
		if (strlen(p->policies[i].name) == key->nslen &&
			memcmp(p->policies[i].name, key->bytes, key->nslen) == 0)
			return p->policies[i].cache == SS_CACHE_OFF ? NULL : &p->policies[i];
	return NULL;
}

static void
hash_id(const char *id, int len, char *hex)
{
	uint8 digest[PG_SHA256_DIGEST_LENGTH];
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA256);

	if (ctx == NULL || pg_cryptohash_init(ctx) < 0 ||
		pg_cryptohash_update(ctx, (const uint8 *) id, len) < 0 ||
		pg_cryptohash_final(ctx, digest, sizeof(digest)) < 0)
		elog(ERROR, "could not hash a session id");
	pg_cryptohash_free(ctx);
	for (int i = 0; i < PG_SHA256_DIGEST_LENGTH; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

/* The key in Redis of a session, in the current memory context; none without a policy. */
void
ss_pusher_make_key(SsPusher *p, const SsKey *key, SsPayload *payload)
{
	const SsPolicy *policy = ss_pusher_policy(p, key);
	int prefix;
	int len;
	char *out;

	payload->key = NULL;
	payload->length = 0;
	if (policy == NULL)
		return;
	prefix = strlen(policy->prefix);
	len = policy->hash_keys ? PG_SHA256_DIGEST_LENGTH * 2 : key->idlen;
	out = palloc(prefix + len + 1);
	memcpy(out, policy->prefix, prefix);
	if (policy->hash_keys)
		hash_id(key->bytes + key->nslen, key->idlen, out + prefix);
	else
		memcpy(out + prefix, key->bytes + key->nslen, len);
	payload->key = out;
	payload->keylen = prefix + len;
}

static const SsKey *
key_of(int op)
{
	return &ss_ledger_slot(ss_ledger, pusher.proto.ops[op].slot)->key;
}

/* Keys for operations that came without a look at their rows. */
static void
make_keys(void)
{
	MemoryContextReset(batch_context);
	MemoryContextSwitchTo(batch_context);
	for (int i = 0; i < pusher.proto.nops; i++)
		ss_pusher_make_key(&pusher, key_of(i), &pusher.payloads[i]);
	MemoryContextSwitchTo(turn_context);
}

/* Read the rows of operations from..to-1; in a transaction. */
static void
read_rows(int from, int to)
{
	SsProto *proto = &pusher.proto;
	SsCachedRow rows[SS_BATCH_MAX];
	int64 now = ss_monotonic(); /* a copy must not outlive its session */

	for (int i = from; i < to; i++)
	{
		rows[i].key = key_of(i);
		rows[i].policy = ss_pusher_policy(&pusher, rows[i].key);
		rows[i].document = proto->ops[i].document;
		/* what nobody uses gets no copy, and needs no document */
		if (rows[i].policy != NULL &&
			!ss_hot_is(ss_ledger_slot(ss_ledger, proto->ops[i].slot)->hash, rows[i].policy))
			rows[i].policy = NULL;
	}
	ss_cached_read(rows + from, to - from, ss_cache_max_bytes, &pusher.documents);
	for (int i = from; i < to; i++)
	{
		bool copy = rows[i].policy != NULL && rows[i].alive && !rows[i].large;

		proto->ops[i].found = rows[i].later ? SS_FOUND_LATER : copy ? SS_FOUND_COPY : SS_FOUND_NONE;
		proto->ops[i].until = now + rows[i].life;
		pusher.payloads[i].length = rows[i].length;
		offsets[i] = rows[i].offset; /* the text may yet move: see point_to_documents */
		pusher.too_large += rows[i].large ? 1 : 0;
	}
}

static void
point_to_documents(void)
{
	MemoryContextSwitchTo(batch_context);
	for (int i = 0; i < pusher.proto.nops; i++)
	{
		int length = pusher.payloads[i].length;

		ss_pusher_make_key(&pusher, key_of(i), &pusher.payloads[i]);
		pusher.payloads[i].document = pusher.documents.data + offsets[i];
		pusher.payloads[i].length = length;
	}
	MemoryContextSwitchTo(turn_context);
}

/*
 * An error while rows are read: 55P03 says that somebody has locked what we need, and is
 * perhaps waiting for us.  Otherwise a row cannot be read, and is then looked for one by
 * one.
 */
static bool
was_locked(void)
{
	ErrorData *error;
	bool locked;

	MemoryContextSwitchTo(turn_context);
	error = CopyErrorData();
	locked = error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
	if (!locked)
		EmitErrorReport();
	FlushErrorState();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(turn_context);
	FreeErrorData(error);
	return locked;
}

/* Read rows from..to-1 in a transaction of their own; false when they could not be. */
static bool
try_read(int from, int to, bool *locked)
{
	volatile bool fine = true;
	volatile bool held = false;

	PG_TRY();
	{
		begin();
		if (ss_cached_lock() == SS_TABLES_FINE && !pusher.policies_stale && !pusher.tables_stale)
			read_rows(from, to);
		else
			held = true; /* or about to be looked at: not now */
		finish();
	}
	PG_CATCH();
	{
		held = was_locked();
		fine = false;
	}
	PG_END_TRY();
	*locked = held;
	return fine && !held;
}

static void
read_batch(void)
{
	SsProto *proto = &pusher.proto;
	bool locked;

	MemoryContextReset(batch_context);
	MemoryContextSwitchTo(batch_context);
	initStringInfo(&pusher.documents);
	MemoryContextSwitchTo(turn_context);
	if (!try_read(0, proto->nops, &locked) && !locked)
	{
		/* one of them cannot be read: it gets no copy, and holds nobody up */
		for (int i = 0; i < proto->nops && !locked; i++)
			if (!try_read(i, i + 1, &locked) && !locked)
			{
				proto->ops[i].found = SS_FOUND_NONE;
				pusher.payloads[i].length = 0;
				offsets[i] = 0;
				pusher.unreadable++;
			}
	}
	if (locked)
	{
		ss_proto_unreadable(proto, ss_monotonic());
		return;
	}
	point_to_documents();
	/* what did not fit is not sent: it is taken again */
	ss_proto_rows(proto, ss_monotonic());
}

/* The connection is gone, or could not be had: say so once, until it is another reason. */
static void
failed(const char *what)
{
	SsCacheReport *report = &pusher.db->cache.report;

	ss_wire_close(&pusher.wire);
	ss_proto_failed(&pusher.proto, ss_monotonic());
	if (strcmp(shown, what) != 0)
	{
		ereport(LOG, (errmsg("session_store: no cache: %s", what),
					  errdetail("Redis is at %s. SQL goes on without it.", report->where)));
		strlcpy(shown, what, sizeof(shown));
	}
	ss_shared_lock(true);
	strlcpy(report->last_error, what, sizeof(report->last_error));
	report->last_error_at = GetCurrentTimestamp();
	report->connected = report->running = false;
	ss_shared_unlock();
	reported = 0;
}

static void
connect_to_redis(void)
{
	char problem[SS_MESSAGE_LEN];

	if (!ss_login_read(&pusher.login, problem, sizeof(problem)))
		failed(problem);
	else if (!ss_wire_connect(&pusher.wire, &pusher.login, ss_monotonic() + USECS_PER_SEC))
		failed(pusher.wire.error);
	else
	{
		ss_proto_connected(&pusher.proto, ss_monotonic());
		informed = 0;
	}
}

/* The guard names prefixes that an earlier pusher wrote under. */
static void
learn_prefixes(void)
{
	for (int i = 0; i < pusher.wire.seen.count; i++)
		ss_prefixes_add(&pusher.prefixes, pusher.wire.seen.prefix[i],
						strlen(pusher.wire.seen.prefix[i]));
}

/* The prefixes that a request is about. */
static const SsPrefixes *
which_prefixes(void)
{
	static SsPrefixes one;
	const char *ns = pusher.db->cache.request.ns;

	if (!pusher.proto.partial)
		return &pusher.prefixes;
	ss_prefixes_clear(&one);
	for (int i = 0; i < pusher.npolicies; i++)
		if (strcmp(pusher.policies[i].name, ns) == 0)
			ss_prefixes_add(&one, pusher.policies[i].prefix, strlen(pusher.policies[i].prefix));
	return &one;
}

/* Is there nothing to do but to wait for more to be saved? */
static bool
may_linger(void)
{
	const SsList *lists = pusher.proto.lists;

	return !pusher.proto.deleting && lists[SS_PLACE_URGENT].count + lists[SS_PLACE_PRESENT].count +
											 lists[SS_PLACE_ABSENT].count ==
										 0;
}

static void
send_request(void)
{
	SsProto *proto = &pusher.proto;
	SsCache *cache = &pusher.db->cache;
	SsReply reply;
	int64 sent = ss_monotonic();

	if (proto->request.kind == SS_REQUEST_BATCH && proto->nops > 0 && proto->deleting)
		make_keys();
	MemoryContextSwitchTo(turn_context);
	if (!ss_wire_send(&pusher.wire, proto, pusher.payloads, which_prefixes(), &reply))
	{
		failed(pusher.wire.error);
		return;
	}
	if (proto->request.kind == SS_REQUEST_PROBE)
		learn_prefixes();
	ss_proto_reply(proto, &reply, ss_monotonic());
	cache->report.latency = ss_monotonic() - sent;
	cache->token = proto->token;
	if (proto->request.kind == SS_REQUEST_BATCH && may_linger())
		linger_until = ss_monotonic() + LINGER;
	if (proto->stage == SS_STAGE_RUN && shown[0] != '\0')
	{
		ereport(LOG, (errmsg("session_store: the cache is back"),
					  errdetail("Redis is at %s.", cache->report.where)));
		shown[0] = '\0';
	}
}

static const char *
stage_name(const SsProto *proto)
{
	if (!proto->connected)
		return "disconnected";
	switch (proto->stage)
	{
		case SS_STAGE_PROBE:
		case SS_STAGE_CLAIM:
			return "claiming";
		case SS_STAGE_REFUSED:
			return "refused";
		case SS_STAGE_FLUSH:
			return "flushing";
		case SS_STAGE_RUN:
			return proto->suspended ? "suspended" : "running";
		default:
			return "leaving";
	}
}

static void
describe_refusal(const SsProto *proto, char *out, size_t size)
{
	const SsOwner *owner = &proto->guard.owner;
	const char *cure = "SELECT session_cache_takeover() takes it over, if that is meant";

	switch (proto->refusal)
	{
		case SS_REFUSED_NOT:
			out[0] = '\0';
			break;
		case SS_REFUSED_OTHER:
			snprintf(out, size,
					 "this Redis database belongs to another server or database (system identifier "
					 "%llu, database %u): give this one its own (session_store.redis_db); %s",
					 (unsigned long long) owner->system, owner->database, cure);
			break;
		case SS_REFUSED_NEWER:
			snprintf(out, size,
					 "timeline %u of this server has taken this Redis over: this one (timeline %u) "
					 "was superseded; %s",
					 owner->timeline, proto->me.timeline, cure);
			break;
		case SS_REFUSED_OLDER:
			snprintf(out, size,
					 "timeline %u of this server still writes to this Redis (or did so within the "
					 "last 10 seconds): stop it, or set session_store.takeover = promoted; %s",
					 owner->timeline, cure);
			break;
		case SS_REFUSED_TWIN:
			snprintf(
				out, size,
				"a server with the same identity writes to this Redis, or did so a moment ago: "
				"a copy of this one must not be given its redis_url; %s",
				cure);
			break;
	}
}

/* Tell health how things are. */
static void
report(int64 now)
{
	SsProto *proto = &pusher.proto;
	SsCacheReport *r = &pusher.db->cache.report;
	char trouble[480];

	describe_refusal(proto, trouble, sizeof(trouble));
	if (pusher.trouble[0])
		strlcpy(trouble, pusher.trouble, sizeof(trouble));
	reported = now;
	ss_shared_lock(true);
	r->configured = true;
	r->connected = proto->connected && proto->counts.connects > 0;
	r->running = proto->connected && proto->stage == SS_STAGE_RUN && !proto->suspended;
	r->suspended = proto->suspended;
	strlcpy(r->state, stage_name(proto), sizeof(r->state));
	strlcpy(r->trouble, trouble, sizeof(r->trouble));
	r->failures = proto->failures;
	r->lease_end = proto->lease_end;
	r->oldest = ss_proto_oldest(proto);
	r->in_doubt = proto->lists[SS_PLACE_DOUBT].count + proto->lists[SS_PLACE_URGENT].count;
	r->dirty = proto->lists[SS_PLACE_PRESENT].count + proto->lists[SS_PLACE_ABSENT].count;
	r->batches = proto->counts.batches;
	r->late = proto->counts.late;
	r->lost = proto->counts.lost;
	r->connects = proto->counts.connects;
	r->takeovers = proto->counts.takeovers;
	r->flushes = proto->counts.flushes;
	r->clock_steps = proto->counts.steps;
	r->sets = proto->counts.sets;
	r->deletes = proto->counts.deletes;
	r->expires = proto->counts.expires;
	r->too_large = pusher.too_large;
	r->unreadable = pusher.unreadable;
	r->no_room = pusher.wire.refused;
	r->verified = pusher.verified;
	r->divergent = pusher.divergent;
	r->redis_memory = pusher.info.memory;
	r->redis_memory_limit = pusher.info.memory_limit;
	strlcpy(r->redis_version, pusher.info.version, sizeof(r->redis_version));
	strlcpy(r->redis_policy, pusher.info.policy, sizeof(r->redis_policy));
	ss_shared_unlock();
}

/* From now on: remove what we wrote, and end, soon in any case. */
static void
leave(int64 now, int64 within)
{
	if (leave_at == 0)
		leave_at = now + within;
	ss_proto_leave(&pusher.proto);
}

/* In a transaction: our tables, policies and settings. */
static void
look_at_tables(int64 now)
{
	char trouble[480];
	SsTableMark mark = {0};
	SsTableState state;
	char *settings;

	pusher.tables_stale = false;
	state = ss_cached_check(&mark, trouble, sizeof(trouble));
	if (state == SS_TABLES_GONE)
	{
		leave(now, LEAVE_WITHIN);
		return;
	}
	if (state == SS_TABLES_LOCKED)
	{
		/* whoever holds them may be about to change them: look again */
		pusher.tables_stale = true;
		return;
	}
	if (pusher.marked && memcmp(&mark, &pusher.mark, sizeof(mark)) != 0)
		ss_proto_flush(&pusher.proto);
	pusher.mark = mark;
	pusher.marked = true;
	unsure = max_prepared_xacts > 0 && ss_cached_prepared();
	if (state == SS_TABLES_FINE && unsure)
		strlcpy(trouble,
				"a prepared transaction may have changed sessions, and nobody hears of its commit: "
				"COMMIT PREPARED or ROLLBACK PREPARED it",
				sizeof(trouble));
	if (strcmp(trouble, pusher.trouble) != 0 && trouble[0])
		ereport(LOG, (errmsg("session_store: nothing is cached: %s", trouble)));
	strlcpy(pusher.trouble, trouble, sizeof(pusher.trouble));
	pusher.proto.suspended = trouble[0] != '\0';
	if (pusher.policies_stale)
		ss_pusher_policies(&pusher);
	settings = ss_cached_settings();
	if (pusher.settings == NULL)
		pusher.settings = MemoryContextStrdup(TopMemoryContext, settings);
	else if (strcmp(settings, pusher.settings) != 0)
		leave(now, LEAVE_WITHIN);
}

static void
look_around(int64 now)
{
	static int errors = 0;
	SsProto *proto = &pusher.proto;

	looked_around = now;
	if (leave_at != 0)
		return;
	if (!ss_database_is_free(MyDatabaseId))
	{
		/* if it is dropped, nothing of it shall stay in Redis */
		leave(now, MAKE_ROOM_WITHIN);
		return;
	}
	PG_TRY();
	{
		begin();
		look_at_tables(now);
		finish();
		errors = 0;
	}
	PG_CATCH();
	{
		if (was_locked())
			pusher.tables_stale = true;
		else
		{
			/* nothing can be trusted before it was looked at; but not all the time, nor the log */
			proto->suspended = true;
			pusher.marked = false;
			pusher.tables_stale = pusher.policies_stale = false;
			looked_around = now + Min(PAUSE_FIRST << Min(errors++, 6), PAUSE_MOST);
			strlcpy(pusher.trouble, "our tables could not be looked at: see the server log",
					sizeof(pusher.trouble));
		}
	}
	PG_END_TRY();
}

static void
apply_settings(void)
{
	SsProto *proto = &pusher.proto;

	proto->lease = ss_lease * INT64CONST(1000);
	proto->promoted = ss_takeover == SS_TAKEOVER_PROMOTED;
	proto->own_clock = GetCurrentTimestamp() +
					   (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY - ss_monotonic();
}

/* The file was read again: is Redis somewhere else now? */
static void
reload(int64 now)
{
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	apply_settings();
	if (ss_login_changed(&pusher.login))
		leave(now, LEAVE_WITHIN);
	else if (!pusher.proto.connected)
		ss_proto_reconnect(&pusher.proto, now);
}

/* Answer what somebody asks for; false when it takes longer. */
static bool
answer(SsCacheRequest *request, bool begun, int64 now)
{
	SsProto *proto = &pusher.proto;

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
			if (proto->stage != SS_STAGE_RUN || proto->suspended || proto->busy || proto->reading ||
				proto->ready)
				return false;
			if (!ss_scrub(&pusher, request->sample, now + 10 * USECS_PER_SEC, request->results))
			{
				failed(pusher.wire.error);
				return false;
			}
			return true;
	}
	return true;
}

static void
take_request(int64 now)
{
	static uint64 begun = 0;
	SsCacheRequest *request = &pusher.db->cache.request;
	SsCacheRequest copy;
	bool done;

	if (request->answered == request->asked)
		return;
	ss_shared_lock(false);
	copy = *request;
	ss_shared_unlock();
	done = answer(&copy, begun == copy.asked, now);
	begun = copy.asked;
	if (!done)
		return;
	/* who has the answer and asks health shall find it there */
	report(ss_monotonic());
	ss_shared_lock(true);
	memcpy(request->results, copy.results, sizeof(copy.results));
	request->answered = copy.asked;
	ss_shared_unlock();
	ConditionVariableBroadcast(&pusher.db->cache.changed);
}

/* What is done now and then while Redis is well and nothing waits. */
static void
odd_jobs(int64 now)
{
	SsProto *proto = &pusher.proto;
	int64 give_up = now + USECS_PER_SEC / 5;
	int64 counts[4];

	if (proto->stage != SS_STAGE_RUN || !proto->connected || proto->suspended)
		return;
	if (now - informed >= INFO_EVERY)
	{
		informed = now;
		if (!ss_wire_info(&pusher.wire, give_up, &pusher.info))
			failed(pusher.wire.error);
	}
	else if (now - scrubbed >= SCRUB_EVERY)
	{
		scrubbed = now;
		if (!ss_scrub(&pusher, SCRUB_SAMPLE, give_up, counts))
			failed(pusher.wire.error);
	}
}

/* Sleep until there is something to do. */
static void
nap(int64 now)
{
	SsCache *cache = &pusher.db->cache;
	int64 until = Min(pusher.proto.wait_until, Max(looked_around, now) + LOOK_AROUND);
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
	SsCache *cache = &pusher.db->cache;

	if (before->passed != cache->control.passed || before->synced != cache->control.synced ||
		before->lease_until > cache->control.lease_until)
		ConditionVariableBroadcast(&cache->changed);
}

/* Let some more be saved.  We are not idle, so that those who commit need not wake us. */
static void
linger(int64 now)
{
	if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
				  (linger_until - now + 999) / 1000, PG_WAIT_EXTENSION) &
		WL_LATCH_SET)
		ResetLatch(MyLatch);
	linger_until = 0;
}

/* One step of the protocol. */
static void
step(int64 now)
{
	SsCache *cache = &pusher.db->cache;
	SsProto *proto = &pusher.proto;
	SsControl before = cache->control;

	if (proto->connected && proto->stage != SS_STAGE_RUN && ss_redis_broken(pusher.wire.redis))
	{
		failed("Redis closed the connection");
		return;
	}
	switch (ss_proto_next(proto, now))
	{
		case SS_DO_CONNECT:
			connect_to_redis();
			break;
		case SS_DO_SEND:
			send_request();
			break;
		case SS_DO_READ:
			read_batch();
			break;
		case SS_DO_LEAVE:
			proc_exit(0);
		case SS_DO_WAIT:
			if (cache->idle)
			{
				tell_waiters(&before);
				odd_jobs(now);
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
	SsOwner me = {GetSystemIdentifier(), MyDatabaseId, GetWALInsertionTimeLine()};
	SsCache *cache = &pusher.db->cache;
	uint64 seed;

	if (!pg_strong_random(&seed, sizeof(seed)))
		seed = GetCurrentTimestamp() ^ MyProcPid;
	ss_proto_init(&pusher.proto, ss_ledger, &cache->control, MyDatabaseId, &me, seed,
				  ss_monotonic());
	pusher.proto.remembered = cache->token;
	apply_settings();
	pusher.tables_stale = pusher.policies_stale = true;
	pusher.proto.suspended = true; /* until the tables were looked at */
	ss_login_choose(&pusher.login);
	ss_shared_lock(true);
	memset(&cache->report, 0, sizeof(cache->report));
	ss_url_show(&pusher.login.url, cache->report.where, sizeof(cache->report.where));
	cache->report.password_in_url = pusher.login.url.password[0] != '\0';
	cache->report.configured = true;
	ss_shared_unlock();
	ss_home_on_invalidation(relation_changed);
}

/* What databases and roles may have set for their own purposes is not for us. */
static void
own_settings(void)
{
	static const char *const settings[][2] = {{"default_transaction_read_only", "on"},
											  {"default_transaction_isolation", "read committed"},
											  {"default_transaction_deferrable", "off"},
											  {"statement_timeout", "0"},
											  {"idle_in_transaction_session_timeout", "0"},
											  {"lock_timeout", "50ms"},
											  SS_TRANSACTION_TIMEOUT{"jit", "off"},
											  {"enable_hashjoin", "off"},
											  {"enable_mergejoin", "off"},
											  {"search_path", "pg_catalog"}};

	for (int i = 0; i < (int) lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

/* Whatever was thrown: nothing stays open, and Redis is asked anew. */
static void
recover(void)
{
	(void) was_locked();
	failed("an error, see the server log");
	(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, PAUSE_FIRST / 1000,
					 PG_WAIT_EXTENSION);
}

void
ss_pusher_main(Datum arg)
{
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid, 0);
	report_for_duty();
	own_settings();
	turn_context = AllocSetContextCreate(TopMemoryContext, "session_store pusher turn",
										 ALLOCSET_DEFAULT_SIZES);
	batch_context = AllocSetContextCreate(TopMemoryContext, "session_store pusher batch",
										  ALLOCSET_DEFAULT_SIZES);
	begin_work();
	pgstat_report_activity(STATE_IDLE, NULL);
	for (;;)
	{
		int64 now = ss_monotonic();

		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(turn_context);
		MemoryContextSwitchTo(turn_context);
		PG_TRY();
		{
			if (ConfigReloadPending)
				reload(now);
			AcceptInvalidationMessages();
			if (now - looked_around >= LOOK_AROUND ||
				(now >= looked_around && (pusher.tables_stale || pusher.policies_stale)))
				look_around(now);
			if (leave_at != 0 && now > leave_at)
				proc_exit(0);
			take_request(now);
			if (now < linger_until)
				linger(now);
			step(ss_monotonic());
			if (ss_monotonic() - reported >= REPORT_EVERY)
				report(ss_monotonic());
		}
		PG_CATCH();
		{
			recover();
		}
		PG_END_TRY();
	}
}
