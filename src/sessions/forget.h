/*
 * forget.h
 *		Removes what a namespace holds of an owner.
 */
#ifndef SS_FORGET_H
#define SS_FORGET_H

#include "row/session.h"

extern Datum ss_forget(SsTarget *target, Datum owner, bool keep_events);

#endif
