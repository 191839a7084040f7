/*
 * wire_connect.h
 *		Connects to a Redis, and asks it about itself.
 */
#ifndef SS_WIRE_CONNECT_H
#define SS_WIRE_CONNECT_H

#include "redis/wire.h"

typedef struct SsWireLogin
{
	SsUrl url;
	char password[SS_URL_PART];
	int database;
} SsWireLogin;

/* What a Redis reports about itself. */
typedef struct SsWireInfo
{
	int64 memory_bytes;
	int64 memory_limit_bytes;
	char version[32];
	char policy[32];
} SsWireInfo;

extern bool ss_wire_connect(SsWire *wire, const SsWireLogin *login, SsMonotonic give_up);
extern bool ss_wire_info(SsWire *wire, SsMonotonic give_up, SsWireInfo *info);

#endif
