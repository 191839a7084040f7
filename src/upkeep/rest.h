/*
 * rest.h
 *		Detects without a transaction whether tables have changed since the keeper checked them.
 */
#ifndef SS_REST_H
#define SS_REST_H

/* A mark: the counters before a check of the tables. */
typedef struct SsRest
{
	bool resting;   /* nothing is to be done until a counter changes */
	uint64 changes; /* transactions that changed sessions */
	int64 rows;     /* rows changed in our tables; -1 if not known */
	bool counters;  /* both are about session_counters alone: sessions never change it */
} SsRest;

extern SsRest ss_rest_mark(void);
extern SsRest ss_rest_mark_counters(void);
extern void ss_rest_begin(SsRest *mark, bool nothing_to_do);
extern bool ss_rest_holds(const SsRest *rest);
extern bool ss_rest_no_ended(void);
extern bool ss_rest_no_events(void);

#endif
