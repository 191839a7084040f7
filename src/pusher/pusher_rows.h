/*
 * pusher_rows.h
 *		Reads the rows that the pusher is about to copy, in short transactions.
 */
#ifndef SS_PUSHER_ROWS_H
#define SS_PUSHER_ROWS_H

#include "pusher/pusher_state.h"

extern bool ss_pusher_tables_are_known(const SsPusher *pusher);
extern void ss_pusher_begin_xact(void);
extern void ss_pusher_end_xact(SsPusher *pusher);
extern ErrorData *ss_pusher_catch_error(SsPusher *pusher);
extern void ss_pusher_set_locked(SsPusher *pusher, bool locked);
extern void ss_pusher_log(const ErrorData *error);
extern void ss_pusher_set_aside(SsPusher *pusher, SsAside *aside, const SsKey *key,
								ErrorData *error);
extern void ss_pusher_make_keys(SsPusher *pusher);
extern void ss_pusher_read_rows(SsPusher *pusher);

#endif
