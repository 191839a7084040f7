/*
 * note_marks.h
 *		Where the notes of a transaction stood when a savepoint began to add to them.
 */
#ifndef SS_NOTE_MARKS_H
#define SS_NOTE_MARKS_H

typedef struct SsNoteMark
{
	int notes;
	bool overflow;
	int fence_cacheable;
	int fence_others;
} SsNoteMark;

extern void ss_marks_add(const SsNoteMark *now);
extern void ss_marks_commit(SubTransactionId mine, SubTransactionId parent);
extern bool ss_marks_abort(SubTransactionId mine, SsNoteMark *back);
extern void ss_marks_forget(void);

#endif
