/*
 * notes.h
 *		Which keys a transaction changed, told to the ledger around its commit.
 */
#ifndef SS_NOTES_H
#define SS_NOTES_H

#include "utils/uuid.h"

#include "cache/ledger.h"

extern void ss_notes_init_backend(void);
extern bool ss_notes_wanted(void);
extern bool ss_notes_cached(void);
extern bool ss_notes_full(void);
extern void ss_note(const SsKey *key, int what);
extern void ss_note_all(bool fence);
extern bool ss_notes_have_history(const pg_uuid_t *history);
extern void ss_notes_add_history(const pg_uuid_t *history);

#endif
