/*
 * workers.h
 *		The launcher (one, no database) and the keepers (one in each database).
 */
#ifndef SS_WORKERS_H
#define SS_WORKERS_H

extern PGDLLEXPORT void ss_launcher_main(Datum arg);
extern PGDLLEXPORT void ss_keeper_main(Datum arg);

#endif
