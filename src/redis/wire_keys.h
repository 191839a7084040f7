/*
 * wire_keys.h
 *		Commands about keys that are no requests of the protocol.
 */
#ifndef SS_WIRE_KEYS_H
#define SS_WIRE_KEYS_H

#include "redis/wire.h"

extern bool ss_wire_scan(SsWire *wire, SsMonotonic give_up, uint64 *cursor, int count,
						 SsRedisReply **reply);
extern bool ss_wire_denied(SsWire *wire, SsMonotonic give_up, const SsPayload *payloads, int n,
						   bool *denied);
extern bool ss_wire_sizes(SsWire *wire, SsMonotonic give_up, const SsPayload *payloads, int n,
						  int64 *sizes);
extern SsRedisReply *ss_wire_mget(SsWire *wire, SsMonotonic give_up, const SsPayload *payloads,
								  int n);

#endif
