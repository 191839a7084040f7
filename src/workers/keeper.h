/*
 * keeper.h
 *		The worker that purges sessions and writes pending touches: one for each database.
 */
#ifndef SS_KEEPER_H
#define SS_KEEPER_H

#include "function.h"

/* Entry point; the server finds it by name. */
extern SS_EXPORT void ss_keeper_main(Datum arg);

#endif
