/*
 * xact_key_marks.h
 *		Where the notes of a transaction stood when a savepoint began to add to them.
 */
#ifndef SS_KEY_MARKS_H
#define SS_KEY_MARKS_H

typedef struct SsXactKeyMark
{
	int notes;
	bool overflow;
	int fence_cacheable;
	int fence_others;
} SsXactKeyMark;

extern void ss_xact_marks_add(const SsXactKeyMark *now);
extern void ss_xact_marks_commit(SubTransactionId mine, SubTransactionId parent);
extern bool ss_xact_marks_abort(SubTransactionId mine, SsXactKeyMark *back);
extern void ss_xact_marks_reset(void);

#endif
