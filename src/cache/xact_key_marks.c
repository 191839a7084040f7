/*
 * xact_key_marks.c
 *		Where the notes of a transaction stood when a savepoint began to add to them.
 *
 * Only the innermost subtransaction adds notes, and it adds them at the end.  So what is noted
 * from its first note on until it is rolled back is its own and that of subtransactions which it
 * contains, and a rollback goes back to the mark that was made at that first note.
 *
 *		first note of a subtransaction		a mark is added
 *		it is committed						the mark becomes its parent's, unless that has one
 *		it is rolled back					the mark tells what to go back to, and is removed
 *
 * A subtransaction that notes nothing costs nothing.  Marks of one subtransaction are never above
 * those of another that it contains, so both ends of a subtransaction look at the last mark only.
 * Nothing at these ends allocates or fails.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"

#include "cache/xact_key_marks.h"

#define ROOM_FIRST 8
#define ROOM_KEPT 64

typedef struct Mark
{
	SubTransactionId subxact;
	SsXactKeyMark at;
} Mark;

static Mark *marks = NULL;
static int nmarks = 0;
static int room = 0;

/* Before something is noted: remember how things stand if this is a subtransaction's first note. */
void
ss_xact_marks_add(const SsXactKeyMark *now)
{
	SubTransactionId mine = GetCurrentSubTransactionId();

	if (mine == TopSubTransactionId || (nmarks > 0 && marks[nmarks - 1].subxact == mine))
		return;
	if (nmarks == room)
	{
		int more = room == 0 ? ROOM_FIRST : room * 2;

		if (marks == NULL)
			marks = MemoryContextAlloc(TopMemoryContext, sizeof(Mark) * more);
		else
			marks = repalloc_huge(marks, sizeof(Mark) * more);
		room = more;
	}
	marks[nmarks].subxact = mine;
	marks[nmarks].at = *now;
	nmarks++;
}

/* A subtransaction became part of its parent. */
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

/* A subtransaction is rolled back; false when it has noted nothing. */
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
	if (room > ROOM_KEPT)
	{
		pfree(marks);
		marks = NULL;
		room = 0;
	}
}
