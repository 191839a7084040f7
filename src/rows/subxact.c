/*
 * subxact.c
 *		Work that is undone, with the locks that it took, when it comes to nothing.
 *
 * A lock on a row can only be given back by rolling back what took it, so the work runs in a
 * subtransaction of its own.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/resowner.h"

#include "rows/subxact.h"

/*
 * Interrupts are held while the state of transactions changes.  The server reports these changes at
 * DEBUG5, and after each report it looks for a cancel or a timeout: an error there would leave the
 * subtransaction half open, and no command of the session would work any more.
 */
static void
begin(void)
{
	HOLD_INTERRUPTS();
	BeginInternalSubTransaction(NULL);
	RESUME_INTERRUPTS();
}

static void
release(void)
{
	HOLD_INTERRUPTS();
	ReleaseCurrentSubTransaction();
	RESUME_INTERRUPTS();
}

static void
roll_back(void)
{
	HOLD_INTERRUPTS();
	RollbackAndReleaseCurrentSubTransaction();
	RESUME_INTERRUPTS();
}

/*
 * Run the work; true when it is kept.  An error undoes it as well; it is raised again, or handed
 * to the caller in *error if that is not NULL.
 */
bool
ss_subxact_run(SsSubxactWork work, void *arg, ErrorData **error)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile caught = NULL;
	volatile bool done = false;

	begin();
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		done = work(arg);
		if (done)
			release();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		caught = CopyErrorData();
		FlushErrorState();
		done = false;
	}
	PG_END_TRY();
	if (!done)
		roll_back();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	if (error != NULL)
		*error = caught;
	else if (caught != NULL)
		/* outside: a handler expects the subtransaction that it was in */
		ReThrowError(caught);
	return done;
}
