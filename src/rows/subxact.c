/*
 * subxact.c
 *		Work that is undone, with the locks that it took, when it comes to nothing.
 *
 * A lock on a row can only be given back by rolling back what took it, so the work runs in a
 * subtransaction of its own.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/resowner.h"

#include "rows/subxact.h"

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

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		done = work(arg);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		caught = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	if (done)
		ReleaseCurrentSubTransaction();
	else
		RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	if (error != NULL)
		*error = caught;
	else if (caught != NULL)
		/* outside: a handler expects the subtransaction that it was in */
		ReThrowError(caught);
	return done;
}
