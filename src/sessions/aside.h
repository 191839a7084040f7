/*
 * aside.h
 *		Sets aside rows that cannot be processed, so that they hold up no others.
 */
#ifndef SS_ASIDE_H
#define SS_ASIDE_H

#include "utils/elog.h"

#include "base/key.h"
#include "shared/databases.h"
#include "table/subxact.h"

/*
 * Limits of a pass that repeats a failed batch row by row, in one transaction: the number of rows that
 * were processed, and the time in microseconds.
 */
#define SS_ASIDE_PASS_ROWS 50
#define SS_ASIDE_PASS_US (INT64CONST(300) * 1000)

/* Whether an error concerns the row that was processed. */
typedef enum SsFault
{
	SS_FAULT_ROW,  /* the row cannot be processed */
	SS_FAULT_BUSY, /* the row cannot be processed now, because another session holds a lock */
	SS_FAULT_OTHER /* it does not concern the row: a cancel, a full disk, and so on */
} SsFault;

/* A namespace that is set aside as a whole, and the position of the walk through its rows. */
typedef struct SsAsideWalk
{
	char ns[SS_NAMESPACE_MAX + 1];
	TimestampTz check_at; /* of the last row; DT_NOBEGIN at the beginning */
	uint64 place;         /* among rows with equal check_at, the last one visited */
	bool failed;          /* has a row failed since the beginning? */
} SsAsideWalk;

/* The rows that are set aside for one kind of work. */
typedef struct SsAside SsAside;

/* A pass that visits the rows of a failed batch one by one. */
typedef struct SsAsidePass
{
	SsAside *aside;
	TimestampTz began;
	int64 done;      /* rows that were processed */
	bool progressed; /* a row was processed or set aside, so the next batch visits others */
} SsAsidePass;

/* If set, called after a subtransaction of ss_aside_try was rolled back. */
extern void (*ss_aside_rolled_back)(void);

extern SsAside *ss_aside_of_worker(SsWork work, bool walks);
extern SsAside *ss_aside_of_call(SsWork work, MemoryContext context);
extern SsFault ss_aside_fault(const ErrorData *error);
extern bool ss_aside_try(SsSubxactWork work, void *arg, ErrorData **error);
extern void ss_aside_pass_begin(SsAsidePass *pass, SsAside *aside);
extern bool ss_aside_pass_is_over(const SsAsidePass *pass);
extern bool ss_aside_pass_visit(SsAsidePass *pass, const SsKey *key, SsSubxactWork work, void *arg);
extern bool ss_aside_is_empty(const SsAside *aside);
extern void ss_aside_warn(const SsAside *aside, const char *what);
extern bool ss_aside_holds(const SsAside *aside, const SsKey *key, TimestampTz now);
extern TimestampTz ss_aside_until(const SsAside *aside, const SsKey *key);
extern void ss_aside_add(SsAside *aside, const SsKey *key, const ErrorData *error);
extern void ss_aside_done(SsAside *aside, const SsKey *key);
extern void ss_aside_tidy(SsAside *aside, TimestampTz now);
extern void ss_aside_arrays(const SsAside *aside, TimestampTz now, Datum arrays[3]);
extern bool ss_aside_next_walk(SsAside *aside, TimestampTz now, SsAsideWalk *walk);
extern void ss_aside_walked(SsAside *aside, const SsAsideWalk *walk, int failed, int done,
							bool ended, int64 took_us);

#endif
