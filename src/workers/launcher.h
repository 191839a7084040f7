/*
 * launcher.h
 *		The worker that finds databases with the extension: one for each server.
 */
#ifndef SS_LAUNCHER_H
#define SS_LAUNCHER_H

#include "function.h"

/* Entry point; the server finds it by name. */
extern SS_EXPORT void ss_launcher_main(Datum arg);

#endif
