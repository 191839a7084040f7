/*
 * operations.h
 *		Operations on a conversation that are carried out once, however often they are repeated.
 */
#ifndef SS_OPERATIONS_H
#define SS_OPERATIONS_H

#include "sessions/change.h"

/* The operation that a call carries out; all zero if it has no operation_id. */
typedef struct SsOperation
{
	Datum id;      /* text; 0: none */
	Datum hash;    /* bytea, over the arguments of the call */
	bool outdated; /* there is a row of an operation of this name that is no longer kept */
} SsOperation;

/* A hash over arguments that is being computed. */
typedef struct SsArgumentHash SsArgumentHash;

extern SsArgumentHash *ss_argument_hash_begin(void);
extern void ss_argument_hash_value(SsArgumentHash *hash, Datum value);
extern void ss_argument_hash_named(SsArgumentHash *hash, const char *name, Datum value);
extern void ss_argument_hash_number(SsArgumentHash *hash, const char *name, int64 value);
extern Datum ss_argument_hash_end(SsArgumentHash *hash);

extern bool ss_operation_was_done(const SsChange *change, SsOperation *operation, int64 *result);
extern void ss_operation_record(const SsChange *change, const SsOperation *operation, int64 result);
extern bool ss_operation_exists(const SsRow *row);
extern void ss_operation_move(const SsRow *from, const SsRow *to, int64 base);

#endif
