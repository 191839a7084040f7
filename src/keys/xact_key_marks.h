/*
 * xact_key_marks.h
 *		The state of a transaction's keys at the start of each of its subtransactions.
 */
#ifndef SS_XACT_KEY_MARKS_H
#define SS_XACT_KEY_MARKS_H

typedef struct SsXactKeyMark
{
	int keys;
	bool overflow;
	int fence_cacheable;
	int fence_others;
} SsXactKeyMark;

extern void ss_xact_marks_add(const SsXactKeyMark *now);
extern void ss_xact_marks_commit(SubTransactionId mine, SubTransactionId parent);
extern bool ss_xact_marks_abort(SubTransactionId mine, SsXactKeyMark *back);
extern void ss_xact_marks_reset(void);

#endif
