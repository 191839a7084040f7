/*
 * members.h
 *		The members with whom a session is shared.
 */
#ifndef SS_MEMBERS_H
#define SS_MEMBERS_H

#include "row/session.h"

extern bool ss_member_set(SsTarget *target, Datum member, const char *role);
extern bool ss_member_remove(SsTarget *target, Datum member);
extern bool ss_member_accept(const SsRow *row);
extern uint64 ss_members_read(const SsRow *row);

#endif
