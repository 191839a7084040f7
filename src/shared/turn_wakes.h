/*
 * turn_wakes.h
 *		Wakes the backends that wait for the turn of a session.
 */
#ifndef SS_TURN_WAKES_H
#define SS_TURN_WAKES_H

#include "base/key.h"

extern void ss_turn_wakes_shmem_request(void);
extern void ss_turn_wakes_shmem_init(void);
extern void ss_turn_wakes_note(const SsKey *key);
extern void ss_turn_wakes_note_all(void);
extern void ss_turn_wakes_at_end(bool committed);
extern bool ss_turn_wakes_exist(void);
extern uint64 ss_turn_wakes_count(const SsKey *key);
extern bool ss_turn_wakes_wait(const SsKey *key, uint64 seen, long timeout_ms);

#endif
