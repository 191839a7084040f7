/*
 * pusher_report.c
 *		What the pusher reports to health and metrics, through shared memory.
 */
#include "postgres.h"

#include "protocol/protocol.h"
#include "pusher/pusher_report.h"
#include "pusher/pusher_rest.h"
#include "shared/databases.h"

/* The state, as in the reference. */
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

/* The reason of a refusal, as one word for programs; see the reference. */
static const char *
refusal_name(const SsProto *proto)
{
	switch (proto->refusal)
	{
		case SS_REFUSED_NONE:
			break;
		case SS_REFUSED_OTHER:
			return "other_owner";
		case SS_REFUSED_NEWER:
			return "superseded";
		case SS_REFUSED_OLDER:
			return "old_primary";
		case SS_REFUSED_SAME_IDENTITY:
			return "same_identity";
		case SS_REFUSED_RIVAL:
			return "claimed_by_copy";
		case SS_REFUSED_UNRECORDED:
			return "not_recorded";
		case SS_REFUSED_COPY:
			switch (proto->record.standing)
			{
				case SS_STANDING_COPY_DATABASE:
					return "copied_database";
				case SS_STANDING_COPY_SERVER:
					return "other_server";
				case SS_STANDING_RESTORED:
					return "restored";
				default:
					return "copied_directory";
			}
	}
	return "";
}

/* Describes why a copy waits. */
static void
describe_copy(const SsProto *proto, const char *cure, char *out, size_t size)
{
	switch (proto->record.standing)
	{
		case SS_STANDING_COPY_DATABASE:
			snprintf(out, size,
					 "this database is a copy of database %u, which has a cache of its own: give "
					 "this one its own Redis database (session_store.redis_db); then %s",
					 proto->record.database, cure);
			break;
		case SS_STANDING_COPY_SERVER:
			snprintf(out, size,
					 "this database was restored or upgraded from another server (another system "
					 "identifier), which may still use this Redis: if it does not, %s",
					 cure);
			break;
		case SS_STANDING_RESTORED:
			snprintf(out, size,
					 "this server was restored to a point in time (timeline %u), and a restored "
					 "copy for tests looks the same: %s",
					 proto->me.timeline, cure);
			break;
		default:
			snprintf(out, size,
					 "this data directory is a copy or a restored backup of the one that used "
					 "Redis, which may still use it: if it does not, %s",
					 cure);
	}
}

/* Describes why a Redis is refused, and what to do; empty if it is not. */
static void
describe_refusal(const SsPusher *pusher, char *out, size_t size)
{
	const SsProto *proto = &pusher->proto;
	const SsOwner *owner = &proto->guard.owner;
	const char *cure = "SELECT session_cache_takeover() takes it over, if that is meant";

	switch (proto->refusal)
	{
		case SS_REFUSED_NONE:
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
		case SS_REFUSED_SAME_IDENTITY:
			snprintf(
				out, size,
				"a server with the same identity writes to this Redis, or did so a moment ago: "
				"a copy of this one must not be given its redis_url; %s",
				cure);
			break;
		case SS_REFUSED_RIVAL:
			snprintf(
				out, size,
				"a server with the same identity has claimed this Redis: this server is a copy "
				"of it, or it is a copy of this one; stop one of them; %s",
				cure);
			break;
		case SS_REFUSED_COPY:
			describe_copy(proto, "SELECT session_cache_takeover()", out, size);
			break;
		case SS_REFUSED_UNRECORDED:
			if (pusher->unrecorded[0] != '\0')
				snprintf(out, size,
						 "the claim of this Redis could not be recorded in session_cache_claims, "
						 "and is not made before it is: %s",
						 pusher->unrecorded);
			else
				snprintf(out, size, "session_cache_claims has not been read yet");
			break;
	}
}

/* Copies the state of the pusher into its report.  Takes the main lock. */
void
ss_pusher_report(SsPusher *pusher, SsMonotonic now)
{
	SsProto *proto = &pusher->proto;
	SsCacheReport *r = &pusher->db->cache.report;
	char trouble[SS_TROUBLE_LEN];

	describe_refusal(pusher, trouble, sizeof(trouble));
	if (pusher->trouble[0])
		strlcpy(trouble, pusher->trouble, sizeof(trouble));
	pusher->reported = now;
	ss_databases_lock(true);
	r->connected = proto->connected && proto->counts.connects > 0;
	r->running = proto->connected && proto->stage == SS_STAGE_RUN && !proto->suspended;
	strlcpy(r->state, stage_name(proto), sizeof(r->state));
	strlcpy(r->trouble, trouble, sizeof(r->trouble));
	strlcpy(r->refused, refusal_name(proto), sizeof(r->refused));
	r->failures = proto->failures;
	r->latency_us = pusher->latency_us;
	r->lease_end = proto->lease_end;
	r->oldest = ss_proto_oldest(proto);
	r->in_doubt = proto->lists[SS_LIST_DOUBT].count + proto->lists[SS_LIST_URGENT].count;
	r->dirty = proto->lists[SS_LIST_PRESENT].count + proto->lists[SS_LIST_ABSENT].count;
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
	r->too_large = pusher->too_large;
	r->unreadable = pusher->unreadable;
	r->locked = pusher->locked;
	r->lock_skips = pusher->lock_skips;
	r->no_room = pusher->wire.refused;
	r->verified = pusher->verified;
	r->divergent = pusher->divergent;
	r->diverging = pusher->diverging;
	r->resting_since = r->running && pusher->rest.tables && ss_pusher_scrub_rests(pusher)
						   ? pusher->rest.since
						   : 0;
	r->redis_memory_bytes = pusher->info.memory_bytes;
	r->redis_memory_limit_bytes = pusher->info.memory_limit_bytes;
	strlcpy(r->redis_version, pusher->info.version, sizeof(r->redis_version));
	strlcpy(r->redis_policy, pusher->info.policy, sizeof(r->redis_policy));
	ss_databases_unlock();
}
