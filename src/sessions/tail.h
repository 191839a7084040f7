/*
 * tail.h
 *		The tail of a history: the summary, if there is one, and the newest messages after it.
 */
#ifndef SS_TAIL_H
#define SS_TAIL_H

#include "executor/spi.h"

#include "row/session.h"

/* A tail, from ss_tail_read to ss_tail_free. */
typedef struct SsTail
{
	Datum summary; /* 0: none */
	uint64 nmessages;
	SPITupleTable *messages; /* newest first */
} SsTail;

/* Called with each element in order.  The summary comes without the object around it.  False ends it. */
typedef bool (*SsTailVisitor)(void *arg, Datum element, bool is_summary);

extern void ss_tail_read(const SsRow *row, int64 size, SsTail *tail);
extern bool ss_tail_visit(const SsTail *tail, SsTailVisitor visit, void *arg);
extern void ss_tail_free(SsTail *tail);
extern Datum ss_tail_array(const SsRow *row, int64 size);

#endif
