/*
 * read.h
 *		Reads a session and extends its expiry (sliding reads, touch).
 */
#ifndef SS_READ_H
#define SS_READ_H

#include "sessions/lifetime.h"

extern bool ss_session_read(const SsTarget *target, int fields, SsRow *row);
extern bool ss_session_touch(SsTarget *target, const SsLifetime *lifetime, TimestampTz *expires_at);
extern void ss_session_slide(const SsTarget *target, SsRow *row, TimestampTz now);

#endif
