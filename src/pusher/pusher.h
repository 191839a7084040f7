/*
 * pusher.h
 *		The worker that writes to Redis: one for each database that has a cache.
 */
#ifndef SS_PUSHER_H
#define SS_PUSHER_H

#include "function.h"

extern SS_EXPORT void ss_pusher_main(Datum arg);

#endif
