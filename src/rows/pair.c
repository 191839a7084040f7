/*
 * pair.c
 *		Two sessions locked at once.
 *
 * Who holds one row and waits for another can be waited for by one who does the same.  No
 * order of the rows prevents it: an id that had no row has one a moment later, a session
 * that was given another id stands elsewhere, and those who end many sessions meet them in an order
 * of their own.  So here nobody waits with a row in his hands.  He waits for one, and takes the other
 * if it is to be had at once; if not he lets go of the first, and begins again by waiting for the other.
 *
 * A lock on a row can be let go of by rolling back what took it: all of it happens in a
 * subtransaction, which what is then done with the two rows is a part of, and which ends with it.
 *
 * Other calls hold one row, or wait for no other that they do not hold already.  What is left
 * are those who end many sessions; see owners.c.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "rows/pair.h"
#include "rows/sql.h"
#include "rows/subxact.h"

/* Give way at most so often: whoever took the other row was there first, each time. */
#define MAX_TRIES 1000

/*
 * Lock a row, waiting for it or not; true also when there is none.  Who waited for a row that
 * got another id meanwhile has none, though by now there is another under the old one.
 */
static bool
take(const SsTarget *target, bool wait)
{
	SsRow row;

	return (wait ? ss_row_lock(target, &row) : ss_row_try_lock(target, &row)) ||
		   !ss_row_read(target, SS_PLAN_LATEST, &row);
}

typedef struct Pair
{
	const SsTarget *first;
	const SsTarget *second;
	SsPairWork work;
	void *arg;
} Pair;

/* Both rows, waiting for the first alone, and the work. */
static bool
lock_and_work(void *arg)
{
	Pair *pair = arg;

	return take(pair->first, true) && take(pair->second, false) && pair->work(pair->arg);
}

void
ss_pair_run(const SsTarget *a, const SsTarget *b, SsPairWork work, void *arg)
{
	Pair pair = {a, b, work, arg};

	for (int tries = 0; !ss_subxact_run(lock_and_work, &pair, NULL); tries++)
	{
		const SsTarget *swap = pair.first;

		pair.first = pair.second;
		pair.second = swap;
		CHECK_FOR_INTERRUPTS();
		if (tries >= MAX_TRIES)
			ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
							errmsg("could not lock two sessions at once"),
							errdetail("Others had one of them, %d times in a row.", MAX_TRIES),
							errhint("Try again.")));
	}
}
