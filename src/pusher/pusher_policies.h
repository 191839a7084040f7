/*
 * pusher_policies.h
 *		The policies as the pusher knows them, the prefixes of their keys, and keys in Redis.
 */
#ifndef SS_PUSHER_POLICIES_H
#define SS_PUSHER_POLICIES_H

#include "pusher/pusher_state.h"

extern void ss_pusher_name_prefixes(SsPusher *pusher);
extern void ss_pusher_add_prefixes(SsPrefixes *prefixes, const SsKeyPrefixes *keys);
extern void ss_pusher_changing_prefixes(SsPusher *pusher, SsPrefixes *prefixes);
extern void ss_pusher_read_policies(SsPusher *pusher);
extern const SsPolicy *ss_pusher_policy_of(const SsPusher *pusher, const SsKey *key);
extern void ss_pusher_make_key(SsPusher *pusher, const SsKey *key, SsPayload *payload);

#endif
