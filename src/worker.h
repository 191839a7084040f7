/*
 * worker.h
 *		Common parts of launcher, keeper and pusher: registration, start and configuration.
 *
 * A worker is identified by its kind, a word: its main function is ss_<kind>_main, and
 * pg_stat_activity shows it as "session_store <kind>".
 */
#ifndef SS_WORKER_H
#define SS_WORKER_H

#include "postmaster/bgworker.h"

extern void ss_worker_register(const char *kind);
extern bool ss_worker_start(const char *kind, Oid database, BackgroundWorkerHandle **handle);
extern void ss_worker_begin(Oid database);
extern void ss_worker_set(const char *setting, const char *value);
extern bool ss_worker_reload(void);

#endif
