/*
 * events.h
 *		Lifecycle events, in namespaces that audit.
 */
#ifndef SS_EVENTS_H
#define SS_EVENTS_H

#include "rows/sessions.h"

extern void ss_event(const SsTarget *target, Datum id, Datum owner, bool owner_null,
					 const char *event, const char *detail);
extern void ss_events_of(const SsTarget *target, Datum ids, Datum owner, bool owner_null,
						 const char *event);
extern void ss_events_expired(Datum namespaces, Datum ids, Datum owners, Oid role);
extern uint64 ss_events_purge(long batch);

#endif
