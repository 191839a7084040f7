/*
 * triggers.h
 *		The triggers that belong to the extension.
 */
#ifndef SS_TRIGGERS_H
#define SS_TRIGGERS_H

#include "utils/rel.h"
#include "utils/reltrigger.h"

/* A trigger as the install script creates it. */
typedef struct SsOwnTrigger
{
	const char *table;
	const char *name;
	const char *function;
	int16 type;           /* TRIGGER_TYPE_ROW and so on: when it fires, and for which events */
	bool records_changes; /* without it the cache would miss changes of the table */
} SsOwnTrigger;

extern const SsOwnTrigger *ss_own_trigger_next(Relation rel, const SsOwnTrigger *previous);
extern const SsOwnTrigger *ss_own_trigger_find(Relation rel, const Trigger *trigger);
extern const Trigger *ss_own_trigger_in(const SsOwnTrigger *own, Relation rel,
										const TriggerDesc *triggers);
extern bool ss_own_trigger_is_intact(const SsOwnTrigger *own, const Trigger *trigger);

#endif
