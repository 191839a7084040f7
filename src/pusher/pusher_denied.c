/*
 * pusher_denied.c
 *		Namespaces whose keys the ACL of Redis does not let the pusher access.
 *
 * Redis refuses a whole batch because of one such key.  Then the pusher asks which keys those are,
 * and their namespaces have no copies; all others keep theirs:
 *
 *	1. Nothing may stay in Redis that we cannot delete when it is out of date.  So the connection is
 *	   made again, with a flush of all copies, before which the lease is dropped.  The flush fails,
 *	   and no lease is granted, while there is a key of such a namespace that we may not delete.
 *	2. From then on keys of the namespace are neither written nor deleted, because there are none.
 *	3. Every few seconds access to one of its keys is tried again.  Once it is allowed, the namespace
 *	   gets copies as its sessions are used.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "protocol/protocol.h"
#include "pusher/pusher_denied.h"
#include "pusher/pusher_policies.h"
#include "redis/wire_keys.h"
#include "shared/databases.h"

/* Reports for health how many namespaces are denied, and one of them. */
static void
report(const SsPusher *pusher)
{
	SsCacheReport *r = &pusher->db->cache.report;
	int denied = 0;
	int last = -1;

	for (int i = 0; i < pusher->npolicies; i++)
		if (pusher->keys[i].denied != NULL)
		{
			denied++;
			last = i;
		}
	ss_databases_lock(true);
	r->denied = denied;
	strlcpy(r->denied_namespace, last < 0 ? "" : pusher->policies[last].name,
			sizeof(r->denied_namespace));
	ss_databases_unlock();
}

/* The index of a key's policy; -1 if there is none. */
static int
policy_of(const SsPusher *pusher, const SsKey *key)
{
	const SsPolicy *policy = ss_pusher_policy_of(pusher, key);

	return policy == NULL ? -1 : (int) (policy - pusher->policies);
}

/*
 * Redis has refused some of these keys: finds out which namespaces they belong to.  Returns
 * true if there are any; all copies are then flushed when the connection is made again.
 */
bool
ss_pusher_find_denied(SsPusher *pusher, const SsKey *keys, const SsPayload *payloads, int n,
					  SsMonotonic give_up)
{
	bool *denied = palloc(sizeof(bool) * Max(n, 1));
	bool found = false;

	if (!ss_wire_denied(&pusher->wire, give_up, payloads, n, denied))
		return false;
	for (int i = 0; i < n; i++)
	{
		int of = denied[i] ? policy_of(pusher, &keys[i]) : -1;

		if (of < 0)
			continue;
		found = true;
		pusher->keys[of].denied = MemoryContextStrdup(pusher->policies_context,
													  pnstrdup(payloads[i].key,
															   payloads[i].keylen));
		ereport(LOG, (errmsg("session_store: namespace \"%s\" has no copies in Redis",
							 pusher->policies[of].name),
					  errdetail("The Redis ACL denies session_store access to its keys.")));
	}
	pfree(denied);
	if (found)
	{
		ss_proto_flush(&pusher->proto);
		report(pusher);
	}
	return found;
}

/*
 * Tries access to the denied keys again.  False, with the connection closed, if there is no
 * answer.
 */
bool
ss_pusher_recheck_denied(SsPusher *pusher, SsMonotonic give_up)
{
	for (int i = 0; i < pusher->npolicies; i++)
	{
		SsPayload payload = {0};
		bool denied;

		if (pusher->keys[i].denied == NULL)
			continue;
		payload.key = pusher->keys[i].denied;
		payload.keylen = strlen(payload.key);
		if (!ss_wire_denied(&pusher->wire, give_up, &payload, 1, &denied))
			return false;
		if (!denied)
			pusher->keys[i].denied = NULL;
	}
	report(pusher);
	return true;
}
