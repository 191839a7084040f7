/*
 * touch_writer.h
 *		Writes pending touches to the table, for the keeper.
 */
#ifndef SS_TOUCH_WRITER_H
#define SS_TOUCH_WRITER_H

#include "sessions/aside.h"

/* Touches between the three steps; see touch_writer.c. */
typedef struct SsTouchBatch SsTouchBatch;

extern SsTouchBatch *ss_touches_take(TimestampTz now, bool all, int *partition);
extern void ss_touches_write(SsTouchBatch *batch, SsAside *aside);
extern void ss_touches_finish(SsTouchBatch *batch, SsAside *aside);

#endif
