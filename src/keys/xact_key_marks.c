/*
 * xact_key_marks.c
 *		The state of a transaction's keys at the start of each of its subtransactions.
 *
 * Only the innermost subtransaction adds keys, and it appends them.  So everything from its first
 * key on, until it is rolled back, belongs to it or to subtransactions inside it, and a rollback
 * restores the mark that was made before that first key.
 *
 *		first key of a subtransaction		a mark is added
 *		it commits							the mark becomes its parent's, unless that has one
 *		it is rolled back					the mark is restored and removed
 *
 * A subtransaction that adds no key costs nothing.  Marks of a subtransaction are never above
 * those of one inside it, so both ends of a subtransaction check the last mark only.  They
 * allocate nothing and cannot fail.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"

#include "keys/xact_key_marks.h"

#define CAPACITY_FIRST 8
#define CAPACITY_KEPT 64

typedef struct Mark
{
	SubTransactionId subxact;
	SsXactKeyMark at;
} Mark;

static Mark *marks = NULL;
static int nmarks = 0;
static int capacity = 0;

/*
 * Called before a key is added: saves the present state if this is the first key of a
 * subtransaction.  May raise an error, for lack of memory.
 */
void
ss_xact_marks_add(const SsXactKeyMark *now)
{
	SubTransactionId mine = GetCurrentSubTransactionId();

	if (mine == TopSubTransactionId || (nmarks > 0 && marks[nmarks - 1].subxact == mine))
		return;
	if (nmarks == capacity)
	{
		int more = capacity == 0 ? CAPACITY_FIRST : capacity * 2;

		if (marks == NULL)
			marks = MemoryContextAlloc(TopMemoryContext, sizeof(Mark) * more);
		else
			marks = repalloc_huge(marks, sizeof(Mark) * more);
		capacity = more;
	}
	marks[nmarks].subxact = mine;
	marks[nmarks].at = *now;
	nmarks++;
}

/* A subtransaction commits into its parent. */
void
ss_xact_marks_commit(SubTransactionId mine, SubTransactionId parent)
{
	if (nmarks == 0 || marks[nmarks - 1].subxact != mine)
		return;
	if (parent == TopSubTransactionId || (nmarks > 1 && marks[nmarks - 2].subxact == parent))
		nmarks--;
	else
		marks[nmarks - 1].subxact = parent;
}

/*
 * A subtransaction is rolled back: sets *back to the state before its first key.  False if it
 * added no key.
 */
bool
ss_xact_marks_abort(SubTransactionId mine, SsXactKeyMark *back)
{
	if (nmarks == 0 || marks[nmarks - 1].subxact != mine)
		return false;
	*back = marks[--nmarks].at;
	return true;
}

/* The transaction is over. */
void
ss_xact_marks_reset(void)
{
	nmarks = 0;
	if (capacity > CAPACITY_KEPT)
	{
		pfree(marks);
		marks = NULL;
		capacity = 0;
	}
}
