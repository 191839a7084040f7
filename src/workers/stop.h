/*
 * stop.h
 *		Delays SIGTERM until the keeper can act on it.
 */
#ifndef SS_STOP_H
#define SS_STOP_H

#include "datatype/timestamp.h"

extern void ss_stop_init(void);
extern void ss_stop_defer(void);
extern void ss_stop_defer_again(void);
extern void ss_stop_allow(void);
extern bool ss_stop_requested(void);
extern void ss_stop_watch(TimestampTz deadline);
extern void ss_stop_unwatch(void);

#endif
