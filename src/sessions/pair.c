/*
 * pair.c
 *		Locks the rows of two sessions without a risk of deadlock.
 *
 * A transaction that holds one row lock and waits for another can be part of a cycle.  No order of
 * the rows prevents that: an id without a row may get one a moment later, a renamed session changes
 * its position, and statements that end many sessions visit them in an order of their own.  So the
 * rule is: never wait for one row lock while holding the other.  The first row is waited for, and the
 * second one locked only if it is free.  If it is not, the first lock is released, and the next
 * attempt waits for the second row first.
 *
 * A row lock is released by rolling back the subtransaction that took it.  Both locks and the work on
 * the two rows are therefore parts of one subtransaction.
 *
 * Other calls lock a single row, or do not wait while they hold one.  The exceptions are calls that
 * end many sessions; see owners.c.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "row/row.h"
#include "sessions/pair.h"
#include "table/sql.h"
#include "table/subxact.h"

/* Maximum number of retries.  Each one means that another transaction held the second row. */
#define MAX_TRIES 1000

/*
 * Locks the row of a session, waiting for it if `wait`.  True also when there is no row.  False when
 * it could not be locked, or when the row that was waited for was renamed and another row has the id.
 */
static bool
lock_row(const SsTarget *target, bool wait)
{
	SsRow row;

	return (wait ? ss_row_lock(target, 0, &row) : ss_row_try_lock(target, 0, &row)) ||
		   !ss_row_read(target, SS_PLAN_LATEST, 0, &row);
}

typedef struct Pair
{
	const SsTarget *first;
	const SsTarget *second;
	SsPairWork work;
	void *arg;
} Pair;

/* In a subtransaction: locks both rows, waiting for the first one only, and does the work. */
static bool
lock_and_work(void *arg)
{
	Pair *pair = arg;

	return lock_row(pair->first, true) && lock_row(pair->second, false) && pair->work(pair->arg);
}

/*
 * Runs work(arg) with the rows of both sessions locked, as far as they exist, and repeats that until
 * it returns true.  What a failed attempt did in the database is rolled back; what it left in *arg is
 * not.  Raises a serialization failure after MAX_TRIES attempts.
 *
 * An error of an attempt is rolled back as well; it is stored in *error, or raised again if `error` is
 * NULL.  *error is NULL when there was none.
 */
void
ss_pair_run(const SsTarget *a, const SsTarget *b, SsPairWork work, void *arg, ErrorData **error)
{
	Pair pair = {a, b, work, arg};

	for (int tries = 0; !ss_subxact_run(lock_and_work, &pair, error); tries++)
	{
		const SsTarget *swap = pair.first;

		if (error != NULL && *error != NULL)
			return;
		pair.first = pair.second;
		pair.second = swap;
		CHECK_FOR_INTERRUPTS();
		if (tries >= MAX_TRIES)
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("could not lock both sessions"),
					 errdetail("Other transactions held a lock on one of them in %d attempts.",
							   MAX_TRIES),
					 errhint("Retry the call.")));
	}
}
