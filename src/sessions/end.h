/*
 * end.h
 *		Ends a session by a call: deletion and regeneration.
 */
#ifndef SS_END_H
#define SS_END_H

#include "sessions/lifetime.h"

extern void ss_session_end(SsTarget *target, SsRow *row);
extern void ss_session_expire(SsTarget *target, const SsLifetime *lifetime, Datum owner,
							  int64 if_version, int64 turn);
extern bool ss_session_delete(SsTarget *target);
extern bool ss_session_take(SsTarget *target, Datum *document);
extern bool ss_session_regenerate(SsTarget *target, const SsTarget *renamed);
extern bool ss_session_regenerate_as(SsTarget *target, SsTarget *renamed);

#endif
