/*
 * health_cache.c
 *		Part of session_health(): the cache in Redis.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "health/health_cache.h"
#include "health/health_words.h"
#include "redis/redis.h"
#include "settings.h"
#include "shared/counters.h"
#include "shared/databases.h"
#include "shared/ledger_shmem.h"

/*
 * Is the maxmemory-policy suitable?  Copies all have an expiry, so any policy that evicts such
 * keys is; so is an unknown one (empty).
 */
static bool
policy_is_right(const char *policy)
{
	return policy[0] == '\0' || strncmp(policy, "volatile-", 9) == 0 ||
		   strncmp(policy, "allkeys-", 8) == 0;
}

static void
add_connection(SsReport *report, const SsCacheReport *r, SsMonotonic now)
{
	ss_report_text(report, "redis", r->where[0] ? r->where : NULL);
	ss_report_text(report, "state", r->state[0] ? r->state : "off");
	ss_report_bool(report, "connected", r->connected);
	ss_report_bool(report, "running", r->running);
	ss_report_key(report, "latency_ms");
	if (r->connected)
		appendStringInfo(&report->json, "%.3f", r->latency_us / 1000.0);
	else
		appendStringInfoString(&report->json, "null");
	ss_report_text(report, "trouble", r->trouble[0] ? r->trouble : NULL);
	ss_report_text(report, "refused", r->refused[0] ? r->refused : NULL);
	ss_report_text(report, "last_error", r->last_error[0] ? r->last_error : NULL);
	ss_report_time(report, "last_error_at", r->last_error_at);
	ss_report_number(report, "reconnects", r->connects > 0 ? r->connects - 1 : 0);
	ss_report_text(report, "breaker",
				   r->connected      ? "closed"
				   : r->failures > 0 ? "open"
									 : "closed");
	ss_report_number(report, "failures", r->failures);
	ss_report_bool(report, "password_in_url", r->password_in_url);
	ss_report_bool(report, "leased", r->lease_end > now);
	ss_report_number(report, "lease_left_ms", Max(r->lease_end - now, 0) / 1000);
	ss_report_number(report, "lease_age_ms",
					 r->lease_end > now ? Max(ss_lease_ms - (r->lease_end - now) / 1000, 0) : 0);
	ss_report_text(report, "redis_version", r->redis_version[0] ? r->redis_version : NULL);
	ss_report_number(report, "redis_memory_bytes", r->redis_memory_bytes);
	ss_report_number(report, "redis_memory_limit_bytes", r->redis_memory_limit_bytes);
	ss_report_text(report, "redis_eviction_policy", r->redis_policy[0] ? r->redis_policy : NULL);
}

static void
add_work(SsReport *report, const SsDb *db, const SsCacheReport *r, SsMonotonic now)
{
	ss_report_number(report, "dirty", r->dirty);
	ss_report_number(report, "in_doubt", r->in_doubt);
	ss_report_number(report, "oldest_dirty_ms",
					 r->oldest != 0 ? Max(now - r->oldest, 0) / 1000 : 0);
	ss_report_number(report, "ledger_used", ss_ledger_used(ss_ledger));
	ss_report_number(report, "ledger_room", ss_ledger_room(ss_ledger));
	ss_report_number(report, "ledger_mine", ss_ledger_count(ss_ledger, db->cache.control.member));
	ss_report_number(report, "ledger_share",
					 ss_ledger_share_of(ss_ledger, db->cache.control.member));
	ss_report_number(report, "ledger_allowed",
					 ss_ledger_allowed(ss_ledger, db->cache.control.member));
	ss_report_number(report, "batches", r->batches);
	ss_report_number(report, "written", r->sets);
	ss_report_number(report, "deleted", r->deletes);
	ss_report_number(report, "prolonged", r->expires);
	ss_report_number(report, "too_large", r->too_large);
	ss_report_number(report, "unreadable", r->unreadable);
	ss_report_bool(report, "locked", r->locked);
	ss_report_number(report, "lock_skips", (int64) r->lock_skips);
	ss_report_number(report, "refused_for_memory", r->no_room);
	ss_report_number(report, "namespaces_denied", r->denied);
	ss_report_number(report, "late", r->late);
	ss_report_number(report, "lost", r->lost);
	ss_report_number(report, "flushes", r->flushes);
	ss_report_number(report, "clock_steps", r->clock_steps);
	ss_report_number(report, "fenced", ss_counter_sum(db, SS_FENCED));
	ss_report_number(report, "fence_expired", ss_counter_sum(db, SS_FENCE_EXPIRED));
	ss_report_number(report, "unlisted", ss_counter_sum(db, SS_UNLISTED));
	ss_report_number(report, "unlisted_no_room", ss_counter_sum(db, SS_UNLISTED_NO_ROOM));
	ss_report_number(report, "takeovers", r->takeovers);
	ss_report_number(report, "verified", r->verified);
	ss_report_number(report, "divergence", r->divergent);
	ss_report_time(report, "resting_since", r->resting_since);
}

static void
add_warnings(SsReport *report, const SsCache *cache, const SsCacheReport *r, bool running)
{
	if (!running && cache->no_slot)
		ss_report_warn(report,
					   "no worker slot for the cache's pusher: raise max_worker_processes (now %d)",
					   max_worker_processes);
	else if (!running)
		ss_report_warn(report,
					   "the cache's pusher does not run; it should within seconds, else see the "
					   "server log");
	else if (!r->connected && r->last_error[0])
		ss_report_warn(report, "no cache, and SQL works without it: %s", r->last_error);
	if (r->trouble[0])
		ss_report_warn(report, "nothing is cached: %s", r->trouble);
	if (r->password_in_url)
		ss_report_warn(report,
					   "the password for Redis is in session_store.redis_url, which superusers "
					   "and members of pg_read_all_settings can read, and which the server log "
					   "shows after a reload that changes it: put it into "
					   "session_store.redis_password_file");
	if (r->diverging)
		ss_report_warn(
			report,
			"copies in Redis differed from the table (%llu so far) and were put right: find "
			"who else writes to our prefixes there; this ends when a pass over all keys finds "
			"none",
			(unsigned long long) r->divergent);
	if (r->no_room > 0)
		ss_report_warn(report, "Redis refused %llu documents for want of memory: raise maxmemory",
					   (unsigned long long) r->no_room);
	if (r->denied > 0)
		ss_report_warn(
			report,
			"%d namespaces have no copies in Redis, among them %s: the ACL of Redis does not let "
			"the account of session_store access their keys; add their key_prefix and "
			"tail_prefix to its patterns",
			r->denied, r->denied_namespace);
	if (r->redis_memory_limit_bytes > 0 && !policy_is_right(r->redis_policy))
		ss_report_warn(
			report,
			"maxmemory-policy of Redis is %s: set volatile-lru or volatile-ttl, so that a full "
			"Redis drops what was not read for long",
			r->redis_policy);
}

/*
 * Commits that did not fit into the ledger: warn the database that is affected of the symptom, and
 * the database that takes more than its share of the cause.
 */
static void
add_ledger_warnings(SsReport *report, const SsCache *cache, SsMonotonic now)
{
	int member = cache->control.member;
	int mine = ss_ledger_count(ss_ledger, member);
	int share = ss_ledger_share_of(ss_ledger, member);

	if (ss_health_is_recent(cache->too_large_at, now))
		ss_report_warn(
			report,
			"a transaction changed more sessions, the last in namespace %s, than a quarter of "
			"the %d keys that this database may have in the ledger, so all its copies in Redis "
			"were deleted: commit in smaller parts, or raise session_store.ledger_size",
			cache->too_large_ns, ss_ledger_allowed(ss_ledger, member));
	if (ss_health_is_recent(cache->no_room_at, now))
		ss_report_warn(
			report,
			"a commit found no room in the ledger, so all copies of this database in Redis were "
			"deleted: it has %d keys there, may have %d, and its share is %d; see whether its "
			"Redis keeps up and whether another database has more than its share, or raise "
			"session_store.ledger_size",
			mine, ss_ledger_allowed(ss_ledger, member), share);
	else if (ss_health_is_recent(ss_ledger_refused_at(ss_ledger), now) && mine > share)
		ss_report_warn(
			report,
			"this database has %d keys in the ledger, more than its share of %d, while another "
			"found no room: see whether its Redis keeps up, or raise session_store.ledger_size",
			mine, share);
}

/* Add the group "cache" and its warnings. */
void
ss_health_cache(SsReport *report)
{
	SsDb *db = ss_database_mine();
	SsCache *copy = palloc0(sizeof(SsCache));
	SsMonotonic now = ss_monotonic();
	bool configured = ss_redis_url[0] != '\0';

	if (db != NULL)
	{
		ss_databases_lock(false);
		memcpy(copy, &db->cache, sizeof(SsCache));
		ss_databases_unlock();
	}
	ss_report_open(report, "cache");
	ss_report_bool(report, "configured", configured);
	ss_report_bool(report, "using_fallback", !copy->report.running);
	ss_report_number(report, "pid", copy->pusher_pid);
	ss_report_bool(report, "tls", ss_redis_has_tls());
	if (db != NULL && configured)
	{
		add_connection(report, &copy->report, now);
		add_work(report, db, &copy->report, now);
	}
	ss_report_close(report);
	if (db != NULL && configured && !RecoveryInProgress())
	{
		add_warnings(report, copy, &copy->report, copy->pusher_pid != 0);
		add_ledger_warnings(report, copy, now);
	}
}
