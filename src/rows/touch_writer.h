/*
 * touch_writer.h
 *		Noted reads, written to the table.
 */
#ifndef SS_TOUCH_WRITER_H
#define SS_TOUCH_WRITER_H

#include "rows/aside.h"
#include "rows/touches.h"

typedef struct SsTouchBatch SsTouchBatch;

extern SsTouchBatch *ss_touches_take(TimestampTz now, bool all, int *partition);
extern void ss_touches_write(SsTouchBatch *batch, SsAside *aside);
extern void ss_touches_finish(SsTouchBatch *batch, SsAside *aside);

#endif
