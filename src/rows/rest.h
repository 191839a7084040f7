/*
 * rest.h
 *		Whether tables have changed since the keeper looked at them.
 */
#ifndef SS_REST_H
#define SS_REST_H

/* What had been counted when they were looked at. */
typedef struct SsRest
{
	bool resting; /* nothing is to be done until then */
	uint64 changes;
	int64 rows;
} SsRest;

extern SsRest ss_rest_mark(void);
extern void ss_rest_begin(SsRest *mark, bool nothing_to_do);
extern bool ss_rest_holds(const SsRest *rest);
extern bool ss_rest_no_ended(void);
extern bool ss_rest_no_events(void);

#endif
