/*
 * pusher_io.h
 *		The pusher's communication with Redis: connect, send, handle failures.
 */
#ifndef SS_PUSHER_IO_H
#define SS_PUSHER_IO_H

#include "pusher/pusher_state.h"

extern void ss_pusher_failed(SsPusher *pusher, const char *what);
extern void ss_pusher_connect(SsPusher *pusher);
extern void ss_pusher_send(SsPusher *pusher);

#endif
