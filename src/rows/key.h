/*
 * key.h
 *		A session, by name: what everything in shared memory is keyed by.
 *
 * Pure C, for the simulator.
 */
#ifndef SS_KEY_H
#define SS_KEY_H

#include <stdint.h>

#define SS_NAMESPACE_MAX 63
#define SS_NAME_MAX 200

typedef struct SsKey
{
	uint32_t database; /* an Oid */
	uint8_t nslen;
	uint8_t idlen;
	char bytes[SS_NAMESPACE_MAX + SS_NAME_MAX]; /* namespace, then id */
} SsKey;

#endif
