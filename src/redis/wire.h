/*
 * wire.h
 *		Sends the requests of the protocol to a real Redis.
 */
#ifndef SS_WIRE_H
#define SS_WIRE_H

#include "protocol/protocol_state.h"
#include "redis/prefixes.h"
#include "redis/redis.h"
#include "shared/cache_status.h"

/* Keys in Redis; the scripts get them as KEYS[1] and KEYS[2]. */
#define SS_LEASE_KEY "session_store:lease"
#define SS_GUARD_KEY "session_store:guard"

/* What belongs to an operation: the key in Redis (NULL: it has none), and the document. */
typedef struct SsPayload
{
	const char *key;
	int keylen;
	const char *document;
	int length;
} SsPayload;

/* The script that tests access to a key; it is no request of the protocol. */
#define SS_WIRE_SCRIPT_ACCESS SS_REQUEST_KINDS
#define SS_WIRE_SCRIPTS (SS_REQUEST_KINDS + 1)

typedef struct SsWire
{
	SsRedis *redis;                /* NULL: not connected */
	char sha[SS_WIRE_SCRIPTS][41]; /* of the scripts, by kind of request */
	SsCommand command;
	const SsPrefixes *known;
	SsPrefixes seen; /* named by the guard, and not known */
	char *guard[3];  /* its owner, epoch and last as stored there, for the comparison by a claim */
	uint64 refused;  /* number of documents refused for lack of memory */
	bool stuck;      /* the last flush found a key that we may not delete */
	char error[SS_MESSAGE_LEN];
} SsWire;

extern void ss_wire_close(SsWire *wire);
extern bool ss_wire_broken(SsWire *wire);
extern bool ss_wire_bad_reply(SsWire *wire);
extern void ss_wire_command(SsWire *wire, const char *word1, const char *word2);
extern bool ss_wire_queue(SsWire *wire);
extern bool ss_wire_is_denied_key(const char *error);
extern bool ss_wire_send(SsWire *wire, SsProto *p, const SsPayload *payloads,
						 const SsPrefixes *prefixes, SsReply *reply);

#endif
