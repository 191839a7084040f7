/*
 * pusher_report.c
 *		What the pusher tells health and metrics, through shared memory.
 */
#include "postgres.h"

#include "cache/pusher.h"
#include "shared.h"

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
void
ss_pusher_report(int64 now)
{
	SsProto *proto = &ss_pusher.proto;
	SsCacheReport *r = &ss_pusher.db->cache.report;
	char trouble[480];

	describe_refusal(proto, trouble, sizeof(trouble));
	if (ss_pusher.trouble[0])
		strlcpy(trouble, ss_pusher.trouble, sizeof(trouble));
	ss_pusher.reported = now;
	ss_shared_lock(true);
	r->connected = proto->connected && proto->counts.connects > 0;
	r->running = proto->connected && proto->stage == SS_STAGE_RUN && !proto->suspended;
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
	r->too_large = ss_pusher.too_large;
	r->unreadable = ss_pusher.unreadable;
	r->no_room = ss_pusher.wire.refused;
	r->verified = ss_pusher.verified;
	r->divergent = ss_pusher.divergent;
	r->redis_memory = ss_pusher.info.memory;
	r->redis_memory_limit = ss_pusher.info.memory_limit;
	strlcpy(r->redis_version, ss_pusher.info.version, sizeof(r->redis_version));
	strlcpy(r->redis_policy, ss_pusher.info.policy, sizeof(r->redis_policy));
	ss_shared_unlock();
}
