/*
 * pusher.h
 *		The worker that writes to Redis: one for each database that has a cache.
 */
#ifndef SS_PUSHER_H
#define SS_PUSHER_H

#include "cache/wire.h"
#include "rows/cached.h"

/* Everything that a pusher knows; there is one in a process. */
typedef struct SsPusher
{
	struct SsDb *db;
	SsProto proto;
	SsWire wire;
	SsWireLogin login;

	/* the policies, as last read; keys of Redis are made of these */
	MemoryContext policies_context;
	SsPolicy *policies;
	int npolicies;
	SsPrefixes prefixes; /* all that were ever ours, as far as we know */
	bool policies_stale;

	/* what belongs to proto.ops */
	SsPayload payloads[SS_BATCH_MAX];
	StringInfoData documents;

	/* our tables */
	SsTableMark mark;
	bool marked;
	bool tables_stale;
	char *settings;

	/* what is told to others */
	char trouble[480];
	uint64 too_large;
	uint64 unreadable;
	uint64 verified;
	uint64 divergent;
	uint64 cursor; /* of the scrubber */
	SsWireInfo info;
} SsPusher;

extern void ss_pusher_policies(SsPusher *pusher);
extern const SsPolicy *ss_pusher_policy(const SsPusher *pusher, const SsKey *key);
extern void ss_pusher_make_key(SsPusher *pusher, const SsKey *key, SsPayload *payload);

extern PGDLLEXPORT void ss_pusher_main(Datum arg);

extern bool ss_scrub(SsPusher *pusher, int sample, int64 give_up, int64 counts[4]);

#endif
