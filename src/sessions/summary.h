/*
 * summary.h
 *		The summary of a session, which stands in for its messages up to a seq.
 */
#ifndef SS_SUMMARY_H
#define SS_SUMMARY_H

#include "utils/jsonb.h"

#include "row/session.h"

/* The only member of the object that takes the place of the messages. */
#define SS_SUMMARY_MEMBER "summary"

extern bool ss_summary_set(SsTarget *target, int64 up_to, Datum summary, int64 turn,
						   int64 *messages);
extern JsonbValue *ss_summary_push(JsonbParseState **state, Datum summary);

#endif
