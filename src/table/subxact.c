/*
 * subxact.c
 *		Runs a function in a subtransaction that is kept or rolled back by its result.
 *
 * A row lock can only be released before the end of the transaction by rolling back the
 * subtransaction that took it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/pgstat_internal.h"
#include "utils/resowner.h"

#include "table/subxact.h"

/*
 * Interrupts are held while the transaction state changes.  The server reports these changes at
 * DEBUG5 and checks for interrupts after each report; an error there would leave the subtransaction
 * half open, and every later command of the connection would fail.
 *
 * At the end of a subtransaction the server moves its statistics of tables to the level above, for
 * which it may have to allocate an entry.  Without memory the statistics would belong to no level, and
 * the next change of such a table in the session would use memory that was freed.  So the entry of the
 * level above is made here, where an error does no harm.
 *
 * Without memory a subtransaction may also be begun by half.  A handler outside, as of PL/pgSQL, would
 * take it for its own, and end the connection because it cannot be rolled back as it is.  So it is begun
 * to the end, for which memory that the error has freed may suffice, and rolled back.
 */
static void
begin_subxact(void)
{
	int level = GetCurrentTransactionNestLevel();

	(void) pgstat_get_xact_stack_level(level);
	HOLD_INTERRUPTS();
	PG_TRY();
	{
		BeginInternalSubTransaction(NULL);
	}
	PG_CATCH();
	{
		/* the error has ended the holdoff */
		if (GetCurrentTransactionNestLevel() > level)
		{
			HOLD_INTERRUPTS();
			CommitTransactionCommand();
			RollbackAndReleaseCurrentSubTransaction();
			RESUME_INTERRUPTS();
		}
		PG_RE_THROW();
	}
	PG_END_TRY();
	RESUME_INTERRUPTS();
}

static void
release_subxact(void)
{
	HOLD_INTERRUPTS();
	ReleaseCurrentSubTransaction();
	RESUME_INTERRUPTS();
}

static void
roll_back_subxact(void)
{
	HOLD_INTERRUPTS();
	RollbackAndReleaseCurrentSubTransaction();
	RESUME_INTERRUPTS();
}

/*
 * Runs work(arg) in a subtransaction.  Returns true if it was kept.  An error rolls it back as well;
 * it is stored in *error, in the caller's memory context, or raised again if `error` is NULL.
 * *error is NULL when there was none.
 *
 * An error while the subtransaction is being kept is raised again in any case, so that the parent is
 * rolled back: the server may have made the changes a part of the parent already.
 */
bool
ss_subxact_run(SsSubxactWork work, void *arg, ErrorData **error)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile caught = NULL;
	volatile bool done = false;
	volatile bool keeping = false;

	begin_subxact();
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		done = work(arg);
		keeping = done;
		if (done)
			release_subxact();
	}
	PG_CATCH();
	{
		done = false;
		/*
		 * First, because handlers expect the outer subtransaction to be current, and there may be no
		 * memory for a copy of the error.
		 */
		roll_back_subxact();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if (error == NULL || keeping)
			PG_RE_THROW();
		caught = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	if (!done && caught == NULL)
		roll_back_subxact();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	if (error != NULL)
		*error = caught;
	return done;
}
