/*
 * wire.h
 *		Sends the requests of the protocol to a real Redis.
 */
#ifndef SS_WIRE_H
#define SS_WIRE_H

#include "cache/protocol.h"
#include "cache/redis.h"
#include "cache_status.h"

/* What belongs to an operation: the key in Redis (NULL: it has none), and the document. */
typedef struct SsPayload
{
	const char *key;
	int keylen;
	const char *document;
	int length;
} SsPayload;

/* A prefix of our keys. */
typedef struct SsPrefix
{
	char *text;
	bool owned; /* a policy has it; otherwise it is removed by the next flush */
	bool named; /* the guard names it, since a flush */
} SsPrefix;

typedef struct SsPrefixes
{
	int count;
	int room;
	SsPrefix *prefix;
} SsPrefixes;

typedef struct SsWireLogin
{
	SsUrl url;
	char password[SS_URL_PART];
	int database;
} SsWireLogin;

/* What a Redis reports about itself. */
typedef struct SsWireInfo
{
	int64 memory;
	int64 memory_limit;
	char version[32];
	char policy[32];
} SsWireInfo;

typedef struct SsWire
{
	SsRedis *redis;                     /* NULL: not connected */
	char sha[SS_REQUEST_KINDS + 1][41]; /* the last one is that of ss_wire_denied */
	SsCommand command;
	const SsPrefixes *known;
	SsPrefixes seen; /* named by the guard, and not known */
	char *guard[3];  /* its owner, epoch and last as stored there, for the comparison by a claim */
	uint64 refused;  /* number of documents refused for lack of memory */
	bool stuck;      /* the last flush found a key that we may not delete */
	char error[SS_MESSAGE_LEN];
} SsWire;

extern bool ss_wire_connect(SsWire *wire, const SsWireLogin *login, SsMonotonic give_up);
extern void ss_wire_close(SsWire *wire);
extern bool ss_wire_send(SsWire *wire, SsProto *p, const SsPayload *payloads,
						 const SsPrefixes *prefixes, SsReply *reply);
extern bool ss_wire_info(SsWire *wire, SsMonotonic give_up, SsWireInfo *info);
extern bool ss_wire_scan(SsWire *wire, SsMonotonic give_up, uint64 *cursor, int count,
						 SsRedisReply **reply);
extern bool ss_wire_denied(SsWire *wire, SsMonotonic give_up, const SsPayload *payloads, int n,
						   bool *denied);
extern bool ss_wire_sizes(SsWire *wire, SsMonotonic give_up, const SsPayload *payloads, int n,
						  int64 *sizes);
extern SsRedisReply *ss_wire_mget(SsWire *wire, SsMonotonic give_up, const SsPayload *payloads,
								  int n);
extern SsPrefix *ss_prefixes_find(const SsPrefixes *prefixes, const char *prefix, size_t len);
extern SsPrefix *ss_prefixes_add(SsPrefixes *prefixes, const char *prefix, size_t len);
extern void ss_prefixes_flushed(SsPrefixes *prefixes, const SsPrefixes *sent);
extern void ss_prefixes_clear(SsPrefixes *prefixes);

#endif
