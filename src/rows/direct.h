/*
 * direct.h
 *		Reading a session's row without a statement.
 */
#ifndef SS_DIRECT_H
#define SS_DIRECT_H

#include "rows/sessions.h"

extern bool ss_direct_read(const SsTarget *target, bool document, SsRow *row, bool *found);

#endif
