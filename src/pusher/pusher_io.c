/*
 * pusher_io.c
 *		The pusher's communication with Redis: connect, send, handle failures.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/clock.h"
#include "protocol/protocol.h"
#include "pusher/pusher_denied.h"
#include "pusher/pusher_io.h"
#include "pusher/pusher_policies.h"
#include "pusher/pusher_rows.h"
#include "redis/login.h"
#include "shared/databases.h"
#include "shared/ledger_shmem.h"

/*
 * After a batch of saves, how long to wait for more of them: a transaction and a round trip
 * for each single save would cost as much as the save.  A transaction at the fence, or
 * session_cache_sync, ends the wait.
 */
#define LINGER_US INT64CONST(1000)

/* The delay before the next flush after one that found keys which we may not delete. */
#define STUCK_PAUSE_US INT64CONST(2000000)

/* The connection is broken, or could not be made.  The reason is logged once, until it changes. */
void
ss_pusher_failed(SsPusher *pusher, const char *what)
{
	SsCacheReport *report = &pusher->db->cache.report;

	ss_wire_close(&pusher->wire);
	ss_proto_failed(&pusher->proto, ss_monotonic());
	if (strcmp(pusher->logged_error, what) != 0)
	{
		ereport(LOG, (errmsg("session_store: no cache: %s", what),
					  errdetail("Redis is at %s. SQL works without it.", report->where)));
		strlcpy(pusher->logged_error, what, sizeof(pusher->logged_error));
	}
	ss_databases_lock(true);
	strlcpy(report->last_error, what, sizeof(report->last_error));
	report->last_error_at = GetCurrentTimestamp();
	report->connected = report->running = false;
	ss_databases_unlock();
	pusher->reported = 0;
}

/* Connects and logs in, for SS_DO_CONNECT. */
void
ss_pusher_connect(SsPusher *pusher)
{
	char problem[SS_MESSAGE_LEN];

	if (!ss_login_read(&pusher->login, problem, sizeof(problem)))
		ss_pusher_failed(pusher, problem);
	else if (!ss_wire_connect(&pusher->wire, &pusher->login, ss_monotonic() + USECS_PER_SEC))
		ss_pusher_failed(pusher, pusher->wire.error);
	else
	{
		ss_proto_connected(&pusher->proto, ss_monotonic());
		pusher->informed = 0;
	}
}

/* Adds the prefixes that the guard names, under which an earlier pusher wrote. */
static void
learn_prefixes(SsPusher *pusher)
{
	const SsPrefixes *seen = &pusher->wire.seen;

	for (int i = 0; i < seen->count; i++)
		(void) ss_prefixes_add(&pusher->prefixes, seen->prefix[i].text,
							   strlen(seen->prefix[i].text));
	ss_pusher_name_prefixes(pusher);
}

/* The prefixes that the request at hand is about.  The result is valid until the next call. */
static const SsPrefixes *
prefixes_of_request(SsPusher *pusher)
{
	SsPrefixes *changing = &pusher->changing;
	SsPrefixes *one = &pusher->one;
	const SsProto *proto = &pusher->proto;

	if (proto->request.kind == SS_REQUEST_FLUSH && proto->request.policies)
	{
		if (proto->request.cursor == 0)
			ss_pusher_changing_prefixes(pusher, changing);
		for (int i = 0; i < changing->count; i++)
		{
			SsPrefix *prefix = &changing->prefix[i];
			const SsPrefix *now = ss_prefixes_find(&pusher->prefixes, prefix->text,
												   strlen(prefix->text));

			prefix->owned = now != NULL && now->owned;
		}
		return changing;
	}
	if (!proto->partial)
		return &pusher->prefixes;
	ss_prefixes_clear(one);
	for (int i = 0; i < pusher->npolicies; i++)
		if (strcmp(pusher->policies[i].name, pusher->flush_ns) == 0)
			ss_pusher_add_prefixes(one, &pusher->keys[i]);
	return one;
}

/* Is there nothing to do but to wait for more saves? */
static bool
may_linger(SsPusher *pusher)
{
	const SsList *lists = pusher->proto.lists;

	return !pusher->proto.deleting && lists[SS_LIST_URGENT].count + lists[SS_LIST_PRESENT].count +
											  lists[SS_LIST_ABSENT].count ==
										  0;
}

/*
 * Redis refused a batch for lack of permissions, perhaps because of keys of some namespaces,
 * which then have no copies.
 */
static void
handle_denied(SsPusher *pusher)
{
	SsProto *proto = &pusher->proto;
	SsKey *keys = palloc(sizeof(SsKey) * SS_BATCH_MAX);
	char what[sizeof(pusher->wire.error)];

	strlcpy(what, pusher->wire.error, sizeof(what));
	for (int i = 0; i < proto->nops; i++)
		ss_key_copy(&keys[i], &ss_ledger_slot(ss_ledger, proto->ops[i].slot)->key);
	if (ss_pusher_find_denied(pusher, keys, pusher->payloads, proto->nops,
							  ss_monotonic() + USECS_PER_SEC))
		strlcpy(what, "Redis does not let us access the keys of a namespace", sizeof(what));
	ss_pusher_failed(pusher, what);
}

/* Sends proto.request and processes the answer, for SS_DO_SEND. */
void
ss_pusher_send(SsPusher *pusher)
{
	SsProto *proto = &pusher->proto;
	SsCache *cache = &pusher->db->cache;
	const SsPrefixes *prefixes = prefixes_of_request(pusher);
	bool flush = proto->request.kind == SS_REQUEST_FLUSH;
	SsReply reply;
	SsMonotonic sent = ss_monotonic();
	bool wrote = proto->request.kind == SS_REQUEST_BATCH && proto->nops > 0;

	if (proto->request.kind == SS_REQUEST_BATCH && proto->nops > 0 && proto->deleting)
		ss_pusher_make_keys(pusher);
	MemoryContextSwitchTo(pusher->cycle_context);
	if (!ss_wire_send(&pusher->wire, proto, pusher->payloads, prefixes, &reply))
	{
		if (pusher->wire.redis != NULL)
			handle_denied(pusher);
		else
			ss_pusher_failed(pusher, pusher->wire.error);
		/* connecting again would succeed immediately, and change nothing */
		if (pusher->wire.stuck)
			proto->retry_at = Max(proto->retry_at, ss_monotonic() + STUCK_PAUSE_US);
		return;
	}
	if (proto->request.kind == SS_REQUEST_PROBE)
		learn_prefixes(pusher);
	ss_proto_reply(proto, &reply, ss_monotonic());
	if (flush && reply.answer == SS_ANSWER_OK && reply.cursor == 0)
		ss_prefixes_flushed(&pusher->prefixes, prefixes);
	pusher->latency_us = ss_monotonic() - sent;
	cache->token = proto->token;
	cache->copied = proto->copied;
	/* not after a batch that only renewed the lease */
	if (wrote && may_linger(pusher))
		pusher->linger_until = ss_monotonic() + LINGER_US;
	if (proto->stage == SS_STAGE_RUN && pusher->logged_error[0] != '\0')
	{
		ereport(LOG, (errmsg("session_store: the cache is back"),
					  errdetail("Redis is at %s.", cache->report.where)));
		pusher->logged_error[0] = '\0';
	}
}
