/*
 * change.h
 *		The triggers that notice which copies in Redis a change makes out of date.
 */
#ifndef SS_CHANGE_NOTE_H
#define SS_CHANGE_NOTE_H

extern void ss_change_init(void);

#endif
