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

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/resowner.h"

#include "rows/pair.h"

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

/* Both rows, waiting for the first alone, and the work. */
static bool
lock_and_work(const SsTarget *first, const SsTarget *second, SsPairWork work, void *arg)
{
	return take(first, true) && take(second, false) && work(arg);
}

/* The same in a subtransaction, that is undone with its locks when it comes to nothing. */
static bool
try(const SsTarget *first, const SsTarget *second, SsPairWork work, void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;
	volatile bool done = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		done = lock_and_work(first, second, work, arg);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	if (done)
		ReleaseCurrentSubTransaction();
	else
		RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	/* whoever catches it expects the subtransaction that he was in himself */
	if (error != NULL)
		ReThrowError(error);
	return done;
}

void
ss_pair_run(const SsTarget *a, const SsTarget *b, SsPairWork work, void *arg)
{
	for (int tries = 0; !try(a, b, work, arg); tries++)
	{
		const SsTarget *swap = a;

		a = b;
		b = swap;
		CHECK_FOR_INTERRUPTS();
		if (tries >= MAX_TRIES)
			ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
							errmsg("could not lock two sessions at once"),
							errdetail("Others had one of them, %d times in a row.", MAX_TRIES),
							errhint("Try again.")));
	}
}
