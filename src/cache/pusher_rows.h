/*
 * pusher_rows.h
 *		What the pusher reads from the database: policies, and the rows that it is about to copy.
 */
#ifndef SS_PUSHER_ROWS_H
#define SS_PUSHER_ROWS_H

#include "cache/pusher.h"

extern void ss_pusher_begin_xact(void);
extern void ss_pusher_end_xact(SsPusher *pusher);
extern ErrorData *ss_pusher_catch_error(SsPusher *pusher);
extern void ss_pusher_set_locked(SsPusher *pusher, bool locked);
extern void ss_pusher_log(const ErrorData *error);
extern void ss_pusher_set_aside(SsPusher *pusher, SsAside *aside, const SsKey *key,
								ErrorData *error);
extern void ss_pusher_untranslatable(SsPusher *pusher, SsAside *aside, const SsKey *key);
extern void ss_pusher_make_keys(SsPusher *pusher);
extern void ss_pusher_read_rows(SsPusher *pusher);
extern void ss_pusher_name_prefixes(SsPusher *pusher);
extern void ss_pusher_add_prefixes(SsPrefixes *prefixes, const SsKeyPrefixes *keys);
extern void ss_pusher_changing_prefixes(SsPusher *pusher, SsPrefixes *prefixes);
extern void ss_pusher_read_policies(SsPusher *pusher);
extern const SsPolicy *ss_pusher_policy_of(const SsPusher *pusher, const SsKey *key);
extern void ss_pusher_make_key(SsPusher *pusher, const SsKey *key, SsPayload *payload);

#endif
