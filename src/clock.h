/*
 * clock.h
 *		The monotonic clock.
 */
#ifndef SS_CLOCK_H
#define SS_CLOCK_H

extern int64 ss_monotonic(void);

#endif
