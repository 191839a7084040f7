/*
 * policy_effect.c
 *		Determines what a change of a policy means for the copies in Redis.
 *
 * Existing copies were made by the old policy.  If the new one ends a session or its copy earlier,
 * names its key differently or allows no copies, they are wrong, and COMMIT has to wait until the
 * namespace has none.  If the new policy only allows copies to live longer, existing copies expire
 * earlier than they could, which is not wrong.
 *
 * Used by the trigger on session_namespaces, and by the pusher when it reads policies again.
 */
#include "postgres.h"

#include "base/expiry.h"
#include "table/policy_effect.h"
#include "table/schema.h"

/* The effect of a column that calls for a flush if it changed. */
static SsPolicyEffect
flush_if(bool changed)
{
	return changed ? SS_POLICY_FLUSH : SS_POLICY_NOTHING;
}

static int64
lifetime_of(const SsPolicy *policy)
{
	return policy->max_lifetime_us == SS_NO_LIMIT ? PG_INT64_MAX : policy->max_lifetime_us;
}

/*
 * The effect of one column.  There is no default, so that the compiler reports a missing column.
 */
static SsPolicyEffect
effect_of(SsNamespaceColumn column, const SsPolicy *before, const SsPolicy *after)
{
	switch (column)
	{
		case SS_NS_KEY_PREFIX:
			return flush_if(strcmp(before->prefix, after->prefix) != 0);
		case SS_NS_HASH_KEYS:
			return flush_if(before->hash_keys != after->hash_keys);
		case SS_NS_TAIL_PREFIX:
			return flush_if(before->tail_prefix[0] != '\0' &&
							strcmp(before->tail_prefix, after->tail_prefix) != 0);
		case SS_NS_MAX_LIFETIME:
			return flush_if(lifetime_of(after) < lifetime_of(before));
		case SS_NS_CACHE:
		case SS_NS_OWNER_ISOLATION: /* without hash_keys it turns the cache off */
			return flush_if(after->cache < before->cache);
		case SS_NS_CACHE_TTL:
			return flush_if(before->cache == SS_CACHE_HOT &&
							after->cache_ttl_us < before->cache_ttl_us);
		case SS_NS_SLIDING: /* when sliding, a copy lives for the slack at most */
			return flush_if(after->sliding && !before->sliding);
		case SS_NS_TAIL_SIZE:
			return before->tail_size != after->tail_size && before->tail_prefix[0] != '\0'
					   ? SS_POLICY_REFRESH
					   : SS_POLICY_NOTHING;
		case SS_NS_NAME: /* both policies have the same name */
		case SS_NS_TTL:  /* each session has its own in its row */
		case SS_NS_HOT_USES:
		case SS_NS_MAX_BYTES:
		case SS_NS_MAX_SESSIONS_PER_OWNER:
		case SS_NS_ON_QUOTA:
		case SS_NS_TOMBSTONE:
		case SS_NS_ALLOWED_ROLES: /* access to Redis is controlled by its own rules */
		case SS_NS_AUDIT:
		case SS_NS_EVENTS_KEEP:
		case SS_NS_DURABILITY:
		case SS_NS_AUDIT_SAVES:
		case SS_NS_OPERATION_KEEP:
		case SS_NS_TOKEN_PATH: /* read by session_window() only */
		case SS_NS_TURNS:
		case SS_NS_NONE:
			break;
	}
	return SS_POLICY_NOTHING;
}

/*
 * The effect of a change from one policy of a namespace to another.  NULL means that the namespace
 * does not exist before or after the change.
 */
SsPolicyEffect
ss_policy_effect(const SsPolicy *before, const SsPolicy *after)
{
	SsPolicyEffect most = SS_POLICY_NOTHING;

	if (before == NULL || before->cache == SS_CACHE_OFF)
		return SS_POLICY_NOTHING; /* no copies */
	if (after == NULL)
		return SS_POLICY_FLUSH;
	for (int column = 1; column <= SS_NS_ATTRS; column++)
		most = Max(most, effect_of((SsNamespaceColumn) column, before, after));
	return most;
}
