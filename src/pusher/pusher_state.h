/*
 * pusher_state.h
 *		The state of a pusher, and the types of which it is made.
 */
#ifndef SS_PUSHER_STATE_H
#define SS_PUSHER_STATE_H

#include "pusher/cached.h"
#include "pusher/table_check.h"
#include "redis/wire_connect.h"
#include "sessions/aside.h"
#include "shared/databases.h"
#include "table/catalog.h"

/*
 * The prefixes of a namespace's keys in Redis, in UTF-8; NULL: it has no keys of that kind.
 * `denied` is a key that the ACL of Redis does not let us access; while it does not, the
 * namespace has no keys at all.
 */
typedef struct SsKeyPrefixes
{
	char *document;
	char *tail;
	char *denied;
} SsKeyPrefixes;

#define SS_SAMPLE_MOST 1024 /* keys of a step of the scrubber; a page of SCAN is seldom longer */

/* Keys that a step of the scrubber took and had no time to compare. */
typedef struct SsSampleRest
{
	int n;
	SsKey keys[SS_SAMPLE_MOST];
	bool from_redis[SS_SAMPLE_MOST]; /* the key was found in Redis, else its row in the table */
} SsSampleRest;

/* State of the idle pusher: what it need not check again.  See pusher_rest.c. */
typedef struct SsPusherRest
{
	/* Our tables. */
	bool tables;            /* the last check found nothing to do */
	SsMonotonic checked_at; /* when it ended */
	int64 settings;         /* rows changed in pg_db_role_setting before it; -1: unknown */

	uint64 changes; /* calls of ss_pusher_end_rest */

	/* A round of the scrubber over all keys of Redis and all rows of the table. */
	bool began;
	uint64 mark;       /* mark_of_copies() at its start */
	int ends;          /* how often the scan of Redis still has to reach its end */
	SsTableWalk walk;  /* over the table */
	TimestampTz since; /* when it was completed without a difference; 0: it was not */
} SsPusherRest;

/* The state of a pusher; there is one per process.  Private to it. */
typedef struct SsPusher
{
	struct SsDb *db;
	SsProto proto;
	SsWire wire;
	SsWireLogin login;
	SsClaim me;                      /* who we are, and where Redis is */
	char unrecorded[SS_MESSAGE_LEN]; /* why a claim could not be recorded */

	/* The policies as last read; keys in Redis are derived from them. */
	MemoryContext policies_context;
	SsPolicy *policies;
	SsKeyPrefixes *keys; /* by policy */
	int npolicies;
	SsPrefixes prefixes; /* those under which Redis may hold keys */
	SsPrefixes changing; /* of a flush for changed policies, the same from its start to its end */
	SsPrefixes one;      /* of a flush of one namespace */
	char flush_ns[SS_NAMESPACE_MAX + 1]; /* .. which is this one */
	SsMemo policies_memo;
	uint64 changes_seen[SS_POLICY_CHANGES]; /* changes whose policy was read since, by number */

	/* Belongs to proto.ops. */
	SsPayload payloads[SS_BATCH_MAX];
	StringInfoData documents;

	/* Our tables. */
	SsTableMark mark;
	bool marked;
	SsMemo tables_memo;    /* made stale as well if a check could not be completed */
	int check_errors;      /* in a row */
	uint64 unlisted_ended; /* of the control, before the check for prepared transactions */
	char *settings;
	SsPusherRest rest;

	/* Reported to others. */
	char trouble[SS_TROUBLE_LEN];
	SsAside *push_aside;  /* rows that cannot be read for a batch */
	SsAside *scrub_aside; /* .. or for a sample */
	bool locked;          /* a lock prevented the last attempt to read our tables */
	uint64 lock_skips;
	int64 latency_us; /* of the last request */
	uint64 too_large;
	uint64 unreadable;
	uint64 verified;
	uint64 divergent;
	uint64 divergent_before; /* before the present pass over all keys of Redis */
	bool diverging;          /* a difference was found in this pass or the one before */
	uint64 cursor;           /* of the scrubber */
	bool scrub_locked;       /* a lock prevented the last sample */
	SsSampleRest scrub_rest;
	uint64 request_begun; /* number of the request that was worked on last */
	bool verifying;
	uint64 verify_cursor;
	int verify_ends;         /* how often the scan of Redis has reached its end */
	SsTableWalk verify_walk; /* over the table */
	SsSampleRest verify_rest;
	int64 verify_counts[4];
	SsWireInfo info;
	char logged_error[SS_MESSAGE_LEN]; /* the last error that was logged */

	/* Times by the monotonic clock. */
	SsMonotonic checked_at;
	SsMonotonic reported;
	SsMonotonic informed;
	SsMonotonic scrubbed;
	SsMonotonic linger_until;
	SsMonotonic leave_at; /* 0: it shall not */

	MemoryContext cycle_context;
	MemoryContext batch_context; /* for what is read, until it is sent */
	int offsets[SS_BATCH_MAX];   /* of documents, in `documents` */
} SsPusher;

#endif
