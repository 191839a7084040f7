/*
 * events.h
 *		Records lifecycle events in namespaces that audit, and notifies of them.
 */
#ifndef SS_EVENTS_H
#define SS_EVENTS_H

#include "lib/stringinfo.h"

#include "row/session.h"
#include "sessions/aside.h"

/* Events that were committed since the last notification: their number, and when the first was written. */
typedef struct SsNotice
{
	uint64 count;
	uint64 since;
} SsNotice;

extern void ss_event(const SsTarget *target, const SsRow *row, const char *event,
					 const StringInfoData *detail);
extern void ss_events_of(const SsTarget *target, Datum ids, Datum owner, bool owner_null,
						 const char *event);
extern void ss_event_anonymous(const SsTarget *target, const char *event,
							   const StringInfoData *detail);
extern void ss_events_expired(Datum namespaces, Datum ids, Datum owners, int n, Oid role);
extern void ss_event_detail_text(StringInfo detail, const char *key, const char *value);
extern void ss_event_detail_number(StringInfo detail, const char *key, int64 value);
extern bool ss_events_purge(long batch, SsAside *aside);
extern bool ss_events_pending(SsNotice *notice);
extern void ss_events_notify(const SsNotice *notice);
extern void ss_events_notified(const SsNotice *notice);
extern void ss_events_at_subxact_commit(void);
extern void ss_events_at_subxact_abort(void);
extern void ss_events_at_end(bool committed);

#endif
