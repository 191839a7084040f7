/*
 * workers.h
 *		The launcher (one, no database) and the keepers (one in each database).
 */
#ifndef SS_WORKERS_H
#define SS_WORKERS_H

#include "function.h"

extern SS_EXPORT void ss_launcher_main(Datum arg);
extern SS_EXPORT void ss_keeper_main(Datum arg);

#endif
